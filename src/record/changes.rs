//! ChangeRecords: written when a change is seen, completed as it goes on.

use kube::api::ObjectMeta;
use serde_json::json;

use crate::act::writer::{WriteError, Writer};
use crate::api::change_record::{ChangeRecord, ChangeRecordSpec, ChangeRecordStatus, Outcome};
use crate::decide::plan::{OpenChange, UpdateChange};
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
        requested_by: effect.requested_by.clone(),
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
        findings: effect.findings.clone(),
        ..ChangeRecordStatus::default()
    };
    writer.merge_status::<ChangeRecord>(&pilot.namespace, &effect.name, &json!({ "status": status })).await
}

/// Completes a ChangeRecord.
pub async fn update(writer: &Writer, pilot: &PilotId, effect: &UpdateChange) -> Result<(), WriteError> {
    if let Some(parts) = &effect.release {
        let (release, payload) = (release_digest(parts), release_payload(parts));
        let fields = json!({ "spec": { "release": release, "payload": payload, "workloads": parts } });
        writer.merge::<ChangeRecord>(&pilot.namespace, &effect.name, &fields).await?;
    }
    let mut status = json!({ "outcome": effect.outcome });
    if let Some(completed_at) = effect.completed_at {
        status["completedAt"] = json!(completed_at);
    }
    if let Some(cause) = &effect.cause {
        status["cause"] = json!(shortened(cause));
    }
    writer.merge_status::<ChangeRecord>(&pilot.namespace, &effect.name, &json!({ "status": status })).await
}

/// The metadata of an object that belongs to a pilot and outlives it.
pub fn metadata(pilot: &PilotId, name: &str) -> ObjectMeta {
    let label = pilot.name.get(..63).unwrap_or(&pilot.name).to_owned();
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(pilot.namespace.clone()),
        labels: Some([(PILOT_LABEL.to_owned(), label)].into()),
        ..ObjectMeta::default()
    }
}

/// What the schema has room for: 1,024 characters.
pub fn shortened(text: &str) -> String {
    text.chars().take(1024).collect()
}
