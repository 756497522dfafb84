//! Decisions: the operator's own, and its word on those that people wrote.

use jiff::Timestamp;
use serde_json::json;

use super::changes::{metadata, shortened};
use crate::act::writer::{WriteError, Writer};
use crate::api::decision::{Decision, DecisionPhase, DecisionSpec};
use crate::declaration::PilotId;

/// Writes the Decision that records an incident.
pub async fn write(
    writer: &Writer,
    pilot: &PilotId,
    name: &str,
    spec: &DecisionSpec,
    now: Timestamp,
) -> Result<(), WriteError> {
    let spec = DecisionSpec { reason: shortened(&spec.reason), ..spec.clone() };
    let decision = Decision { metadata: metadata(pilot, name), spec, status: None };
    if !writer.create(&pilot.namespace, &decision).await? {
        let existing: Decision = writer.read(&pilot.namespace, name).await?;
        if existing.spec != decision.spec {
            return Err(WriteError::Taken { kind: "Decision".to_owned(), name: name.to_owned() });
        }
    }
    judge(writer, &pilot.namespace, name, DecisionPhase::Accepted, "written by the operator", now).await
}

/// Says on a Decision whether it counts.
pub async fn judge(
    writer: &Writer,
    namespace: &str,
    name: &str,
    phase: DecisionPhase,
    message: &str,
    now: Timestamp,
) -> Result<(), WriteError> {
    let status = json!({ "status": { "phase": phase, "message": shortened(message), "at": now } });
    writer.merge_status::<Decision>(namespace, name, &status).await
}
