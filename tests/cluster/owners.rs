//! Who may decide an incident, and what follows: loosening takes an owner, towards safety anyone may go.

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use pilotguard::api::decision::{Decision, DecisionPhase, DecisionType};
use pilotguard::api::incident::{DecidedBy, IncidentStage};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, incident};

tests![
    an_owner_lets_it_run_on_and_anyone_ends_it,
    a_decision_without_a_pilot_is_refused_in_its_status,
    a_scale_down_contains_until_an_owner_resumes,
];

fn word(decision: &Decision) -> (Option<DecisionPhase>, String) {
    let status = decision.status.clone().unwrap_or_default();
    (status.phase, status.message.unwrap_or_default())
}

fn accepted(decision: &Decision) -> anyhow::Result<()> {
    let (phase, message) = word(decision);
    ensure!(phase == Some(DecisionPhase::Accepted), "{message}");
    Ok(())
}

async fn an_owner_lets_it_run_on_and_anyone_ends_it(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.bake(&scene.pilot(&Scene::trigger(&json!({})))).await?;
    let good = scene.deployment().await?;
    scene.apply(&scene.grace, &scene.release(2, 50)).await?.accepted()?;
    let opened = scene.incident().await?;

    let until = Timestamp::now() + SignedDuration::from_mins(30);
    let go_on = json!({"type": "Continue", "incident": opened.id, "until": until});
    let no_role = ["mallory has no role that may relax guards; ask Ada Lovelace (service owner, "];
    scene.propose(&scene.mallory, &go_on).await?.refused(&no_role)?;
    let forged = with(&go_on, &json!({"by": {"user": "ada"}}));
    scene.propose(&scene.mallory, &forged).await?.refused(&no_role)?;
    let other = with(&go_on, &json!({"incident": "burn-00000000"}));
    scene.propose(&scene.ada, &other).await?.refused(&["is not open; the open one is", &opened.id])?;
    let elsewhere = with(&go_on, &json!({"pilot": "wbe"}));
    scene.propose(&scene.ada, &elsewhere).await?.refused(&["is open for pilot web; name that one in spec.pilot"])?;
    ensure!(incident(&scene.seen().await?).is_some_and(|it| it.stage == IncidentStage::DecisionWindow));

    accepted(&scene.decide(&scene.ada, &go_on).await?)?;
    let is_continued = |stage| stage == IncidentStage::Continued;
    scene.until("word of the owner", |pilot| incident(pilot).is_some_and(|it| is_continued(it.stage))).await?;
    scene.apply(&scene.grace, &scene.release(3, 0)).await?.refused(&[&opened.id])?;

    accepted(&scene.decide(&scene.mallory, &json!({"type": "Rollback"})).await?)?;
    let record = scene.closed(&opened.id).await?;
    let details = record.spec.record.context("a record")?;
    ensure!((record.spec.type_, details.decided_by) == (DecisionType::Rollback, DecidedBy::Person));
    ensure!(scene.deployment().await?["spec"] == good["spec"]);
    Ok(())
}

async fn a_decision_without_a_pilot_is_refused_in_its_status(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let unknown = json!({"pilot": "chekout", "type": "HoldChanges"});
    let created = scene.propose(&scene.mallory, &unknown).await?;
    created.accepted()?;
    ensure!(created.stderr.contains("Pilot chekout does not exist"), "{}", created.stderr);
    let name = created.stdout.trim().rsplit('/').next().unwrap_or_default();
    let (phase, message) = word(&scene.judged(name).await?);
    ensure!(phase == Some(DecisionPhase::Refused) && message.contains("no Pilot in this namespace"), "{message}");
    Ok(())
}

async fn a_scale_down_contains_until_an_owner_resumes(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.guard(&scene.pilot(&json!({"slos": []}))).await?;
    scene.kubectl(&scene.grace, "scale deployment/web --replicas=4").await?.accepted()?;
    accepted(&scene.decide(&scene.mallory, &json!({"type": "ScaleDown"})).await?)?;
    let is_standing = |stage| stage == IncidentStage::Standing;
    let down = scene.until("scale-down", |pilot| incident(pilot).is_some_and(|it| is_standing(it.stage))).await?;
    let opened = incident(&down).context("an incident")?.id.clone();
    ensure!(replicas(&scene).await? == 0 && scene.marks().await?.parked_replicas == Some(4));

    let contained = [opened.as_str(), "scaled this workload down to 0", "Ada Lovelace", r#""type":"Resume""#];
    scene.kubectl(&scene.grace, "scale deployment/web --replicas=1").await?.refused(&contained)?;
    let mut more = scene.release(1, 0);
    more["spec"]["replicas"] = 2.into();
    scene.apply(&scene.grace, &more).await?.accepted()?;
    ensure!(replicas(&scene).await? == 0);

    let resume = json!({"type": "Resume", "incident": opened});
    scene.propose(&scene.mallory, &resume).await?.refused(&["ask Ada Lovelace"])?;
    accepted(&scene.decide(&scene.ada, &resume).await?)?;
    let record = scene.closed(&opened).await?;
    ensure!(record.spec.type_ == DecisionType::ScaleDown, "{record:#?}");
    ensure!(replicas(&scene).await? == 4 && scene.marks().await?.contained.is_none());
    scene.kubectl(&scene.grace, "scale deployment/web --replicas=5").await?.accepted()
}

async fn replicas(scene: &Scene<'_>) -> anyhow::Result<i64> {
    scene.deployment().await?["spec"]["replicas"].as_i64().context("no replicas")
}

fn with(base: &Value, change: &Value) -> Value {
    let mut merged = base.clone();
    json_patch::merge(&mut merged, change);
    merged
}
