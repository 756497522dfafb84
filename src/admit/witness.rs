//! Tells of refusals beside the answer itself: a metric, and an Event on the workload that counts up.
//!
//! Nothing here delays an answer: what cannot be told in time is dropped, and the metric still counts it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::review::target;
use super::wire::{Answer, Request};
use crate::api::workload::PartKind;
use crate::release::marks::HeldVerdict;
use crate::report::refusal::shorten;
use crate::runtime::metrics::{Metrics, ReviewOutcome};

/// Refusals that wait to be told; more at once are only counted.
const WAITING: usize = 256;

/// An Event that takes longer to write is given up.
const DEADLINE: Duration = Duration::from_secs(5);

/// The API server refuses a longer note; in bytes.
const LONGEST_NOTE: usize = 1024;

/// Takes note of every answer.
#[derive(Clone, Debug)]
pub struct Witness {
    metrics: Arc<Metrics>,
    refusals: mpsc::Sender<Refused>,
}

/// A change that was refused, or would have been.
#[derive(Debug)]
pub struct Refused {
    workload: ObjectReference,
    reason: &'static str,
    note: String,
}

impl Witness {
    /// A witness, and the refusals that it saw, for [`tell`].
    pub fn new(metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Refused>) {
        let (refusals, waiting) = mpsc::channel(WAITING);
        (Self { metrics, refusals }, waiting)
    }

    /// Takes note of one answer.
    pub(super) fn saw(&self, request: &Request, answer: &Answer) {
        let (outcome, reason, text) = match answer {
            Answer::Denied(denial) => (ReviewOutcome::Refused, "ChangeRefused", denial.message.clone()),
            Answer::PutOff { verdict: HeldVerdict::Hold, warning, .. } => {
                (ReviewOutcome::Held, "ChangeHeld", warning.clone())
            }
            Answer::PutOff { verdict: HeldVerdict::Pin, warning, .. } => {
                (ReviewOutcome::Pinned, "ChangePinned", warning.clone())
            }
            Answer::Allowed { warnings, .. } if !warnings.is_empty() => {
                (ReviewOutcome::Warned, "ChangeWouldBeRefused", warnings.join("; "))
            }
            Answer::Allowed { .. } => (ReviewOutcome::Allowed, "", String::new()),
        };
        self.metrics.reviewed(outcome);
        let Some((kind, _)) = target(request) else { return };
        if outcome == ReviewOutcome::Allowed || request.is_dry_run {
            return;
        }
        let note = format!("{}: {}", request.requester.user, text.replace('\n', "; "));
        let refused = Refused { workload: workload(kind, request), reason, note: shorten(&note, LONGEST_NOTE) };
        // A full queue means that people are being told already.
        let _ = self.refusals.try_send(refused);
    }
}

/// Tells refusals as Events until it is stopped.
pub async fn tell(client: Client, mut waiting: mpsc::Receiver<Refused>, stop: CancellationToken) {
    let recorder = Recorder::new(client, Reporter { controller: "pilotguard.dev/pilotguard".into(), instance: None });
    while let Some(Some(refused)) = stop.run_until_cancelled(waiting.recv()).await {
        let event = Event {
            type_: EventType::Warning,
            reason: refused.reason.to_owned(),
            note: Some(refused.note),
            action: "Admission".to_owned(),
            secondary: None,
        };
        match tokio::time::timeout(DEADLINE, recorder.publish(&event, &refused.workload)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a refusal could not be told as an Event"),
            Err(_) => tracing::warn!("telling a refusal as an Event took too long"),
        }
    }
}

fn workload(kind: PartKind, request: &Request) -> ObjectReference {
    let uid = |object: &Value| object.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
    ObjectReference {
        api_version: Some(kind.api_version().to_owned()),
        kind: Some(kind.as_str().to_owned()),
        namespace: Some(request.namespace.clone()),
        name: Some(request.name.clone()),
        uid: uid(&request.old_object).or_else(|| uid(&request.object)),
        ..ObjectReference::default()
    }
}
