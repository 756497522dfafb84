//! pilotguard's Helm chart, rendered and installed the way a platform team would, as a release of its own.
//!
//! Several releases may share one API server, each with namespaces of its own to guard. Custom resource definitions are
//! part of the installation, as they are with `helm install`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::person::{Output, PersonError};
use crate::rig::{Rig, RigError};
use crate::tools::Tool;
use crate::wait::{PATIENCE, TimedOut, until, within};

/// Why the chart could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A program ended with an error.
    #[error("{command}: {stderr}")]
    Failed {
        /// What was run.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// helm could not be run.
    #[error("cannot run helm: {0}")]
    System(#[from] std::io::Error),
    /// helm did not end in time.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// kubectl could not be run.
    #[error(transparent)]
    Person(#[from] PersonError),
    /// The rig did not do as asked.
    #[error(transparent)]
    Rig(#[from] RigError),
}

/// Which release to install.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReleaseOptions {
    /// The release's name; it must contain `pilotguard`, so that all objects bear it as it is.
    pub name: String,
    /// The namespace to install into; made if it does not exist.
    pub namespace: String,
    /// The namespaces that it guards; all, if none is given.
    pub guarded: Vec<String>,
    /// More values, `key=value`.
    pub settings: Vec<String>,
}

/// The root of the repository, where the chart is.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."))
}

/// Where the chart is.
pub fn chart() -> PathBuf {
    repository().join("charts/pilotguard")
}

/// Runs helm at the root of the repository, with files of its own inside the rig.
pub async fn helm(rig: &Rig, arguments: &[&str]) -> Result<Output, ReleaseError> {
    let home = rig.directory().join("helm");
    let mut command = Command::new(rig.tool(Tool::Helm));
    command.args(arguments).envs(["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"].map(|name| (name, &home)));
    command.current_dir(repository()).stdin(Stdio::null()).kill_on_drop(true);
    let output = within("end of helm", PATIENCE, command.output()).await??;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Installs the custom resource definitions as they stand in the repository, and returns once they are served.
pub async fn install_definitions(rig: &Rig) -> Result<(), ReleaseError> {
    let definitions = repository().join("crds").display().to_string();
    apply(rig, &["--filename", &definitions], "").await?;
    // kubectl does not wait for, but fails on, a definition that nobody has looked at yet.
    let established = || async {
        let wait = ["wait", "--for=condition=Established", "--timeout=5s", "--filename", &definitions];
        succeed("kubectl wait", rig.admin().kubectl(&wait).await?).map(drop)
    };
    Ok(until::<_, ReleaseError, _, _>("established definitions", PATIENCE, established).await?)
}

/// An installed release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Which one.
    pub options: ReleaseOptions,
}

impl Release {
    /// Installs definitions and chart as the rig's admin; its namespace takes restricted pods only.
    pub async fn install(rig: &Rig, options: ReleaseOptions) -> Result<Self, ReleaseError> {
        let release = Self { options };
        install_definitions(rig).await?;
        let restricted = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": release.options.namespace,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        });
        apply(rig, &["--filename", "-"], &restricted.to_string()).await?;
        apply(rig, &["--filename", "-"], &release.render(rig, &[]).await?).await?;
        Ok(release)
    }

    /// The manifests as `helm template` prints them; `more` are arguments such as `--show-only`.
    pub async fn render(&self, rig: &Rig, more: &[&str]) -> Result<String, ReleaseError> {
        let ReleaseOptions { name, namespace, guarded, settings } = &self.options;
        let chart = chart().display().to_string();
        let selector = serde_json::json!({"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": guarded},
        ]});
        let selector = format!("policies.namespaceSelector={selector}");
        let mut arguments = vec!["template", name, &chart, "--namespace", namespace];
        if !guarded.is_empty() {
            arguments.extend(["--set-json", &selector]);
        }
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        arguments.extend(more);
        Ok(succeed("helm template", helm(rig, &arguments).await?)?.stdout)
    }
}

async fn apply(rig: &Rig, arguments: &[&str], input: &str) -> Result<(), ReleaseError> {
    let arguments = [&["apply", "--server-side", "--force-conflicts"], arguments].concat();
    succeed("kubectl apply", rig.admin().kubectl_with(&arguments, input).await?).map(drop)
}

fn succeed(command: &str, output: Output) -> Result<Output, ReleaseError> {
    if output.succeeded() {
        return Ok(output);
    }
    Err(ReleaseError::Failed { command: command.to_owned(), stderr: output.stderr.trim().to_owned() })
}
