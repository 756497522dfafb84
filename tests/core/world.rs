//! A simulated cluster: the workloads of one Pilot, called deployments here whatever their kind, their marks, snapshots, change records, decisions and the Pilot's status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pilotguard::api::decision::{DecisionType, Requester};
use pilotguard::api::pilot::Pilot;
use pilotguard::api::status::PilotStatus;
use pilotguard::api::workload::{PartKind, PartReference, ReleasePart};
use pilotguard::calendar::Calendar;
use pilotguard::decide::judge::judge;
use pilotguard::decide::proposal::{GitOps, Operation, Proposal, Verdict};
use pilotguard::decide::{Case, Ledger, SourceFacts};
use pilotguard::declaration::Declaration;
use pilotguard::declaration::change_calendar::{SharedCalendar, Standing, narrowed};
use pilotguard::observation::{
    Answer, Change, Landing, Observation, PilotDecision, Question, Rehearsal, Snapshot, Workload,
};
use pilotguard::release::change::change_name;
use pilotguard::release::digest::digest;
use pilotguard::release::foreign::Foreign;
use pilotguard::release::marks::{Admitted, Held, HeldVerdict, Marks};
use pilotguard::release::vector::release_payload;
use serde_json::{Value, json};

use crate::history::bounded;
use crate::traffic::Traffic;

/// In place of a JSON pointer: what the metrics source reads is edited, as by a platform admin.
pub const DATA: &str = "data of the MetricsSource";

/// How long a rollout takes until all replicas are available.
const ROLLOUT: SignedDuration = SignedDuration::from_secs(30);
/// `progressDeadlineSeconds`.
const PROGRESS_DEADLINE: SignedDuration = SignedDuration::from_mins(10);

#[derive(Clone)]
pub struct Deployment {
    pub name: String,
    pub uid: String,
    pub generation: i64,
    pub runs: String,
    /// The release that users meet: the one before until a rollout is complete.
    pub serves: String,
    pub replicas: i32,
    pub rolled_out_at: Timestamp,
    pub unsafe_reason: Option<String>,
    pub change_label: Option<String>,
    /// The annotation that a break-glass request writes.
    pub break_glass: Option<String>,
    pub foreign: Option<Foreign>,
    /// The operator owns fields that belong to others.
    pub owes_fields: bool,
    pub marks: Marks,
    pub snapshots: Vec<Snapshot>,
}

impl Deployment {
    /// Moves with every write, as a resourceVersion does.
    pub fn version(&self) -> String {
        format!("{}/{}/{}/{:?}", self.generation, self.replicas, self.owes_fields, self.marks)
    }
}

pub struct World {
    pub now: Timestamp,
    pilot: Pilot,
    pub declaration: Declaration,
    pub source: SourceFacts,
    pub deployments: Vec<Deployment>,
    pub changes: Vec<Change>,
    pub decisions: Vec<PilotDecision>,
    pub status: PilotStatus,
    pub traffic: Traffic,
    pub per_second: f64,
    /// The share of failing events by release; `all` counts for every one.
    pub failing: BTreeMap<String, f64>,
    /// Releases that never become available.
    pub stuck: BTreeSet<String>,
    /// How much less the API server's clock says than the operator's.
    pub api_server_is_slow_by: SignedDuration,
    /// The API server refuses the operator's patches of the workload.
    pub refuses_patches: bool,
    /// What other admission adds to the name of every release that is restored.
    pub mutation: String,
    /// The API server refuses to store releases and what is noted on them.
    pub refuses_snapshots: bool,
    /// Acts that moved the world, by incident, deciding word and workload, and by kind.
    pub acts: BTreeMap<(String, &'static str), usize>,
    names: BTreeMap<String, String>,
    created: usize,
    own_calendar: Calendar,
}

pub fn payload_of(release: &str) -> String {
    digest(&json!({"payload": release}))
}

pub fn template_of(release: &str) -> String {
    digest(&json!({"template": release}))
}

/// The images of a release of a workload; a ConfigMap has none.
pub fn images_of(workload: &PartReference, release: &str) -> Vec<String> {
    if workload.kind.has_pods() { vec![format!("shop/{}:{release}", workload.name)] } else { Vec::new() }
}

/// The user under which a GitOps tool applies releases.
pub const GITOPS: &str = "system:serviceaccount:argocd:argocd-application-controller";

impl World {
    pub fn new(pilot: &Pilot, source: SourceFacts, now: Timestamp, first_sample: Timestamp) -> Self {
        let zones = jiff::tz::TimeZoneDatabase::bundled();
        let declaration = Declaration::parse(pilot, &zones).expect("the pilot is well declared");
        Self {
            now,
            pilot: pilot.clone(),
            own_calendar: declaration.calendar.clone(),
            declaration,
            source,
            deployments: Vec::new(),
            changes: Vec::new(),
            decisions: Vec::new(),
            status: PilotStatus::default(),
            traffic: Traffic::new(first_sample, source.query_offset),
            per_second: 0.0,
            failing: BTreeMap::new(),
            stuck: BTreeSet::new(),
            api_server_is_slow_by: SignedDuration::ZERO,
            refuses_patches: false,
            mutation: String::new(),
            refuses_snapshots: false,
            acts: BTreeMap::new(),
            names: BTreeMap::new(),
            created: 0,
        }
    }

    /// The Pilot's spec is edited: values by JSON pointer.
    pub fn edit(&mut self, edits: &BTreeMap<String, Value>) {
        let mut pilot = serde_json::to_value(&self.pilot).expect("a Pilot can be written");
        for (pointer, value) in edits {
            if pointer == DATA {
                self.source.data = value.as_u64();
                continue;
            }
            *pilot["spec"].pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is declared")) = value.clone();
        }
        self.pilot = serde_json::from_value(pilot).expect("the edits fit a Pilot");
        let zones = jiff::tz::TimeZoneDatabase::bundled();
        self.declaration = Declaration::parse(&self.pilot, &zones).expect("the pilot is still well declared");
        self.own_calendar = self.declaration.calendar.clone();
    }

    /// Replaces the ChangeCalendars.
    pub fn narrow(&mut self, specs: &BTreeMap<String, Value>) {
        let zones = jiff::tz::TimeZoneDatabase::bundled();
        let shared: Vec<_> = specs.iter().map(|(name, spec)| SharedCalendar::read(name, spec, &zones)).collect();
        let standing = Standing { namespace_labels: Some(&BTreeMap::new()), named: None };
        self.declaration.calendar = narrowed(&self.own_calendar, &shared, &standing);
    }

    /// A Deployment that ran before the pilot, complete and unmarked.
    pub fn create_deployment(&mut self, name: &str, release: &str, replicas: i32) {
        self.created += 1;
        self.name(release);
        self.deployments.push(Deployment {
            name: name.to_owned(),
            uid: format!("uid-{}", self.created),
            generation: 1,
            runs: release.to_owned(),
            serves: release.to_owned(),
            replicas,
            rolled_out_at: self.now - ROLLOUT,
            unsafe_reason: None,
            change_label: None,
            break_glass: None,
            foreign: None,
            owes_fields: false,
            marks: Marks::default(),
            snapshots: Vec::new(),
        });
        self.settle();
    }

    /// The name of the workload that an event speaks of: the first where it names none that is guarded.
    pub fn workload_named(&self, name: Option<&String>) -> String {
        let is_guarded = |name: &&String| self.declaration.workloads.iter().any(|workload| workload.name == **name);
        name.filter(is_guarded).unwrap_or(&self.declaration.workloads[0].name).clone()
    }

    pub fn reference(&self, name: &str) -> PartReference {
        let declared = self.declaration.workloads.iter().find(|workload| workload.name == name);
        declared.cloned().unwrap_or(PartReference { kind: PartKind::Deployment, name: name.to_owned() })
    }

    pub fn deployment(&self, name: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.name == name)
    }

    pub fn deployment_mut(&mut self, name: &str) -> Option<&mut Deployment> {
        self.deployments.iter_mut().find(|deployment| deployment.name == name)
    }

    /// Someone applies a release; admission judges it as the webhook would. `Err` tells what was refused.
    pub fn apply(&mut self, name: &str, release: &str, user: &str) -> Result<Verdict, Vec<String>> {
        self.name(release);
        let ledger = Ledger::read(&self.status);
        let seen = self.observe();
        let case =
            Case { declaration: &self.declaration, source: self.source, seen: &seen, ledger: &ledger, now: self.now };
        let payload = payload_of(release);
        let workload = self.reference(name);
        let stored = seen.workload(&workload);
        let replicas = stored.map(|stored| stored.replicas);
        let moves_release = stored.is_none_or(|stored| stored.payload != payload);
        let proposal = Proposal {
            one_live_release: workload.kind == PartKind::Deployment
                && self.deployment(name).is_some_and(|it| it.serves == it.runs && it.foreign.is_none()),
            workload,
            operation: Operation::Update,
            requester: Requester { user: user.to_owned(), groups: Vec::new() },
            moves_release,
            gains_owner: false,
            template: template_of(release),
            payload: payload.clone(),
            gitops: GitOps { manages_workload: user == GITOPS, is_named: false },
            annotations: 0,
            images: images_of(&self.reference(name), release),
            replicas_before: replicas,
            replicas_after: replicas,
        };
        let judgement = judge(&case, &proposal);
        assert_eq!(judgement, judge(&Case { seen: &bounded(&seen), ..case }, &proposal), "a bounded history judges");
        let findings = judgement.reasons();
        if judgement.verdict == Verdict::Deny {
            return Err(findings);
        }
        if judgement.verdict == Verdict::Hold || judgement.verdict == Verdict::Pin {
            self.put_off(name, release, user, judgement.verdict, findings);
            return Ok(judgement.verdict);
        }
        if let Some(deployment) = self.deployment_mut(name) {
            deployment.marks.held = None;
        }
        if !moves_release {
            return Ok(Verdict::Allow);
        }
        let admitted = Admitted {
            template: template_of(release),
            payload: payload.clone(),
            variant_of: None,
            by: user.to_owned(),
            groups: Vec::new(),
            at: self.now,
            change: change_name(&self.declaration.pilot.name, &payload, self.now),
            verdict: judgement.stamped(),
            reasons: findings,
            break_glass: stored.and_then(|stored| stored.marks.known_break_glass()),
        };
        self.roll_out(name, release);
        if let Some(deployment) = self.deployment_mut(name) {
            deployment.marks.admitted = Some(admitted);
            deployment.unsafe_reason = None;
        }
        Ok(judgement.verdict)
    }

    fn put_off(&mut self, name: &str, release: &str, user: &str, verdict: Verdict, reasons: Vec<String>) {
        let payload = payload_of(release);
        let held = Held {
            verdict: if verdict == Verdict::Hold { HeldVerdict::Hold } else { HeldVerdict::Pin },
            template: template_of(release),
            by: user.to_owned(),
            groups: Vec::new(),
            at: self.now,
            change: change_name(&self.declaration.pilot.name, &payload, self.now),
            was_paused: false,
            images: images_of(&self.reference(name), release),
            reasons,
            payload,
        };
        if let Some(deployment) = self.deployment_mut(name) {
            deployment.generation += i64::from(verdict == Verdict::Hold);
            deployment.marks.held = Some(held);
        }
    }

    /// The template moves, whoever moved it.
    pub fn roll_out(&mut self, name: &str, release: &str) {
        self.name(release);
        let now = self.now;
        if let Some(deployment) = self.deployment_mut(name)
            && deployment.runs != release
        {
            release.clone_into(&mut deployment.runs);
            deployment.generation += 1;
            deployment.rolled_out_at = now;
        }
        self.settle();
    }

    pub fn decide(
        &mut self,
        type_: DecisionType,
        by: &str,
        detail: (Option<String>, Option<SignedDuration>, bool),
    ) -> String {
        let name = format!("decision-{}", self.decisions.len() + 1);
        let (release, lasts, fix) = detail;
        let names_incident = matches!(type_, DecisionType::Continue | DecisionType::Resume);
        let open = self.status.incident.as_ref().map(|incident| incident.id.clone());
        let contained = self.deployments.iter().find_map(|deployment| deployment.marks.contained.as_ref());
        let incident = open.or_else(|| contained.map(|contained| contained.incident.clone()));
        self.decisions.push(PilotDecision {
            name: name.clone(),
            type_,
            incident: incident.filter(|_| names_incident),
            change: self
                .changes
                .iter()
                .rfind(|it| Some(self.release_of(&it.payload)) == release)
                .map(|it| it.name.clone()),
            payload: release.map(|release| payload_of(&release)),
            until: lasts.map(|lasts| self.now + lasts),
            fix,
            reason: format!("{by} says so"),
            by: Some(Requester { user: by.to_owned(), groups: Vec::new() }),
            is_record: false,
            origin: None,
            follows: None,
            quarantined: Vec::new(),
            created_at: self.now - self.api_server_is_slow_by,
            received_at: Some(self.now),
            phase: None,
        });
        name
    }

    /// As the metrics source answers; the first sample is looked for in the SLO's window only.
    pub fn answer(&mut self, question: &Question) -> Answer {
        match (question, self.traffic.answer(question)) {
            (Question::FirstSample { slo }, Answer::FirstSample(first)) => {
                let window = self.declaration.slo(slo).expect("only declared SLOs are asked about").window;
                Answer::FirstSample(first.map(|first| first.max(self.now - window)))
            }
            (_, answer) => answer,
        }
    }

    pub fn scale(&mut self, replicas: i32) {
        if let Some(deployment) = self.deployments.first_mut() {
            deployment.replicas = replicas;
            deployment.generation += 1;
        }
    }

    pub fn observe(&self) -> Observation {
        let declared = self.declaration.workloads.iter();
        let existing = declared.filter_map(|reference| Some((reference, self.deployment(&reference.name)?)));
        Observation {
            workloads: existing.map(|(reference, deployment)| self.workload(reference, deployment)).collect(),
            claimed: None,
            changes: Arc::new(self.changes.clone()),
            decisions: Arc::new(self.decisions.clone()),
            answers: BTreeMap::new(),
            landings: BTreeMap::new(),
        }
    }

    fn workload(&self, reference: &PartReference, deployment: &Deployment) -> Workload {
        let mut snapshots = deployment.snapshots.clone();
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.revision));
        let waiting = deployment.marks.held.as_ref().filter(|held| held.verdict == HeldVerdict::Hold);
        Workload {
            reference: reference.clone(),
            uid: deployment.uid.clone(),
            resource_version: deployment.version(),
            generation: deployment.generation,
            template: template_of(&deployment.runs),
            payload: payload_of(&deployment.runs),
            replicas: deployment.replicas,
            is_complete: deployment.serves == deployment.runs,
            progress_deadline_exceeded: reference.kind == PartKind::Deployment
                && self.stuck.contains(&deployment.runs)
                && self.now >= deployment.rolled_out_at + PROGRESS_DEADLINE,
            rollback_unsafe: deployment.unsafe_reason.clone(),
            owes_fields: deployment.owes_fields,
            waiting: waiting.cloned(),
            break_glass: deployment.break_glass.clone(),
            change_label: deployment.change_label.clone(),
            foreign: deployment.foreign,
            generated: BTreeSet::new(),
            marks: deployment.marks.clone(),
            snapshots,
            unreadable_snapshots: Vec::new(),
            images: waiting.as_ref().map_or_else(|| images_of(reference, &deployment.runs), |held| held.images.clone()),
            annotations: 0,
        }
    }

    /// Moves time; a rollout that is complete by then serves users from the instant at which it was.
    pub fn pass_to(&mut self, instant: Timestamp) {
        if let Some(complete_at) = self.rollout_ends()
            && complete_at <= instant
        {
            self.now = self.now.max(complete_at);
            self.settle();
        }
        self.now = instant;
    }

    /// When something will be seen to change by itself.
    pub fn rollout_ends(&self) -> Option<Timestamp> {
        self.deployments.iter().filter_map(|deployment| self.rollout_of(deployment)).min()
    }

    fn rollout_of(&self, deployment: &Deployment) -> Option<Timestamp> {
        let is_due = deployment.serves != deployment.runs && !self.stuck.contains(&deployment.runs);
        // A ConfigMap has no pods that would have to start.
        let lasts = if self.has_pods(deployment) { ROLLOUT } else { SignedDuration::ZERO };
        is_due.then(|| deployment.rolled_out_at + lasts)
    }

    fn has_pods(&self, deployment: &Deployment) -> bool {
        self.reference(&deployment.name).kind.has_pods()
    }

    /// Brings what users meet up to date: a request passes through all Deployments, and is as bad as the worst.
    pub fn settle(&mut self) {
        let ended: Vec<bool> =
            self.deployments.iter().map(|it| self.rollout_of(it).is_some_and(|ends| ends <= self.now)).collect();
        for (deployment, _) in self.deployments.iter_mut().zip(ended).filter(|(_, ended)| *ended) {
            deployment.serves.clone_from(&deployment.runs);
        }
        self.name_whole();
        let serves = !self.deployments.is_empty()
            && self.deployments.iter().filter(|it| self.has_pods(it)).all(|it| it.replicas > 0);
        let of = |release: &str| self.failing.get(release).copied().unwrap_or(0.0);
        let worst = self.deployments.iter().map(|it| of(&it.serves)).fold(of("all"), f64::max);
        let (per_second, failing) = if serves { (self.per_second, worst) } else { (0.0, 0.0) };
        self.traffic.flow(self.now, per_second, failing);
    }

    /// What runs together has a digest and a name of its own.
    fn name_whole(&mut self) {
        if self.deployments.len() > 1 {
            let seen = self.observe();
            let part = |workload: &Workload| ReleasePart {
                images: Vec::new(),
                kind: workload.reference.kind,
                name: workload.reference.name.clone(),
                template: workload.template.clone(),
                payload: workload.payload.clone(),
            };
            let payload = release_payload(&seen.workloads.iter().map(part).collect::<Vec<_>>());
            let names: Vec<String> = seen.workloads.iter().map(|workload| self.release_of(&workload.payload)).collect();
            self.names.insert(payload, names.join("+"));
        }
    }

    fn name(&mut self, release: &str) {
        self.names.insert(payload_of(release), release.to_owned());
    }

    /// What would be stored if the release of a snapshot were restored.
    pub fn landing(&mut self, rehearsal: &Rehearsal) -> Option<Landing> {
        let of = self.deployments.iter().find(|deployment| deployment.uid == rehearsal.uid)?;
        let snapshot = of.snapshots.iter().find(|snapshot| snapshot.name == rehearsal.snapshot)?;
        let release = self.release_of(&snapshot.payload);
        let meant = release.split('~').next().unwrap_or_default();
        let landed = format!("{meant}{}", self.mutation);
        self.name(&landed);
        let changed = if landed == release { vec![] } else { vec!["spec.template.spec.hostname".to_owned()] };
        let (template, payload) = (template_of(&landed), payload_of(&landed));
        Some(Landing { content: json!(landed), template, payload, changed })
    }

    pub fn release_of(&self, payload: &str) -> String {
        self.names.get(payload).cloned().unwrap_or_else(|| payload.to_owned())
    }

    /// Digests in a text, long and short, become the releases' names.
    pub fn readable(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (payload, release)| {
            text.replace(payload, release).replace(&payload[..12], release).replace(&payload[..8], release)
        })
    }
}

impl std::ops::Deref for Deployment {
    type Target = Marks;
    fn deref(&self) -> &Marks {
        &self.marks
    }
}
