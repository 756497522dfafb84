//! The Helm chart, installed for tests as a release of its own in a namespace of its own.

use std::process::Stdio;

use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{Output, Person, ReleaseOptions, release};
use tokio::process::Command;

use crate::cluster::{Cluster, root};

/// An installed release. Several may share the cluster, because each one's policies look at one namespace only.
pub(crate) struct Release {
    /// The release's name, and the name of all that it creates.
    pub(crate) name: String,
    /// Where the operator's service account and Service are.
    pub(crate) namespace: String,
}

impl Release {
    /// Installs the chart into a fresh namespace that takes restricted pods only; its policies guard `guarded`.
    pub(crate) async fn install(cluster: &Cluster, guarded: &str, settings: &[&str]) -> anyhow::Result<Self> {
        let namespace = cluster.rig.namespace("pilotguard").await?;
        let release = Self { name: namespace.clone(), namespace };
        release::Release::install(&cluster.rig, release.options(guarded, settings)).await?;
        Ok(release)
    }

    /// The manifests as `helm template` prints them.
    pub(crate) async fn render(&self, cluster: &Cluster, guarded: &str, settings: &[&str]) -> anyhow::Result<String> {
        let release = release::Release { options: self.options(guarded, settings) };
        Ok(release.render(&cluster.rig, &[]).await?)
    }

    /// The operator: the release's service account.
    pub(crate) async fn operator(&self, cluster: &Cluster) -> anyhow::Result<Person> {
        Ok(cluster.rig.service_account(&self.namespace, &self.name).await?)
    }

    fn options(&self, guarded: &str, settings: &[&str]) -> ReleaseOptions {
        ReleaseOptions {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            guarded: vec![guarded.to_owned()],
            settings: settings.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Where the chart is, from the root of the repository.
pub(crate) const CHART: &str = "charts/pilotguard";

/// Runs helm at the root of the repository.
pub(crate) async fn helm(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(release::helm(&cluster.rig, arguments).await?)
}

/// Runs a program at the root of the repository to its end.
pub(crate) async fn run(mut command: Command) -> anyhow::Result<Output> {
    command.current_dir(root()).stdin(Stdio::null()).kill_on_drop(true);
    let output = wait::within("end of a program", PATIENCE, command.output()).await??;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
