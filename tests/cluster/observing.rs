//! `enforcement: Observe`, each part by itself: nothing is refused or done, and the record says what would have been.

use anyhow::{Context, ensure};
use pilotguard::api::change_record::ChangeClass;
use pilotguard::api::decision::DecisionType;
use pilotguard::release::marks::AdmittedVerdict;
use serde_json::json;

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, holds};

tests![observed_changes_pass_with_a_warning, observed_actions_only_leave_a_record];

async fn observed_changes_pass_with_a_warning(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let (later, day) = Scene::later();
    let observed = json!({"slos": [], "changes": {"windows": [later]}, "enforcement": {"changes": "Observe"}});
    scene.guard(&scene.pilot(&observed)).await?;
    let output = scene.apply(&scene.grace, &scene.release(2, 0)).await?;
    output.accepted()?;
    let begins = "Warning: pilotguard (observing): would have refused: updating Deployment web to web:2 (";
    let why =
        format!(" (pilot web): outside the change windows; the next is later; allowed from {day} 09:00 Europe/Berlin");
    ensure!(output.stderr.contains(begins) && output.stderr.contains(&why), "{}", output.stderr);
    ensure!(scene.marks().await?.admitted.is_some_and(|stamp| stamp.verdict == AdmittedVerdict::Deny));
    let change = scene.change(ChangeClass::Normal, |change| change.status.is_some()).await?;
    let findings = change.status.unwrap_or_default().findings;
    ensure!(findings == ["OutsideWindow: outside the change windows; the next is later"], "{findings:?}");
    let grown = scene.kubectl(&scene.grace, "scale deployment/web --replicas=6").await?;
    grown.accepted()?;
    ensure!(grown.stderr.contains("6 replicas exceed blastRadius.maxReplicas (5)"), "{}", grown.stderr);
    Ok(())
}

async fn observed_actions_only_leave_a_record(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let mut observed = Scene::trigger(&json!({"decisionWindow": "15s"}));
    observed["enforcement"] = json!({"actions": "Observe"});
    scene.bake(&scene.pilot(&observed)).await?;
    let patches = scene.patches()?;
    scene.apply(&scene.grace, &scene.release(2, 50)).await?.accepted()?;
    let opened = scene.incident().await?;
    let pilot = scene.seen().await?;
    ensure!(holds(&pilot, "ChangesHeld", "False"), "changes are held");
    let tried = scene.kubectl(&scene.grace, "set image deployment/web web=web:3 --dry-run=server").await?;
    tried.accepted()?;
    let begins = "would have refused: updating Deployment web to web:3 (";
    let why = format!(" (pilot web): incident {}", opened.id);
    ensure!(tried.stderr.contains(begins) && tried.stderr.contains(&why), "{}", tried.stderr);

    let record = scene.closed(&opened.id).await?;
    let details = record.spec.record.context("a record")?;
    ensure!(record.spec.type_ == DecisionType::Rollback && !details.carried_out);
    ensure!(record.spec.reason.starts_with("would have done Rollback: "), "{}", record.spec.reason);
    ensure!(scene.patches()? == patches, "the operator changed the Deployment");
    ensure!(scene.deployment().await?["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2");
    let status = scene.seen().await?.status.unwrap_or_default();
    ensure!(status.latches.iter().any(|latch| latch.trigger == "burn"), "{:?}", status.latches);
    let changes = scene.changes().await?;
    let outcomes: Vec<_> = changes.iter().filter_map(|change| change.status.as_ref()).map(|it| it.outcome).collect();
    ensure!(!outcomes.contains(&pilotguard::api::change_record::Outcome::Failed), "{outcomes:?}");
    Ok(())
}
