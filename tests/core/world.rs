//! A simulated cluster: one Deployment, its marks, snapshots, change records, decisions and the Pilot's status.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use pilotguard::api::decision::{DecisionType, Requester};
use pilotguard::api::pilot::Pilot;
use pilotguard::api::status::PilotStatus;
use pilotguard::decide::judge::{GitOps, Operation, Proposal, Verdict, judge};
use pilotguard::decide::{Case, Ledger, SourceFacts};
use pilotguard::declaration::Declaration;
use pilotguard::observation::{Change, Observation, PilotDecision, Snapshot, Workload};
use pilotguard::release::change::change_name;
use pilotguard::release::digest::digest;
use pilotguard::release::marks::{Admitted, AdmittedVerdict, Held, HeldVerdict, Marks};
use serde_json::json;

use crate::traffic::Traffic;

/// How long a rollout takes until all replicas are available.
const ROLLOUT: SignedDuration = SignedDuration::from_secs(30);
/// `progressDeadlineSeconds`.
const PROGRESS_DEADLINE: SignedDuration = SignedDuration::from_mins(10);

pub struct Deployment {
    pub uid: String,
    pub generation: i64,
    pub runs: String,
    /// The release that users meet: the one before until a rollout is complete.
    pub serves: String,
    pub replicas: i32,
    pub rolled_out_at: Timestamp,
    pub unsafe_reason: Option<String>,
    /// The operator owns fields that belong to others.
    pub owes_fields: bool,
    pub marks: Marks,
}

impl Deployment {
    /// Moves with every write, as a resourceVersion does.
    pub fn version(&self) -> String {
        format!("{}/{}/{}/{:?}", self.generation, self.replicas, self.owes_fields, self.marks)
    }
}

pub struct World {
    pub now: Timestamp,
    pub declaration: Declaration,
    pub source: SourceFacts,
    pub deployment: Option<Deployment>,
    pub snapshots: Vec<Snapshot>,
    pub changes: Vec<Change>,
    pub decisions: Vec<PilotDecision>,
    pub status: PilotStatus,
    pub traffic: Traffic,
    pub per_second: f64,
    /// The share of failing events by release; `all` counts for every one.
    pub failing: BTreeMap<String, f64>,
    /// Releases that never become available.
    pub stuck: BTreeSet<String>,
    /// The API server refuses the operator's patches of the workload.
    pub refuses_patches: bool,
    /// Acts that moved the world, by incident, deciding word and workload, and by kind.
    pub acts: BTreeMap<(String, &'static str), usize>,
    names: BTreeMap<String, String>,
    created: usize,
}

pub fn payload_of(release: &str) -> String {
    digest(&json!({"payload": release}))
}

pub fn template_of(release: &str) -> String {
    digest(&json!({"template": release}))
}

/// The user under which a GitOps tool applies releases.
pub const GITOPS: &str = "system:serviceaccount:argocd:argocd-application-controller";

/// How a verdict appears in the stamp.
const fn as_stamped(verdict: Verdict) -> AdmittedVerdict {
    match verdict {
        Verdict::Allow => AdmittedVerdict::Allow,
        Verdict::Hold => AdmittedVerdict::Hold,
        Verdict::Pin => AdmittedVerdict::Pin,
        Verdict::Deny => AdmittedVerdict::Deny,
    }
}

impl World {
    pub fn new(pilot: &Pilot, source: SourceFacts, now: Timestamp, first_sample: Timestamp) -> Self {
        let zones = jiff::tz::TimeZoneDatabase::bundled();
        let declaration = Declaration::parse(pilot, &zones).expect("the pilot is well declared");
        Self {
            now,
            declaration,
            source,
            deployment: None,
            snapshots: Vec::new(),
            changes: Vec::new(),
            decisions: Vec::new(),
            status: PilotStatus::default(),
            traffic: Traffic::new(first_sample, source.query_offset),
            per_second: 0.0,
            failing: BTreeMap::new(),
            stuck: BTreeSet::new(),
            refuses_patches: false,
            acts: BTreeMap::new(),
            names: BTreeMap::new(),
            created: 0,
        }
    }

    /// A Deployment that ran before the pilot, complete and unmarked.
    pub fn create_deployment(&mut self, release: &str, replicas: i32) {
        self.created += 1;
        self.name(release);
        self.deployment = Some(Deployment {
            uid: format!("uid-{}", self.created),
            generation: 1,
            runs: release.to_owned(),
            serves: release.to_owned(),
            replicas,
            rolled_out_at: self.now - ROLLOUT,
            unsafe_reason: None,
            owes_fields: false,
            marks: Marks::default(),
        });
        self.settle();
    }

    /// Someone applies a release; admission judges it as the webhook would. `Err` tells what was refused.
    pub fn apply(&mut self, release: &str, user: &str) -> Result<Verdict, Vec<String>> {
        self.name(release);
        let ledger = Ledger::read(&self.status);
        let seen = self.observe();
        let case =
            Case { declaration: &self.declaration, source: self.source, seen: &seen, ledger: &ledger, now: self.now };
        let payload = payload_of(release);
        let replicas = seen.workload.as_ref().map(|workload| workload.replicas);
        let moves_release = seen.workload.as_ref().is_none_or(|workload| workload.payload != payload);
        let judgement = judge(
            &case,
            &Proposal {
                operation: Operation::Update,
                requester: Requester { user: user.to_owned(), groups: Vec::new() },
                moves_release,
                template: template_of(release),
                payload: payload.clone(),
                gitops: GitOps { manages_workload: user == GITOPS, is_named: false },
                one_live_release: self.deployment.as_ref().is_some_and(|it| it.serves == it.runs),
                replicas_before: replicas,
                replicas_after: replicas,
            },
        );
        let findings: Vec<String> = judgement
            .findings
            .iter()
            .map(|finding| format!("{}: {}", finding.guard.as_str(), finding.problem))
            .collect();
        if judgement.verdict == Verdict::Deny {
            return Err(findings);
        }
        if judgement.verdict == Verdict::Hold || judgement.verdict == Verdict::Pin {
            self.put_off(release, user, judgement.verdict, findings);
            return Ok(judgement.verdict);
        }
        if let Some(deployment) = &mut self.deployment {
            deployment.marks.held = None;
        }
        if !moves_release {
            return Ok(Verdict::Allow);
        }
        let admitted = Admitted {
            template: template_of(release),
            payload: payload.clone(),
            by: user.to_owned(),
            groups: Vec::new(),
            at: self.now,
            change: change_name(&self.declaration.pilot.name, &payload, self.now),
            verdict: as_stamped(judgement.enforced_verdict),
            reasons: findings,
        };
        self.roll_out(release);
        if let Some(deployment) = &mut self.deployment {
            deployment.marks.admitted = Some(admitted);
            deployment.unsafe_reason = None;
        }
        Ok(judgement.verdict)
    }

    fn put_off(&mut self, release: &str, user: &str, verdict: Verdict, reasons: Vec<String>) {
        let payload = payload_of(release);
        let held = Held {
            verdict: if verdict == Verdict::Hold { HeldVerdict::Hold } else { HeldVerdict::Pin },
            template: template_of(release),
            by: user.to_owned(),
            groups: Vec::new(),
            at: self.now,
            change: change_name(&self.declaration.pilot.name, &payload, self.now),
            was_paused: false,
            reasons,
            payload,
        };
        if let Some(deployment) = &mut self.deployment {
            deployment.generation += i64::from(verdict == Verdict::Hold);
            deployment.marks.held = Some(held);
        }
    }

    /// The template moves, whoever moved it.
    pub fn roll_out(&mut self, release: &str) {
        self.name(release);
        let now = self.now;
        if let Some(deployment) = &mut self.deployment
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
        detail: (Option<String>, Option<SignedDuration>),
    ) -> String {
        let name = format!("decision-{}", self.decisions.len() + 1);
        let (release, lasts) = detail;
        let names_incident = matches!(type_, DecisionType::Continue | DecisionType::Resume);
        let open = self.status.incident.as_ref().map(|incident| incident.id.clone());
        let contained = self.deployment.as_ref().and_then(|deployment| deployment.marks.contained.as_ref());
        let incident = open.or_else(|| contained.map(|contained| contained.incident.clone()));
        self.decisions.push(PilotDecision {
            name: name.clone(),
            type_,
            incident: incident.filter(|_| names_incident),
            payload: release.map(|release| payload_of(&release)),
            until: lasts.map(|lasts| self.now + lasts),
            reason: format!("{by} says so"),
            by: Some(Requester { user: by.to_owned(), groups: Vec::new() }),
            is_record: false,
            follows: None,
            quarantined: Vec::new(),
            created_at: self.now,
            phase: None,
        });
        name
    }

    pub fn scale(&mut self, replicas: i32) {
        if let Some(deployment) = &mut self.deployment {
            deployment.replicas = replicas;
            deployment.generation += 1;
        }
    }

    pub fn observe(&self) -> Observation {
        let mut snapshots = self.snapshots.clone();
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.revision));
        Observation {
            workload: self.deployment.as_ref().map(|deployment| self.workload(deployment)),
            claimed_by: None,
            snapshots,
            changes: self.changes.clone(),
            decisions: self.decisions.clone(),
            answers: BTreeMap::new(),
        }
    }

    fn workload(&self, deployment: &Deployment) -> Workload {
        Workload {
            reference: self.declaration.workload.clone(),
            uid: deployment.uid.clone(),
            resource_version: deployment.version(),
            generation: deployment.generation,
            template: template_of(&deployment.runs),
            payload: payload_of(&deployment.runs),
            replicas: deployment.replicas,
            is_complete: deployment.serves == deployment.runs,
            progress_deadline_exceeded: self.stuck.contains(&deployment.runs)
                && self.now >= deployment.rolled_out_at + PROGRESS_DEADLINE,
            rollback_unsafe: deployment.unsafe_reason.clone(),
            owes_fields: deployment.owes_fields,
            waiting: deployment.marks.held.clone().filter(|held| held.verdict == HeldVerdict::Hold),
            marks: deployment.marks.clone(),
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
        let deployment = self.deployment.as_ref()?;
        let is_due = deployment.serves != deployment.runs && !self.stuck.contains(&deployment.runs);
        is_due.then(|| deployment.rolled_out_at + ROLLOUT)
    }

    /// Brings what users meet up to date.
    pub fn settle(&mut self) {
        let ends = self.rollout_ends();
        if let Some(deployment) = &mut self.deployment
            && ends.is_some_and(|ends| ends <= self.now)
        {
            deployment.serves.clone_from(&deployment.runs);
        }
        let (per_second, failing) = match &self.deployment {
            Some(deployment) if deployment.replicas > 0 => {
                let of = |release: &str| self.failing.get(release).copied().unwrap_or(0.0);
                (self.per_second, of(&deployment.serves).max(of("all")))
            }
            _ => (0.0, 0.0),
        };
        self.traffic.flow(self.now, per_second, failing);
    }

    fn name(&mut self, release: &str) {
        self.names.insert(payload_of(release), release.to_owned());
    }

    pub fn release_of(&self, payload: &str) -> String {
        self.names.get(payload).cloned().unwrap_or_else(|| payload.to_owned())
    }

    /// Digests in a text, long and short, become the releases' names.
    pub fn readable(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (payload, release)| {
            text.replace(payload, release).replace(&payload[..8], release)
        })
    }
}

impl std::ops::Deref for Deployment {
    type Target = Marks;
    fn deref(&self) -> &Marks {
        &self.marks
    }
}
