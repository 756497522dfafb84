//! What a GitOps tool applies when it may not: held outside the windows and rolled out by itself, pinned during an
//! incident; people are refused all the while.

use anyhow::{Context, ensure};
use pilotguard::api::change_record::ChangeRecord;
use pilotguard::api::pilot::Pilot;
use pilotguard_rig::Person;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, condition, holds};

tests![what_a_gitops_tool_applies_outside_the_windows_waits, during_an_incident_a_gitops_tool_is_pinned];

async fn what_a_gitops_tool_applies_outside_the_windows_waits(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let tool = scene.gitops_tool(cluster).await?;
    let (later, _) = Scene::later();
    scene.guard(&scene.pilot(&json!({"slos": [], "changes": {"windows": [later]}}))).await?;
    let output = apply(&tool, &managed(&scene, 2)).await?;
    output.accepted()?;
    ensure!(output.stderr.contains("pilotguard holds this until it is allowed: "), "{}", output.stderr);
    let held = scene.deployment().await?;
    ensure!(image(&held) == "web:2" && held["spec"]["paused"] == true, "stored while paused: {held}");
    let text = "waits and rolls out once it is allowed: outside the change windows";
    // What ran before serves, so nothing but the change waits.
    let is_held = |pilot: &Pilot| reason(pilot) == Some("ChangeHeld") && holds(pilot, "Ready", "True");
    let pilot = scene.until("Pilot that is ready and says what is held", is_held).await?;
    let message = condition(&pilot, "UpToDate").map(|ready| ready.message.clone()).unwrap_or_default();
    ensure!(message.contains(text), "{message}");
    let waiting = requested_by(&scene, &tool).await?;
    ensure!(waiting.len() == 1, "held changes are recorded: {waiting:?}");

    // Nobody may let it out by hand, and a newer one takes its place.
    let outside = "outside the change windows";
    scene.kubectl(&scene.grace, "rollout resume deployment/web").await?.refused(&[outside])?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:9").await?.refused(&[outside])?;
    apply(&tool, &managed(&scene, 3)).await?.accepted()?;
    ensure!(runs(&scene).await? == ["web:1"], "a pod moved");

    // Windows that open let it out: the newest, as the change of the one who asked.
    scene.declare(&scene.pilot(&json!({"slos": []}))).await?;
    scene.until("release of what was held", |pilot| reason(pilot) == Some("NothingKeptOut")).await?;
    let released = scene.deployment().await?;
    ensure!(image(&released) == "web:3" && released["spec"]["paused"] != true, "{released}");
    let marks = scene.marks().await?;
    let stamp = marks.admitted.context("a stamp")?;
    ensure!(marks.held.is_none() && stamp.by == tool.name, "{stamp:?}");
    scene.known_good().await
}

async fn during_an_incident_a_gitops_tool_is_pinned(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let tool = scene.gitops_tool(cluster).await?;
    scene.guard(&scene.pilot(&json!({"slos": []}))).await?;
    scene.decide(&scene.ada, &json!({"type": "HoldChanges"})).await?;
    let incident = scene.incident().await?.id;
    let output = apply(&tool, &managed(&scene, 2)).await?;
    output.accepted()?;
    ensure!(output.stderr.contains("pilotguard kept the stored release instead of: "), "{}", output.stderr);
    let pinned = scene.deployment().await?;
    ensure!(image(&pinned) == "web:1" && pinned["spec"]["paused"] != true, "what ran runs on: {pinned}");
    scene.kubectl(&scene.grace, "set image deployment/web web=web:9").await?.refused(&["holds changes"])?;
    scene.decide(&scene.ada, &json!({"type": "Resume", "incident": incident})).await?;
    scene.until("Pilot that says what was pinned", |pilot| reason(pilot) == Some("ChangePinned")).await?;
    apply(&tool, &managed(&scene, 2)).await?.accepted()?;
    ensure!(image(&scene.deployment().await?) == "web:2", "the same commit goes through now");
    scene.until("Pilot that is well again", |pilot| reason(pilot) == Some("NothingKeptOut")).await.map(drop)
}

/// A release as Argo CD applies it: with its tracking-id.
pub(crate) fn managed(scene: &Scene<'_>, version: u32) -> Value {
    let tracking = json!({"argocd.argoproj.io/tracking-id": format!("web:apps/Deployment:{}/web", scene.namespace)});
    let mut release = scene.release(version, 0);
    release["metadata"]["annotations"] = tracking;
    release
}

pub(crate) async fn apply(tool: &Person, object: &Value) -> anyhow::Result<pilotguard_rig::Output> {
    Ok(tool.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &object.to_string()).await?)
}

pub(crate) fn image(deployment: &Value) -> &str {
    deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

pub(crate) fn reason(pilot: &Pilot) -> Option<&str> {
    condition(pilot, "UpToDate").map(|condition| condition.reason.as_str())
}

async fn requested_by(scene: &Scene<'_>, tool: &Person) -> anyhow::Result<Vec<ChangeRecord>> {
    let mut changes = scene.changes().await?;
    changes.retain(|change| change.spec.requested_by.user == tool.name);
    Ok(changes)
}

/// The images of the ReplicaSets that have pods.
async fn runs(scene: &Scene<'_>) -> anyhow::Result<Vec<String>> {
    let sets = scene.api::<k8s_openapi::api::apps::v1::ReplicaSet>().list(&kube::api::ListParams::default()).await?;
    let live = sets.items.iter().filter_map(|set| set.spec.as_ref()).filter(|spec| spec.replicas != Some(0));
    let templates = live.filter_map(|spec| spec.template.as_ref()?.spec.as_ref());
    Ok(templates.filter_map(|spec| spec.containers.first()?.image.clone()).collect())
}
