//! A quiet pilot costs the API server nothing, however its figures move.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::ensure;
use jiff::{SignedDuration, Timestamp};
use pilotguard_rig::{AuditEvent, wait};
use serde_json::json;

use crate::cluster::Cluster;
use crate::scene::Scene;

tests![a_quiet_pilot_under_live_traffic_causes_no_writes];

/// Longer than any figure was ever written apart.
const QUIET: SignedDuration = SignedDuration::from_secs(70);

/// How long the pilot may take to settle, and be quiet.
const LIMIT: Duration = Duration::from_mins(4);

async fn a_quiet_pilot_under_live_traffic_causes_no_writes(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.rig.namespace("quiet").await?;
    let operator = cluster.operator(std::slice::from_ref(&namespace)).await?;
    let scene = Scene::set_with(cluster, &operator, namespace).await?;
    scene.guard(&scene.pilot(&Scene::trigger(&json!({})))).await?;
    scene.known_good().await?;

    // Its probe of the webhook is a dry-run, which changes nothing; calendars belong to no pilot, and tests beside this one
    // write some.
    let is_write = |event: &AuditEvent| {
        event.user == operator.account.name
            && event.verb != "list"
            && !event.dry_run
            && event.resource != "changecalendars"
    };
    let looks = AtomicU32::new(0);
    let is_quiet = || async {
        // Now and then a request fails, as in every service: error ratio, budget and burn rates move all the time.
        let share = if looks.fetch_add(1, Ordering::Relaxed) % 10 < 5 { 1.0 } else { 0.2 };
        scene.service.set_errors(share);
        let events = cluster.rig.audit().map_err(|error| error.to_string())?;
        let newest = events.into_iter().rfind(is_write).ok_or("nothing was ever written")?;
        if Timestamp::now().duration_since(newest.at) >= QUIET {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(format!("{newest:?}"))
    };
    wait::until("quiet minute", LIMIT, is_quiet).await?;

    // It was awake all the time.
    scene.service.set_errors(50.0);
    let incident = scene.incident().await?;
    ensure!(incident.trigger == "burn", "{incident:?}");
    Ok(())
}
