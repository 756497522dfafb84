//! From nothing to a serving rig: prepare files and command lines, start the servers in their order, wait for each.
//!
//! Every wait asks the server itself and ends early when the server's process ends. A port that another process took
//! in the meantime makes the whole start begin again.

use std::path::Path;
use std::time::Duration;

use kube::Client;
use serde_json::json;

use crate::control_plane::{Layout, Servers};
use crate::directory::Directory;
use crate::person::{Cluster, People, Person, PersonError};
use crate::pki::{self, Authority};
use crate::process::Daemon;
use crate::prometheus::{Prometheus, PrometheusError, Settings};
use crate::rig::{Rig, RigError, RigOptions};
use crate::tools::{Tool, Tools};
use crate::wait::{self, PATIENCE, within};
use crate::{access, nodes, ports};

/// How long one readiness question may take.
pub(crate) const QUESTION: Duration = Duration::from_secs(5);

/// Starts that lost a port to another process before the rig gives up.
const ATTEMPTS: u32 = 5;

const ADMIN: &str = "rig-admin";
const KWOK: &str = "rig-kwok";

/// The only member of `system:masters`, which needs no binding: it makes the first one and is forgotten.
const BOOTSTRAP: &str = "rig-bootstrap";

pub(crate) async fn start(options: &RigOptions) -> Result<Rig, RigError> {
    // An error means that the process has a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tools = tokio::task::spawn_blocking(Tools::ready).await.map_err(|_| RigError::Interrupted)??;
    for _ in 1..ATTEMPTS {
        match attempt(options, &tools).await {
            Err(error) if is_a_lost_port(&error) => {}
            outcome => return outcome,
        }
    }
    attempt(options, &tools).await
}

async fn attempt(options: &RigOptions, tools: &Tools) -> Result<Rig, RigError> {
    let directory = Directory::create(options.directory.as_deref())?;
    let (rig, bootstrap) = prepare(options, tools, directory).await?;
    let outcome = bring_up(&rig, &bootstrap, options.nodes).await;
    rig.directory.keep(outcome.as_ref().is_err_and(|error| !is_a_lost_port(error)));
    outcome.map(|()| rig)
}

fn is_a_lost_port(error: &RigError) -> bool {
    match error {
        RigError::Process(error) | RigError::Prometheus(PrometheusError::Process(error)) => error.is_a_lost_port(),
        _ => false,
    }
}

/// Writes all files and describes all servers; nothing runs yet.
async fn prepare(options: &RigOptions, tools: &Tools, directory: Directory) -> Result<(Rig, Person), RigError> {
    let [etcd, etcd_peer, apiserver, prometheus] = ports::free()?;
    let pki = directory.path().join("pki");
    let authority = Authority::create(&pki)?;
    let serving = authority.server(&pki, "kube-apiserver", &["127.0.0.1", "localhost"])?;
    let (token_public, token_private) = pki::token_keys(&pki)?;
    let server = format!("https://127.0.0.1:{apiserver}");
    let authority_file = authority.file().to_owned();
    let entry = json!({"server": server, "certificate-authority": authority_file});
    let cluster = Cluster { entry, kubectl: tools.path(Tool::Kubectl) };
    let people = People::certified(authority, cluster, directory.path().join("people"));
    let layout = Layout {
        tools,
        directory: directory.path(),
        logs: directory.logs(),
        etcd,
        etcd_peer,
        apiserver,
        authority: &authority_file,
        serving,
        token_public,
        token_private,
    };
    let http = http_client(Some(&authority_file))?;
    let rig = Rig {
        servers: Some(Servers {
            followers: followers(&layout, &people).await?,
            apiserver: layout.apiserver()?,
            etcd: layout.etcd(),
            etcd_health: format!("http://127.0.0.1:{etcd}/health"),
            audit_log: layout.audit_log(),
        }),
        prometheus: prepare_prometheus(options, tools, &directory, prometheus, &http)?,
        admin: people.user(ADMIN, &[]).await?,
        tools: tools.clone(),
        server,
        http,
        people,
        directory,
    };
    let bootstrap = rig.people.user(BOOTSTRAP, &["system:masters"]).await?;
    Ok((rig, bootstrap))
}

/// Trusts the rig's own authority, if there is one, and no other, so it needs no certificates of the system's.
pub(crate) fn http_client(authority: Option<&Path>) -> Result<reqwest::Client, RigError> {
    let trusted = match authority {
        Some(file) => Some(reqwest::Certificate::from_pem(&std::fs::read(file)?)?),
        None => None,
    };
    Ok(reqwest::Client::builder().tls_certs_only(trusted).no_proxy().timeout(QUESTION).build()?)
}

pub(crate) fn prepare_prometheus(
    options: &RigOptions,
    tools: &Tools,
    directory: &Directory,
    port: u16,
    http: &reqwest::Client,
) -> Result<Option<Prometheus>, RigError> {
    if !options.prometheus {
        return Ok(None);
    }
    let settings = Settings {
        program: &tools.path(Tool::Prometheus),
        directory: &directory.path().join("data"),
        logs: &directory.logs(),
        port,
        interval: options.scrape_interval,
        history: options.history.as_deref(),
    };
    Ok(Some(Prometheus::prepare(&settings, http.clone())?))
}

/// The servers that are clients of the API server.
async fn followers(layout: &Layout<'_>, people: &People) -> Result<Vec<Daemon>, RigError> {
    let kubeconfig = async |name| Ok::<_, PersonError>(people.user(name, &[]).await?.kubeconfig);
    Ok(vec![
        layout.kwok(&kubeconfig(KWOK).await?)?,
        layout.scheduler(&kubeconfig("system:kube-scheduler").await?),
        layout.controller_manager(&kubeconfig("system:kube-controller-manager").await?),
    ])
}

async fn bring_up(rig: &Rig, bootstrap: &Person, nodes: u32) -> Result<(), RigError> {
    let (metrics, cluster) = futures::join!(start_prometheus(rig), start_cluster(rig, bootstrap, nodes));
    metrics.and(cluster)?;
    // A server that lost its port may have been mistaken for the one that has it.
    rig.check()
}

pub(crate) async fn start_prometheus(rig: &Rig) -> Result<(), RigError> {
    if let Some(prometheus) = &rig.prometheus {
        prometheus.start().await?;
    }
    Ok(())
}

async fn start_cluster(rig: &Rig, bootstrap: &Person, nodes: u32) -> Result<(), RigError> {
    let servers = rig.servers()?;
    servers.etcd.start()?;
    answer(&servers.etcd, &rig.http, &servers.etcd_health).await?;
    serve_api(&servers.apiserver, &rig.http, &rig.server).await?;
    bind_admins(bootstrap).await?;
    for follower in &servers.followers {
        follower.start()?;
    }
    tokio::select! {
        settled = settle(rig, nodes) => settled,
        broken = rig.broken() => Err(broken),
    }
}

/// Starts the API server and returns once it says that it is ready.
pub(crate) async fn serve_api(apiserver: &Daemon, http: &reqwest::Client, server: &str) -> Result<(), RigError> {
    apiserver.start()?;
    answer(apiserver, http, &format!("{server}/readyz")).await
}

/// Returns once the server answers with success.
async fn answer(daemon: &Daemon, http: &reqwest::Client, url: &str) -> Result<(), RigError> {
    let asked = wait::until(url, PATIENCE, || async { http.get(url).send().await?.error_for_status().map(drop) });
    tokio::select! {
        answered = asked => Ok(answered?),
        ended = daemon.ended() => Err(RigError::Process(ended)),
    }
}

async fn bind_admins(bootstrap: &Person) -> Result<(), RigError> {
    let client = bootstrap.client()?;
    within("binding of the rig's admins", PATIENCE, access::make_cluster_admins(&client, &[ADMIN, KWOK])).await??;
    if let Some(credentials) = bootstrap.kubeconfig.parent() {
        std::fs::remove_dir_all(credentials)?;
    }
    Ok(())
}

/// Returns once Kubernetes does what it is there for: nodes take pods, service accounts appear, roles have rules.
async fn settle(rig: &Rig, count: u32) -> Result<(), RigError> {
    let client: Client = rig.client()?;
    wait::until("rights of the rig's admin", PATIENCE, || access::roles_are_filled(&client)).await?;
    within("nodes", PATIENCE, nodes::create(&client, count)).await??;
    wait::until("open nodes", PATIENCE, || nodes::take_pods(&client, count)).await?;
    rig.has_default_account(&client, "default").await
}
