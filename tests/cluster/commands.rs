//! The commands that need no cluster, as people start them.

use anyhow::{Context, ensure};
use pilotguard_rig::Output;
use serde_json::Value;
use tokio::process::Command;

use crate::cluster::{Cluster, root};
use crate::release::run;

tests![crds_are_what_the_cluster_takes, windows_are_printed_as_json, a_bad_file_is_explained];

async fn pilotguard(arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotguard"));
    command.args(arguments);
    run(command).await
}

async fn crds_are_what_the_cluster_takes(cluster: &Cluster) -> anyhow::Result<()> {
    let printed = pilotguard(&["crds"]).await?;
    ensure!(printed.succeeded(), "{printed:?}");
    // Those of the repository are in the cluster already.
    let difference =
        cluster.done_with(&["diff", "--server-side", "--force-conflicts", "-f", "-"], &printed.stdout).await?;
    ensure!(difference.is_empty(), "{difference}");
    Ok(())
}

async fn windows_are_printed_as_json(_: &Cluster) -> anyhow::Result<()> {
    let range = ["--from", "2026-12-17T00:00:00Z", "--to", "2026-12-24T00:00:00Z"];
    let printed = pilotguard(&[&["windows", "-f", "examples/windows.yaml", "-o", "json"], &range[..]].concat()).await?;
    ensure!(printed.succeeded() && printed.stderr.is_empty(), "{printed:?}");
    let intervals: Vec<Value> = serde_json::from_str(&printed.stdout)?;
    let mut edge = Value::from(range[1]);
    for interval in &intervals {
        ensure!(interval["start"] == edge, "a gap before {interval}");
        edge = interval["end"].clone();
    }
    ensure!(edge == range[3] && intervals.len() > 2, "{intervals:#?}");
    Ok(())
}

async fn a_bad_file_is_explained(_: &Cluster) -> anyhow::Result<()> {
    let example = std::fs::read_to_string(root().join("examples/windows.yaml"))?;
    let mut file = tempfile::NamedTempFile::new()?;
    std::io::Write::write_all(&mut file, example.replace("Europe/Berlin", "Europe/Berln").as_bytes())?;
    let printed = pilotguard(&["windows", "-f", file.path().to_str().context("a path")?]).await?;
    ensure!(printed.code == 1 && printed.stdout.is_empty(), "{printed:?}");
    ensure!(printed.stderr.contains("windows[name=nightly].timeZone: unknown time zone"), "{}", printed.stderr);
    Ok(())
}
