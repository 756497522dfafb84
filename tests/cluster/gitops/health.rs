//! Argo CD's health checks for our kinds, in `docs/argocd-health.yaml`, run by Argo CD itself.
//!
//! No operator looks after the namespace of these objects, so that their status is what the table says; only
//! MetricsSources, which belong to no namespace, are asked by one. What Argo CD shows for Pilots that live is in the trials.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use pilotguard_rig::wait::{self, PATIENCE};
use serde::Deserialize;
use serde_json::{Value, json};

use super::application::{Application, paused};
use crate::cluster::Cluster;

tests![health_of_our_kinds];

/// One object, and what Argo CD has to show for it.
#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    /// More of the spec than the least.
    #[serde(default)]
    spec: Value,
    /// Where it is not left to an operator.
    #[serde(default)]
    status: Value,
    shows: String,
    says: String,
}

async fn health_of_our_kinds(cluster: &Cluster) -> anyhow::Result<()> {
    let cases: Vec<Case> = serde_yaml::from_str(include_str!("health.yaml"))?;
    let kinds: BTreeSet<String> = cases.iter().map(|case| case.kind.clone()).collect();
    ensure!(kinds == checked()?, "cases for {kinds:?}, health checks for {:?}", checked()?);
    cluster.shared_operator().await?;
    let namespace = cluster.rig.namespace("health").await?;
    let name = |case: &Case| format!("{namespace}-{}", case.name);
    let manifests = cases.iter().map(|case| manifest(case, &name(case))).collect::<anyhow::Result<Vec<_>>>()?;
    let files: Vec<String> = cases.iter().map(|case| format!("{}.yaml", case.name)).collect();
    let objects: Vec<(&str, Value)> = files.iter().map(String::as_str).zip(manifests).collect();
    let application = Application::create(cluster, &namespace, &objects, &json!({})).await?;
    let is_there = |seen: &Value| seen["status"]["operationState"]["phase"] == "Succeeded";
    application.until("first sync", is_there).await?;
    for case in cases.iter().filter(|case| !case.status.is_null()) {
        let patch = json!({"status": case.status}).to_string();
        let name = name(case);
        let subresource = ["--subresource=status", "--type=merge", "--patch", &patch, "--namespace", &namespace];
        cluster.done(&[&["patch", &case.kind, &name][..], &subresource].concat()).await?;
    }
    let probe = || async {
        let seen = application.seen().await.map_err(|error| error.to_string())?;
        let wrong: Vec<String> = cases.iter().filter_map(|case| differs(case, &name(case), &seen)).collect();
        if wrong.is_empty() { Ok(()) } else { Err(paused(wrong.join("\n")).await) }
    };
    Ok(wait::until("health of our kinds", PATIENCE, probe).await?)
}

/// The kinds that have a health check.
fn checked() -> anyhow::Result<BTreeSet<String>> {
    let file = std::fs::read_to_string(crate::cluster::root().join("docs/argocd-health.yaml"))?;
    let object: Value = serde_yaml::from_str(&file)?;
    let entries = object["data"].as_object().context("data")?;
    let kinds = entries.keys().filter_map(|key| key.strip_prefix("resource.customizations.health.pilotguard.dev_"));
    Ok(kinds.map(str::to_owned).collect())
}

/// What Argo CD shows of a case, where it is not what it should be.
fn differs(case: &Case, name: &str, application: &Value) -> Option<String> {
    let resources = application["status"]["resources"].as_array();
    let is_it = |resource: &&Value| resource["kind"] == case.kind.as_str() && resource["name"] == name;
    let health = resources.into_iter().flatten().find(is_it).map_or(Value::Null, |found| found["health"].clone());
    let is_right = health["status"] == case.shows.as_str()
        && health["message"].as_str().unwrap_or_default().starts_with(&case.says);
    (!is_right).then(|| format!("{}: {health}, not {} with {:?}", case.name, case.shows, case.says))
}

/// The least that the schema of a kind accepts.
fn manifest(case: &Case, name: &str) -> anyhow::Result<Value> {
    let kind = case.kind.as_str();
    let mut spec = match kind {
        "Pilot" => json!({
            "intent": {"summary": "A pilot", "decisionDate": "2999-01-01T00:00:00Z"},
            "owners": {"serviceOwner": {"name": "Ada"}},
            "workloads": [{"name": "web"}],
            "changes": {"windows": [{"name": "always", "always": true}]},
        }),
        "ChangeRecord" => json!({
            "pilot": "web", "class": "Normal", "release": "r", "payload": "p", "requestedBy": {"user": "grace"},
            "workloads": [{"kind": "Deployment", "name": "web", "template": "t", "payload": "p"}],
        }),
        "Decision" => json!({"pilot": "web", "type": "HoldChanges", "reason": "we look at it"}),
        "MetricsSource" => json!({"url": "http://127.0.0.1:9"}),
        "ChangeCalendar" => json!({"windows": [{"name": "always", "always": true}]}),
        other => anyhow::bail!("no manifest for {other}"),
    };
    if !case.spec.is_null() {
        json_patch::merge(&mut spec, &case.spec);
    }
    Ok(json!({"apiVersion": "pilotguard.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}))
}
