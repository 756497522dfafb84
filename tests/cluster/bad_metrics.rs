//! A metrics source that fails in the middle of a bad release: nothing is rolled back for lack of data, and the Pilot
//! says what is wrong.

use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::response::Html;
use axum::routing::post;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use pilotguard::api::pilot::Pilot;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, condition, incident};

tests![without_data_nothing_is_rolled_back];

/// Many evaluations, at one a second.
const LONG: SignedDuration = SignedDuration::from_secs(10);

/// How a source fails, and what the Pilot then says: `MetricsAvailable`, the end of its message, `BudgetHealthy`.
const FAULTS: [(&str, &str, &str, &str); 4] = [
    ("down", "False", "cannot be reached: Connection refused (os error 111)", "SourceUnavailable"),
    ("slow", "False", "gave no answer within 2s", "SourceUnavailable"),
    ("html", "False", "check whether the address is that of a login page", "SourceUnavailable"),
    ("nan", "True", "", "NotFinite"),
];

async fn without_data_nothing_is_rolled_back(cluster: &Cluster) -> anyhow::Result<()> {
    let (url, gone) = (faulty().await?, TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?);
    for (fault, ..) in FAULTS {
        let url = if fault == "down" { format!("http://{gone}") } else { format!("{url}/{fault}") };
        cluster.source(fault, &url).await?;
    }
    try_join_all(FAULTS.map(|fault| one_fault(cluster, fault))).await.map(drop)
}

async fn one_fault(cluster: &Cluster, fault: (&str, &str, &str, &str)) -> anyhow::Result<()> {
    let (source, available, message, reason) = fault;
    let scene = Scene::set(cluster).await?;
    let trigger = Scene::trigger(&json!({"decisionWindow": "0s", "action": "Rollback", "otherwise": "ScaleDown"}));
    let pilot = scene.pilot(&trigger);
    scene.bake(&pilot).await?;
    let mut blind = pilot.clone();
    blind["spec"]["metricsSource"] = source.into();
    blind["spec"]["changes"]["bake"] = "10m".into();
    scene.declare(&blind).await?;
    let patches = scene.patches()?;
    scene.apply(&scene.grace, &scene.release(2, 50)).await?.accepted()?;

    let is_unmeasured = |pilot: &Pilot| {
        let budget = condition(pilot, "BudgetHealthy");
        budget.is_some_and(|it| {
            let since = Timestamp::now().duration_since(it.last_transition_time.0);
            it.status == "Unknown" && it.reason == "Unmeasured" && since >= LONG
        })
    };
    let pilot = scene.until(source, is_unmeasured).await?;
    let budget = condition(&pilot, "BudgetHealthy").context("a condition")?;
    ensure!(budget.message == format!("availability ({reason})"), "{source}: {budget:?}");
    let metrics = condition(&pilot, "MetricsAvailable").context("a condition")?;
    ensure!(metrics.status == available && metrics.message.ends_with(message), "{source}: {metrics:?}");
    ensure!(incident(&pilot).is_none() && scene.patches()? == patches, "{source}: something was done");

    // The harm was there all the time.
    let mut seeing = blind;
    seeing["spec"]["metricsSource"] = "rig".into();
    scene.declare(&seeing).await?;
    scene.incident().await.map(drop)
}

/// A server whose paths fail in different ways.
async fn faulty() -> anyhow::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let nan = |value: &str| -> Value {
        json!({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [0, value]}]}})
    };
    let nan = nan("NaN");
    let router = Router::new()
        .route("/slow/api/v1/query", post(|| tokio::time::sleep(Duration::from_mins(1))))
        .route("/html/api/v1/query", post(|| async { Html("<title>Sign in</title>") }))
        .route("/nan/api/v1/query", post(move || std::future::ready(axum::Json(nan.clone()))));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}
