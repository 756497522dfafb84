//! Says on every MetricsSource whether it answers, so that its owner sees it without asking the pilots' teams.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::Store;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::api::metrics_source::MetricsSource;
use crate::release::ownership::FIELD_MANAGER;

/// How often the state of the sources is compared with what was written last.
const EVERY: Duration = Duration::from_secs(5);

/// A write that takes longer is given up; the next round writes again.
const DEADLINE: Duration = Duration::from_secs(5);

/// Keeps the conditions until it is stopped, and wakes the pilots of a source that became usable or unusable.
pub(super) async fn keep(context: &Context, store: Store<MetricsSource>, wake: impl Fn(&str), stop: CancellationToken) {
    let api: Api<MetricsSource> = Api::all(context.writer.client().clone());
    let mut written: HashMap<String, (bool, String)> = HashMap::new();
    let mut usable: HashMap<String, bool> = HashMap::new();
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        let sources = store.state();
        let exists = |name: &String| sources.iter().any(|source| source.name_any() == *name);
        written.retain(|name, _| exists(name));
        usable.retain(|name, _| {
            let stays = exists(name);
            if !stays {
                context.metrics.source_gone(name);
            }
            stays
        });
        for source in sources {
            let name = source.name_any();
            let condition = condition(context, &source).await;
            let is_usable = condition.status == "True";
            if usable.insert(name.clone(), is_usable).is_some_and(|before| before != is_usable) {
                wake(&name);
            }
            let says = (is_usable, condition.message.clone());
            if written.get(&name) == Some(&says) {
                continue;
            }
            let status = json!({ "status": { "conditions": [condition] } });
            let (params, patch) = (PatchParams::apply(FIELD_MANAGER), Patch::Merge(&status));
            let write = api.patch_status(&name, &params, &patch);
            match tokio::time::timeout(DEADLINE, write).await {
                Ok(Ok(_)) => drop(written.insert(name, says)),
                Ok(Err(error)) => {
                    tracing::warn!(
                        source = name,
                        cause = super::chain(&error),
                        "writing a MetricsSource's status failed"
                    );
                }
                Err(_) => tracing::warn!(source = name, "writing a MetricsSource's status took too long"),
            }
        }
    }
}

async fn condition(context: &Context, source: &MetricsSource) -> Condition {
    let (reason, message) = match context.sources.for_status(&source.name_any()).await {
        Err(problem) => (problem.reason(), problem.to_string()),
        Ok(open) => {
            context.metrics.source_seen(&source.name_any(), open.breaker().as_number());
            match open.outage() {
                Some(problem) => (problem.reason.as_str(), problem.message),
                None => ("Answering", String::new()),
            }
        }
    };
    let status = if reason == "Answering" { "True" } else { "False" };
    let before =
        source.status.iter().flat_map(|status| &status.conditions).find(|condition| condition.status == status);
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: before
            .map_or_else(|| Time((context.clock)()), |before| before.last_transition_time.clone()),
        observed_generation: source.metadata.generation,
    }
}
