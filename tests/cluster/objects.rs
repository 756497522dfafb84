//! Bad input is refused where it is applied, with a message that says what to do: by the API server alone, with no
//! operator running. The inputs and the exact messages are in `objects/bad_input.yaml`.

use anyhow::ensure;
use serde::Deserialize;

use crate::cluster::{Apply, Cluster};

tests![
    bad_pilots_are_refused,
    bad_sources_are_refused,
    bad_calendars_are_refused,
    bad_decisions_are_refused,
    a_decision_is_immutable,
];

/// An object that is accepted, and what is refused when it is written otherwise.
#[derive(Deserialize)]
struct Table {
    good: String,
    bad: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "for")]
    instead_of: String,
    written: String,
    says: String,
    #[serde(rename = "server-side")]
    says_server_side: Option<String>,
}

impl Row {
    fn says(&self, way: Apply) -> &str {
        match way {
            Apply::ClientSide => &self.says,
            Apply::ServerSide => self.says_server_side.as_ref().unwrap_or(&self.says),
        }
    }
}

fn table(kind: &str) -> anyhow::Result<Table> {
    let tables: Vec<Table> = serde_yaml::from_str(include_str!("objects/bad_input.yaml"))?;
    let mut tables = tables.into_iter().filter(|table| table.good.contains(&format!("kind: {kind}\n")));
    tables.next().ok_or_else(|| anyhow::anyhow!("no table for {kind}"))
}

async fn bad_pilots_are_refused(cluster: &Cluster) -> anyhow::Result<()> {
    refused(cluster, "Pilot").await
}

async fn bad_sources_are_refused(cluster: &Cluster) -> anyhow::Result<()> {
    refused(cluster, "MetricsSource").await
}

async fn bad_calendars_are_refused(cluster: &Cluster) -> anyhow::Result<()> {
    refused(cluster, "ChangeCalendar").await
}

async fn bad_decisions_are_refused(cluster: &Cluster) -> anyhow::Result<()> {
    refused(cluster, "Decision").await
}

/// Applies each bad input in both ways, in vain, and the good one with success.
async fn refused(cluster: &Cluster, kind: &str) -> anyhow::Result<()> {
    let (table, admin) = (table(kind)?, cluster.rig.admin());
    for way in Apply::BOTH {
        let namespace = cluster.rig.namespace("input").await?;
        let mut wrong = Vec::new();
        for row in &table.bad {
            ensure!(table.good.matches(&row.instead_of).count() == 1, "{:?} is not once in {kind}", row.instead_of);
            let manifest = table.good.replace(&row.instead_of, &row.written).replace("NAMESPACE", &namespace);
            let output = cluster.apply(admin, way, &manifest).await?;
            let (said, expected) = (plain(&output.stderr), row.says(way).replace("NAMESPACE", &namespace));
            if output.succeeded() || said != expected {
                wrong.push(format!("{}\n  says:     {said}\n  expected: {expected}", row.written));
            }
        }
        ensure!(wrong.is_empty(), "{way:?}\n{}", wrong.join("\n"));
        let stored = cluster.done(&["get", kind, "--namespace", &namespace, "-o", "name"]).await?;
        let is_stored = stored.lines().any(|name| name.ends_with("/web") || name.ends_with(&namespace));
        ensure!(!is_stored, "{way:?}: stored although refused: {stored}");
        let output = cluster.apply(admin, way, &table.good.replace("NAMESPACE", &namespace)).await?;
        ensure!(output.succeeded(), "{way:?}: {}", output.stderr);
    }
    Ok(())
}

/// The findings alone: without the object's name, bullets, and the remark that further rules were not checked.
fn plain(stderr: &str) -> String {
    let findings = stderr.split_once("is invalid: ").map_or(stderr, |(_, findings)| findings);
    let lines = findings.lines().map(|line| line.trim_start_matches("* ").trim());
    let lines = lines.filter(|line| !line.is_empty() && !line.contains("some validation rules were not checked"));
    lines.collect::<Vec<_>>().join("\n")
}

async fn a_decision_is_immutable(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.rig.namespace("immutable").await?;
    let decision = table("Decision")?.good.replace("NAMESPACE", &namespace);
    let edited = decision.replace("reason: we know", "reason: we guess");
    let admin = cluster.rig.admin();
    for way in Apply::BOTH {
        ensure!(cluster.apply(admin, way, &decision).await?.succeeded());
        let output = cluster.apply(admin, way, &edited).await?;
        let said = plain(&output.stderr);
        ensure!(said == "<nil>: Invalid value: a Decision is immutable; create another one", "{way:?}: {said}");
        cluster.done_with(&["delete", "-f", "-"], &decision).await?;
    }
    Ok(())
}
