//! Governed ConfigMaps: a part of the release, guarded and rolled back with the workloads.

use anyhow::{Context, ensure};
use pilotguard::api::change_record::{ChangeClass, ChangeRecord};
use pilotguard::api::incident::Incident;
use pilotguard::api::workload::{PartKind, PartReference};
use pilotguard::observe::cluster::read_workload;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, condition};

tests![
    configuration_goes_back_with_the_release,
    generated_configuration_is_restored,
    configuration_keeps_to_the_windows
];

async fn configuration_goes_back_with_the_release(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.apply(&scene.grace, &flags(&scene, "flags", "1")).await?.accepted()?;
    scene.bake(&pilot(&scene, &Scene::trigger(&json!({"decisionWindow": "2s"})))).await?;
    scene.apply(&scene.grace, &flags(&scene, "flags", "2")).await?.accepted()?;
    scene.apply(&scene.grace, &scene.release(2, 50)).await?.accepted()?;
    let incident = rolled_back(&scene).await?;
    let restored = config_map(&scene, "flags").await?.context("flags")?;
    ensure!(restored["data"] == json!({"level": "1"}), "{restored}");
    let changes = scene.changes().await?;
    let change = changes.iter().find(|change| change.spec.class == ChangeClass::Normal).context("a change")?;
    let parts: Vec<String> =
        change.spec.workloads.iter().map(|part| format!("{} {}", part.kind.as_str(), part.name)).collect();
    ensure!(parts == ["Deployment web", "ConfigMap flags"], "{parts:?} in {incident:#?}");
    let images = |change: &ChangeRecord| {
        let of_part = change.spec.workloads.iter().flat_map(|part| part.images.clone());
        (change.spec.replaced.clone().map(|release| release.images), of_part.collect::<Vec<_>>())
    };
    let moved = |from: &str, to: &str| (Some(vec![from.to_owned()]), vec![to.to_owned()]);
    ensure!(images(change) == moved("web:1", "web:2"), "{:#?}", change.spec);
    let back = changes.iter().find(|change| change.spec.class == ChangeClass::Rollback).context("a rollback")?;
    ensure!(images(back) == moved("web:2", "web:1"), "{:#?}", back.spec);
    let refused = scene.apply(&scene.grace, &flags(&scene, "flags", "2")).await?;
    refused.refused(&["updating ConfigMap flags, guarded by pilot web", "was rolled back by"])?;
    scene.apply(&scene.grace, &flags(&scene, "flags", "3")).await?.accepted()
}

async fn generated_configuration_is_restored(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let (old, new) = ("flags-7f8c9dk2m4", "flags-bh8ff59hkd");
    let using = |name: &str, version, fail_percent| {
        let mut release = scene.release(version, fail_percent);
        release["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": name}}]);
        release
    };
    scene.apply(&scene.grace, &flags(&scene, old, "1")).await?.accepted()?;
    scene.apply(&scene.grace, &using(old, 1, 0)).await?.accepted()?;
    scene.declare(&pilot(&scene, &Scene::trigger(&json!({"decisionWindow": "2s"})))).await?;
    scene.guarded().await?;
    scene.known_good().await?;
    let slow = json!({"changes": {"bake": "10m"}});
    let mut fields = Scene::trigger(&json!({"decisionWindow": "2s"}));
    json_patch::merge(&mut fields, &slow);
    scene.declare(&pilot(&scene, &fields)).await?;

    // As kustomize and a GitOps tool that prunes do it.
    scene.apply(&scene.grace, &flags(&scene, new, "2")).await?.accepted()?;
    scene.apply(&scene.grace, &using(new, 2, 50)).await?.accepted()?;
    scene.kubectl(&scene.grace, &format!("delete configmap {old}")).await?.accepted()?;
    rolled_back(&scene).await?;
    let restored = config_map(&scene, old).await?.context("what the restored release uses")?;
    ensure!(restored["data"] == json!({"level": "1"}), "{restored}");
    let runs = scene.deployment().await?;
    let used = &runs["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"];
    ensure!(used == old, "{runs}");
    Ok(())
}

async fn configuration_keeps_to_the_windows(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let tool = scene.gitops_tool(cluster).await?;
    let (later, day) = Scene::later();
    scene.apply(&scene.grace, &scene.release(1, 0)).await?.accepted()?;
    scene.declare(&pilot(&scene, &json!({"slos": [], "changes": {"windows": [later]}}))).await?;
    let missing =
        "ConfigMap flags does not exist in this namespace; create it or correct spec.workloads and spec.configuration";
    scene
        .until("Pilot that misses its configuration", |pilot| {
            condition(pilot, "Ready").is_some_and(|ready| ready.message == missing)
        })
        .await?;
    scene.declare(&pilot(&scene, &json!({"slos": []}))).await?;
    let created = async || scene.apply(&scene.grace, &flags(&scene, "flags", "1")).await?.accepted();
    created().await?;
    scene.guarded().await?;
    let (later, _) = Scene::later();
    scene.declare(&pilot(&scene, &json!({"slos": [], "changes": {"windows": [later]}}))).await?;
    let closed = |pilot: &pilotguard::api::pilot::Pilot| {
        condition(pilot, "WindowOpen").is_some_and(|open| open.status == "False")
    };
    scene.until("Pilot whose windows are closed", closed).await?;

    let refused = scene.apply(&scene.grace, &flags(&scene, "flags", "2")).await?;
    refused.refused(&["Refused: updating ConfigMap flags", "outside the change windows", &day])?;
    scene.kubectl(&scene.grace, "delete configmap flags").await?.refused(&["Refused: deleting ConfigMap flags"])?;
    let mut managed = flags(&scene, "flags", "2");
    managed["metadata"]["annotations"] = json!({"argocd.argoproj.io/tracking-id": "web"});
    let pinned =
        tool.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &managed.to_string()).await?;
    pinned.accepted()?;
    ensure!(pinned.stderr.contains("pilotguard kept the stored release instead of"), "{}", pinned.stderr);
    let kept = config_map(&scene, "flags").await?.context("flags")?;
    ensure!(kept["data"] == json!({"level": "1"}), "{kept}");
    // Labels configure nothing.
    scene.kubectl(&scene.grace, "label configmap flags team=shop").await?.accepted()
}

/// A bad release that has been rolled back, as the incident tells it.
async fn rolled_back(scene: &Scene<'_>) -> anyhow::Result<Incident> {
    let incident = scene.incident().await?;
    scene.closed(&incident.id).await?;
    Ok(incident)
}

fn pilot(scene: &Scene<'_>, fields: &Value) -> Value {
    let mut all = json!({"configuration": [{"name": "flags"}], "changes": {"groupWithin": "60s"}});
    json_patch::merge(&mut all, fields);
    scene.pilot(&all)
}

fn flags(scene: &Scene<'_>, name: &str, level: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": scene.namespace},
        "data": {"level": level},
    })
}

async fn config_map(scene: &Scene<'_>, name: &str) -> anyhow::Result<Option<Value>> {
    let client = scene.cluster.rig.admin().client()?;
    let reference = PartReference { kind: PartKind::ConfigMap, name: name.to_owned() };
    Ok(read_workload(&client, &scene.namespace, &reference).await?)
}
