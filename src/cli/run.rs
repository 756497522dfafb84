//! `pilotguard run`: the controller and the webhook in one process.
//!
//! This file only puts the parts together, in the order in which they need each other, and ends them all when
//! one of them ends.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, anyhow};
use clap::Args;
use futures::FutureExt;
use jiff::tz::TimeZoneDatabase;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::act::writer::Writer;
use crate::admit::certificates::ServerIdentity;
use crate::admit::keeper::{self, owning_cluster_role};
use crate::admit::pilots::Guarded;
use crate::admit::registration::{Endpoint, Registration};
use crate::admit::server::{self, Admission};
use crate::admit::witness::{self, Witness};
use crate::controller::{Context, Enforcement, Failing, Rehearsals, Watches, Watching, prove, watch as watch_cluster};
use crate::observe::cluster::Cluster;
use crate::observe::sources::Sources;
use crate::runtime::clients::Clients;
use crate::runtime::clock;
use crate::runtime::health;
use crate::runtime::logs::{self, LogFormat};
use crate::runtime::metrics::Metrics;

/// Runs the controller and the admission webhook until it receives SIGTERM or SIGINT.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of this operator and its webhook configurations; distinguishes several operators on one API server
    #[arg(long, default_value = "pilotguard", env = "PILOTGUARD_INSTANCE")]
    instance: String,

    /// Namespaces whose Pilots are guarded (comma-separated) [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE")]
    namespaces: Vec<String>,

    /// Users, besides service accounts, that are GitOps tools (comma-separated): their changes outside windows are held
    #[arg(long, value_delimiter = ',', value_name = "USER")]
    gitops_users: Vec<String>,

    /// Service through which the API server reaches the webhook
    #[arg(long, value_name = "NAMESPACE/NAME:PORT", conflicts_with = "webhook_url", value_parser = parse_service)]
    webhook_service: Option<Endpoint>,

    /// URL at which the API server reaches the webhook, for a process outside the cluster
    #[arg(long, value_name = "https://HOST:PORT")]
    webhook_url: Option<String>,

    /// ClusterRole that owns the webhook configurations; deleting it deletes them
    #[arg(long, value_name = "NAME")]
    owner_cluster_role: Option<String>,

    /// The operator's own namespace, from which the Secrets of MetricsSources are read
    #[arg(long, env = "POD_NAMESPACE", default_value = "pilotguard-system")]
    own_namespace: String,

    /// Address on which the webhook listens
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: SocketAddr,

    /// Address on which /healthz and /readyz are served
    #[arg(long, default_value = "0.0.0.0:8081")]
    health: SocketAddr,

    /// Address on which /metrics is served
    #[arg(long, default_value = "0.0.0.0:8080")]
    metrics: SocketAddr,

    /// Format of log lines
    #[arg(long, value_enum, default_value = "json")]
    log_format: LogFormat,
}

/// Runs until SIGTERM, SIGINT or the end of any part.
pub fn run(args: RunArgs) -> anyhow::Result<()> {
    logs::start(args.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(operate(args))
}

async fn operate(args: RunArgs) -> anyhow::Result<()> {
    let endpoint = args.endpoint()?;
    let stop = CancellationToken::new();
    let clients = Clients::connect().await?;
    let own_account = clients.own_account().await?;
    let identity = ServerIdentity::generate(&endpoint, clock::now())?;
    let listener = TcpListener::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    announce_start(&own_account, &args);
    let guarded = Arc::new(Guarded::new(TimeZoneDatabase::bundled()));
    let metrics = Arc::new(Metrics::new());
    let (applied_sender, applied) = watch::channel(None);
    let registration = args.registration(&clients, endpoint, &identity, &own_account).await?;
    let watching = Watching {
        client: clients.watching.clone(),
        namespaces: registration.namespaces.clone().map(Arc::new),
        stop: stop.clone(),
    };
    let sources = watching.metrics_sources();
    let watches = Watches::default();
    let cluster = Arc::new(Cluster::default());
    let context = Arc::new(Context {
        writer: Writer::new(clients.acting.clone()),
        cluster: cluster.clone(),
        guarded: guarded.clone(),
        sources: Sources::new(sources.0.clone(), clients.acting.clone(), &args.own_namespace),
        enforcement: Enforcement::new(applied.clone()),
        rehearsals: Rehearsals::default(),
        metrics: metrics.clone(),
        clock: clock::now,
        kept: Mutex::new(HashMap::new()),
        failing: Failing::default(),
        watches: watches.clone(),
    });
    let (seeing, refusals) = Witness::new(metrics.clone());
    let admission = Admission {
        guarded: guarded.clone(),
        cluster: cluster.clone(),
        own_account: own_account.into(),
        gitops_users: args.gitops_users.clone().into(),
        witness: seeing,
        clock: clock::now,
    };
    let (proving, proven) = prove(Writer::new(clients.acting.clone()), args.probed_namespaces(), applied, stop.clone());
    let checks = (liveness(watches), readiness(guarded.clone(), cluster, proven));

    let mut parts = Parts::default();
    let stopped = stop.clone();
    parts.add("the webhook", async move { Ok(server::serve(listener, &identity, admission, stopped).await?) });
    parts.add("telling of refusals", witness::tell(clients.acting.clone(), refusals, stop.clone()).map(Ok));
    parts.add("the proof that the webhook is reached", proving.map(Ok));
    let keeping = keeper::keep(clients, registration, guarded.subscribe(), applied_sender, stop.clone());
    parts.add("the registration", keeping.map(Ok));
    let controlling = watch_cluster(watching, context, sources);
    parts.add("the controller", controlling.map(Ok));
    let health = health::serve_health(args.health, checks, stop.clone());
    parts.add("the health endpoint", async move { Ok(health.await?) });
    let own_metrics = health::serve_metrics(args.metrics, metrics, stop.clone());
    parts.add("the metrics endpoint", async move { Ok(own_metrics.await?) });
    parts.wait(stop).await
}

/// Alive is who sees what happens, or may see it again soon.
fn liveness(watches: Watches) -> health::Check {
    Arc::new(move || match watches.hopeless() {
        Some(kind) => Err(format!("the watch on {kind} keeps ending; the log says why")),
        None => Ok(()),
    })
}

/// Ready is who can judge a change, and is asked.
fn readiness(guarded: Arc<Guarded>, cluster: Arc<Cluster>, proven: watch::Receiver<bool>) -> health::Check {
    Arc::new(move || match (guarded.is_ready(), cluster.calendars.is_ready(), *proven.borrow()) {
        (false, ..) => Err("the Pilots have not been read yet".to_owned()),
        (true, false, _) => Err("the ChangeCalendars and Namespaces have not been read yet".to_owned()),
        (true, true, false) => Err("the API server has not reached the webhook of this process yet".to_owned()),
        (true, true, true) => Ok(()),
    })
}

/// Outside of a cluster the operator often runs under the account with which its user tries it out.
fn announce_start(own_account: &str, args: &RunArgs) {
    tracing::info!(account = own_account, instance = args.instance, listen = %args.listen, "pilotguard starts");
    if !own_account.starts_with("system:serviceaccount:") {
        tracing::warn!(
            account = own_account,
            "changes by this account are not judged, because it is the operator's own; use another one with kubectl, \
             for example --as=dev --as-group=system:masters"
        );
    }
}

/// The parts of the operator, which end together.
#[derive(Default)]
struct Parts(JoinSet<anyhow::Result<()>>);

impl Parts {
    fn add(&mut self, name: &'static str, part: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.0.spawn(async move { part.await.with_context(|| format!("{name} failed")) });
    }

    /// Waits for a signal or for a part to end, then ends the rest.
    async fn wait(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut outcome = Ok(());
        tokio::select! {
            _ = terminated.recv() => tracing::info!("stopping; the webhook configurations stay, so changes of guarded workloads are refused until an operator runs again"),
            _ = tokio::signal::ctrl_c() => tracing::info!("stopping; the webhook configurations stay, so changes of guarded workloads are refused until an operator runs again"),
            Some(ended) = self.0.join_next() => outcome = match ended {
                Ok(Ok(())) => Err(anyhow!("a task of the operator ended unexpectedly")),
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(panic.into()),
            },
        }
        stop.cancel();
        while self.0.join_next().await.is_some() {}
        outcome
    }
}

impl RunArgs {
    async fn registration(
        &self,
        clients: &Clients,
        endpoint: Endpoint,
        identity: &ServerIdentity,
        own_account: &str,
    ) -> anyhow::Result<Registration> {
        let owner = match &self.owner_cluster_role {
            Some(name) => Some(owning_cluster_role(&clients.acting, name).await?),
            None => None,
        };
        Ok(Registration {
            instance: self.instance.clone(),
            endpoint,
            ca_pem: identity.ca_pem.clone(),
            own_account: own_account.to_owned(),
            namespaces: (!self.namespaces.is_empty()).then(|| self.namespaces.iter().cloned().collect()),
            owner,
        })
    }

    /// Where it is proved that the webhook is reached: where none is named, in a namespace that every cluster has.
    fn probed_namespaces(&self) -> Vec<String> {
        if self.namespaces.is_empty() { vec!["default".to_owned()] } else { self.namespaces.clone() }
    }

    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        match (&self.webhook_service, &self.webhook_url) {
            (Some(service), _) => Ok(service.clone()),
            (None, Some(url)) => Ok(Endpoint::Url(url.clone())),
            (None, None) => Err(anyhow!(
                "how does the API server reach the webhook? give --webhook-service NAMESPACE/NAME:PORT in a cluster, \
                 or --webhook-url https://HOST:PORT outside"
            )),
        }
    }
}

fn parse_service(text: &str) -> Result<Endpoint, String> {
    let parts = text.split_once('/').and_then(|(namespace, rest)| {
        let (name, port) = rest.split_once(':').unwrap_or((rest, "443"));
        Some(Endpoint::Service { namespace: namespace.to_owned(), name: name.to_owned(), port: port.parse().ok()? })
    });
    parts.ok_or_else(|| format!("{text:?} is not of the form NAMESPACE/NAME:PORT"))
}
