//! After a rollback the next apply of any kind merges cleanly: no conflict with pilotguard, and what neither the bad nor
//! the next release holds does not come back.

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use pilotguard::release::ownership::FIELD_MANAGER;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, uncontended};

tests![after_a_rollback_the_next_apply_merges_cleanly, what_was_pinned_merges_cleanly];

const CLIENT_SIDE: &str = "apply -f -";
const SERVER_SIDE: &str = "apply --server-side -f -";
const REPLACE: &str = "replace -f -";

/// How the good, the bad and the next release are applied.
const WAYS: [[&str; 3]; 5] = [
    [CLIENT_SIDE, CLIENT_SIDE, CLIENT_SIDE],
    [SERVER_SIDE, SERVER_SIDE, SERVER_SIDE],
    [CLIENT_SIDE, CLIENT_SIDE, SERVER_SIDE],
    [CLIENT_SIDE, REPLACE, CLIENT_SIDE],
    [SERVER_SIDE, REPLACE, SERVER_SIDE],
];

async fn after_a_rollback_the_next_apply_merges_cleanly(cluster: &Cluster) -> anyhow::Result<()> {
    let tried = WAYS.map(async |ways| {
        let scene = Scene::set(cluster).await?;
        rolled_back(&scene, ways).await.map_err(|error| error.context(format!("{ways:?} in {}", scene.namespace)))
    });
    try_join_all(tried).await.map(drop)
}

async fn rolled_back(scene: &Scene<'_>, [good, bad, next]: [&str; 3]) -> anyhow::Result<()> {
    run(scene, good, &release(scene, 1, &["web", "side"], &["A"])).await?;
    scene.declare(&scene.pilot(&json!({"slos": []}))).await?;
    scene.guarded().await?;
    scene.known_good().await?;
    let was = scene.deployment().await?;

    run(scene, bad, &release(scene, 2, &["web", "evil"], &["A", "BAD"])).await?;
    scene.rolled_back_by(&scene.mallory).await?;
    let back = given_back(scene).await?;
    ensure!(back["spec"] == was["spec"], "what runs is not what ran: {}", back["spec"]);

    run(scene, next, &release(scene, 3, &["web"], &["A"])).await?;
    let after = scene.deployment().await?;
    let containers = &after["spec"]["template"]["spec"]["containers"];
    ensure!(names(containers) == ["web"], "{containers}");
    ensure!(names(&containers[0]["env"]) == ["A"] && containers[0]["image"] == "web:3", "{containers}");
    Ok(())
}

/// Waits until what the act put back belongs to others again, and returns the Deployment.
async fn given_back(scene: &Scene<'_>) -> anyhow::Result<Value> {
    let deployment = scene.given_back().await?;
    let entries = deployment["metadata"]["managedFields"].as_array().context("managed fields")?;
    let ours = entries.iter().find(|entry| entry["manager"] == FIELD_MANAGER).context("the owner of the marks")?;
    ensure!(ours["fieldsV1"]["f:metadata"]["f:annotations"]["f:pilotguard.dev/admitted"] == json!({}), "{ours}");
    Ok(deployment)
}

/// Argo CD syncs what is quarantined again and again, and then something else.
async fn what_was_pinned_merges_cleanly(cluster: &Cluster) -> anyhow::Result<()> {
    let ways = [["apply -f -", "client-side"], ["apply --server-side --force-conflicts -f -", "server-side"]];
    let tried = ways.map(async |[way, what]| {
        let scene = Scene::set(cluster).await?;
        pinned(cluster, &scene, way).await.map_err(|error| error.context(what))
    });
    try_join_all(tried).await.map(drop)
}

async fn pinned(cluster: &Cluster, scene: &Scene<'_>, way: &str) -> anyhow::Result<()> {
    let tool = scene.gitops_tool(cluster).await?;
    let managed = |version, containers: &[&str]| {
        let tracking =
            json!({"argocd.argoproj.io/tracking-id": format!("web:apps/Deployment:{}/web", scene.namespace)});
        let mut release = release(scene, version, containers, &["A"]);
        release["metadata"]["annotations"] = tracking;
        release.to_string()
    };
    let sync = async |version, containers: &[&str]| {
        let words: Vec<&str> = way.split(' ').collect();
        let output = tool.kubectl_with(&words, &managed(version, containers)).await?;
        output.accepted()?;
        anyhow::Ok(output.stderr)
    };
    sync(1, &["web", "side"]).await?;
    scene.declare(&scene.pilot(&json!({"slos": []}))).await?;
    scene.guarded().await?;
    scene.decide(&scene.ada, &json!({"type": "HoldChanges"})).await?;
    let incident = scene.incident().await?.id;
    let before = scene.deployment().await?;
    for _ in 0..2 {
        let said = sync(2, &["web", "evil"]).await?;
        ensure!(said.contains("pilotguard kept the stored release instead of: "), "{said}");
    }
    let after = scene.deployment().await?;
    ensure!(after["spec"] == before["spec"], "{}", after["spec"]);
    scene.decide(&scene.ada, &json!({"type": "Resume", "incident": incident})).await?;
    scene.closed(&incident).await?;
    sync(3, &["web"]).await?;
    let containers = &scene.deployment().await?["spec"]["template"]["spec"]["containers"];
    ensure!(names(containers) == ["web"] && containers[0]["image"] == "web:3", "{containers}");
    Ok(())
}

async fn run(scene: &Scene<'_>, way: &str, release: &Value) -> anyhow::Result<()> {
    let (words, manifest): (Vec<&str>, _) = (way.split(' ').collect(), release.to_string());
    uncontended(|| scene.grace.kubectl_with(&words, &manifest)).await?.accepted()
}

/// A release with these containers, the first of them with these variables; no ReplicaSet of an older one is kept.
fn release(scene: &Scene<'_>, version: u32, containers: &[&str], variables: &[&str]) -> Value {
    let mut release = scene.release(version, 0);
    release["spec"]["revisionHistoryLimit"] = 0.into();
    let image = |name: &str| json!({"name": name, "image": format!("{name}:{version}")});
    let mut containers: Vec<Value> = containers.iter().map(|name| image(name)).collect();
    containers[0]["env"] = variables.iter().map(|name| json!({"name": name, "value": "x"})).collect();
    release["spec"]["template"]["spec"]["containers"] = containers.into();
    release
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}
