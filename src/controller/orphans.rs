//! Decisions that name a Pilot which does not exist: no evaluation judges them, so they are refused here.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Context, chain};
use crate::api::decision::DecisionPhase;
use crate::decide::decisions::refuse_without_pilot;
use crate::record::decisions;

/// How often they are looked for.
const EVERY: Duration = Duration::from_secs(10);

/// At most this many are refused at a time; the others follow.
const AT_ONCE: usize = 20;

/// Refuses them until it is stopped.
pub(super) async fn refuse(context: &Context, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        for (namespace, name, why) in due(context) {
            let now = (context.clock)();
            let judged = decisions::judge(&context.writer, &namespace, &name, DecisionPhase::Refused, &why, now);
            if let Err(error) = judged.await {
                tracing::warn!(namespace, decision = name, cause = chain(&error), "refusing a Decision failed");
            }
        }
    }
}

fn due(context: &Context) -> Vec<(String, String, String)> {
    if !context.guarded.is_ready() || !context.cluster.decisions.is_ready() {
        return Vec::new();
    }
    let now = (context.clock)();
    let without = context.cluster.decisions.owners(|it| context.guarded.pilot(&it.namespace, &it.name).is_none());
    let refused = without.iter().flat_map(|owner| {
        let decisions = context.cluster.decisions.of(owner);
        let refused = decisions.iter().filter_map(|decision| {
            let why = refuse_without_pilot(decision, &owner.name, now)?;
            Some((owner.namespace.clone(), decision.name.clone(), why))
        });
        refused.take(AT_ONCE).collect::<Vec<_>>()
    });
    refused.take(AT_ONCE).collect()
}
