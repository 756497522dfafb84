//! The shared cluster, with pilotguard's kinds installed, and an operator for the tests that do not harm it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{ArgoCd, Operator, OperatorOptions, Output, Person, Rig, release};
use tokio::sync::OnceCell;

/// The namespaces that the shared operator looks after. It is told of them when it starts.
const SHARED: usize = 80;

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
    // Dropped before the rig that they run on.
    argocd: OnceCell<ArgoCd>,
    shared: OnceCell<Shared>,
    pub(crate) rig: Rig,
}

/// One operator and those of its namespaces that no test has taken yet.
struct Shared {
    operator: Operator,
    free: Mutex<Vec<String>>,
}

impl Cluster {
    /// Installs the definitions as they stand in the repository.
    pub(crate) async fn prepare(rig: Rig) -> anyhow::Result<Self> {
        release::install_definitions(&rig).await?;
        let cluster = Self { argocd: OnceCell::new(), shared: OnceCell::new(), rig };
        cluster.source("rig", cluster.rig.prometheus_url()?).await?;
        Ok(cluster)
    }

    /// Makes a MetricsSource that is asked every second.
    pub(crate) async fn source(&self, name: &str, url: &str) -> anyhow::Result<()> {
        let source = serde_json::json!({
            "apiVersion": "pilotguard.dev/v1alpha1", "kind": "MetricsSource", "metadata": {"name": name},
            "spec": {"url": url, "evaluationInterval": "1s", "timeout": "2s"},
        });
        self.done_with(&["apply", "-f", "-"], &source.to_string()).await.map(drop)
    }

    /// The operator that tests share, and a namespace of its that is in use by nobody else.
    pub(crate) async fn shared_operator(&self) -> anyhow::Result<(&Operator, String)> {
        let start = async || {
            let namespaces = try_join_all((0..SHARED).map(|_| self.rig.namespace("scene"))).await?;
            let operator = self.operator(&namespaces).await?;
            anyhow::Ok(Shared { operator, free: Mutex::new(namespaces) })
        };
        let shared = self.shared.get_or_try_init(|| Box::pin(start())).await?;
        let namespace = shared.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok((&shared.operator, namespace.context("the shared operator looks after too few namespaces")?))
    }

    /// The Argo CD that tests share, with the health checks that users are told to install.
    pub(crate) async fn argocd(&self) -> anyhow::Result<&ArgoCd> {
        let start = async || {
            let argocd = ArgoCd::start(&self.rig).await?;
            let health = root().join("docs/argocd-health.yaml").display().to_string();
            self.done(&["patch", "configmap", "argocd-cm", "--namespace", "argocd", "--patch-file", &health]).await?;
            anyhow::Ok(argocd)
        };
        self.argocd.get_or_try_init(|| Box::pin(start())).await
    }

    /// An operator of one's own that looks after these namespaces; it runs.
    pub(crate) async fn operator(&self, namespaces: &[String]) -> anyhow::Result<Operator> {
        let own = self.rig.namespace("pilotguard").await?;
        let options = OperatorOptions {
            program: env!("CARGO_BIN_EXE_pilotguard").into(),
            name: own.clone(),
            namespace: own,
            guarded: namespaces.to_vec(),
            settings: Vec::new(),
        };
        Ok(Operator::install(&self.rig, options).await?)
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
        Ok(wait::until(&arguments.join(" "), PATIENCE, probe).await?)
    }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files in a folder of the repository, sorted.
pub(crate) fn files(folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(root().join(folder))?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}
