//! A pilot of several workloads: they are one release and one change, and go back together.

use anyhow::{Context, ensure};
use pilotguard::api::change_record::{ChangeClass, Outcome as ChangeOutcome};
use pilotguard::api::workload::{PartKind, PartReference};
use pilotguard::observe::cluster::read_workload;
use pilotguard::release::digest::payload_digest;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, condition, holds};

tests![workloads_that_change_together_go_back_together, a_pilot_waits_for_all_its_workloads];

async fn workloads_that_change_together_go_back_together(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.apply(&scene.grace, &worker(&scene, 1)).await?.accepted()?;
    scene.bake(&pilot(&scene)).await?;
    let good = [deployment(&scene, "web").await?, deployment(&scene, "worker").await?];

    scene.apply(&scene.grace, &worker(&scene, 2)).await?.accepted()?;
    scene.apply(&scene.grace, &scene.release(2, 50)).await?.accepted()?;
    let bad = deployment(&scene, "worker").await?;
    let incident = scene.incident().await?;
    let target = incident.target.as_ref().with_context(|| format!("a target in {incident:#?}"))?;
    ensure!(target.workloads.len() == 2, "{target:?}");
    let record = scene.closed(&incident.id).await?.spec.record.context("a record")?;
    for before in &good {
        let name = before["metadata"]["name"].as_str().unwrap_or_default();
        let after = deployment(&scene, name).await?;
        ensure!(after["spec"] == before["spec"], "what {name} runs is not what it ran: {}", after["spec"]);
    }
    ensure!(record.quarantined.contains(&payload_digest(&bad["spec"]["template"])), "{record:?}");

    let is_failed = |outcome| outcome == Some(ChangeOutcome::Failed);
    let failed = scene
        .change(ChangeClass::Normal, |change| is_failed(change.status.as_ref().map(|status| status.outcome)))
        .await?;
    let names: Vec<&str> = failed.spec.workloads.iter().map(|part| part.name.as_str()).collect();
    ensure!(names == ["web", "worker"], "one change of both: {names:?}");
    ensure!(scene.changes().await?.len() == 2, "a change and its rollback: {:#?}", scene.changes().await?);
    scene
        .apply(&scene.grace, &worker(&scene, 2))
        .await?
        .refused(&["updating Deployment worker", "this release was rolled back by"])
}

async fn a_pilot_waits_for_all_its_workloads(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.apply(&scene.grace, &scene.release(1, 0)).await?.accepted()?;
    scene.declare(&pilot(&scene)).await?;
    let missing = "Deployment worker does not exist in this namespace; create it or correct spec.workloads";
    scene
        .until("Pilot that misses a workload", |pilot| {
            condition(pilot, "Ready").is_some_and(|ready| ready.message == missing) && holds(pilot, "Ready", "False")
        })
        .await?;
    scene.apply(&scene.grace, &worker(&scene, 1)).await?.accepted()?;
    scene.guarded().await
}

fn pilot(scene: &Scene<'_>) -> Value {
    let mut fields = Scene::trigger(&json!({"decisionWindow": "2s"}));
    fields["workloads"] = json!([{"name": "web"}, {"name": "worker"}]);
    fields["changes"] = json!({"groupWithin": "60s"});
    scene.pilot(&fields)
}

/// A Deployment beside `web`, which serves nobody.
fn worker(scene: &Scene<'_>, version: u32) -> Value {
    let labels = json!({"app": "worker"});
    let mut worker = scene.release(version, 0);
    worker["metadata"]["name"] = "worker".into();
    worker["spec"]["selector"]["matchLabels"] = labels.clone();
    worker["spec"]["template"]["metadata"]["labels"] = labels;
    worker
}

async fn deployment(scene: &Scene<'_>, name: &str) -> anyhow::Result<Value> {
    let client = scene.cluster.rig.admin().client()?;
    let reference = PartReference { kind: PartKind::Deployment, name: name.to_owned() };
    read_workload(&client, &scene.namespace, &reference).await?.context("there is no such Deployment")
}
