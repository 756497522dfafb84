//! The table of outcomes in `docs/gitops.md`: what readers are told is what the trials expect.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};

use crate::cluster::{Cluster, root};

tests![every_row_is_shown_by_a_trial];

/// What is to be seen at one moment of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Whether Argo CD finds the cluster as Git says: `Synced`, `OutOfSync`, `Unknown`.
    pub(super) sync: String,
    /// The Application's health.
    pub(super) health: String,
    /// How its last sync went, or that it still goes on.
    pub(super) last_sync: String,
    /// The image of the pods.
    pub(super) runs: String,
    /// The reason of the Pilot's condition `UpToDate` where that is False, else of `Ready`.
    pub(super) pilot: String,
}

/// The row of this name.
pub(super) fn row(name: &str) -> anyhow::Result<Outcome> {
    let rows = rows()?;
    let (_, outcome) = rows.into_iter().find(|(row, _)| row == name).with_context(|| format!("no row {name:?}"))?;
    Ok(outcome)
}

/// Every row with an outcome in all of its cells, by the first one.
fn rows() -> anyhow::Result<Vec<(String, Outcome)>> {
    let page = std::fs::read_to_string(root().join("docs/gitops.md"))?;
    let outcomes = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [name, sync, health, last_sync, runs, pilot] = cells.try_into().ok()?;
        let plain = |cell: &str| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned());
        let outcome = Outcome {
            sync: plain(sync)?,
            health: plain(health)?,
            last_sync: plain(last_sync)?,
            runs: plain(runs)?,
            pilot: plain(pilot)?,
        };
        Some((name.to_owned(), outcome))
    });
    Ok(outcomes.collect())
}

async fn every_row_is_shown_by_a_trial(_: &Cluster) -> anyhow::Result<()> {
    let trials = std::fs::read_to_string(root().join("tests/cluster/gitops/trials.rs"))?;
    let rows: Vec<String> = rows()?.into_iter().map(|(name, _)| name).collect();
    ensure!(rows.len() > 10, "the table was not found: {rows:?}");
    let different: BTreeSet<&String> = rows.iter().collect();
    ensure!(different.len() == rows.len(), "a row is there twice: {rows:?}");
    let unproven: Vec<&String> = rows.iter().filter(|row| !trials.contains(&format!("\"{row}\""))).collect();
    ensure!(unproven.is_empty(), "no trial shows {unproven:?}");
    Ok(())
}
