//! A Pilot that is deleted: not in the middle of an incident, never stuck, and what it did is remembered.

use anyhow::ensure;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt;
use kube::api::ListParams;
use pilotguard::record::snapshots;
use pilotguard_rig::wait::{self, PATIENCE};
use serde_json::json;

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, condition, holds};

tests![a_new_pilot_reads_what_the_old_one_wrote, an_open_incident_keeps_its_pilot_but_not_its_namespace];

async fn a_new_pilot_reads_what_the_old_one_wrote(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let pilot = scene.pilot(&Scene::trigger(&json!({"decisionWindow": "0s"})));
    scene.bake(&pilot).await?;
    scene.apply(&scene.grace, &scene.release(2, 50)).await?.accepted()?;
    let incident = scene.incident().await?;
    scene.closed(&incident.id).await?;
    let before = (scene.marks().await?, snapshots_of(&scene).await?, scene.patches()?);

    let deleted = scene.kubectl(&scene.grace, "delete pilot web").await?;
    deleted.accepted()?;
    ensure!(
        deleted.stderr.contains("Warning: pilot web is deleted: Deployment web is no longer guarded"),
        "{deleted:?}"
    );
    scene.declare(&pilot).await?;
    let enforced = scene.until("Pilot that binds", |pilot| holds(pilot, "Enforced", "True")).await?;
    let kept_out = condition(&enforced, "UpToDate").map(|condition| condition.reason.as_str());
    ensure!(kept_out == Some("ReleaseQuarantined"), "what was rolled back is still kept out: {kept_out:?}");
    scene.known_good().await?;
    let after = (scene.marks().await?, snapshots_of(&scene).await?, scene.patches()?);
    ensure!(before == after, "before: {before:#?}\nafter: {after:#?}");
    let again = scene.apply(&scene.grace, &scene.release(2, 50)).await?;
    again.refused(&["this release was rolled back by"])
}

/// The snapshots with all that is noted on them.
async fn snapshots_of(scene: &Scene<'_>) -> anyhow::Result<Vec<(String, String)>> {
    let all = ListParams::default().labels(snapshots::ALL);
    let revisions = scene.api::<ControllerRevision>().list(&all).await?.items;
    Ok(revisions.iter().map(|revision| (revision.name_any(), format!("{:?}", revision.annotations()))).collect())
}

async fn an_open_incident_keeps_its_pilot_but_not_its_namespace(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.bake(&scene.pilot(&Scene::trigger(&json!({})))).await?;
    scene.apply(&scene.grace, &scene.release(2, 50)).await?.accepted()?;
    let incident = scene.incident().await?;
    // The webhook learns of the incident a moment after the status shows it.
    let is_known = || async {
        let tried = scene.kubectl(&scene.grace, "delete pilot web --dry-run=server").await;
        let tried = tried.map_err(|error| error.to_string())?;
        if tried.stderr.contains("incident") { Ok(()) } else { Err(tried.stdout) }
    };
    wait::until("incident that the webhook knows", PATIENCE, is_known).await?;
    let kept = scene.kubectl(&scene.grace, "delete pilot web").await?;
    kept.refused(&["Refused: deleting pilot web while incident ", &incident.id, "a rollback to "])?;
    cluster.done(&["delete", "namespace", &scene.namespace, "--timeout=150s"]).await?;
    Ok(scene.operator.check()?)
}
