//! What has to be written down: marks, snapshots, ChangeRecords and the Decision that ends an incident.
//!
//! Each effect here is due as long as what was seen does not show it, so a lost write is made again and one
//! that arrived is not.

use jiff::Timestamp;

use super::ending::was_fixed;
use super::exceptions::approval_owed;
use super::plan::{Effect, OpenChange, UpdateChange};
use super::turn::Turn;
use super::whole::{parts_of, replaced, replaced_by, waiting_changes};
use crate::api::change_record::{ChangeClass, Outcome};
use crate::api::decision::{DecisionSpec, DecisionType, IncidentRecord, Requester};
use crate::api::incident::{Closing, DecidedBy, Incident, Intent, Suspect};
use crate::api::status::ReleaseState;
use crate::api::trigger::TriggerAction;
use crate::api::workload::{PartReference, ReleasePart};
use crate::observation::{Change, PilotDecision, Snapshot, Workload};
use crate::release::change::change_name;
use crate::release::marks::{Admitted, AdmittedVerdict, Held};

/// Snapshots beyond this are deleted, oldest first; never the target or what runs.
const SNAPSHOTS_KEPT: usize = 10;

/// The names of the operator's own Decisions begin so; a static policy keeps others from using it.
pub const RECORD_PREFIX: &str = "incident-";

/// Who is named where the operator itself acted.
pub const OPERATOR: &str = "system:pilotguard";

impl Turn<'_> {
    /// Everything that has to be written down about the release that runs.
    pub(super) fn keep_records(&mut self) {
        let waiting = waiting_changes(self.workloads(), self.case.declaration.group_within);
        for change in &waiting {
            self.keep_waiting(change);
        }
        for workload in self.workloads() {
            self.stamp_what_came_unseen(workload);
            if workload.admitted().is_some() {
                self.keep_snapshots(workload);
            }
        }
        if let Some(admitted) = self.whole.admitted.clone() {
            let waiting: Vec<&str> =
                waiting.iter().filter_map(|change| Some(change.first()?.1.change.as_str())).collect();
            self.keep_changes(&admitted, &waiting);
        }
    }

    /// A change is recorded from the moment at which it is held, so that one that is superseded leaves a trace.
    fn keep_waiting(&mut self, change: &[(&Workload, &Held)]) {
        let Some((_, first)) = change.first() else { return };
        if self.case.seen.changes.iter().any(|change| change.name == first.change) {
            return;
        }
        let mut release = parts_of(self.workloads());
        for (workload, held) in change {
            release.retain(|part| !workload.reference.is(part.kind, &part.name));
            let PartReference { kind, name } = workload.reference.clone();
            let (template, payload) = (held.template.clone(), held.payload.clone());
            release.push(ReleasePart { kind, name, template, payload, images: held.images.clone() });
        }
        self.effects.push(Effect::OpenChange(OpenChange {
            name: first.change.clone(),
            class: ChangeClass::Normal,
            release,
            replaced: replaced(&parts_of(self.workloads())),
            requested_by: Requester { user: first.by.clone(), groups: first.groups.clone() },
            started_at: first.at,
            findings: first.reasons.clone(),
            approval_owed: None,
        }));
    }

    pub(super) fn change_name(&self, payload: &str, at: Timestamp) -> String {
        change_name(&self.case.declaration.pilot.name, payload, at)
    }

    fn keep_snapshots(&mut self, workload: &Workload) {
        if workload.waiting.is_none() && workload.snapshot_of(&workload.payload).is_none() {
            let (workload, payload) = (workload.reference.clone(), workload.payload.clone());
            self.effects.push(Effect::TakeSnapshot { workload, payload });
        }
        for snapshot in &workload.snapshots {
            if snapshot.is_legacy {
                self.repack(snapshot);
                continue;
            }
            let runs = snapshot.payload == workload.payload;
            if runs == snapshot.last_running_at.is_some() {
                let stopped_at = (!runs).then_some(self.case.now);
                self.effects.push(Effect::MarkRunning { snapshot: snapshot.name.clone(), stopped_at });
            }
        }
        let mut by_age: Vec<_> = workload.snapshots.iter().collect();
        by_age.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.revision));
        let of_incident = self.ledger.incident.as_ref().and_then(|incident| incident.target.as_ref());
        let targets = [self.ledger.rollback_target.as_ref(), of_incident];
        let is_target = |name: &String| {
            targets.iter().flatten().flat_map(|target| &target.workloads).any(|part| part.revision == *name)
        };
        let surplus: Vec<String> = by_age
            .into_iter()
            .skip(SNAPSHOTS_KEPT)
            .filter(|snapshot| !is_target(&snapshot.name) && snapshot.payload != workload.payload)
            .map(|snapshot| snapshot.name.clone())
            .collect();
        if !surplus.is_empty() {
            self.effects.push(Effect::Prune { snapshots: surplus });
        }
    }

    /// An incident goes back to a snapshot by its name, so that names stay while one is open.
    fn repack(&mut self, legacy: &Snapshot) {
        if self.ledger.incident.is_none() {
            self.effects.push(Effect::RepackSnapshot { snapshot: legacy.name.clone() });
        }
    }

    fn keep_changes(&mut self, admitted: &Admitted, waiting: &[&str]) {
        let changes = &self.case.seen.changes;
        if !admitted.change.is_empty() {
            match changes.iter().find(|change| change.name == admitted.change) {
                None => self.open_change(admitted),
                Some(change) => self.advance_change(change, admitted),
            }
            self.declare_emergency(admitted);
        }
        let blamed = self.ledger.incident.as_ref().and_then(|incident| incident.suspect.clone());
        let was_good = self.running().all(Workload::runs_what_was_good);
        for change in changes.iter() {
            let is_over = change.outcome == Outcome::Pending
                && change.name != admitted.change
                && !waiting.contains(&change.name.as_str());
            if is_over && blamed.as_ref().is_none_or(|suspect| suspect.change != change.name) {
                let backed_out = waiting.is_empty() && change.completed_at.is_none() && was_good;
                let outcome = if backed_out { Outcome::Aborted } else { Outcome::Superseded };
                let is_replaced = outcome == Outcome::Superseded && waiting.is_empty() && !admitted.change.is_empty();
                self.effects.push(Effect::UpdateChange(UpdateChange {
                    name: change.name.clone(),
                    release: None,
                    started_at: None,
                    completed_at: change.completed_at,
                    outcome,
                    cause: is_replaced.then(|| format!("replaced by change {}", admitted.change)),
                }));
            }
        }
    }

    fn open_change(&mut self, admitted: &Admitted) {
        let class = match admitted.verdict {
            AdmittedVerdict::Rollback => ChangeClass::Rollback,
            AdmittedVerdict::Unauthorized => ChangeClass::Unauthorized,
            AdmittedVerdict::Allow
            | AdmittedVerdict::Hold
            | AdmittedVerdict::Pin
            | AdmittedVerdict::Deny
            | AdmittedVerdict::Adopted => ChangeClass::Normal,
            AdmittedVerdict::Override | AdmittedVerdict::BreakGlass => ChangeClass::Emergency,
        };
        self.effects.push(Effect::OpenChange(OpenChange {
            name: admitted.change.clone(),
            class,
            release: parts_of(self.workloads()),
            replaced: replaced_by(&admitted.change, self.workloads()),
            requested_by: Requester { user: admitted.by.clone(), groups: admitted.groups.clone() },
            started_at: admitted.at,
            findings: admitted.reasons.clone(),
            approval_owed: approval_owed(self.case.declaration, admitted),
        }));
    }

    fn advance_change(&mut self, change: &Change, admitted: &Admitted) {
        let state = self.ledger.release.as_ref().map(|release| release.state);
        let is_available = state.is_some_and(|state| state == ReleaseState::Baking || state.is_baked());
        let is_open = change.outcome == Outcome::Pending;
        let release = (is_open && change.payload != admitted.payload).then(|| parts_of(self.workloads()));
        // What joins a change has to become available too.
        let known = change.completed_at.filter(|_| release.is_none());
        let completed_at = known.or_else(|| is_available.then_some(self.case.now));
        let outcome = match (change.outcome, state) {
            (Outcome::Pending, Some(state)) if state.is_baked() => Outcome::Succeeded,
            (outcome, _) => outcome,
        };
        // A change that was held is recorded before it is admitted.
        let is_late = change.outcome == Outcome::Pending && change.started_at < admitted.at;
        let started_at = is_late.then_some(admitted.at);
        if is_late || completed_at != change.completed_at || outcome != change.outcome || release.is_some() {
            self.effects.push(Effect::UpdateChange(UpdateChange {
                name: change.name.clone(),
                release,
                started_at,
                completed_at,
                outcome,
                cause: None,
            }));
        }
    }

    /// Writes the record of an incident that is over; true once all of it is seen to be written.
    pub(super) fn record_incident(&mut self, incident: &Incident) -> bool {
        let Some(closing) = &incident.closing else { return false };
        // By what it says and not by its name: anybody can write a Decision of that name.
        let records = |decision: &PilotDecision| decision.is_record && decision.incident.as_ref() == Some(&incident.id);
        let is_recorded = self.case.seen.decisions.iter().any(records);
        if !is_recorded {
            let spec = Box::new(self.decision_spec(incident, closing));
            self.effects.push(Effect::RecordDecision { name: format!("{RECORD_PREFIX}{}", incident.id), spec });
        }
        let was_acted_on = closing.carried_out && closing.action >= TriggerAction::Rollback;
        // A change that had to be fixed failed, as one that was rolled back.
        let has_failed = was_acted_on || was_fixed(closing);
        (!has_failed || self.blame_suspect(incident, &closing.summary)) && is_recorded
    }

    /// Marks the change that was rolled back or scaled down for as failed; true once that is seen.
    pub(super) fn blame_suspect(&mut self, incident: &Incident, why: &str) -> bool {
        // A release that came after the act and recovered by itself was not undone.
        let decided_at = incident.intent.as_ref().map(|intent| intent.at);
        let is_undone = |suspect: &&Suspect| decided_at.is_none_or(|at| suspect.admitted_at <= at);
        let Some(suspect) = incident.suspect.as_ref().filter(is_undone) else { return true };
        let Some(change) = self.case.seen.changes.iter().find(|change| change.name == suspect.change) else {
            return true;
        };
        if change.outcome == Outcome::Failed {
            return true;
        }
        self.effects.push(Effect::UpdateChange(UpdateChange {
            name: change.name.clone(),
            release: None,
            started_at: None,
            completed_at: change.completed_at,
            outcome: Outcome::Failed,
            cause: Some(format!("incident {}: {why}", incident.id)),
        }));
        false
    }

    fn decision_spec(&self, incident: &Incident, closing: &Closing) -> DecisionSpec {
        let type_ = match closing.action {
            TriggerAction::Notify => DecisionType::Continue,
            TriggerAction::HoldChanges => DecisionType::HoldChanges,
            TriggerAction::Rollback => DecisionType::Rollback,
            TriggerAction::ScaleDown => DecisionType::ScaleDown,
        };
        DecisionSpec {
            pilot: self.case.declaration.pilot.name.clone(),
            type_,
            incident: Some(incident.id.clone()),
            payload: None,
            change: None,
            fix: false,
            until: (type_ == DecisionType::Continue).then_some(closing.at),
            reason: format!("{}; {}", closing.summary, incident.because),
            by: Some(Requester { user: OPERATOR.to_owned(), groups: Vec::new() }),
            record: Some(IncidentRecord {
                origin: Some(incident.origin()),
                trigger: incident.trigger.clone(),
                opened_at: incident.opened_at,
                closed_at: closing.at,
                decided_by: closing.decided_by,
                carried_out: closing.carried_out,
                verified: incident.verified,
                decision: incident
                    .intent
                    .as_ref()
                    .and_then(|intent| intent.decision.clone())
                    .or_else(|| closing.decision.clone().filter(|_| closing.decided_by == DecidedBy::Person)),
                ended_by: closing.decision.clone(),
                quarantined: incident.intent.iter().flat_map(Intent::put_away).cloned().collect(),
                evidence: incident.evidence.clone(),
                suspect: incident.suspect.clone(),
                target: incident.target.clone(),
            }),
        }
    }
}
