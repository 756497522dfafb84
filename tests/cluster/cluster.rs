//! The shared cluster, with pilotguard's kinds installed and nothing else of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use pilotguard_rig::{Output, Person, Rig, release, wait};

/// How long Kubernetes may take to act on what it was told.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The two ways in which people apply a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apply {
    /// `kubectl apply`.
    ClientSide,
    /// `kubectl apply --server-side`.
    ServerSide,
}

impl Apply {
    pub(crate) const BOTH: [Self; 2] = [Self::ClientSide, Self::ServerSide];
}

/// A running control plane that knows pilotguard's kinds.
pub(crate) struct Cluster {
    pub(crate) rig: Rig,
}

impl Cluster {
    /// Installs the definitions as they stand in the repository.
    pub(crate) async fn prepare(rig: Rig) -> anyhow::Result<Self> {
        release::install_definitions(&rig).await?;
        Ok(Self { rig })
    }

    /// What the admin's `kubectl` printed; fails unless it succeeded.
    pub(crate) async fn done(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.done_with(arguments, "").await
    }

    /// As [`Cluster::done`], with something to read for `-f -`.
    pub(crate) async fn done_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let output = self.rig.admin().kubectl_with(arguments, input).await?;
        ensure!(output.succeeded(), "kubectl {}: {}", arguments.join(" "), output.stderr);
        Ok(output.stdout)
    }

    /// Applies a manifest as a person would.
    pub(crate) async fn apply(&self, person: &Person, way: Apply, manifest: &str) -> anyhow::Result<Output> {
        let arguments: &[&str] = match way {
            Apply::ClientSide => &["apply", "-f", "-"],
            Apply::ServerSide => &["apply", "--server-side", "-f", "-"],
        };
        Ok(person.kubectl_with(arguments, manifest).await?)
    }

    /// Waits until a `kubectl` of the admin prints exactly this.
    pub(crate) async fn prints(&self, arguments: &[&str], expected: &str) -> anyhow::Result<()> {
        let probe = || async {
            let printed = self.done(arguments).await.map_err(|error| error.to_string())?;
            if printed == expected { Ok(()) } else { Err(format!("{printed:?}, not {expected:?}")) }
        };
        Ok(wait::until(&arguments.join(" "), SOON, probe).await?)
    }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files in a folder of the repository, sorted.
pub(crate) fn files(folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(root().join(folder))?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}
