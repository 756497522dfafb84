//! The rig as its users see it: act in it as different people, take parts of it away, read what happened.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::attach::{self, Access, AttachError};
use crate::audit::{self, AuditError, AuditEvent};
use crate::control_plane::Servers;
use crate::directory::Directory;
use crate::person::{People, Person, PersonError};
use crate::pki::PkiError;
use crate::process::{Daemon, Leashed, ProcessError};
use crate::prometheus::{Prometheus, PrometheusError, Target};
use crate::tools::{BuildError, Tool, Tools};
use crate::wait::{self, PATIENCE, TimedOut, within};
use crate::{access, expose, start};

/// How long a service account's token is valid.
const TOKEN_SECONDS: i64 = 8 * 3600;

/// Why the rig did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// The tools are not there and could not be built.
    #[error(transparent)]
    Tools(#[from] BuildError),
    /// The build of the tools was interrupted.
    #[error("the build of the tools was interrupted")]
    Interrupted,
    /// A file of the rig could not be used.
    #[error("the rig's files: {0}")]
    Files(#[from] std::io::Error),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A person could not be made.
    #[error(transparent)]
    Person(#[from] PersonError),
    /// A server could not be started, or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Prometheus did not do as told.
    #[error(transparent)]
    Prometheus(#[from] PrometheusError),
    /// Something did not happen in time.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// The client for readiness questions could not be made.
    #[error("cannot make an HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    /// The API server refused a request of the rig's own.
    #[error("the API server refused the rig: {0}")]
    Kube(#[from] kube::Error),
    /// The API server answered a token request without a token.
    #[error("the API server minted no token")]
    NoToken,
    /// The audit log could not be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The rig could not be attached to a cluster that runs already.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The cluster's servers and their logs belong to somebody else.
    #[error("this rig did not start its cluster: it can neither stop its servers nor read its audit log")]
    NotOwn,
}

/// What kind of rig to start.
#[derive(Debug, Clone)]
pub struct RigOptions {
    /// How many nodes take pods; 3 by default.
    pub nodes: u32,
    /// Whether a Prometheus runs; true by default.
    pub prometheus: bool,
    /// How often Prometheus scrapes; 1 s by default.
    pub scrape_interval: Duration,
    /// A folder of stored blocks, as `promtool tsdb create-blocks-from` makes it, that Prometheus starts with.
    pub history: Option<PathBuf>,
    /// Where the rig keeps its files; a fresh folder for temporary files by default.
    pub directory: Option<PathBuf>,
}

impl Default for RigOptions {
    fn default() -> Self {
        Self { nodes: 3, prometheus: true, scrape_interval: Duration::from_secs(1), history: None, directory: None }
    }
}

/// A running cluster and Prometheus; all of it that the rig started ends when this value is dropped.
///
/// A `static` is never dropped: let `main` own the rig. Its methods take `&self`, and many tests may share one.
#[derive(Debug)]
pub struct Rig {
    // Dropped in this order: who uses another ends before it, and the files go last.
    /// Those of a cluster that the rig started.
    pub(crate) servers: Option<Servers>,
    pub(crate) prometheus: Option<Prometheus>,
    pub(crate) admin: Person,
    pub(crate) people: People,
    pub(crate) tools: Tools,
    pub(crate) http: reqwest::Client,
    pub(crate) server: String,
    pub(crate) directory: Directory,
}

impl Rig {
    /// Starts a rig and returns once the API server, the controllers, the nodes and Prometheus serve.
    ///
    /// Builds the tools first if they are missing, which takes minutes once. When it fails, the rig's directory is kept
    /// and its path printed.
    pub async fn start(options: RigOptions) -> Result<Self, RigError> {
        start::start(&options).await
    }

    /// Attaches to a cluster that runs already and starts a Prometheus beside it. Of the cluster nothing is changed by
    /// that; what is made there later stays until somebody removes it.
    ///
    /// The user of the access becomes [`Rig::admin`], and has to be allowed whatever is asked of the rig; people are
    /// impersonated. For [`Rig::expose`] the cluster's API server has to reach [`Rig::host_address`].
    pub async fn attach(access: &Access) -> Result<Self, RigError> {
        attach::attach(access).await
    }

    /// Whether the rig started its cluster.
    pub fn owns_the_cluster(&self) -> bool {
        self.servers.is_some()
    }

    /// The folder that holds the rig's logs, data and credentials.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the servers' and programs' output is kept, one file each.
    pub fn logs(&self) -> PathBuf {
        self.directory.logs()
    }

    /// Keeps the rig's directory when the rig ends. For test runners that catch panics: call it when a test failed.
    pub fn keep(&self) {
        self.directory.keep(true);
    }

    /// Removes the rig's directory when the rig ends well, as it does unless [`Rig::keep`] was called.
    pub fn let_go(&self) {
        self.directory.keep(false);
    }

    /// The path of a tool.
    pub fn tool(&self, tool: Tool) -> PathBuf {
        self.tools.path(tool)
    }

    /// The API server's address; `https://127.0.0.1:PORT` where the rig started it.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// `rig-admin`, who may do everything by way of the ClusterRole `cluster-admin`; on a cluster that the rig did not
    /// start, the user of the kubeconfig.
    pub fn admin(&self) -> &Person {
        &self.admin
    }

    /// Makes a user in these groups (two at most), who has no rights but those that bindings give.
    pub async fn person(&self, name: &str, groups: &[&str]) -> Result<Person, RigError> {
        Ok(self.people.user(name, groups).await?)
    }

    /// Acts as an existing service account, by a token of its own that is valid for 8 hours.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Person, RigError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let params = PostParams::default();
        let minted = accounts.create_token_request(name, &params, &request);
        let minted = within("token of a service account", PATIENCE, minted).await??;
        let token = minted.status.and_then(|status| status.token).ok_or(RigError::NoToken)?;
        Ok(self.people.by_token(&format!("system:serviceaccount:{namespace}:{name}"), &token).await?)
    }

    /// Gives a person a ClusterRole's rights in one namespace, and returns once the API server grants them.
    pub async fn grant(&self, person: &Person, namespace: &str, cluster_role: &str) -> Result<(), RigError> {
        let client = self.client()?;
        within("RoleBinding", PATIENCE, access::grant(&client, &person.name, namespace, cluster_role)).await??;
        let granted = || access::is_granted(&client, &person.name, namespace, cluster_role);
        Ok(wait::until("effect of a RoleBinding", PATIENCE, granted).await?)
    }

    /// Makes a namespace whose name starts with `prefix` and is in use by nobody else, ready for pods.
    pub async fn namespace(&self, prefix: &str) -> Result<String, RigError> {
        let client = self.client()?;
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let wanted = Namespace { metadata, ..Namespace::default() };
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let made = within("namespace", PATIENCE, namespaces.create(&PostParams::default(), &wanted)).await??;
        let name = made.metadata.name.unwrap_or_default();
        self.has_default_account(&client, &name).await?;
        Ok(name)
    }

    /// Pods are refused in a namespace until its default service account is there.
    pub(crate) async fn has_default_account(&self, client: &Client, namespace: &str) -> Result<(), RigError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        wait::until("default service account", PATIENCE, || accounts.get("default")).await?;
        Ok(())
    }

    /// The host's address on its network, on which a process has to listen to be reached through [`Rig::expose`].
    pub fn host_address(&self) -> Result<IpAddr, RigError> {
        Ok(expose::host_address()?)
    }

    /// Makes processes that listen on these ports of [`Rig::host_address`] the only endpoints of a selector-less
    /// Service, for every port of it: one port for each replica. A connection that the API server has already stays in
    /// use until its process ends.
    pub async fn expose(&self, namespace: &str, service: &str, ports: &[u16]) -> Result<(), RigError> {
        let (client, host) = (self.client()?, self.host_address()?);
        within("EndpointSlice", PATIENCE, expose::expose(&client, namespace, service, host, ports)).await??;
        Ok(())
    }

    /// Runs a program, such as the operator under test, that ends with the rig's owner; its output goes to
    /// `logs/NAME.log` in the rig's directory.
    pub fn run(&self, name: &str, command: &Command) -> Result<Leashed, RigError> {
        Ok(Leashed::spawn(command, &self.directory.logs().join(format!("{name}.log")))?)
    }

    /// All requests so far that changed something or were meant to, and lists of records, oldest first.
    ///
    /// The server may log a request a moment after it has answered: to find one, read again until a deadline.
    pub fn audit(&self) -> Result<Vec<AuditEvent>, RigError> {
        Ok(audit::read(&self.servers()?.audit_log)?)
    }

    /// Prometheus' address, `http://127.0.0.1:PORT`, the same for the whole life of the rig.
    pub fn prometheus_url(&self) -> Result<&str, RigError> {
        Ok(self.prometheus()?.url())
    }

    /// Replaces all that Prometheus scrapes. The series of a target that left end after about two scrape intervals.
    pub async fn scrape(&self, targets: &[Target]) -> Result<(), RigError> {
        let replace = |all: &mut BTreeSet<Target>| *all = targets.iter().cloned().collect();
        Ok(within("reload of Prometheus", PATIENCE, self.prometheus()?.scrape(replace)).await??)
    }

    /// Scrapes one target more, for as long as nobody takes it away: the way for those who share a rig.
    pub async fn scrape_also(&self, target: Target) -> Result<(), RigError> {
        let add = |all: &mut BTreeSet<Target>| {
            all.insert(target);
        };
        Ok(within("reload of Prometheus", PATIENCE, self.prometheus()?.scrape(add)).await??)
    }

    /// Scrapes a target no more.
    pub async fn scrape_no_more(&self, target: &Target) -> Result<(), RigError> {
        let remove = |all: &mut BTreeSet<Target>| {
            all.remove(target);
        };
        Ok(within("reload of Prometheus", PATIENCE, self.prometheus()?.scrape(remove)).await??)
    }

    /// Takes Prometheus away.
    pub fn stop_prometheus(&self) -> Result<(), RigError> {
        self.prometheus()?.stop();
        Ok(())
    }

    /// Brings Prometheus back on the same port with the same data, and returns once it answers.
    pub async fn start_prometheus(&self) -> Result<(), RigError> {
        Ok(self.prometheus()?.start().await?)
    }

    /// Takes the API server away, as if it had crashed.
    pub fn stop_apiserver(&self) -> Result<(), RigError> {
        self.servers()?.apiserver.stop();
        Ok(())
    }

    /// Brings the API server back on the same port with the same data, and returns once it serves.
    pub async fn start_apiserver(&self) -> Result<(), RigError> {
        start::serve_api(&self.servers()?.apiserver, &self.http, &self.server).await
    }

    /// Fails when one of the rig's servers has ended by itself.
    pub fn check(&self) -> Result<(), RigError> {
        for daemon in self.daemons() {
            daemon.check()?;
        }
        Ok(())
    }

    /// Returns once one of the rig's servers has ended by itself; pends while all is well.
    pub async fn broken(&self) -> RigError {
        let (ended, ..) = select_all(self.daemons().map(|daemon| daemon.ended().boxed())).await;
        ended.into()
    }

    pub(crate) fn client(&self) -> Result<Client, RigError> {
        Ok(self.admin.client()?)
    }

    pub(crate) fn servers(&self) -> Result<&Servers, RigError> {
        self.servers.as_ref().ok_or(RigError::NotOwn)
    }

    fn prometheus(&self) -> Result<&Prometheus, PrometheusError> {
        self.prometheus.as_ref().ok_or(PrometheusError::Absent)
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        let prometheus = self.prometheus.as_ref().map(Prometheus::daemon);
        self.servers.iter().flat_map(Servers::daemons).chain(prometheus)
    }
}
