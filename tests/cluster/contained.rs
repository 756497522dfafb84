//! A workload that an incident scaled down stays small while the incident stands, whoever tries what; and what an owner
//! resumes gets back what it had.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use pilotguard::api::incident::IncidentStage;
use pilotguard::api::workload::PartKind;
use pilotguard_rig::wait::{self, PATIENCE};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, incident, uncontended};

tests![neither_autoscaler_nor_apply_undo_a_scale_down, what_grew_unguarded_is_set_back_and_resumed];

async fn neither_autoscaler_nor_apply_undo_a_scale_down(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let opened = contain(&scene).await?;
    let refused = [opened.as_str(), "scaled this workload down to 1", "Ada Lovelace", r#""type":"Resume""#];
    scene.kubectl(&scene.grace, "scale deployment/web --replicas=2").await?.refused(&refused)?;
    autoscaler(&scene).await?;
    let manifest = scene.release(1, 0).to_string();
    for way in ["apply -f -", "apply --server-side -f -", "replace -f -"] {
        let words: Vec<&str> = way.split(' ').collect();
        let output = uncontended(|| scene.grace.kubectl_with(&words, &manifest)).await?;
        output.accepted().map_err(|error| error.context(way))?;
        ensure!(
            output.stderr.contains("pilotguard kept replicas at 1 until an owner resumes: scaling"),
            "{way}: {output:?}"
        );
        ensure!(replicas(&scene).await? == 1, "{way}");
    }
    told_autoscaler(&scene).await?;
    ensure!(replicas(&scene).await? == 1, "the autoscaler");
    resume(&scene, &opened, 4).await
}

async fn what_grew_unguarded_is_set_back_and_resumed(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let opened = contain(&scene).await?;
    // While no Pilot guards it nobody is stopped.
    scene.kubectl(&scene.grace, "delete pilot web").await?.accepted()?;
    let scaled = || async {
        let output = scene.kubectl(&scene.grace, "scale deployment/web --replicas=3").await;
        output.and_then(|output| output.accepted()).map_err(|error| format!("{error:#}"))
    };
    wait::until("end of the guards", PATIENCE, scaled).await?;
    scene.declare(&scene.pilot(&json!({}))).await?;
    let is_small = || async {
        match replicas(&scene).await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    wait::until("replicas that are set back", PATIENCE, is_small).await?;
    let is_told = || async {
        let told = scene.events("Deployment").await.map_err(|error| error.to_string())?;
        if told.iter().any(|reason| reason == "ContainedAgain") { Ok(()) } else { Err(format!("{told:?}")) }
    };
    wait::until("Event", PATIENCE, is_told).await?;
    // The new Pilot has no incident; the mark on the workload says that it is contained. The API server hears of its
    // guards a moment later.
    let refused = || async {
        let output = scene.kubectl(&scene.grace, "scale deployment/web --replicas=2").await;
        let said = ["scaled this workload down to 1", &opened];
        output.and_then(|output| output.refused(&said)).map_err(|error| format!("{error:#}"))
    };
    wait::until("refusal", PATIENCE, refused).await?;
    resume(&scene, &opened, 4).await?;
    let next = scene.release(2, 0).to_string();
    let applied = scene.grace.kubectl_with(&["apply", "--server-side", "-f", "-"], &next).await?;
    applied.accepted()?;
    ensure!(replicas(&scene).await? == 3, "whoever declares a count owns it again");
    Ok(())
}

/// Scales a service of four replicas down to one, and returns the incident.
async fn contain(scene: &Scene<'_>) -> anyhow::Result<String> {
    let first = scene.release(1, 0).to_string();
    scene.grace.kubectl_with(&["apply", "--server-side", "-f", "-"], &first).await?.accepted()?;
    scene.declare(&scene.pilot(&json!({}))).await?;
    scene.guarded().await?;
    scene.kubectl(&scene.grace, "scale deployment/web --replicas=4").await?.accepted()?;
    let requests = format!(r#"sum(http_requests_total{{namespace="{}"}})"#, scene.namespace);
    let trigger = json!({"triggers": [{
        "name": "busy", "for": "0s", "decisionWindow": "0s", "action": "ScaleDown", "scaleDownTo": 1,
        "when": {"promql": {"query": requests, "operator": "GT", "threshold": "0"}},
    }]});
    scene.declare(&scene.pilot(&trigger)).await?;
    let is_standing = |stage| stage == IncidentStage::Standing;
    let down = scene.until("scale-down", |pilot| incident(pilot).is_some_and(|it| is_standing(it.stage))).await?;
    let opened = incident(&down).map(|incident| incident.id.clone()).unwrap_or_default();
    let (small, parked) = (replicas(scene).await?, scene.marks().await?.parked_replicas);
    ensure!(small == 1 && parked == Some(4), "{small} replicas, {parked:?} parked");
    scene.given_back().await?;
    Ok(opened)
}

async fn resume(scene: &Scene<'_>, incident: &str, count: i32) -> anyhow::Result<()> {
    scene.decide(&scene.ada, &json!({"type": "Resume", "incident": incident})).await?;
    scene.closed(incident).await?;
    let (restored, contained) = (replicas(scene).await?, scene.marks().await?.contained);
    ensure!(restored == count && contained.is_none(), "{restored} replicas, {contained:?}");
    scene.given_back().await.map(drop)
}

/// One that wants at least three replicas, for which it needs no metrics.
async fn autoscaler(scene: &Scene<'_>) -> anyhow::Result<()> {
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": scene.namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 3, "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
        },
    });
    scene.apply(&scene.grace, &autoscaler).await?.accepted()
}

/// Waits until the autoscaler says that it was refused, and why.
async fn told_autoscaler(scene: &Scene<'_>) -> anyhow::Result<()> {
    let events = scene.api::<Event>();
    let probe = || async {
        let told = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let by_autoscaler = |event: &Event| {
            (event.involved_object.kind.as_deref() == Some("HorizontalPodAutoscaler"))
                .then(|| event.message.clone().unwrap_or_default())
        };
        let texts: Vec<String> = told.iter().filter_map(by_autoscaler).collect();
        if texts.iter().any(|text| text.contains("scaled this workload down to 1")) {
            Ok(())
        } else {
            Err(format!("{texts:?}"))
        }
    };
    Ok(wait::until("word of the autoscaler", PATIENCE, probe).await?)
}

async fn replicas(scene: &Scene<'_>) -> anyhow::Result<i32> {
    let deployment: Value = scene.deployment().await?;
    pilotguard::release::workload::replicas(PartKind::Deployment, &deployment).context("replicas")
}
