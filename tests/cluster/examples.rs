//! Every example is accepted by the API server in both ways of applying, and is understood.

use anyhow::{Context, ensure};
use jiff::tz::TimeZoneDatabase;
use pilotguard::api::pilot::Pilot;
use pilotguard::declaration::Declaration;
use pilotguard::declaration::change_calendar::SharedCalendar;
use serde_json::Value;

use crate::cluster::{Apply, Cluster, files};

tests![every_example_is_accepted_and_understood];

/// A newcomer should see the whole Pilot at once.
const LINES: usize = 60;

async fn every_example_is_accepted_and_understood(cluster: &Cluster) -> anyhow::Result<()> {
    let mut pilots = 0;
    for file in [files("examples")?, files("examples/decisions")?].concat() {
        let name = file.file_name().context("an example without a name")?.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file)?;
        let lines = text.lines().count();
        ensure!(lines < LINES, "{name} has {lines} lines; an example shows one idea in less than {LINES}");
        ensure!(text.starts_with("# "), "{name} does not begin with a comment that says what it shows");
        let object: Value = serde_yaml::from_str(&text).with_context(|| name.clone())?;
        if object["metadata"]["generateName"].is_string() {
            created(cluster, &text).await.with_context(|| name.clone())?;
        } else {
            applied(cluster, &text).await.with_context(|| name.clone())?;
        }
        if object["kind"] == "ChangeCalendar" {
            let calendar = SharedCalendar::read("example", &object["spec"], &TimeZoneDatabase::bundled());
            ensure!(calendar.windows.is_ok(), "{name}: {calendar:?}");
        }
        if object["kind"] == "Pilot" {
            understood(&text).with_context(|| name.clone())?;
            pilots += 1;
        }
    }
    ensure!(pilots >= 5, "only {pilots} Pilots were found");
    Ok(())
}

/// In a namespace of its own: the one that the example names belongs to nobody here.
async fn elsewhere(cluster: &Cluster, text: &str) -> anyhow::Result<String> {
    let mut object: Value = serde_yaml::from_str(text)?;
    if object["metadata"]["namespace"].is_string() {
        object["metadata"]["namespace"] = cluster.rig.namespace("example").await?.into();
    }
    Ok(object.to_string())
}

async fn applied(cluster: &Cluster, text: &str) -> anyhow::Result<()> {
    for way in Apply::BOTH {
        let manifest = elsewhere(cluster, text).await?;
        let output = cluster.apply(cluster.rig.admin(), way, &manifest).await?;
        ensure!(output.succeeded(), "{way:?}: {}", output.stderr);
        let again = cluster.done_with(&["diff", "-f", "-"], &manifest).await?;
        ensure!(again.is_empty(), "{way:?}: what is stored differs from what was applied: {again}");
        cluster.done_with(&["delete", "-f", "-"], &manifest).await?;
    }
    Ok(())
}

async fn created(cluster: &Cluster, text: &str) -> anyhow::Result<()> {
    let manifest = elsewhere(cluster, text).await?;
    cluster.done_with(&["create", "-f", "-"], &manifest).await.map(drop)
}

fn understood(text: &str) -> anyhow::Result<()> {
    let pilot: Pilot = serde_yaml::from_str(text)?;
    let violations = Declaration::parse(&pilot, &TimeZoneDatabase::bundled()).err().unwrap_or_default();
    let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}
