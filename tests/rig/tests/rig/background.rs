//! Clusters owned by another process: ended with it however it ends, and kept for people by `rig up` and `rig down`.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use pilotguard_rig::{Rig, wait};

const RIG: &str = env!("CARGO_BIN_EXE_rig");

/// How long anything may outlive a killed owner.
const AFTERLIFE: Duration = Duration::from_secs(5);

pub(crate) async fn a_killed_owner_leaves_no_process(_: &Rig) -> anyhow::Result<()> {
    let parent = tempfile::tempdir()?;
    let directory = parent.path().join("cluster");
    let log = std::fs::File::create(parent.path().join("owner.log"))?;
    let mut owner = Command::new(RIG);
    owner.arg("serve").arg("--dir").arg(&directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut owner = owner.spawn()?;
    let note = directory.join("address.json");
    let serving = wait::until("running rig", Duration::from_mins(1), || async {
        if note.is_file() { Ok(()) } else { Err("no address yet") }
    })
    .await;
    let before = processes_in(&directory)?.len();
    owner.kill()?;
    owner.wait()?;
    serving?;
    // The owner, and for each of six servers its shell, the shell's leash and itself.
    ensure!(before == 19, "{before} processes name the directory");
    wait::until("end of all processes", AFTERLIFE, || async {
        let left = processes_in(&directory).map_err(|error| error.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await?;
    Ok(())
}

pub(crate) async fn a_background_cluster_can_be_started_and_ended_twice(_: &Rig) -> anyhow::Result<()> {
    let parent = tempfile::tempdir()?;
    let directory = parent.path().join("cluster");
    let first = rig("up", &directory).await?;
    let again = rig("up", &directory).await?;
    an_ordinary_person_finds_a_service(&text(&first.stdout)).await?;
    let ended = rig("down", &directory).await?;
    ensure!(text(&first.stderr).contains("the cluster is running"), "{first:?}");
    ensure!(text(&again.stderr).contains("already running"), "{again:?}");
    ensure!(first.stdout == again.stdout, "{first:?} {again:?}");
    let exports = text(&first.stdout);
    let names: Vec<_> = exports.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let expected = ["KUBECONFIG", "ADMIN", "OWNER", "OPERATOR", "PROMETHEUS_URL", "PATH"];
    ensure!(names == expected.map(|name| format!("export {name}")), "{exports}");
    ensure!(text(&ended.stdout) == "the cluster has ended\n", "{ended:?}");
    ensure!(!directory.exists() && processes_in(&directory)?.is_empty(), "the ended cluster left something");
    let ended = rig("down", &directory).await?;
    ensure!(text(&ended.stdout) == "no cluster is running\n", "{ended:?}");
    Ok(())
}

/// The lines that are printed are enough to act: as a developer, with `kubectl` and metrics within reach.
async fn an_ordinary_person_finds_a_service(exports: &str) -> anyhow::Result<()> {
    let script = "kubectl create deployment checkout -n shop --image=shop/checkout:1.0 \
        && kubectl auth can-i --list -n shop | grep '^pilots.pilotguard.dev .*create' && ! kubectl auth can-i create namespaces \
        && kubectl --kubeconfig=$OWNER auth can-i --list -n shop | grep '^decisions.pilotguard.dev .*create' && kubectl --kubeconfig=$OPERATOR get nodes \
        && echo \"$PROMETHEUS_URL\"";
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(format!("{exports}{script}")).stdin(Stdio::null()).kill_on_drop(true);
    let output = wait::within("acting as a person", Duration::from_mins(1), shell.output()).await??;
    ensure!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    let query = format!("{}/api/v1/query?query=http_requests_total", said.lines().last().unwrap_or_default());
    wait::until("counted requests", Duration::from_mins(1), || async {
        let answer = reqwest::get(&query).await.map_err(|error| error.to_string())?;
        let answer = answer.text().await.map_err(|error| error.to_string())?;
        if answer.contains("\"app\":\"checkout\"") { Ok(()) } else { Err(answer) }
    })
    .await?;
    Ok(())
}

async fn rig(command: &str, directory: &Path) -> anyhow::Result<Output> {
    let mut rig = tokio::process::Command::new(RIG);
    rig.arg(command).arg("--dir").arg(directory).stdin(Stdio::null()).kill_on_drop(true);
    let output = wait::within(command, Duration::from_secs(90), rig.output()).await??;
    ensure!(output.status.success(), "rig {command}: {output:?}");
    Ok(output)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The command lines that name this directory.
fn processes_in(directory: &Path) -> anyhow::Result<Vec<String>> {
    let directory = directory.to_str().context("a directory in UTF-8")?;
    let entries = std::fs::read_dir("/proc")?.flatten();
    // A process may end between being listed and being read.
    let commands = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    Ok(commands.map(|command| text(&command)).filter(|command| command.contains(directory)).collect())
}
