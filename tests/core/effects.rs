//! How the simulated cluster carries out effects, as the real shell has to: each is refused where its precondition
//! no longer holds, and each leaves the same world however often it is carried out. At every act it is checked what
//! must never happen.

use pilotguard::api::change_record::{Approval, ChangeClass, Outcome};
use pilotguard::api::decision::{DecisionPhase, DecisionSpec};
use pilotguard::api::incident::{DecidedBy, Incident, IncidentStage};
use pilotguard::api::trigger::TriggerAction;
use pilotguard::api::workload::PartKind;
use pilotguard::decide::plan::{Effect, GiveBack, Readmit, Release, ScaleDown};
use pilotguard::observation::{Change, Observation, PilotDecision, Snapshot};
use pilotguard::release::marks::{AdmittedVerdict, Contained, HeldVerdict};
use pilotguard::release::vector::release_payload;

use crate::world::{Deployment, World, images_of, payload_of, template_of};

/// The operator admits nothing: it keeps a verdict, or says how a release came in.
fn check_stamp(verdict: AdmittedVerdict, seen: &Observation) {
    let is_kept = seen.workloads.iter().any(|it| it.admitted().is_some_and(|it| it.verdict == verdict));
    let is_ours = !matches!(verdict, AdmittedVerdict::Allow | AdmittedVerdict::Rollback);
    assert!(is_kept || is_ours, "{verdict:?}");
}

impl World {
    /// Carries out one effect that was planned upon `seen`. `Err` where its precondition does not hold any more.
    pub fn carry_out(&mut self, effect: &Effect, seen: &Observation) -> Result<(), String> {
        if self.refuses_snapshots && effect.storage_key().is_some() {
            return Err("request is too large".to_owned());
        }
        match effect {
            Effect::Stamp(stamp) => {
                check_stamp(stamp.admitted.verdict, seen);
                let deployment = self.expect_version(&stamp.uid, &stamp.resource_version)?;
                deployment.marks.admitted = Some(stamp.admitted.clone());
            }
            Effect::TakeSnapshot { workload, payload } => self.take_snapshot(&workload.name, payload)?,
            Effect::MarkKnownGood { snapshot, at, releases } => {
                let snapshot = self.expect_snapshot(snapshot, seen)?;
                snapshot.known_good_at = Some(*at);
                snapshot.known_good_in.clone_from(releases);
            }
            Effect::MarkRunning { snapshot, stopped_at } => {
                self.expect_snapshot(snapshot, seen)?.last_running_at = *stopped_at;
            }
            Effect::RepackSnapshot { snapshot } => self.repack(snapshot)?,
            Effect::Prune { snapshots } => self.prune(snapshots),
            Effect::OpenChange(_)
            | Effect::UpdateChange(_)
            | Effect::DeclareEmergency(_)
            | Effect::ApproveChange(_) => {
                self.write_change(effect, seen)?;
            }
            Effect::RollBack(_) | Effect::ScaleDown(_) | Effect::RestoreReplicas(_) if self.refuses_patches => {
                return Err("a policy refuses it".to_owned());
            }
            Effect::Release(release) => self.release(release)?,
            Effect::ScaleDown(act) if self.is_contained_so(act) => self.contain_again(act)?,
            Effect::RollBack(_) | Effect::ScaleDown(_) | Effect::RestoreReplicas(_) => self.act(effect)?,
            Effect::GiveBack(give_back) => self.give_back(give_back)?,
            Effect::Readmit(readmit) => self.readmit(readmit)?,
            Effect::JudgeDecision { name, phase, .. } => {
                let decision = self.decisions.iter_mut().find(|decision| decision.name == *name).unwrap();
                if decision.phase.is_some() {
                    return Err("the Decision was judged before".to_owned());
                }
                decision.phase = Some(*phase);
            }
            Effect::RecordDecision { name, spec } => self.record(name, spec),
        }
        self.settle();
        Ok(())
    }

    fn record(&mut self, name: &String, spec: &DecisionSpec) {
        if self.decisions.iter().all(|decision| decision.name != *name) {
            self.decisions.push(PilotDecision {
                name: name.clone(),
                type_: spec.type_,
                incident: spec.incident.clone(),
                payload: None,
                change: None,
                until: spec.until,
                fix: spec.fix,
                reason: spec.reason.clone(),
                by: spec.by.clone(),
                is_record: spec.record.is_some(),
                origin: spec.record.as_ref().and_then(|record| record.origin),
                follows: spec.record.as_ref().and_then(|record| record.decision.clone()),
                quarantined: spec.record.as_ref().map(|record| record.quarantined.clone()).unwrap_or_default(),
                created_at: self.now - self.api_server_is_slow_by,
                received_at: None,
                phase: Some(DecisionPhase::Accepted),
            });
        }
    }

    fn readmit(&mut self, readmit: &Readmit) -> Result<(), String> {
        let deployment = self.expect_version(&readmit.uid, &readmit.resource_version)?;
        deployment.marks.quarantined.clone_from(&readmit.quarantined);
        if readmit.forgets_pin {
            deployment.marks.held = None;
        }
        Ok(())
    }

    fn prune(&mut self, snapshots: &[String]) {
        for deployment in &mut self.deployments {
            deployment.snapshots.retain(|snapshot| !snapshots.contains(&snapshot.name));
        }
    }

    fn repack(&mut self, name: &str) -> Result<(), String> {
        assert!(self.status.incident.is_none(), "an incident may go back to {name}");
        let mut snapshots = self.deployments.iter_mut().flat_map(|deployment| &mut deployment.snapshots);
        let legacy = snapshots.find(|snapshot| snapshot.name == name).ok_or("the snapshot is gone")?;
        legacy.is_legacy = false;
        legacy.name = format!("{name}-packed");
        Ok(())
    }

    fn act(&mut self, effect: &Effect) -> Result<(), String> {
        let (uid, generation, kind) = match effect {
            Effect::RollBack(act) => (&act.uid, act.generation, act.workload.kind),
            Effect::ScaleDown(act) => (&act.uid, act.generation, act.workload.kind),
            Effect::RestoreReplicas(act) => (&act.uid, act.generation, act.workload.kind),
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
        let decided_by = incident.as_ref().and_then(|it| it.intent.as_ref()).map(|intent| intent.decided_by);
        let is_asked_for = matches!(decided_by, Some(DecidedBy::Person | DecidedBy::Policy));
        assert!(has_cause || is_asked_for, "an act without any breach that was seen");
        check_act(effect, incident.as_ref(), deployment);
        check_reach(effect, kind, deployment);
        let before = (deployment.runs.clone(), deployment.replicas, deployment.marks.clone());
        match effect {
            Effect::RollBack(act) => {
                let release = target.unwrap();
                if deployment.runs != release {
                    deployment.owes_fields = true;
                    deployment.runs = release;
                    deployment.generation += 1;
                    deployment.rolled_out_at = now;
                }
                deployment.unsafe_reason = None;
                deployment.marks.admitted = Some(act.admitted.clone());
                deployment.marks.quarantined.clone_from(&act.quarantined);
                deployment.marks.held = act.put_away.as_deref().cloned();
            }
            Effect::ScaleDown(act) => {
                deployment.owes_fields |= deployment.replicas != act.replicas;
                deployment.generation += i64::from(deployment.replicas != act.replicas);
                deployment.replicas = act.replicas;
                deployment.marks.parked_replicas = Some(act.parked);
                deployment.marks.contained = Some(Contained { incident: act.incident.clone(), replicas: act.replicas });
            }
            Effect::RestoreReplicas(act) => {
                deployment.owes_fields |= deployment.replicas != act.replicas;
                deployment.generation += i64::from(deployment.replicas != act.replicas);
                deployment.replicas = act.replicas;
                deployment.marks.contained = None;
                deployment.marks.parked_replicas = None;
            }
            _ => unreachable!(),
        }
        if before != (deployment.runs.clone(), deployment.replicas, deployment.marks.clone()) {
            let incident = incident.unwrap();
            let decided = incident.intent.map(|intent| (intent.at, intent.decision));
            let key = (format!("{} {decided:?} on {uid}", incident.id), act_name(effect));
            *self.acts.entry(key).or_default() += 1;
        }
        for (act, times) in &self.acts {
            assert_eq!(*times, 1, "{act:?} was carried out more than once");
        }
        Ok(())
    }

    fn is_contained_so(&self, act: &ScaleDown) -> bool {
        let deployment = self.deployments.iter().find(|deployment| deployment.uid == act.uid);
        let contained = deployment.and_then(|deployment| deployment.marks.contained.as_ref());
        contained.is_some_and(|it| it.incident == act.incident && it.replicas == act.replicas)
    }

    /// What was decided once is no new act.
    fn contain_again(&mut self, act: &ScaleDown) -> Result<(), String> {
        let deployment = self.expect_deployment(&act.uid, Some(act.generation))?;
        let contained = deployment.marks.contained.clone().expect("it is contained");
        assert_eq!((act.replicas, Some(act.parked)), (contained.replicas, deployment.marks.parked_replicas));
        assert!(act.replicas <= deployment.replicas, "a scale-down raised the replicas");
        deployment.owes_fields |= deployment.replicas != act.replicas;
        deployment.generation += i64::from(deployment.replicas != act.replicas);
        deployment.replicas = act.replicas;
        Ok(())
    }

    fn give_back(&mut self, effect: &GiveBack) -> Result<(), String> {
        let deployment = self.expect_deployment(&effect.uid, None)?;
        if template_of(&deployment.runs) != effect.template {
            return Err("another template is stored".to_owned());
        }
        let exists = |name: &String| deployment.snapshots.iter().any(|snapshot| snapshot.name == *name);
        assert!(effect.snapshot.iter().all(exists), "owners are read from what exists");
        deployment.owes_fields = false;
        Ok(())
    }

    fn release(&mut self, release: &Release) -> Result<(), String> {
        let name = self.release_of(&release.admitted.payload);
        let now = self.now;
        let deployment = self.expect_deployment(&release.uid, Some(release.generation))?;
        let held = deployment.marks.held.take().expect("only what was held is released");
        assert_eq!(held.template, release.admitted.template, "another release than the one that waits");
        deployment.marks.admitted = Some(release.admitted.clone());
        deployment.runs = name;
        deployment.generation += 1;
        deployment.rolled_out_at = now;
        deployment.unsafe_reason = None;
        Ok(())
    }

    fn write_change(&mut self, effect: &Effect, seen: &Observation) -> Result<(), String> {
        match effect {
            Effect::OpenChange(open) if self.changes.iter().all(|change| change.name != open.name) => {
                self.changes.push(Change {
                    name: open.name.clone(),
                    class: open.class,
                    payload: release_payload(&open.release),
                    parts: open.release.clone(),
                    started_at: open.started_at,
                    completed_at: None,
                    outcome: Outcome::Pending,
                    approval_owed: open.approval_owed.clone(),
                    approval: None,
                });
            }
            Effect::DeclareEmergency(emergency) => {
                let change = self.changes.iter_mut().find(|change| change.name == emergency.change).unwrap();
                change.class = ChangeClass::Emergency;
                change.approval_owed = Some(emergency.approval_owed.clone());
            }
            Effect::ApproveChange(approve) => {
                let change = self.changes.iter_mut().find(|change| change.name == approve.change).unwrap();
                change.approval_owed = None;
                let (by, decision) = (approve.by.clone(), approve.decision.clone());
                change.approval = Some(Approval { by, at: approve.at, decision });
            }
            Effect::UpdateChange(update) => {
                let was = seen.changes.iter().find(|change| change.name == update.name).cloned();
                let change = self.changes.iter_mut().find(|change| change.name == update.name).unwrap();
                if was.as_ref() != Some(change) {
                    return Err("the ChangeRecord has moved on".to_owned());
                }
                change.started_at = update.started_at.unwrap_or(change.started_at);
                change.completed_at = update.completed_at;
                change.outcome = update.outcome;
                if let Some(parts) = &update.release {
                    change.payload = release_payload(parts);
                    change.parts.clone_from(parts);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_snapshot(&mut self, name: &str, payload: &str) -> Result<(), String> {
        let reference = self.reference(name);
        let deployment = self.deployment_mut(name).ok_or("no Deployment")?;
        if payload_of(&deployment.runs) != payload {
            return Err("another release runs by now".to_owned());
        }
        if deployment.snapshots.iter().any(|snapshot| snapshot.payload == payload) {
            return Ok(());
        }
        let revision = deployment.snapshots.iter().map(|snapshot| snapshot.revision).max().unwrap_or(0) + 1;
        deployment.snapshots.push(Snapshot {
            name: format!("{name}-{}", deployment.runs),
            revision,
            payload: payload.to_owned(),
            template: template_of(&deployment.runs),
            known_good_at: None,
            known_good_in: Vec::new(),
            last_running_at: None,
            is_legacy: false,
            images: images_of(&reference, &deployment.runs),
            rollback_unsafe: deployment.unsafe_reason.clone(),
        });
        Ok(())
    }

    fn expect_deployment(&mut self, uid: &str, generation: Option<i64>) -> Result<&mut Deployment, String> {
        self.deployments
            .iter_mut()
            .filter(|deployment| deployment.uid == uid)
            .find(|deployment| generation.is_none_or(|generation| deployment.generation == generation))
            .ok_or_else(|| "the Deployment has moved on".to_owned())
    }

    fn expect_version(&mut self, uid: &str, version: &str) -> Result<&mut Deployment, String> {
        let deployment = self.expect_deployment(uid, None)?;
        if deployment.version() == version { Ok(deployment) } else { Err("the Deployment has moved on".to_owned()) }
    }

    fn expect_snapshot(&mut self, name: &str, seen: &Observation) -> Result<&mut Snapshot, String> {
        let mut known = seen.workloads.iter().flat_map(|workload| &workload.snapshots);
        let was = known.find(|snapshot| snapshot.name == name).cloned();
        self.deployments
            .iter_mut()
            .flat_map(|deployment| &mut deployment.snapshots)
            .find(|snapshot| snapshot.name == name && Some(&**snapshot) == was.as_ref())
            .inspect(|snapshot| assert!(!snapshot.is_legacy, "the API server may refuse to note anything on {name}"))
            .ok_or_else(|| "the snapshot has moved on".to_owned())
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

/// Nothing is rolled back that stores what its release wrote, nothing without replicas is scaled, and nothing is done
/// against another controller; what was parked may be given back to it.
fn check_reach(effect: &Effect, kind: PartKind, deployment: &Deployment) {
    let moves = matches!(effect, Effect::RollBack(_));
    let is_undone = matches!(kind, PartKind::Deployment | PartKind::ConfigMap);
    assert!(!moves || is_undone, "a {kind:?} is rolled back");
    assert!(moves || kind != PartKind::ConfigMap, "a ConfigMap is scaled");
    assert_ne!(kind, PartKind::DaemonSet, "a DaemonSet is acted on");
    let gives_back = matches!(effect, Effect::RestoreReplicas(_));
    assert!(gives_back || deployment.foreign.is_none(), "acted against another controller");
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
            let put_away = act.put_away.as_ref().map(|note| (note.verdict, note.payload.as_str()));
            let asked_for = deployment.admitted.as_ref().map(|admitted| admitted.payload.as_str());
            let is_out =
                |payload: &&str| act.quarantined.contains(*payload) && *payload == payload_of(&deployment.runs);
            assert_eq!(put_away, asked_for.filter(is_out).map(|payload| (HeldVerdict::Pin, payload)), "the note");
            let rolled_back = deployment.admitted.as_ref().is_some_and(|a| a.verdict == AdmittedVerdict::Rollback);
            if intent.decided_by == DecidedBy::Deadline {
                assert!(!rolled_back, "a rollback was rolled back by itself");
                let suspect = incident.suspect.as_ref().expect("an automatic rollback has a suspect");
                let runs = payload_of(&deployment.runs);
                // With several workloads the digest of what is blamed covers them all.
                let is_one_of_several = intent.workloads.len() > 1;
                assert!(
                    is_one_of_several || suspect.payload == runs || act.admitted.payload == runs,
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
