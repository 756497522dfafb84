//! The main job: a release that harms users is rolled back by itself, once, is kept out until an owner lets it in
//! again, and leaves a record that says why.

use anyhow::{Context, ensure};
use kube::api::ListParams;
use pilotguard::api::change_record::{ChangeClass, ChangeRecord, Outcome as ChangeOutcome};
use pilotguard::api::decision::{Decision, DecisionPhase, DecisionType};
use pilotguard::api::incident::{DecidedBy, Incident, IncidentStage};
use pilotguard::api::trigger::TriggerAction;
use pilotguard::release::digest::payload_digest;
use pilotguard::release::marks::AdmittedVerdict;
use pilotguard_rig::AuditEvent;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, holds};

tests![a_bad_release_is_rolled_back_once_and_kept_out, an_act_reads_no_history];

/// A Decision is followed at once, and before the act only those that are not judged are read anew. The history of a pilot
/// may have grown for years.
async fn an_act_reads_no_history(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.bake(&scene.pilot(&json!({}))).await?;
    scene.apply(&scene.grace, &scene.release(2, 0)).await?.accepted()?;
    // Nobody judges what names a Pilot that is still to come.
    let early = scene.propose(&scene.grace, &json!({"pilot": "later", "type": "HoldChanges"})).await?;
    early.accepted()?;
    scene.rolled_back_by(&scene.ada).await?;

    let is_listed = |event: &AuditEvent| {
        (event.verb == "list" && event.user == scene.operator.account.name && event.namespace == scene.namespace)
            && ["changerecords", "decisions"].contains(&event.resource.as_str())
    };
    let lists: Vec<AuditEvent> = cluster.rig.audit()?.into_iter().filter(is_listed).collect();
    ensure!(!lists.is_empty(), "an act rests on a live reading");
    for list in lists {
        let selects = list.uri.contains("fieldSelector=spec.pilot%3Dweb%2Cstatus.phase%3D%2C");
        ensure!(selects && list.code == 200, "{list:?}");
    }

    let listed = async |fields: &str| -> anyhow::Result<Vec<Decision>> {
        Ok(scene.api::<Decision>().list(&ListParams::default().fields(fields)).await?.items)
    };
    let unjudged = "status.phase=,spec.by.user!=system:pilotguard";
    ensure!(listed("spec.pilot=web").await?.len() == 2, "a person's Decision, and the record of its incident");
    ensure!(listed(&format!("spec.pilot=web,{unjudged}")).await?.is_empty(), "one is judged, and one a record");
    ensure!(listed(&format!("spec.pilot=later,{unjudged}")).await?.len() == 1, "what nobody has judged is found");
    Ok(())
}

async fn a_bad_release_is_rolled_back_once_and_kept_out(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.bake(&scene.pilot(&Scene::trigger(&json!({"decisionWindow": "20s"})))).await?;
    let good = scene.deployment().await?;
    let patches = scene.patches()?;
    scene.apply(&scene.grace, &scene.release(2, 50)).await?.accepted()?;
    let bad = scene.deployment().await?;

    let incident = scene.incident().await?;
    opened(&scene, &incident).await?;
    let record = scene.closed(&incident.id).await?;
    let after = scene.deployment().await?;
    ensure!(after["spec"] == good["spec"], "what runs is not what ran: {}", after["spec"]);
    let generation = |deployment: &Value| deployment["metadata"]["generation"].as_i64();
    ensure!(generation(&after) == generation(&bad).map(|generation| generation + 1), "more than one change");
    ensure!(scene.patches()? == patches + 2, "one patch that rolls back, and one that gives the fields back");
    recorded(&scene, &record, &incident).await?;
    kept_out(&scene, &payload_digest(&bad["spec"]["template"])).await
}

/// While the decision window is open: what the status says, and that changes are refused.
async fn opened(scene: &Scene<'_>, incident: &Incident) -> anyhow::Result<()> {
    ensure!(
        (incident.stage, incident.action) == (IncidentStage::DecisionWindow, TriggerAction::Rollback),
        "{incident:#?}"
    );
    let change = scene.marks().await?.admitted.context("a stamp")?.change;
    ensure!(incident.suspect.as_ref().is_some_and(|suspect| suspect.change == change), "{incident:#?}");
    let open = scene.until("conditions of the incident", |pilot| holds(pilot, "IncidentOpen", "True")).await?;
    ensure!(holds(&open, "ChangesHeld", "True") && holds(&open, "Ready", "False"));
    let refused = scene.apply(&scene.grace, &scene.release(3, 0)).await?;
    refused.refused(&[&incident.id, "a rollback to ", "follows at", "Owner: Ada Lovelace", r#""fix":true"#])
}

async fn recorded(scene: &Scene<'_>, decision: &Decision, incident: &Incident) -> anyhow::Result<()> {
    let record = decision.spec.record.as_ref().context("a record")?;
    ensure!((decision.spec.type_, record.decided_by) == (DecisionType::Rollback, DecidedBy::Deadline), "{decision:#?}");
    ensure!(record.carried_out && !record.evidence.is_empty() && record.suspect == incident.suspect, "{decision:#?}");

    let stamp = scene.marks().await?.admitted.context("a stamp")?;
    ensure!(stamp.verdict == AdmittedVerdict::Rollback, "{stamp:?}");
    let outcome = |change: &ChangeRecord| change.status.as_ref().map(|status| status.outcome);
    let failed = scene.change(ChangeClass::Normal, |change| outcome(change) == Some(ChangeOutcome::Failed)).await?;
    let suspect = incident.suspect.as_ref().context("a suspect")?;
    ensure!(failed.metadata.name.as_ref() == Some(&suspect.change), "{failed:#?}");
    let cause = failed.status.and_then(|status| status.cause).unwrap_or_default();
    ensure!(cause.contains(&incident.id), "{cause}");
    scene.change(ChangeClass::Rollback, |change| outcome(change) == Some(ChangeOutcome::Succeeded)).await?;
    ensure!(scene.changes().await?.len() == 2, "{:#?}", scene.changes().await?);
    for kind in ["Pilot", "Deployment"] {
        let events = scene.events(kind).await?;
        for reason in ["IncidentOpened", "RollingBack", "IncidentClosed"] {
            let told = events.iter().filter(|event| *event == reason).count();
            ensure!(told == 1, "{kind} was told {told} times of {reason}: {events:?}");
        }
    }
    Ok(())
}

/// The bad release stays out under any name; others pass; an owner can let it in again.
async fn kept_out(scene: &Scene<'_>, payload: &str) -> anyhow::Result<()> {
    let bad = scene.release(2, 50);
    let rolled_back = ["this release was rolled back by", "Ada Lovelace", payload];
    let refused = scene.apply(&scene.grace, &bad).await?;
    refused.refused(&rolled_back)?;
    let mut renamed = bad.clone();
    renamed["spec"]["template"]["metadata"]["labels"]["build"] = "4711".into();
    scene.apply(&scene.grace, &renamed).await?.refused(&rolled_back)?;
    scene.apply(&scene.grace, &scene.release(3, 0)).await?.accepted()?;

    let (manifest, _) =
        refused.stderr.split_once("echo '").and_then(|(_, it)| it.split_once('\'')).context("a command")?;
    let create = ["create", "-o", "name", "--namespace", &scene.namespace, "-f", "-"];
    scene.ada.kubectl_with(&create, manifest).await?.refused(&["spec.reason: is empty or a placeholder"])?;
    let manifest = &manifest.replace("<why it is safe now>", "the load balancer was to blame");
    scene.mallory.kubectl_with(&create, manifest).await?.refused(&["mallory has no role that may relax guards"])?;
    let created = scene.ada.kubectl_with(&create, manifest).await?;
    created.accepted()?;
    let name = created.stdout.trim().rsplit('/').next().unwrap_or_default();
    let status = scene.judged(name).await?.status.unwrap_or_default();
    ensure!(status.phase == Some(DecisionPhase::Accepted), "{status:?}");
    scene.service.set_errors(0.0);
    scene.apply(&scene.grace, &bad).await?.accepted()
}
