//! The Helm chart, rendered and installed as a release of its own.

use std::process::Stdio;

use anyhow::ensure;
use pilotguard_rig::{Output, Person, Tool, wait};
use tokio::process::Command;

use crate::cluster::{Cluster, SOON, root};

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
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        cluster.done(&["label", "namespace", &namespace, restricted]).await?;
        let release = Self { name: namespace.clone(), namespace };
        let manifests = release.render(cluster, guarded, settings).await?;
        cluster.done_with(&["apply", "--server-side", "-f", "-"], &manifests).await?;
        Ok(release)
    }

    /// The manifests as `helm template` prints them.
    pub(crate) async fn render(&self, cluster: &Cluster, guarded: &str, settings: &[&str]) -> anyhow::Result<String> {
        let selector =
            format!(r#"policies.namespaceSelector={{"matchLabels":{{"kubernetes.io/metadata.name":"{guarded}"}}}}"#);
        let mut arguments =
            vec!["template", &self.name, CHART, "--namespace", &self.namespace, "--set-json", &selector];
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        let output = helm(cluster, &arguments).await?;
        ensure!(output.succeeded(), "helm {}: {}", arguments.join(" "), output.stderr);
        Ok(output.stdout)
    }

    /// The operator: the release's service account.
    pub(crate) async fn operator(&self, cluster: &Cluster) -> anyhow::Result<Person> {
        Ok(cluster.rig.service_account(&self.namespace, &self.name).await?)
    }
}

/// Where the chart is, from the root of the repository.
pub(crate) const CHART: &str = "charts/pilotguard";

/// Runs helm at the root of the repository.
pub(crate) async fn helm(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<Output> {
    let home = cluster.rig.directory().join("helm");
    let mut command = Command::new(cluster.rig.tool(Tool::Helm));
    command.args(arguments).envs(["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"].map(|name| (name, &home)));
    run(command).await
}

/// Runs a program at the root of the repository to its end.
pub(crate) async fn run(mut command: Command) -> anyhow::Result<Output> {
    command.current_dir(root()).stdin(Stdio::null()).kill_on_drop(true);
    let output = wait::within("end of a program", SOON, command.output()).await??;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
