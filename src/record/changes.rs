//! ChangeRecords: written when a change is seen, completed as it goes on.

use kube::api::ObjectMeta;
use serde_json::json;

use crate::act::writer::{WriteError, Writer};
use crate::api::change_record::{Approval, ChangeClass, ChangeRecord, ChangeRecordSpec, ChangeRecordStatus, Outcome};
use crate::api::decision::Requester;
use crate::decide::plan::{ApproveChange, DeclareEmergency, OpenChange, UpdateChange};
use crate::declaration::PilotId;
use crate::release::vector::{release_digest, release_payload};

/// The label by which everything that belongs to a pilot is found with kubectl.
pub const PILOT_LABEL: &str = "pilotguard.dev/pilot";

/// Writes a ChangeRecord; one that exists and has begun is left alone.
pub async fn open(writer: &Writer, pilot: &PilotId, effect: &OpenChange) -> Result<(), WriteError> {
    let spec = ChangeRecordSpec {
        pilot: pilot.name.clone(),
        class: effect.class,
        release: release_digest(&effect.release),
        payload: release_payload(&effect.release),
        workloads: effect.release.clone(),
        replaced: effect.replaced.clone(),
        requested_by: bounded(&effect.requested_by),
    };
    let record = ChangeRecord { metadata: metadata(pilot, &effect.name), spec, status: None };
    if !writer.create(&pilot.namespace, &record).await? {
        let existing: ChangeRecord = writer.read(&pilot.namespace, &effect.name).await?;
        if existing.status.is_some_and(|status| status.started_at.is_some()) {
            return Ok(());
        }
    }
    let status = ChangeRecordStatus {
        started_at: Some(effect.started_at),
        outcome: Outcome::Pending,
        findings: effect.findings.iter().take(20).map(|finding| finding.chars().take(512).collect()).collect(),
        approval_owed: effect.approval_owed.clone(),
        ..ChangeRecordStatus::default()
    };
    writer.merge_status::<ChangeRecord>(&pilot.namespace, &effect.name, &json!({ "status": status })).await
}

/// Completes a ChangeRecord.
pub async fn update(writer: &Writer, pilot: &PilotId, effect: &UpdateChange) -> Result<(), WriteError> {
    let existing: ChangeRecord = writer.read(&pilot.namespace, &effect.name).await?;
    let before = existing.status.clone().unwrap_or_default();
    if !may_become(before.outcome, effect.outcome) {
        return Ok(());
    }
    if let Some(parts) = &effect.release {
        let (release, payload) = (release_digest(parts), release_payload(parts));
        let fields = json!({ "spec": { "release": release, "payload": payload, "workloads": parts } });
        writer.merge::<ChangeRecord>(&pilot.namespace, &effect.name, &fields).await?;
    }
    let mut status = json!({ "outcome": effect.outcome });
    if let Some(started_at) = effect.started_at {
        status["startedAt"] = json!(started_at);
    }
    if effect.completed_at.is_some() || effect.release.is_some() {
        status["completedAt"] = json!(effect.completed_at);
    }
    if let Some(cause) = &effect.cause {
        status["cause"] = json!(shortened(cause));
    }
    writer.merge_status::<ChangeRecord>(&pilot.namespace, &effect.name, &json!({ "status": status })).await
}

/// Says on a ChangeRecord that the change was an emergency; what it owes comes first, so that a lost write is made again.
pub async fn declare_emergency(writer: &Writer, pilot: &PilotId, effect: &DeclareEmergency) -> Result<(), WriteError> {
    let (namespace, name) = (&pilot.namespace, &effect.change);
    let owed = json!({ "status": { "approvalOwed": effect.approval_owed } });
    writer.merge_status::<ChangeRecord>(namespace, name, &owed).await?;
    let class = json!({ "spec": { "class": ChangeClass::Emergency } });
    writer.merge::<ChangeRecord>(namespace, name, &class).await
}

/// Notes on a ChangeRecord that the approval it owed was given.
pub async fn approve(writer: &Writer, pilot: &PilotId, effect: &ApproveChange) -> Result<(), WriteError> {
    let approval =
        Approval { by: effect.by.chars().take(512).collect(), at: effect.at, decision: effect.decision.clone() };
    let status = json!({ "status": { "approvalOwed": null, "approval": approval } });
    writer.merge_status::<ChangeRecord>(&pilot.namespace, &effect.change, &status).await
}

/// What was decided upon an old view does not overwrite an outcome: only Pending moves on, and what succeeded may
/// still turn out to have failed.
fn may_become(before: Outcome, after: Outcome) -> bool {
    before == Outcome::Pending || before == after || (before == Outcome::Succeeded && after == Outcome::Failed)
}

/// The metadata of an object that belongs to a pilot and outlives it.
pub fn metadata(pilot: &PilotId, name: &str) -> ObjectMeta {
    let label = label_value(&pilot.name);
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(pilot.namespace.clone()),
        labels: Some([(PILOT_LABEL.to_owned(), label)].into()),
        ..ObjectMeta::default()
    }
}

/// Who asked, as far as the schema has room for groups.
fn bounded(requester: &Requester) -> Requester {
    let groups = requester.groups.iter().filter(|group| group.len() <= 256).take(512).cloned().collect();
    Requester { user: requester.user.chars().take(512).collect(), groups }
}

/// A name as a label value: at most 63 characters, and not ending in what a label may not end in.
pub fn label_value(name: &str) -> String {
    name.get(..63).unwrap_or(name).trim_end_matches(['-', '.']).to_owned()
}

/// What the schema has room for: 1,024 characters.
pub fn shortened(text: &str) -> String {
    text.chars().take(1024).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_was_decided_is_not_overwritten_by_an_old_view() {
        use Outcome::{Aborted, Failed, Pending, Succeeded, Superseded};
        for (before, after) in
            [(Pending, Succeeded), (Pending, Failed), (Pending, Superseded), (Succeeded, Failed), (Failed, Failed)]
        {
            assert!(may_become(before, after), "{before:?} → {after:?}");
        }
        for (before, after) in
            [(Failed, Pending), (Failed, Succeeded), (Succeeded, Pending), (Superseded, Succeeded), (Aborted, Failed)]
        {
            assert!(!may_become(before, after), "{before:?} → {after:?}");
        }
    }

    #[test]
    fn labels_end_in_what_labels_may_end_in() {
        assert_eq!(label_value("checkout"), "checkout");
        assert_eq!(label_value(&format!("{}-.tail", "x".repeat(61))), "x".repeat(61));
    }
}
