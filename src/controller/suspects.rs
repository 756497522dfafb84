//! Who may have changed a write of ours: the API server does not say, so all are named who are asked about such writes.
//!
//! Asked only where a write was seen to be changed. Selectors and conditions are not looked at.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingWebhookConfiguration};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::api::workload::PartKind;

/// The API server is given this time.
const DEADLINE: Duration = Duration::from_secs(5);

/// Maximum number of suspects named.
const MOST_NAMES: usize = 5;

/// The mutating webhooks and policies that are asked about updates of a kind, as a clause.
pub async fn suspects(client: &Client, kind: PartKind) -> String {
    let parameters = ListParams::default();
    let webhooks = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let policies = Api::<MutatingAdmissionPolicy>::all(client.clone());
    let found = async { tokio::join!(webhooks.list(&parameters), policies.list(&parameters)) };
    let Ok((webhooks, policies)) = tokio::time::timeout(DEADLINE, found).await else { return NOBODY.to_owned() };
    let is_ours = |configuration: &MutatingWebhookConfiguration| {
        configuration.labels().get("app.kubernetes.io/managed-by").is_some_and(|by| by == "pilotguard")
    };
    let asked = |rules: Option<&Value>| {
        rules.and_then(Value::as_array).is_some_and(|rules| rules.iter().any(|it| covers(it, kind)))
    };
    let mut names = Vec::new();
    for configuration in webhooks.into_iter().flatten().filter(|it| !is_ours(it)) {
        let webhooks = serde_json::to_value(&configuration.webhooks).unwrap_or_default();
        let any = webhooks.as_array().is_some_and(|all| all.iter().any(|webhook| asked(webhook.get("rules"))));
        names.extend(any.then(|| format!("MutatingWebhookConfiguration {}", configuration.name_any())));
    }
    for policy in policies.into_iter().flatten() {
        let constraints = serde_json::to_value(&policy.spec).unwrap_or_default();
        let any = asked(constraints.pointer("/matchConstraints/resourceRules"));
        names.extend(any.then(|| format!("MutatingAdmissionPolicy {}", policy.name_any())));
    }
    names.truncate(MOST_NAMES);
    if names.is_empty() { NOBODY.to_owned() } else { names.join(" or ") }
}

const NOBODY: &str = "other admission";

/// Whether a rule is about updates of a kind.
fn covers(rule: &Value, kind: PartKind) -> bool {
    let has = |field: &str, wanted: &str| {
        let listed = rule.get(field).and_then(Value::as_array);
        listed.is_some_and(|listed| listed.iter().any(|it| it == wanted || it == "*" || it == "*/*"))
    };
    has("apiGroups", kind.group()) && has("resources", kind.resource()) && has("operations", "UPDATE")
}
