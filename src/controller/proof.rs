//! Does the API server reach this very process? A process that has just started serves a certificate that the API server
//! trusts only a moment after the registration was written.
//!
//! Found out by dry-runs that the webhook answers with a number of ours, whether or not anything is guarded yet. Nothing is
//! stored.

use std::time::Duration;

use kube::api::ObjectMeta;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::act::writer::Writer;
use crate::admit::keeper::Applied;
use crate::admit::objects::PROBE_DECISION;
use crate::api::decision::{Decision, DecisionSpec, DecisionType};
use crate::runtime::clock;

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks until the webhook was reached in one of these namespaces, and whether it was.
pub fn prove(
    writer: Writer,
    namespaces: Vec<String>,
    applied: watch::Receiver<Applied>,
    stop: CancellationToken,
) -> (impl Future<Output = ()> + Send, watch::Receiver<bool>) {
    let (proven, is_proven) = watch::channel(false);
    (ask(writer, namespaces, applied, proven, stop), is_proven)
}

async fn ask(
    writer: Writer,
    namespaces: Vec<String>,
    mut applied: watch::Receiver<Applied>,
    proven: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let reached = async {
        // Before the registration is written the answer would be that of another process.
        let _ = applied.wait_for(Option::is_some).await;
        while !is_reached(&writer, &namespaces).await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => return,
        () = reached => {}
    }
    proven.send_replace(true);
    stop.cancelled().await;
}

/// Whether a probe was answered. Where none of the namespaces exists there is nothing to judge either.
async fn is_reached(writer: &Writer, namespaces: &[String]) -> bool {
    let mut is_nowhere = true;
    for namespace in namespaces {
        let nonce = clock::now().as_microsecond().to_string();
        let expected = format!("pilotguard probe {nonce} answered");
        match writer.try_create(namespace, &probe(nonce)).await {
            Err(error) if error.code() == Some(404) => {}
            Err(error) if error.message().is_some_and(|message| message.contains(&expected)) => return true,
            Ok(()) | Err(_) => is_nowhere = false,
        }
    }
    is_nowhere
}

fn probe(nonce: String) -> Decision {
    Decision {
        metadata: ObjectMeta { name: Some(PROBE_DECISION.to_owned()), ..ObjectMeta::default() },
        spec: DecisionSpec {
            pilot: PROBE_DECISION.to_owned(),
            type_: DecisionType::HoldChanges,
            incident: None,
            payload: None,
            change: None,
            fix: false,
            until: None,
            reason: nonce,
            by: None,
            record: None,
        },
        status: None,
    }
}
