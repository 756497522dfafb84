//! Reports refusals beside the answer itself: a metric, and an Event on the workload and on its Pilot that counts up.
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

use super::pilots::{Guarded, WorkloadKey};
use super::review::target;
use super::wire::{Answer, Request};
use crate::api::workload::{PartKind, PartReference};
use crate::declaration::PilotId;
use crate::release::marks::HeldVerdict;
use crate::report::refusal::{LONGEST_NOTE, shorten};
use crate::runtime::metrics::{Metrics, ReviewOutcome};

/// Refusals that wait to be told; more at once are only counted.
const WAITING: usize = 256;

/// An Event that takes longer to write is given up.
const DEADLINE: Duration = Duration::from_secs(5);

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
    pilot: Option<ObjectReference>,
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
    pub(super) fn saw(&self, request: &Request, answer: &Answer, guarded: &Guarded) {
        let (outcome, reason, text) = match answer {
            Answer::Denied(denial) => (ReviewOutcome::Refused, "ChangeRefused", denial.message.clone()),
            Answer::PutOff { verdict: HeldVerdict::Hold, note, .. } => {
                (ReviewOutcome::Held, "ChangeHeld", note.clone())
            }
            Answer::PutOff { verdict: HeldVerdict::Pin, note, .. } => {
                (ReviewOutcome::Pinned, "ChangePinned", note.clone())
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
        let note = note(&request.requester.user, &text);
        let refused = Refused { workload: workload(kind, request), pilot: pilot(kind, request, guarded), reason, note };
        // A full queue means that people are being told already.
        let _ = self.refusals.try_send(refused);
    }
}

/// Tells refusals as Events until it is stopped.
pub async fn tell(client: Client, mut waiting: mpsc::Receiver<Refused>, stop: CancellationToken) {
    let recorder = Recorder::new(client, Reporter { controller: "pilotguard.dev/pilotguard".into(), instance: None });
    while let Some(Some(refused)) = stop.run_until_cancelled(waiting.recv()).await {
        let Refused { workload, pilot, reason, note } = refused;
        let on_pilot = pilot.iter().map(|pilot| (pilot, Some(workload.clone())));
        for (regarding, secondary) in [(&workload, pilot.clone())].into_iter().chain(on_pilot) {
            let (type_, action) = (EventType::Warning, "Admission".to_owned());
            let event = Event { type_, reason: reason.to_owned(), note: Some(note.clone()), action, secondary };
            match tokio::time::timeout(DEADLINE, recorder.publish(&event, regarding)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "a refusal could not be reported as an Event"),
                Err(_) => tracing::warn!("reporting a refusal as an Event took too long"),
            }
        }
    }
}

/// At most two sentences: what was refused, to whom, and the first reason.
fn note(user: &str, text: &str) -> String {
    let mut lines = text.lines();
    let what = lines.next().unwrap_or_default();
    let what = match what.strip_prefix("Refused: ") {
        Some(what) => format!("Refused for {user}: {what}"),
        None => format!("{user}: {what}"),
    };
    let mut reasons = lines.filter_map(|line| line.strip_prefix("- "));
    let Some(first) = reasons.next() else { return shorten(&what, LONGEST_NOTE) };
    let more = match reasons.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    shorten(&format!("{what} Reason: {}{more}.", first.trim_end_matches('.')), LONGEST_NOTE)
}

fn pilot(kind: PartKind, request: &Request, guarded: &Guarded) -> Option<ObjectReference> {
    let workload = PartReference { kind, name: request.name.clone() };
    let PilotId { namespace, name, uid } =
        guarded.guardian(&WorkloadKey::new(&request.namespace, &workload))?.id.clone();
    Some(ObjectReference {
        api_version: Some("pilotguard.dev/v1alpha1".to_owned()),
        kind: Some("Pilot".to_owned()),
        namespace: Some(namespace),
        name: Some(name),
        uid: Some(uid),
        ..ObjectReference::default()
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_two_sentences_at_most() {
        let refusal = "Refused: updating Deployment checkout, guarded by pilot checkout.\n- outside the change windows\n\
                       - too many replicas; allowed after a while\nOwner: Ada\nTo let it through, an owner can run:\n  echo";
        let expected = "Refused for grace: updating Deployment checkout, guarded by pilot checkout. Reason: outside the \
                        change windows (and 1 more).";
        assert_eq!(note("grace", refusal), expected);
        assert_eq!(note("grace", "would be refused: it"), "grace: would be refused: it");
        assert!(note("grace", &"x".repeat(2000)).len() <= LONGEST_NOTE);
    }
}
