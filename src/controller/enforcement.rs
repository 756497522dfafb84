//! Is the webhook really asked? Found out by a dry-run of our own, which the webhook answers and the API
//! server does not store.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::act::writer::{WriteError, Writer};
use crate::admit::keeper::Applied;
use crate::admit::pilots::WorkloadKey;
use crate::admit::review::PROBE;
use crate::observation::Workload;
use crate::observe::cluster::RawWorkload;
use crate::report::surroundings::Enforced;
use crate::runtime::clock;

/// Time for which a good answer is used.
const GOOD_FOR: Duration = Duration::from_mins(5);

/// After a bad one it is asked again this soon.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Probes that are under way at once. Who finds none free keeps to the last answer and asks at the next evaluation: after a
/// start all pilots are evaluated at once, and a thousand dry-runs would delay everything else.
const SIDE_BY_SIDE: usize = 8;

/// What probing found, by workload.
#[derive(Debug)]
pub struct Enforcement {
    applied: watch::Receiver<Applied>,
    answers: Mutex<HashMap<WorkloadKey, (Instant, Enforced)>>,
    slots: Semaphore,
}

impl Enforcement {
    /// Probes once the webhook configurations are reported as applied.
    pub fn new(applied: watch::Receiver<Applied>) -> Self {
        Self { applied, answers: Mutex::default(), slots: Semaphore::new(SIDE_BY_SIDE) }
    }

    /// Whether the changes of all these workloads reach the webhook.
    pub async fn of(&self, writer: &Writer, namespace: &str, workloads: &[Workload]) -> Enforced {
        for workload in workloads {
            let answer = self.of_one(writer, WorkloadKey::new(namespace, &workload.reference)).await;
            if answer != Enforced::Yes {
                return answer;
            }
        }
        Enforced::Yes
    }

    /// Asked of the API server where the last answer is old.
    async fn of_one(&self, writer: &Writer, key: WorkloadKey) -> Enforced {
        let is_registered = self.is_registered(&key);
        if !is_registered {
            return Enforced::No("the webhook configuration for this workload is being written".to_owned());
        }
        let known = self.known(&key);
        if let Some((answer, true)) = known {
            return answer;
        }
        let Ok(_slot) = self.slots.try_acquire() else {
            return known.map_or(Enforced::Unknown, |(answer, _)| answer);
        };
        let answer = probe(writer, &key).await;
        self.remember(key, answer.clone());
        answer
    }

    fn is_registered(&self, key: &WorkloadKey) -> bool {
        self.applied.borrow().as_ref().is_some_and(|set| set.enforcing.contains(key))
    }

    /// Keeps an answer. Those of workloads that nobody guards any more are dropped once they are as many as the others.
    fn remember(&self, key: WorkloadKey, answer: Enforced) {
        let guarded = self.applied.borrow().as_ref().map_or(0, |set| set.enforcing.len());
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() > 2 * guarded {
            answers.retain(|key, _| self.is_registered(key));
        }
        answers.insert(key, (Instant::now(), answer));
    }

    /// The last answer, and whether it is still good.
    fn known(&self, key: &WorkloadKey) -> Option<(Enforced, bool)> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = answers.get(key)?;
        let lasts = if *answer == Enforced::Yes { GOOD_FOR } else { ASK_AGAIN };
        Some((answer.clone(), at.elapsed() < lasts))
    }
}

async fn probe(writer: &Writer, key: &WorkloadKey) -> Enforced {
    let nonce = clock::now().as_millisecond().to_string();
    let annotations: &[&str] = if key.reference.kind.has_pods() {
        &["spec", "template", "metadata", "annotations"]
    } else {
        &["metadata", "annotations"]
    };
    let annotations = PointerBuf::from_tokens(annotations.iter().copied());
    let patch = Patch(vec![PatchOperation::Add(AddOperation { path: annotations, value: json!({ PROBE: nonce }) })]);
    let expected = format!("pilotguard probe {nonce} answered");
    let place = (key.namespace.as_str(), key.reference.name.as_str());
    match writer.try_patch_of::<RawWorkload>(&key.reference.kind, place, patch).await {
        Err(error) if error.message().is_some_and(|message| message.contains(&expected)) => Enforced::Yes,
        Err(error) => Enforced::No(explain(&error)),
        Ok(_) => Enforced::No(
            "the API server did not call the webhook; it may not have read the webhook configuration yet".to_owned(),
        ),
    }
}

fn explain(error: &WriteError) -> String {
    match error.message() {
        Some(message) => format!("a dry-run was answered with: {}", message.chars().take(300).collect::<String>()),
        None => "a dry-run was not answered; check that the API server can reach the webhook".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::admit::pilots::GuardedSet;
    use crate::api::workload::{PartKind, PartReference};

    #[test]
    fn answers_of_what_is_no_longer_guarded_are_dropped() {
        let key = |number: usize| {
            let reference = PartReference { kind: PartKind::Deployment, name: format!("web-{number}") };
            WorkloadKey::new("shop", &reference)
        };
        let (sender, applied) = watch::channel(None);
        let enforcement = Enforcement::new(applied);
        // Each workload is guarded for a while, ten at a time.
        for number in 0..1000 {
            let enforcing = (number..number + 10).map(key).collect();
            sender.send_replace(Some(Arc::new(GuardedSet { enforcing, ..GuardedSet::default() })));
            enforcement.remember(key(number), Enforced::Yes);
        }
        let kept = enforcement.answers.lock().unwrap().len();
        assert!(kept <= 21, "{kept} answers are kept of 10 workloads");
        assert_eq!(enforcement.known(&key(999)), Some((Enforced::Yes, true)));
    }
}
