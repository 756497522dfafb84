//! A rig beside a cluster that runs already: only a Prometheus is started, and people are impersonated.
//!
//! It never starts, stops or configures a server of that cluster, and so has no audit log to read.

use std::path::{Path, PathBuf};

use kube::config::{Kubeconfig, KubeconfigError};
use serde::Serialize;
use serde_json::Value;

use crate::directory::Directory;
use crate::person::{Cluster, People, Person};
use crate::ports;
use crate::rig::{Rig, RigError, RigOptions};
use crate::start::{QUESTION, http_client, prepare_prometheus, start_prometheus};
use crate::tools::{Tool, Tools};
use crate::wait::{TimedOut, within};

/// Why no cluster could be attached to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kubeconfig cannot be read.
    #[error("cannot use the kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What the client says.
        cause: Box<KubeconfigError>,
    },
    /// The kubeconfig does not say how to reach the cluster.
    #[error("the kubeconfig {} has no {what}; `kubectl config use-context` chooses what is used", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The API server refused or could not be reached.
    #[error("no answer from the API server at {server}: {cause}")]
    Unanswered {
        /// Its address.
        server: String,
        /// What the client says.
        cause: Box<kube::Error>,
    },
    /// The API server was silent.
    #[error("the API server at {server} is silent: {cause}")]
    Silent {
        /// Its address.
        server: String,
        /// How long it was waited for.
        cause: TimedOut,
    },
}

/// How to reach a cluster: the current context of a kubeconfig.
#[derive(Clone)]
pub struct Access {
    /// The API server's address.
    pub server: String,
    /// The context's name.
    pub context: String,
    name: String,
    cluster: Value,
    user: Value,
}

impl Access {
    /// Reads it from a file; relative paths in there are relative to it.
    pub fn read(path: &Path) -> Result<Self, AttachError> {
        let incomplete = |what| AttachError::Incomplete { path: path.to_owned(), what };
        let file = Kubeconfig::read_from(path)
            .map_err(|source| AttachError::Kubeconfig { path: path.to_owned(), cause: Box::new(source) })?;
        let context = file.current_context.filter(|name| !name.is_empty()).ok_or(incomplete("current context"))?;
        let chosen = file.contexts.into_iter().find(|entry| entry.name == context).and_then(|entry| entry.context);
        let chosen = chosen.ok_or(incomplete("context of the name that is the current one"))?;
        let cluster = file.clusters.into_iter().find(|entry| entry.name == chosen.cluster);
        let cluster = cluster.and_then(|entry| entry.cluster).ok_or(incomplete("cluster that the context names"))?;
        let server = cluster.server.clone().ok_or(incomplete("server of the cluster"))?;
        let name = chosen.user.ok_or(incomplete("user in the context"))?;
        let user = file.auth_infos.into_iter().find(|entry| entry.name == name).and_then(|entry| entry.auth_info);
        let user = entry(&user.ok_or(incomplete("user that the context names"))?).ok_or(incomplete("usable user"))?;
        let cluster = entry(&cluster).ok_or(incomplete("usable cluster"))?;
        Ok(Self { server, context, name, cluster, user })
    }
}

fn entry(of: &impl Serialize) -> Option<Value> {
    serde_json::to_value(of).ok()
}

/// Credentials are not for logs.
impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { server, context, .. } = self;
        formatter.debug_struct("Access").field("server", server).field("context", context).finish_non_exhaustive()
    }
}

pub(crate) async fn attach(access: &Access) -> Result<Rig, RigError> {
    // An error means that the process has a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tools = tokio::task::spawn_blocking(Tools::ready).await.map_err(|_| RigError::Interrupted)??;
    let cluster = Cluster { entry: access.cluster.clone(), kubectl: tools.path(Tool::Kubectl) };
    let people = People::impersonated(access.user.clone(), cluster)?;
    let admin = people.by_entry(&access.name, &access.user).await?;
    answers(&admin, &access.server).await?;
    let directory = Directory::create(None)?;
    let [prometheus] = ports::free()?;
    let http = http_client(None)?;
    let rig = Rig {
        servers: None,
        prometheus: prepare_prometheus(&RigOptions::default(), &tools, &directory, prometheus, &http)?,
        admin,
        server: access.server.clone(),
        tools,
        http,
        people,
        directory,
    };
    start_prometheus(&rig).await?;
    rig.let_go();
    Ok(rig)
}

async fn answers(admin: &Person, server: &str) -> Result<(), RigError> {
    let client = admin.client()?;
    let asked = within("version", QUESTION, client.apiserver_version()).await;
    asked
        .map_err(|cause| AttachError::Silent { server: server.to_owned(), cause })?
        .map_err(|cause| AttachError::Unanswered { server: server.to_owned(), cause: Box::new(cause) })?;
    Ok(())
}
