//! An operator that is killed at the worst moments: after its restart it goes on where it stopped, and what was done
//! is not done again.

use anyhow::ensure;
use futures::future::try_join_all;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::runtime::wait::await_condition;
use pilotguard::api::change_record::{ChangeClass, Outcome as ChangeOutcome};
use pilotguard::api::decision::{Decision, DecisionType};
use pilotguard::api::incident::{Incident, IncidentStage};
use pilotguard::api::pilot::Pilot;
use pilotguard_rig::Operator;
use pilotguard_rig::wait::{self, PATIENCE};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, incident};

tests![killed_at_any_moment_it_acts_once];

/// The decision windows of the scenes, far enough apart that each has the operator's death to itself.
const WINDOWS: [&str; 4] = ["50s", "8s", "18s", "28s"];

async fn killed_at_any_moment_it_acts_once(cluster: &Cluster) -> anyhow::Result<()> {
    let namespaces = try_join_all(WINDOWS.map(|_| cluster.rig.namespace("crash"))).await?;
    let operator = cluster.operator(&namespaces).await?;
    let scenes =
        try_join_all(namespaces.into_iter().map(|namespace| Scene::set_with(cluster, &operator, namespace))).await?;
    let begun = try_join_all(scenes.iter().zip(WINDOWS).map(|(scene, window)| begin(scene, window))).await?;

    // Just tripped.
    let [first, deadline, act, proof] = scenes.as_slice() else { anyhow::bail!("four scenes") };
    moment(first, |pilot| incident(pilot).is_some()).await?;
    restart(&operator).await?;
    // Down while the deadline passes.
    moment(deadline, |pilot| incident(pilot).is_some()).await?;
    operator.kill();
    let opened = deadline.incident().await?;
    let left = opened.deadline.duration_since(Timestamp::now()).unsigned_abs();
    tokio::time::sleep(left.min(std::time::Duration::from_secs(8))).await;
    operator.start().await?;
    // In the middle of the act, or just after it.
    let is_acting = |it: &Incident| it.intent.is_some();
    moment(act, |pilot| incident(pilot).is_some_and(is_acting)).await?;
    restart(&operator).await?;
    // Before it is known whether it helped.
    let is_verifying = |it: &Incident| it.stage == IncidentStage::Verifying;
    moment(proof, |pilot| incident(pilot).is_some_and(is_verifying)).await?;
    restart(&operator).await?;
    // While the record is being written, or just after.
    let is_ending = |pilot: &Pilot| incident(pilot).is_none_or(|it| it.stage == IncidentStage::Closing);
    moment(first, is_ending).await?;
    restart(&operator).await?;

    for (scene, (good, patches)) in scenes.iter().zip(&begun) {
        once(scene, good, *patches).await.map_err(|error| error.context(scene.namespace.clone()))?;
    }
    Ok(())
}

/// Puts a bad release onto a good one, and returns the good one with the patches that the operator has made so far.
async fn begin(scene: &Scene<'_>, window: &str) -> anyhow::Result<(Value, usize)> {
    scene.bake(&scene.pilot(&Scene::trigger(&json!({"decisionWindow": window})))).await?;
    let good = (scene.deployment().await?, scene.patches()?);
    scene.apply(&scene.grace, &scene.release(2, 50)).await?.accepted()?;
    Ok(good)
}

/// Waits for a moment that the Pilot's status tells, and misses little of it.
async fn moment(scene: &Scene<'_>, has_come: impl Fn(&Pilot) -> bool + Send) -> anyhow::Result<()> {
    let has_come = move |pilot: Option<&Pilot>| pilot.is_some_and(&has_come);
    let waiting = Box::pin(await_condition(scene.api::<Pilot>(), "web", has_come));
    wait::within("moment", PATIENCE, waiting).await??;
    Ok(())
}

async fn restart(operator: &Operator) -> anyhow::Result<()> {
    operator.kill();
    Ok(operator.start().await?)
}

/// One act, one record, one Event of each kind.
async fn once(scene: &Scene<'_>, good: &Value, patches: usize) -> anyhow::Result<()> {
    let is_over = |pilot: &Pilot| incident(pilot).is_none();
    scene.until("end of the incident", is_over).await?;
    let after = scene.deployment().await?;
    ensure!(after["spec"] == good["spec"], "what runs is not what ran: {}", after["spec"]);
    let generations =
        [&after, good].map(|deployment| deployment["metadata"]["generation"].as_i64().unwrap_or_default());
    ensure!(generations[0] == generations[1] + 2, "neither more nor less than one change and its rollback");
    // One rolls back, one gives the fields back.
    ensure!(scene.patches()? == patches + 2, "{} patches instead of two", scene.patches()? - patches);

    let decisions = scene.api::<Decision>().list(&ListParams::default()).await?.items;
    let types: Vec<_> = decisions.iter().map(|decision| decision.spec.type_).collect();
    ensure!(types == [DecisionType::Rollback], "{decisions:#?}");
    let is = |outcome| move |status: Option<ChangeOutcome>| status == Some(outcome);
    for (class, is_so) in
        [(ChangeClass::Normal, is(ChangeOutcome::Failed)), (ChangeClass::Rollback, is(ChangeOutcome::Succeeded))]
    {
        scene.change(class, |change| is_so(change.status.as_ref().map(|status| status.outcome))).await?;
    }
    ensure!(scene.changes().await?.len() == 2);
    for kind in ["Pilot", "Deployment"] {
        let mut events = scene.events(kind).await?;
        events.retain(|reason| reason != "DecisionDue");
        // Their order says nothing: what was missed is told late.
        events.sort();
        ensure!(events == ["IncidentClosed", "IncidentOpened", "RollingBack"], "{kind}: {events:?}");
    }
    Ok(())
}
