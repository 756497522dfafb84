//! What becomes of commits: bad ones, good ones, and those that come outside the windows, under the ways in which teams
//! use Argo CD.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::delivery::Delivery;
use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, holds};

tests![
    a_bad_commit_is_rolled_back_and_stays_so,
    git_goes_back_to_what_runs,
    a_commit_outside_the_windows_waits,
    waves_and_hooks_with_pin,
    waves_and_hooks_with_auto,
    server_side_apply,
    server_side_diff,
    without_self_heal,
    without_self_heal_with_pin,
    refusals_hold_up_the_next_commit,
    refusals_with_fresh_retries,
    refusals_with_server_side_diff,
];

/// Self-heal writes so many times more before a trial believes that nothing comes of it.
const ATTEMPTS: usize = 3;

/// What a Pilot of these trials declares while its windows are open. What comes after the first release bakes so long
/// that no slow machine lets it be good by mistake.
fn open() -> Value {
    json!({"slos": [], "workloads": [{"kind": "Deployment", "name": "web"}], "changes": {"bake": "10m"}})
}

fn closed() -> Value {
    let (mut fields, (later, _)) = (open(), Scene::later());
    fields["changes"]["windows"] = json!([later]);
    fields
}

fn with(mut fields: Value, outside_window: &str) -> Value {
    fields["changes"]["outsideWindow"] = outside_window.into();
    fields
}

fn no_self_heal() -> Value {
    json!({"spec": {"syncPolicy": {"automated": {"selfHeal": false}}}})
}

async fn begin<'a>(cluster: &'a Cluster, application: &Value) -> anyhow::Result<Delivery<'a>> {
    let delivery = Delivery::begin(cluster, application, &json!({"slos": []})).await?;
    delivery.commit_pilot(&open()).await?;
    Ok(delivery)
}

/// A person rolls a bad commit back; then comes a good one.
async fn mended(delivery: &Delivery<'_>, [rolled_back, next]: [&str; 2]) -> anyhow::Result<()> {
    delivery.commit_release(2, 50).await?;
    delivery.roll_back("web:2").await?;
    delivery.shows(rolled_back).await?;
    delivery.commit_release(3, 0).await?;
    delivery.shows(next).await
}

/// A commit comes outside the windows; then they open.
async fn waited(delivery: &Delivery<'_>, [outside, opened]: [&str; 2]) -> anyhow::Result<()> {
    delivery.commit_pilot(&closed()).await?;
    delivery.commit_release(4, 0).await?;
    delivery.shows(outside).await?;
    delivery.commit_pilot(&open()).await?;
    delivery.shows(opened).await
}

async fn a_bad_commit_is_rolled_back_and_stays_so(cluster: &Cluster) -> anyhow::Result<()> {
    let pilot = Scene::trigger(&json!({"decisionWindow": "10s"}));
    let delivery = Delivery::begin(cluster, &json!({}), &pilot).await?;
    let mut slow = pilot.clone();
    slow["changes"] = json!({"bake": "10m"});
    delivery.commit_pilot(&slow).await?;
    delivery.commit_release(2, 50).await?;
    delivery.shows("self-heal: a bad commit, its incident is open").await?;
    let incident = delivery.scene.incident().await?;
    delivery.scene.closed(&incident.id).await?;
    delivery.shows("self-heal: rolled back").await?;
    let patches = delivery.scene.patches()?;
    // The first one notes down what was applied last.
    delivery.application.tries_again(2).await?;
    delivery.withstands(ATTEMPTS).await?;
    ensure!(delivery.scene.patches()? == patches, "pilotguard answers attempts at admission, not with patches");
    delivery.shows("self-heal: rolled back").await?;
    let told = delivery.scene.events("Deployment").await?.iter().filter(|reason| *reason == "ChangePinned").count();
    ensure!(told == 1, "of one pinned release it was told {told} times");
    delivery.commit_release(3, 0).await?;
    delivery.shows("self-heal: the next, good commit").await
}

async fn git_goes_back_to_what_runs(cluster: &Cluster) -> anyhow::Result<()> {
    let delivery = begin(cluster, &json!({})).await?;
    delivery.commit_release(2, 50).await?;
    delivery.roll_back("web:2").await?;
    delivery.shows("self-heal: rolled back").await?;
    delivery.commit_release(1, 0).await?;
    delivery.shows("self-heal: Git goes back to what runs").await?;
    let scene = &delivery.scene;
    scene.kubectl(&scene.grace, "annotate deployment web pilotguard.dev/held-").await?.accepted()?;
    delivery.shows("self-heal: and the note is taken away").await
}

async fn a_commit_outside_the_windows_waits(cluster: &Cluster) -> anyhow::Result<()> {
    let delivery = begin(cluster, &json!({})).await?;
    waited(&delivery, ["self-heal: a commit outside the windows", "self-heal: the windows open"]).await
}

/// A job before each sync, the guarded Deployment, then what depends on it, and the Pilot last.
async fn in_waves(delivery: &Delivery<'_>, version: u32, pilot: &Value) -> anyhow::Result<()> {
    let annotated = |mut object: Value, annotations: Value| {
        object["metadata"]["annotations"] = annotations;
        object
    };
    let wave = |number: &str| json!({"argocd.argoproj.io/sync-wave": number});
    let hook =
        json!({"argocd.argoproj.io/hook": "PreSync", "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation"});
    let container = json!({"name": "migrate", "image": format!("migrate:{version}")});
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    });
    let after = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "after"}, "data": {"version": version.to_string()},
    });
    let scene = &delivery.scene;
    delivery
        .application
        .commit(&[
            ("migrate.yaml", annotated(job, hook)),
            ("web.yaml", annotated(scene.release(version, 0), wave("0"))),
            ("after.yaml", annotated(after, wave("1"))),
            ("pilot.yaml", annotated(scene.pilot(pilot), wave("2"))),
        ])
        .await
}

/// The version that the second wave has brought.
async fn second_wave(delivery: &Delivery<'_>) -> anyhow::Result<String> {
    let after = delivery.scene.api::<ConfigMap>().get("after").await?;
    after.data.and_then(|mut data| data.remove("version")).context("a version")
}

/// How often the job before the sync was made.
fn jobs(delivery: &Delivery<'_>) -> anyhow::Result<usize> {
    let writes = delivery.application.writes("jobs")?;
    Ok(writes.iter().filter(|write| write.verb == "create").count())
}

/// How often Argo CD has asked to change the Deployment.
fn writes(delivery: &Delivery<'_>) -> anyhow::Result<usize> {
    Ok(delivery.application.writes("deployments")?.len())
}

async fn waves_and_hooks_with_pin(cluster: &Cluster) -> anyhow::Result<()> {
    let delivery = begin(cluster, &json!({})).await?;
    in_waves(&delivery, 1, &with(closed(), "Pin")).await?;
    delivery.shows("waves and a hook, Pin: nothing waits").await?;
    in_waves(&delivery, 2, &with(closed(), "Pin")).await?;
    delivery.shows("waves and a hook, Pin: a commit outside the windows").await?;
    ensure!(second_wave(&delivery).await? == "2", "later waves do not wait for what is pinned");
    let made = jobs(&delivery)?;
    delivery.withstands(ATTEMPTS).await?;
    ensure!(jobs(&delivery)? == made, "self-heal applies what differs alone, without hooks");
    in_waves(&delivery, 2, &with(open(), "Pin")).await?;
    delivery.shows("waves and a hook, Pin: the windows open").await
}

async fn waves_and_hooks_with_auto(cluster: &Cluster) -> anyhow::Result<()> {
    let delivery = begin(cluster, &json!({})).await?;
    in_waves(&delivery, 1, &closed()).await?;
    delivery.shows("waves and a hook, Auto: nothing waits").await?;
    in_waves(&delivery, 2, &closed()).await?;
    delivery.shows("waves and a hook, Auto: a commit outside the windows").await?;
    ensure!(second_wave(&delivery).await? == "1", "later waves wait for what is held");
    // Not by a commit, which waits as well: as if the time had come.
    delivery.scene.declare(&delivery.scene.pilot(&open())).await?;
    delivery.runs_only("web:2").await?;
    in_waves(&delivery, 2, &open()).await?;
    delivery.shows("waves and a hook, Auto: the windows open").await?;
    ensure!(second_wave(&delivery).await? == "2");
    Ok(())
}

async fn server_side_apply(cluster: &Cluster) -> anyhow::Result<()> {
    let option = json!({"spec": {"syncPolicy": {"syncOptions": ["ServerSideApply=true"]}}});
    let delivery = Delivery::begin(cluster, &option, &json!({"slos": []})).await?;
    delivery.shows("server-side apply: a Pilot that does not say the kind of its workload").await?;
    delivery.commit_pilot(&open()).await?;
    mended(&delivery, ["server-side apply: rolled back", "server-side apply: the next, good commit"]).await?;
    waited(&delivery, ["server-side apply: a commit outside the windows", "server-side apply: the windows open"]).await
}

fn compared_by_server() -> Value {
    json!({"metadata": {"annotations": {"argocd.argoproj.io/compare-options": "ServerSideDiff=true"}}})
}

async fn server_side_diff(cluster: &Cluster) -> anyhow::Result<()> {
    let delivery = begin(cluster, &compared_by_server()).await?;
    mended(&delivery, ["server-side diff: rolled back", "server-side diff: the next, good commit"]).await?;
    waited(&delivery, ["server-side diff: a commit outside the windows", "server-side diff: the windows open"]).await
}

async fn without_self_heal(cluster: &Cluster) -> anyhow::Result<()> {
    let delivery = begin(cluster, &no_self_heal()).await?;
    mended(&delivery, ["no self-heal: rolled back", "no self-heal: the next, good commit"]).await?;
    waited(&delivery, ["no self-heal: a commit outside the windows", "no self-heal: the windows open"]).await
}

async fn without_self_heal_with_pin(cluster: &Cluster) -> anyhow::Result<()> {
    let delivery = begin(cluster, &no_self_heal()).await?;
    delivery.commit_pilot(&with(closed(), "Pin")).await?;
    delivery.commit_release(2, 0).await?;
    delivery.shows("no self-heal, Pin: a commit outside the windows").await?;
    // Not by a commit, which would be synced: as if the time had come.
    let before = writes(&delivery)?;
    delivery.scene.declare(&delivery.scene.pilot(&with(open(), "Pin"))).await?;
    delivery.scene.until("open window", |pilot| holds(pilot, "WindowOpen", "True")).await?;
    delivery.application.look().await?;
    delivery.shows("no self-heal, Pin: the windows open").await?;
    ensure!(writes(&delivery)? == before, "nobody syncs it");
    Ok(())
}

/// An Application that tries again so many times, every few seconds.
fn retrying(limit: u32, refresh: bool) -> Value {
    let backoff = json!({"duration": "4s", "factor": 1, "maxDuration": "1m"});
    json!({"spec": {"syncPolicy": {"retry": {"limit": limit, "refresh": refresh, "backoff": backoff}}}})
}

async fn refusals_hold_up_the_next_commit(cluster: &Cluster) -> anyhow::Result<()> {
    let delivery = begin(cluster, &retrying(3, false)).await?;
    delivery.commit_pilot(&with(open(), "Deny")).await?;
    delivery.commit_release(2, 50).await?;
    delivery.roll_back("web:2").await?;
    delivery.shows("Deny: rolled back, while Argo CD tries again").await?;
    let says = |application: &Value| {
        let said = application["status"]["operationState"]["message"].as_str().unwrap_or_default();
        let text = "stays blocked; allowed after an owner readmits it";
        said.contains(text) && said.contains("Owner: Ada Lovelace")
    };
    delivery.application.until("sync error that is our refusal", says).await?;
    delivery.commit_release(3, 0).await?;
    let before = writes(&delivery)?;
    delivery.shows("Deny: the next, good commit").await?;
    ensure!(writes(&delivery)? > before + 1, "the bad commit was tried again before the good one");

    delivery.commit_pilot(&with(closed(), "Deny")).await?;
    delivery.commit_release(4, 0).await?;
    delivery.shows("Deny: a commit outside the windows").await?;
    // Not by a commit, which would be synced: as if the time had come.
    delivery.scene.declare(&delivery.scene.pilot(&with(open(), "Deny"))).await?;
    delivery.scene.until("open window", |pilot| holds(pilot, "WindowOpen", "True")).await?;
    delivery.application.look().await?;
    delivery.shows("Deny: the windows open").await
}

async fn refusals_with_fresh_retries(cluster: &Cluster) -> anyhow::Result<()> {
    let delivery = begin(cluster, &retrying(50, true)).await?;
    delivery.commit_pilot(&with(open(), "Deny")).await?;
    delivery.commit_release(2, 50).await?;
    delivery.roll_back("web:2").await?;
    delivery.shows("Deny, retry.refresh: rolled back").await?;
    delivery.commit_release(3, 0).await?;
    delivery.shows("Deny, retry.refresh: the next, good commit").await
}

async fn refusals_with_server_side_diff(cluster: &Cluster) -> anyhow::Result<()> {
    let delivery = begin(cluster, &compared_by_server()).await?;
    delivery.commit_pilot(&with(open(), "Deny")).await?;
    mended(&delivery, ["Deny, server-side diff: rolled back", "Deny, server-side diff: the next, good commit"]).await
}
