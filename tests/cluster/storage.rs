//! A release that the API server does not store is reported before anybody counts on a rollback to it.

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use pilotguard::api::pilot::Pilot;
use pilotguard::api::status::ReleaseState;
use pilotguard::record::snapshots;
use pilotguard::release::marks::{MOST_ANNOTATIONS, ROOM_FOR_MARKS};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, condition, holds, uncontended};

tests![
    a_release_that_is_too_large_is_reported,
    a_snapshot_that_cannot_be_read_is_reported,
    annotations_leave_room_for_a_rollback,
];

/// Of text that hardly compresses: two of them fit in no object.
const LARGE: usize = 900_000;

async fn a_release_that_is_too_large_is_reported(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let with_configuration = async |version, hash: &str, data: &Value| {
        let names = ["flags", "limits"].map(|name| format!("{name}-{hash}"));
        for name in &names {
            let metadata = json!({"name": name, "namespace": scene.namespace});
            let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
            scene.grace.kubectl_with(&["create", "-f", "-"], &config_map.to_string()).await?.accepted()?;
        }
        let mut release = scene.release(version, 0);
        let sources: Vec<Value> = names.iter().map(|name| json!({"configMapRef": {"name": name}})).collect();
        release["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!(sources);
        scene.apply(&scene.grace, &release).await?.accepted()
    };
    with_configuration(1, "7f8c9dk2m4", &json!({"noise": noise()?})).await?;
    let configuration = json!([{"name": "flags"}, {"name": "limits"}]);
    scene.declare(&scene.pilot(&json!({"slos": [], "configuration": configuration}))).await?;
    let baked = |pilot: &Pilot| {
        let release = pilot.status.as_ref().and_then(|status| status.release.as_ref());
        let state = release.map(|release| release.state);
        assert_ne!(state, Some(ReleaseState::KnownGood), "nothing can go back to it");
        state == Some(ReleaseState::Baked)
    };
    let pilot = scene.until("release that is baked", baked).await?;
    for type_ in ["Ready", "ReleasesStored"] {
        let condition = condition(&pilot, type_).context("a condition")?;
        ensure!(
            (condition.status.as_str(), condition.reason.as_str()) == ("False", "SnapshotRefused"),
            "{condition:?}"
        );
        ensure!(condition.message.contains("the release of Deployment web cannot be stored"), "{condition:?}");
        ensure!(condition.message.contains("too large"), "{condition:?}");
    }
    ensure!(metric(&scene).await?.ends_with(" 0"), "{}", metric(&scene).await?);
    let attempts = || -> anyhow::Result<usize> {
        let events = scene.cluster.rig.audit()?;
        let refused = |event: &&pilotguard_rig::AuditEvent| {
            event.namespace == scene.namespace && event.resource == "controllerrevisions" && event.code >= 400
        };
        Ok(events.iter().filter(refused).count())
    };
    ensure!((1..=6).contains(&attempts()?), "tried {} times within seconds", attempts()?);

    with_configuration(2, "bh8ff59hkd", &json!({"noise": "none"})).await?;
    scene.known_good().await?;
    // ConfigMaps of other names are registered first.
    let is_well = |pilot: &Pilot| holds(pilot, "ReleasesStored", "True") && holds(pilot, "Ready", "True");
    scene.until("Ready Pilot whose release is stored", is_well).await?;
    ensure!(metric(&scene).await?.ends_with(" 1"), "{}", metric(&scene).await?);
    Ok(())
}

/// The line of the scene's pilot in the operator's own metrics.
async fn metric(scene: &Scene<'_>) -> anyhow::Result<String> {
    let text = reqwest::get(scene.operator.metrics_url()).await?.text().await?;
    let is_it = |line: &&str| line.starts_with("pilotguard_releases_stored{") && line.contains(&scene.namespace);
    text.lines().find(is_it).map(str::to_owned).context("a metric")
}

fn noise() -> anyhow::Result<String> {
    let mut runner = TestRunner::deterministic();
    let printable = proptest::collection::vec(b' '..=b'~', LARGE).new_tree(&mut runner);
    let bytes = printable.map_err(|reason| anyhow::anyhow!("{reason}"))?.current();
    Ok(String::from_utf8(bytes)?)
}

async fn a_snapshot_that_cannot_be_read_is_reported(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.guard(&scene.pilot(&json!({"slos": []}))).await?;
    scene.known_good().await?;
    let api: Api<ControllerRevision> = Api::namespaced(scene.operator.account.client()?, &scene.namespace);
    let all = ListParams::default().labels(snapshots::ALL);
    let mut unreadable = api.list(&all).await?.items.pop().context("a snapshot")?;
    unreadable.metadata = ObjectMeta {
        name: Some("of-the-future".to_owned()),
        labels: unreadable.metadata.labels,
        owner_references: unreadable.metadata.owner_references,
        ..ObjectMeta::default()
    };
    unreadable.data = Some(RawExtension(json!({"packed": "AAAA"})));
    let unreadable = api.create(&PostParams::default(), &unreadable).await?;
    let is_reported = |pilot: &Pilot| {
        ["Ready", "ReleasesStored"].into_iter().all(|type_| {
            condition(pilot, type_).is_some_and(|condition| {
                condition.reason == "SnapshotUnreadable" && condition.message.contains("of-the-future")
            })
        })
    };
    scene.until("condition about the snapshot", is_reported).await?;
    api.delete(&unreadable.name_any(), &DeleteParams::default()).await?;
    scene.guarded().await?;
    scene.until("snapshots that can be read", |pilot| holds(pilot, "ReleasesStored", "True")).await?;
    Ok(())
}

async fn annotations_leave_room_for_a_rollback(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    // Without `apply`, which writes everything down twice; the Deployment's controller adds an annotation of its own.
    let write = async |verb: &str, version: u32, bytes: usize| {
        let mut release = scene.release(version, 0);
        release["metadata"]["annotations"] = json!({"notes": "n".repeat(bytes)});
        let (words, manifest) = ([verb, "-f", "-"], release.to_string());
        uncontended(|| scene.grace.kubectl_with(&words, &manifest)).await
    };
    let (full, fitting) = (MOST_ANNOTATIONS - 200, MOST_ANNOTATIONS - ROOM_FOR_MARKS - 200);
    write("create", 1, full).await?.accepted()?;
    scene.declare(&scene.pilot(&json!({"slos": []}))).await?;
    let is_reported = |pilot: &Pilot| {
        let ready = condition(pilot, "Ready");
        ready.is_some_and(|it| it.reason == "AnnotationsTooLarge" && it.message.contains("remove or shorten"))
    };
    scene.until("annotations that are too large", is_reported).await?;
    write("replace", 1, fitting).await?.accepted()?;
    scene.guarded().await?;
    scene.known_good().await?;

    let refused = write("replace", 2, fitting + 1_000).await?;
    refused.refused(&["its annotations are", "bytes too large", "remove or shorten annotations"])?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:3").await?.accepted()?;
    scene.rolled_back_by(&scene.ada).await?;
    let after = scene.deployment().await?;
    ensure!(after["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1", "{}", after["spec"]);
    Ok(())
}
