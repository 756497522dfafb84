//! The rig keeps its promises: real servers, people with rights of their own, nothing left behind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod background;
mod endpoint;
mod webhook;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use endpoint::Endpoint;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use libtest_mimic::{Arguments, Trial};
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{AuditEvent, Person, Rig, RigOptions, Target};
use serde_json::Value;
use tokio::runtime::Runtime;

/// One rig for all tests that take nothing away from it.
struct Shared {
    runtime: Runtime,
    rig: Rig,
}

fn main() {
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, trials(None)).exit();
    }
    let runtime = Runtime::new().unwrap();
    let rig = runtime.block_on(Rig::start(RigOptions::default())).unwrap();
    let shared = Arc::new(Shared { runtime, rig });
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&shared)));
    if conclusion.has_failed() {
        shared.rig.keep();
    }
    drop(shared);
    conclusion.exit();
}

fn trials(shared: Option<&Arc<Shared>>) -> Vec<Trial> {
    macro_rules! trials {
        ($($module:ident :: $test:ident),* $(,)?) => {
            vec![$(trial(stringify!($test), shared, async |rig| $module::$test(rig).await)),*]
        };
    }
    use crate as rig;
    trials![
        rig::two_rigs_serve_side_by_side,
        rig::people_are_who_they_say_and_have_no_rights,
        rig::a_grant_holds_in_its_namespace_only,
        rig::a_service_account_acts_under_its_own_name,
        rig::the_audit_log_tells_writes_from_attempts,
        rig::targets_can_be_replaced,
        rig::prometheus_comes_back_with_its_data,
        rig::the_api_server_comes_back_with_its_data,
        webhook::a_webhook_behind_a_service_reaches_replicas_on_the_host,
        rig::a_third_group_is_refused,
        rig::a_failed_start_keeps_its_logs_and_an_ended_rig_leaves_nothing,
        background::a_killed_owner_leaves_no_process,
        background::a_background_cluster_can_be_started_and_ended_twice,
    ]
}

fn trial<F>(name: &str, shared: Option<&Arc<Shared>>, test: F) -> Trial
where
    F: AsyncFnOnce(&Rig) -> anyhow::Result<()> + Send + 'static,
{
    let shared = shared.cloned();
    Trial::test(name, move || match shared {
        Some(shared) => shared.runtime.block_on(test(&shared.rig)).map_err(|error| format!("{error:#}").into()),
        None => Ok(()),
    })
}

async fn two_rigs_serve_side_by_side(rig: &Rig) -> anyhow::Result<()> {
    let other = Rig::start(RigOptions::default()).await?;
    for rig in [rig, &other] {
        let namespace = rig.namespace("side-by-side").await?;
        let kubectl = async |line: &str| {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            words.extend(["--namespace", &namespace]);
            let output = rig.admin().kubectl(&words).await?;
            ensure!(output.succeeded(), "kubectl {line}: {}", output.stderr);
            Ok(output.stdout)
        };
        kubectl("create deployment web --image=web:1 --replicas=3").await?;
        kubectl("rollout status deployment web --timeout=150s").await?;
        let available = kubectl("get deployment web -o jsonpath={.status.availableReplicas}").await?;
        ensure!(available == "3", "{available} replicas are available");
        ensure!(query(rig, "vector(42)").await?[0]["value"][1] == "42");
    }
    let directory = other.directory().to_owned();
    drop(other);
    ensure!(!directory.exists(), "the ended rig left {}", directory.display());
    Ok(())
}

async fn people_are_who_they_say_and_have_no_rights(rig: &Rig) -> anyhow::Result<()> {
    let alice = rig.person("alice@example.com", &["team-a", "on-call"]).await?;
    let (name, mut groups) = identity(&alice).await?;
    groups.sort();
    ensure!(name == "alice@example.com", "the server sees {name}");
    ensure!(groups == ["on-call", "system:authenticated", "team-a"], "the server sees {groups:?}");

    let (_, groups) = identity(rig.admin()).await?;
    ensure!(groups == ["system:authenticated"], "the admin is in {groups:?}");

    let pods = alice.kubectl(&["get", "pods", "--namespace", "default"]).await?;
    ensure!(!pods.succeeded() && pods.stderr.contains("Forbidden"), "alice may list pods: {pods:?}");
    Ok(())
}

async fn a_grant_holds_in_its_namespace_only(rig: &Rig) -> anyhow::Result<()> {
    let (here, elsewhere) = (rig.namespace("grant").await?, rig.namespace("grant").await?);
    ensure!(here != elsewhere, "two namespaces are called {here}");
    let bob = rig.person("bob", &[]).await?;
    rig.grant(&bob, &here, "edit").await?;
    write_config_map(bob.client()?, &here, "granted", false).await.context("refused although granted")?;
    ensure!(write_config_map(bob.client()?, &elsewhere, "granted", false).await.is_err(), "allowed elsewhere");
    Ok(())
}

async fn a_service_account_acts_under_its_own_name(rig: &Rig) -> anyhow::Result<()> {
    let namespace = rig.namespace("account").await?;
    let account = rig.service_account(&namespace, "default").await?;
    let (name, groups) = identity(&account).await?;
    ensure!(name == format!("system:serviceaccount:{namespace}:default"), "the server sees {name}");
    ensure!(!groups.iter().any(|group| group == "system:masters"), "the account is in {groups:?}");
    ensure!(rig.service_account(&namespace, "missing").await.is_err(), "a missing account got a token");
    rig.grant(&account, &namespace, "edit").await?;
    write_config_map(account.client()?, &namespace, "granted", false).await?;
    Ok(())
}

async fn the_audit_log_tells_writes_from_attempts(rig: &Rig) -> anyhow::Result<()> {
    let namespace = rig.namespace("audit").await?;
    let carol = rig.person("carol", &[]).await?;
    ensure!(write_config_map(carol.client()?, &namespace, "refused", false).await.is_err());
    rig.grant(&carol, &namespace, "edit").await?;
    write_config_map(carol.client()?, &namespace, "tried", true).await?;
    write_config_map(carol.client()?, &namespace, "stored", false).await?;
    Api::<ConfigMap>::namespaced(carol.client()?, &namespace).list(&ListParams::default()).await?;

    let events = wait::until("three audit events", PATIENCE, || async {
        let events = rig.audit().map_err(|error| error.to_string())?;
        let hers: Vec<AuditEvent> = events.into_iter().filter(|event| event.user == "carol").collect();
        if hers.len() < 3 { Err(format!("{hers:?}")) } else { Ok(hers) }
    })
    .await?;
    // Server-chosen names are absent from a create, so what is seen is the verb, the answer and whether it was meant.
    let seen: Vec<_> = events.iter().map(|event| (event.verb.as_str(), event.code, event.dry_run)).collect();
    ensure!(seen == [("create", 403, false), ("create", 201, true), ("create", 201, false)], "{events:?}");
    let same_place = events.iter().all(|event| {
        (&*event.group, &*event.resource, &*event.subresource, &*event.namespace)
            == ("", "configmaps", "", namespace.as_str())
    });
    ensure!(same_place, "{events:?}");
    ensure!(events.is_sorted_by_key(|event| event.at), "{events:?}");
    Ok(())
}

async fn targets_can_be_replaced(rig: &Rig) -> anyhow::Result<()> {
    let endpoint = Endpoint::start("answer 42\n").await?;
    let target = |job: &str, release: &str| Target {
        job: job.to_owned(),
        address: endpoint.address.to_string(),
        labels: BTreeMap::from([("release".to_owned(), release.to_owned())]),
    };
    rig.scrape(&[target("first", "1"), target("second", "1")]).await?;
    series(rig, r#"answer{release="1"} == 42"#, 2).await?;
    rig.scrape(&[target("second", "2")]).await?;
    series(rig, r#"answer{release="2"} == 42"#, 1).await?;
    series(rig, "up", 1).await?;
    Ok(())
}

async fn prometheus_comes_back_with_its_data(_: &Rig) -> anyhow::Result<()> {
    let rig = Rig::start(RigOptions { nodes: 0, ..RigOptions::default() }).await?;
    let endpoint = Endpoint::start("answer 42\n").await?;
    rig.scrape(&[Target { job: "x".to_owned(), address: endpoint.address.to_string(), labels: BTreeMap::new() }])
        .await?;
    series(&rig, "answer", 1).await?;
    rig.scrape(&[]).await?;
    rig.stop_prometheus()?;
    ensure!(query(&rig, "1").await.is_err(), "Prometheus answers although it was taken away");
    rig.check().context("a server that was taken away counts as broken")?;
    rig.start_prometheus().await?;
    series(&rig, "last_over_time(answer[10m])", 1).await
}

async fn the_api_server_comes_back_with_its_data(_: &Rig) -> anyhow::Result<()> {
    let rig = Rig::start(RigOptions { prometheus: false, ..RigOptions::default() }).await?;
    ensure!(rig.prometheus_url().is_err(), "there is a Prometheus although none was asked for");
    let namespace = rig.namespace("kept").await?;
    rig.stop_apiserver()?;
    ensure!(identity(rig.admin()).await.is_err(), "the API server answers although it was taken away");
    rig.start_apiserver().await?;
    write_config_map(rig.admin().client()?, &namespace, "after", false).await?;
    Ok(())
}

async fn a_third_group_is_refused(rig: &Rig) -> anyhow::Result<()> {
    let refused = rig.person("dave", &["a", "b", "c"]).await.unwrap_err().to_string();
    ensure!(refused == "dave cannot be in 3 groups: a certificate made here names two at most", "{refused}");
    Ok(())
}

async fn a_failed_start_keeps_its_logs_and_an_ended_rig_leaves_nothing(_: &Rig) -> anyhow::Result<()> {
    let parent = tempfile::tempdir()?;
    let (failed, ended) = (parent.path().join("failed"), parent.path().join("ended"));
    let options = |directory: &PathBuf, history: Option<PathBuf>| RigOptions {
        directory: Some(directory.clone()),
        history,
        nodes: 1,
        ..RigOptions::default()
    };
    // A block that Prometheus refuses to open ends it while it starts.
    let history = parent.path().join("history");
    let block = history.join("01ARZ3NDEKTSV4RRFFQ69G5FAV");
    std::fs::create_dir_all(block.join("chunks"))?;
    std::fs::write(history.join("wal"), "not a folder")?;
    let error = Rig::start(options(&failed, Some(history))).await.unwrap_err().to_string();
    ensure!(error.contains("prometheus ended with"), "{error}");
    ensure!(failed.join("logs/prometheus.log").is_file(), "the failed start kept no log");

    drop(Rig::start(options(&ended, None)).await?);
    ensure!(!ended.exists(), "the ended rig left its directory");
    Ok(())
}

async fn identity(person: &Person) -> anyhow::Result<(String, Vec<String>)> {
    let reviews: Api<SelfSubjectReview> = Api::all(person.client()?);
    let answer = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = answer.status.and_then(|status| status.user_info).context("no user in the review")?;
    Ok((user.username.unwrap_or_default(), user.groups.unwrap_or_default()))
}

async fn write_config_map(client: Client, namespace: &str, name: &str, dry_run: bool) -> Result<(), kube::Error> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let object = ConfigMap { metadata, ..ConfigMap::default() };
    let params = PostParams { dry_run, ..PostParams::default() };
    Api::namespaced(client, namespace).create(&params, &object).await.map(drop)
}

async fn query(rig: &Rig, expression: &str) -> anyhow::Result<Value> {
    let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(Duration::from_secs(5)).build()?;
    let mut url = reqwest::Url::parse(rig.prometheus_url()?)?.join("/api/v1/query")?;
    url.query_pairs_mut().append_pair("query", expression);
    let body = http.get(url).send().await?.error_for_status()?.text().await?;
    Ok(serde_json::from_str::<Value>(&body)?["data"]["result"].take())
}

/// Waits until a query has this many series.
async fn series(rig: &Rig, expression: &str, count: usize) -> anyhow::Result<()> {
    wait::until(expression, PATIENCE, || async {
        let result = query(rig, expression).await.map_err(|error| error.to_string())?;
        let found = result.as_array().map_or(0, Vec::len);
        if found == count { Ok(()) } else { Err(format!("{found} series")) }
    })
    .await?;
    Ok(())
}
