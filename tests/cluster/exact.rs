//! Whatever text people may write into a release comes back byte for byte: stored, noted upon, and put back by a real
//! API server, which encodes some characters in its own way.

use std::borrow::Cow;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use pilotguard::act::writer::Writer;
use pilotguard::act::{self, StoredConfiguration, StoredRelease};
use pilotguard::api::pilot::Pilot;
use pilotguard::api::status::{ReleaseState, ReleaseStatus};
use pilotguard::api::workload::{PartKind, PartReference};
use pilotguard::decide::plan::RollBack;
use pilotguard::observe::cluster::{RawWorkload, raw, read_workload};
use pilotguard::record::snapshots;
use pilotguard::release::digest::{payload_digest, template_digest};
use pilotguard::release::marks::{Admitted, AdmittedVerdict};
use pilotguard::release::ownership::LAST_APPLIED;
use pilotguard::release::workload;
use pilotguard_rig::wait::{self, PATIENCE};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene};

tests![
    any_text_is_stored_noted_upon_and_put_back,
    a_release_with_any_text_is_known_good_and_goes_back,
    snapshots_of_an_older_version_are_stored_anew,
];

/// Each writes dozens of texts.
const CASES: usize = 8;

/// What one encoder or another writes in several ways.
const ODD: &str =
    "&<>\"\\/\u{2028}\u{2029}\u{0}\u{1}\u{8}\t\n\u{c}\r\u{1f}\u{7f}\u{85}\u{a0}\u{ad}\u{feff}\u{fffd}é🚀\u{10ffff}";

/// Any text, mostly an odd one.
fn texts(many: usize) -> impl Strategy<Value = Vec<String>> {
    let odd = prop::sample::select(ODD.chars().collect::<Vec<_>>());
    let text = prop::collection::vec(prop_oneof![3 => odd, 1 => any::<char>()], 0..24);
    prop::collection::vec(text.prop_map(|characters| characters.into_iter().collect()), many)
}

/// Names of variables: of a release, the only keys that people choose almost freely.
fn variables(many: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ -<>-~]{1,16}", many)
}

/// Keys of a ConfigMap.
fn keys(many: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-zA-Z0-9_-][-._a-zA-Z0-9]{1,15}", many)
}

/// A Deployment without a pod, full of these texts.
fn deployment(texts: &[String], variables: &[String]) -> Value {
    let env = variables.iter().zip(texts).map(|(name, value)| json!({"name": name, "value": value}));
    let annotations: Map<String, Value> =
        texts.iter().enumerate().map(|(index, text)| (format!("example.com/{index}"), json!(text))).collect();
    let container = json!({"name": "web", "image": "web:1", "command": texts, "env": env.collect::<Vec<_>>()});
    let template = json!({
        "metadata": {"labels": {"app": "web"}, "annotations": annotations}, "spec": {"containers": [container]},
    });
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec})
}

fn config_map(texts: &[String], keys: &[String]) -> Value {
    let data: Map<String, Value> = keys.iter().zip(texts).map(|(key, text)| (key.clone(), json!(text))).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data, "binaryData": {"_": "AAECA//+/Q==", "-": ""}})
}

async fn any_text_is_stored_noted_upon_and_put_back(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.rig.namespace("exact").await?;
    let writer = Writer::new(cluster.rig.admin().client()?);
    let mut runner = TestRunner::deterministic();
    let mut any = |strategy: BoxedStrategy<Vec<String>>| {
        let tree = strategy.new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?;
        anyhow::Ok(tree.current())
    };
    for case in 0..CASES {
        let texts = any(texts(24).boxed())?;
        let deployment = deployment(&texts, &any(variables(16).boxed())?);
        let config_map = config_map(&texts, &any(keys(16).boxed())?);
        for (kind, mut object) in [(PartKind::Deployment, deployment), (PartKind::ConfigMap, config_map)] {
            let reference = PartReference { kind, name: format!("web-{case}") };
            object["metadata"]["name"] = json!(reference.name);
            object["metadata"]["namespace"] = json!(namespace);
            object["metadata"]["annotations"][LAST_APPLIED] = json!(object.to_string());
            goes_back(&writer, &namespace, &reference, &object).await.with_context(|| format!("{object:#}"))?;
        }
    }
    Ok(())
}

/// Stores what an object releases, notes everything on the snapshot, releases something else, and goes back.
async fn goes_back(writer: &Writer, namespace: &str, reference: &PartReference, object: &Value) -> anyhow::Result<()> {
    let kind = reference.kind;
    let api: Api<RawWorkload> = Api::namespaced_with(writer.client().clone(), namespace, &kind);
    let created = raw(&api.create(&PostParams::default(), &serde_json::from_value(object.clone())?).await?);
    let released = |object: &Value| workload::template(kind, object).map(Cow::into_owned);
    let before = released(&created).context("a release")?;
    let generated = StoredConfiguration { name: "flags".to_owned(), content: object.clone() };
    snapshots::take(writer, kind, &created, vec![generated.clone()], 1).await?;

    let revisions: Api<ControllerRevision> = Api::namespaced(writer.client().clone(), namespace);
    let stored = async || {
        let found = revisions
            .list(&ListParams::default().labels(&snapshots::selector([reference.name.as_str()].into_iter())))
            .await?;
        let mut own =
            found.items.into_iter().filter(|it| it.owner_references().iter().any(|it| it.kind == kind.as_str()));
        let revision = own.next().context("a snapshot")?;
        let (.., snapshot) = snapshots::read(&revision).context("a snapshot that can be read")?;
        anyhow::Ok((revision, snapshot))
    };
    let name = stored().await?.0.name_any();
    let now = Timestamp::from_second(1_800_000_000)?;
    snapshots::mark_known_good(writer, namespace, &name, now, &["a".to_owned(), "b".to_owned()]).await?;
    snapshots::mark_running(writer, namespace, &name, Some(now)).await?;
    let (revision, noted) = stored().await?;
    ensure!(
        (noted.known_good_at, noted.last_running_at) == (Some(now), Some(now)) && noted.known_good_in == ["a", "b"]
    );
    snapshots::mark_running(writer, namespace, &name, None).await?;
    ensure!(stored().await?.1.last_running_at.is_none());
    ensure!(snapshots::generated(&revision) == [generated]);
    let release = snapshots::release(&revision).context("a release")?;
    ensure!(release.template == before, "stored otherwise: {}", release.template);
    ensure!(release.last_applied.as_deref() == object.pointer(&last_applied()).and_then(Value::as_str));

    let other = match kind {
        PartKind::ConfigMap => json!({"data": {"other": "1"}, "binaryData": null}),
        _ => {
            json!({"spec": {"template": {"metadata": {"annotations": null}, "spec": {"containers": [{"name": "web", "image": "web:2"}]}}}})
        }
    };
    let without_last_applied = json!({"metadata": {"annotations": {LAST_APPLIED: null}}});
    for fields in [other, without_last_applied] {
        api.patch(&reference.name, &PatchParams::default(), &Patch::Merge(fields)).await?;
    }
    let other = read_workload(writer.client(), namespace, reference).await?.context("the object")?;
    ensure!(released(&other).as_ref() != Some(&before), "nothing has changed");
    let patch = act::roll_back(&other, &roll_back(reference, &other, &release), &release);
    let after = raw(&writer.patch_of::<RawWorkload>(&kind, (namespace, &reference.name), patch).await?);
    ensure!(released(&after).as_ref() == Some(&before), "put back otherwise: {after}");
    ensure!(after.pointer(&last_applied()) == object.pointer(&last_applied()), "{after}");
    writer.delete::<ControllerRevision>(namespace, &name).await?;
    Ok(())
}

fn last_applied() -> String {
    format!("/metadata/annotations/{}", LAST_APPLIED.replace('/', "~1"))
}

fn roll_back(reference: &PartReference, found: &Value, release: &StoredRelease) -> RollBack {
    let admitted = Admitted {
        template: template_digest(&release.template),
        payload: workload::payload(reference.kind, &release.template),
        variant_of: None,
        by: "system:pilotguard".to_owned(),
        groups: Vec::new(),
        at: Timestamp::UNIX_EPOCH,
        change: "change".to_owned(),
        verdict: AdmittedVerdict::Rollback,
        reasons: Vec::new(),
        break_glass: None,
    };
    RollBack {
        incident: "incident".to_owned(),
        workload: reference.clone(),
        uid: found["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        generation: found["metadata"]["generation"].as_i64().unwrap_or_default(),
        snapshot: "snapshot".to_owned(),
        variant: None,
        admitted,
        quarantined: ["bad".to_owned()].into(),
        put_away: None,
    }
}

async fn a_release_with_any_text_is_known_good_and_goes_back(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let create = ["create", "deployment", "web", "--image=web:1", "--namespace", &scene.namespace, "--"];
    let line = ["sh", "-c", "migrate && serve <in >out \u{2028}\u{2029}\u{1}🚀"];
    scene.grace.kubectl(&[create.as_slice(), line.as_slice()].concat()).await?.accepted()?;
    scene.declare(&scene.pilot(&json!({"slos": []}))).await?;
    scene.guarded().await?;
    scene.known_good().await?;
    let good = scene.deployment().await?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:2").await?.accepted()?;
    scene.rolled_back_by(&scene.ada).await?;
    let after = scene.given_back().await?;
    ensure!(after["spec"]["template"] == good["spec"]["template"], "{after:#}");
    ensure!(after["spec"]["template"]["spec"]["containers"][0]["command"] == json!(line), "{after:#}");

    // The same with a record of what was applied, which kubectl compares as text.
    let release = |version| {
        let mut release = scene.release(version, 0);
        release["spec"]["template"]["spec"]["containers"][0]["command"] = json!(line);
        release
    };
    scene.apply(&scene.grace, &release(3)).await?.accepted()?;
    let good = runs_known_good(&scene).await?;
    scene.apply(&scene.grace, &release(4)).await?.accepted()?;
    let is_target = |pilot: &Pilot| {
        let target = pilot.status.as_ref().and_then(|status| status.rollback_target.as_ref());
        target.is_some_and(|target| target.payload == payload_of(&good))
    };
    scene.until("the release before as the target", is_target).await?;
    scene.rolled_back_by(&scene.ada).await?;
    let after = scene.given_back().await?;
    ensure!(after["spec"]["template"] == good["spec"]["template"], "{after:#}");
    ensure!(after.pointer(&last_applied()) == good.pointer(&last_applied()), "{after:#}");
    let again = scene.apply(&scene.grace, &release(3)).await?;
    ensure!(again.stdout.contains("unchanged"), "{}{}", again.stdout, again.stderr);
    Ok(())
}

/// The Deployment, once what it runs is known to be good.
async fn runs_known_good(scene: &Scene<'_>) -> anyhow::Result<Value> {
    let deployment = scene.deployment().await?;
    let is_good = |pilot: &Pilot| {
        let release = pilot.status.as_ref().and_then(|status| status.release.as_ref());
        let is_it = |it: &&ReleaseStatus| it.payload == payload_of(&deployment);
        release.filter(is_it).is_some_and(|it| it.state == ReleaseState::KnownGood)
    };
    scene.until("known-good release", is_good).await?;
    Ok(deployment)
}

fn payload_of(deployment: &Value) -> String {
    payload_digest(&deployment["spec"]["template"])
}

async fn snapshots_of_an_older_version_are_stored_anew(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.rig.namespace("legacy").await?;
    let operator = cluster.operator(std::slice::from_ref(&namespace)).await?;
    let scene = Scene::set_with(cluster, &operator, namespace).await?;
    let mut release = scene.release(1, 0);
    release["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sh", "-c", "migrate && serve"]);
    scene.apply(&scene.grace, &release).await?.accepted()?;
    scene.declare(&scene.pilot(&json!({"slos": []}))).await?;
    scene.guarded().await?;
    runs_known_good(&scene).await?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:2").await?.accepted()?;
    runs_known_good(&scene).await?;
    operator.kill();

    let api: Api<ControllerRevision> = Api::namespaced(operator.account.client()?, &scene.namespace);
    let of_web = ListParams::default().labels(snapshots::ALL);
    let packed = api.list(&of_web).await?.items;
    ensure!(packed.len() == 2, "{packed:#?}");
    for revision in packed {
        age(&api, revision).await?;
    }
    operator.start().await?;
    scene.guarded().await?;
    let repacked = || async {
        let all = api.list(&of_web).await.map_err(|error| error.to_string())?.items;
        let read: Vec<_> = all.iter().filter_map(snapshots::read).map(|(.., snapshot)| snapshot).collect();
        let is_done = read.len() == 2 && read.iter().all(|it| !it.is_legacy);
        if is_done { Ok(()) } else { Err(format!("{read:#?}")) }
    };
    wait::until("snapshots that are stored anew", PATIENCE, repacked).await?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:3").await?.accepted()?;
    scene.rolled_back_by(&scene.ada).await?;
    let after = scene.deployment().await?;
    let container = &after["spec"]["template"]["spec"]["containers"][0];
    ensure!(
        (&container["image"], &container["command"][2]) == (&json!("web:2"), &json!("migrate && serve")),
        "{after:#}"
    );
    Ok(())
}

/// Replaces a snapshot by one as an older version wrote it, on which the API server lets nothing be noted.
async fn age(api: &Api<ControllerRevision>, revision: ControllerRevision) -> anyhow::Result<()> {
    let StoredRelease { template, last_applied, managed_fields } =
        snapshots::release(&revision).context("a release")?;
    let data = json!({
        "templateDigest": template_digest(&template), "payloadDigest": payload_digest(&template), "template": template,
        "lastApplied": last_applied, "managedFields": managed_fields,
    });
    let metadata = ObjectMeta {
        name: Some(format!("{}-old", revision.name_any())),
        labels: revision.metadata.labels.clone(),
        owner_references: revision.metadata.owner_references.clone(),
        ..ObjectMeta::default()
    };
    api.delete(&revision.name_any(), &DeleteParams::default()).await?;
    let aged = ControllerRevision { metadata, data: Some(RawExtension(data)), revision: revision.revision };
    let aged = api.create(&PostParams::default(), &aged).await?;
    let note = json!({"metadata": {"annotations": {"pilotguard.dev/known-good-at": "2026-01-01T00:00:00Z"}}});
    let noted = api.patch(&aged.name_any(), &PatchParams::default(), &Patch::Merge(note)).await;
    let is_immutable = |error: kube::Error| error.to_string().contains("immutable");
    ensure!(noted.is_err_and(is_immutable), "the API server compares data otherwise than it did");
    Ok(())
}
