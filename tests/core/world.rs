//! A simulated cluster: one Deployment, its marks, snapshots, change records, decisions and the Pilot's status.
//!
//! It carries out effects as the real shell has to: each is refused where its precondition no longer holds, and
//! each leaves the same world however often it is carried out. It checks at every act what must never happen.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use pilotguard::api::decision::{DecisionPhase, DecisionType, Requester};
use pilotguard::api::incident::{DecidedBy, Incident, IncidentStage};
use pilotguard::api::pilot::Pilot;
use pilotguard::api::status::PilotStatus;
use pilotguard::api::trigger::TriggerAction;
use pilotguard::decide::judge::{Operation, Proposal, Verdict, judge};
use pilotguard::decide::plan::Effect;
use pilotguard::decide::{Case, Ledger, SourceFacts};
use pilotguard::declaration::Declaration;
use pilotguard::observation::{Change, Observation, PilotDecision, Snapshot, Workload};
use pilotguard::release::change::change_name;
use pilotguard::release::digest::digest;
use pilotguard::release::marks::{Admitted, AdmittedVerdict, Contained, Marks};
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
    rolled_out_at: Timestamp,
    pub unsafe_reason: Option<String>,
    pub marks: Marks,
}

impl Deployment {
    /// Moves with every write, as a resourceVersion does.
    fn version(&self) -> String {
        format!("{}/{}/{:?}", self.generation, self.replicas, self.marks)
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
    /// Acts that moved the world, by incident, deciding word and workload, and by kind.
    pub acts: BTreeMap<(String, &'static str), usize>,
    names: BTreeMap<String, String>,
    created: usize,
}

pub fn payload_of(release: &str) -> String {
    digest(&json!({"payload": release}))
}

fn template_of(release: &str) -> String {
    digest(&json!({"template": release}))
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
                payload: payload.clone(),
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
        if !moves_release {
            return Ok(Verdict::Allow);
        }
        let verdict = match judgement.enforced_verdict {
            Verdict::Allow => AdmittedVerdict::Allow,
            Verdict::Deny => AdmittedVerdict::Deny,
        };
        let admitted = Admitted {
            template: template_of(release),
            payload: payload.clone(),
            by: user.to_owned(),
            groups: Vec::new(),
            at: self.now,
            change: change_name(&self.declaration.pilot.name, &payload, self.now),
            verdict,
            reasons: findings,
        };
        self.roll_out(release);
        if let Some(deployment) = &mut self.deployment {
            deployment.marks.admitted = Some(admitted);
            deployment.unsafe_reason = None;
        }
        Ok(judgement.verdict)
    }

    /// The template moves, whoever moved it.
    pub fn roll_out(&mut self, release: &str) {
        self.name(release);
        let now = self.now;
        if let Some(deployment) = &mut self.deployment
            && deployment.runs != release
        {
            deployment.runs = release.to_owned();
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
            created_at: self.now,
            phase: None,
        });
        name
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

    /// Carries out one effect that was planned upon `seen`. `Err` where its precondition does not hold any more.
    pub fn carry_out(&mut self, effect: &Effect, seen: &Observation) -> Result<(), String> {
        match effect {
            Effect::Stamp(stamp) => {
                let verdict = stamp.admitted.verdict;
                assert!(matches!(verdict, AdmittedVerdict::Adopted | AdmittedVerdict::Unauthorized), "{verdict:?}");
                let deployment = self.expect_version(&stamp.uid, &stamp.resource_version)?;
                deployment.marks.admitted = Some(stamp.admitted.clone());
            }
            Effect::TakeSnapshot { payload } => self.take_snapshot(payload)?,
            Effect::MarkKnownGood { snapshot, at } => self.expect_snapshot(snapshot, seen)?.known_good_at = Some(*at),
            Effect::MarkRunning { snapshot, stopped_at } => {
                self.expect_snapshot(snapshot, seen)?.last_running_at = *stopped_at;
            }
            Effect::Prune { snapshots } => self.snapshots.retain(|snapshot| !snapshots.contains(&snapshot.name)),
            Effect::OpenChange(_) | Effect::UpdateChange(_) => self.write_change(effect, seen)?,
            Effect::RollBack(_) | Effect::ScaleDown(_) | Effect::RestoreReplicas(_) => self.act(effect)?,
            Effect::Readmit(readmit) => {
                let deployment = self.expect_version(&readmit.uid, &readmit.resource_version)?;
                deployment.marks.quarantined.clone_from(&readmit.quarantined);
            }
            Effect::JudgeDecision { name, phase, .. } => {
                let decision = self.decisions.iter_mut().find(|decision| decision.name == *name).unwrap();
                if decision.phase.is_some() {
                    return Err("the Decision was judged before".to_owned());
                }
                decision.phase = Some(*phase);
            }
            Effect::RecordDecision { name, spec } => {
                if self.decisions.iter().all(|decision| decision.name != *name) {
                    self.decisions.push(PilotDecision {
                        name: name.clone(),
                        type_: spec.type_,
                        incident: spec.incident.clone(),
                        payload: None,
                        until: spec.until,
                        reason: spec.reason.clone(),
                        by: spec.by.clone(),
                        is_record: spec.record.is_some(),
                        created_at: self.now,
                        phase: Some(DecisionPhase::Accepted),
                    });
                }
            }
        }
        self.settle();
        Ok(())
    }

    fn act(&mut self, effect: &Effect) -> Result<(), String> {
        let (uid, generation) = match effect {
            Effect::RollBack(act) => (&act.uid, act.generation),
            Effect::ScaleDown(act) => (&act.uid, act.generation),
            Effect::RestoreReplicas(act) => (&act.uid, act.generation),
            _ => unreachable!(),
        };
        let incident = self.status.incident.clone();
        let target = match effect {
            Effect::RollBack(act) => Some(self.release_of(&act.admitted.payload)),
            _ => None,
        };
        let now = self.now;
        let has_cause = self.traffic.told_of_failure || !self.stuck.is_empty();
        let deployment = self.expect_deployment(uid, Some(generation))?;
        let decided_by =
            incident.as_ref().and_then(|incident| incident.intent.as_ref()).map(|intent| intent.decided_by);
        assert!(has_cause || decided_by == Some(DecidedBy::Person), "an act without any breach that was seen");
        check_act(effect, incident.as_ref(), deployment);
        let before = (deployment.runs.clone(), deployment.replicas, deployment.marks.clone());
        match effect {
            Effect::RollBack(act) => {
                let release = target.unwrap();
                if deployment.runs != release {
                    deployment.runs = release;
                    deployment.generation += 1;
                    deployment.rolled_out_at = now;
                }
                deployment.unsafe_reason = None;
                deployment.marks.admitted = Some(act.admitted.clone());
                deployment.marks.quarantined.clone_from(&act.quarantined);
            }
            Effect::ScaleDown(act) => {
                deployment.generation += i64::from(deployment.replicas != act.replicas);
                deployment.replicas = act.replicas;
                deployment.marks.parked_replicas = Some(act.parked);
                deployment.marks.contained = Some(Contained { incident: act.incident.clone(), replicas: act.replicas });
            }
            Effect::RestoreReplicas(act) => {
                deployment.generation += i64::from(deployment.replicas != act.replicas);
                deployment.replicas = act.replicas;
                deployment.marks.contained = None;
                deployment.marks.parked_replicas = None;
            }
            _ => unreachable!(),
        }
        if before != (deployment.runs.clone(), deployment.replicas, deployment.marks.clone()) {
            let incident = incident.unwrap();
            let word = incident.intent.and_then(|intent| intent.decision).unwrap_or_default();
            let key = (format!("{} {word} on {uid}", incident.id), act_name(effect));
            *self.acts.entry(key).or_default() += 1;
        }
        for (act, times) in &self.acts {
            assert_eq!(*times, 1, "{act:?} was carried out more than once");
        }
        Ok(())
    }

    fn write_change(&mut self, effect: &Effect, seen: &Observation) -> Result<(), String> {
        match effect {
            Effect::OpenChange(open) if self.changes.iter().all(|change| change.name != open.name) => {
                self.changes.push(Change {
                    name: open.name.clone(),
                    class: open.class,
                    payload: open.payload.clone(),
                    started_at: open.started_at,
                    completed_at: None,
                    outcome: pilotguard::api::change_record::Outcome::Pending,
                });
            }
            Effect::UpdateChange(update) => {
                let was = seen.changes.iter().find(|change| change.name == update.name).cloned();
                let change = self.changes.iter_mut().find(|change| change.name == update.name).unwrap();
                if was.as_ref() != Some(change) {
                    return Err("the ChangeRecord has moved on".to_owned());
                }
                change.completed_at = update.completed_at;
                change.outcome = update.outcome;
                if let Some((_, payload)) = &update.release {
                    change.payload.clone_from(payload);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_snapshot(&mut self, payload: &str) -> Result<(), String> {
        let deployment = self.deployment.as_ref().ok_or("no Deployment")?;
        if payload_of(&deployment.runs) != payload {
            return Err("another release runs by now".to_owned());
        }
        if self.snapshots.iter().any(|snapshot| snapshot.payload == payload) {
            return Ok(());
        }
        let revision = self.snapshots.iter().map(|snapshot| snapshot.revision).max().unwrap_or(0) + 1;
        self.snapshots.push(Snapshot {
            name: format!("checkout-{}", deployment.runs),
            revision,
            payload: payload.to_owned(),
            template: template_of(&deployment.runs),
            known_good_at: None,
            last_running_at: None,
            rollback_unsafe: deployment.unsafe_reason.clone(),
        });
        Ok(())
    }

    fn expect_deployment(&mut self, uid: &str, generation: Option<i64>) -> Result<&mut Deployment, String> {
        self.deployment
            .as_mut()
            .filter(|deployment| deployment.uid == uid)
            .filter(|deployment| generation.is_none_or(|generation| deployment.generation == generation))
            .ok_or_else(|| "the Deployment has moved on".to_owned())
    }

    fn expect_version(&mut self, uid: &str, version: &str) -> Result<&mut Deployment, String> {
        self.expect_deployment(uid, None)?;
        self.deployment
            .as_mut()
            .filter(|deployment| deployment.version() == version)
            .ok_or_else(|| "the Deployment has moved on".to_owned())
    }

    fn expect_snapshot(&mut self, name: &str, seen: &Observation) -> Result<&mut Snapshot, String> {
        let was = seen.snapshots.iter().find(|snapshot| snapshot.name == name).cloned();
        self.snapshots
            .iter_mut()
            .find(|snapshot| snapshot.name == name && Some(&**snapshot) == was.as_ref())
            .ok_or_else(|| "the snapshot has moved on".to_owned())
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

pub fn act_name(effect: &Effect) -> &'static str {
    match effect {
        Effect::RollBack(_) => "RollBack",
        Effect::ScaleDown(_) => "ScaleDown",
        Effect::RestoreReplicas(_) => "RestoreReplicas",
        _ => "",
    }
}

/// What must hold whenever something is done that users feel.
fn check_act(effect: &Effect, incident: Option<&Incident>, deployment: &Deployment) {
    let incident = incident.expect("an act has a stored incident");
    let intent = incident.intent.as_ref();
    match effect {
        Effect::RollBack(act) => {
            let intent = intent.expect("a rollback is preceded by a stored intent");
            assert_eq!((incident.stage, intent.action), (IncidentStage::Acting, TriggerAction::Rollback));
            assert_eq!(incident.id, act.incident);
            assert!(!act.quarantined.contains(&act.admitted.payload), "the target is quarantined");
            assert!(!deployment.marks.quarantined.contains(&act.admitted.payload), "back to a quarantined release");
            assert!(act.quarantined.is_superset(&deployment.marks.quarantined), "a quarantine was forgotten");
            let rolled_back = deployment.admitted.as_ref().is_some_and(|a| a.verdict == AdmittedVerdict::Rollback);
            if intent.decided_by == DecidedBy::Deadline {
                assert!(!rolled_back, "a rollback was rolled back by itself");
                let suspect = incident.suspect.as_ref().expect("an automatic rollback has a suspect");
                let runs = payload_of(&deployment.runs);
                assert!(
                    suspect.payload == runs || act.admitted.payload == runs,
                    "a release was rolled back that was not blamed"
                );
            }
        }
        Effect::ScaleDown(act) => {
            let intent = intent.expect("a scale-down is preceded by a stored intent");
            assert_eq!((incident.stage, intent.action), (IncidentStage::Acting, TriggerAction::ScaleDown));
            assert!(act.replicas <= deployment.replicas, "a scale-down raised the replicas");
        }
        Effect::RestoreReplicas(act) => {
            assert_eq!(incident.stage, IncidentStage::Resuming);
            assert_eq!(Some(act.replicas), deployment.marks.parked_replicas, "not what was parked");
        }
        _ => {}
    }
}
