//! The operator's real loop, put together as `run` does, on the simulated API server, clock and sources.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::tz::TimeZoneDatabase;
use pilotguard::act::writer::Writer;
use pilotguard::admit::pilots::Guarded;
use pilotguard::controller::{Context, Enforcement, Failing, Watches, Watching, watch};
use pilotguard::observe::cluster::Cluster;
use pilotguard::observe::sources::Sources;
use pilotguard::runtime::metrics::Metrics as OwnMetrics;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api_server::ApiServer;
use crate::clock;
use crate::manifests::{deployment, pilot, source};
use crate::metrics::{Manner, Metrics};

/// A cluster, its sources, and the operator that looks after them.
pub struct Simulation {
    pub api: ApiServer,
    pub own_metrics: Arc<OwnMetrics>,
    context: OnceLock<Arc<Context>>,
    sources: Arc<Mutex<BTreeMap<String, Metrics>>>,
    stop: CancellationToken,
}

impl Simulation {
    /// An empty cluster; the operator is started by [`Simulation::start`].
    pub fn new() -> Self {
        clock::start();
        let api = ApiServer::default();
        api.apply("core/namespaces", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
        let (own_metrics, sources, stop) = (Arc::default(), Arc::default(), CancellationToken::new());
        Self { api, own_metrics, context: OnceLock::new(), sources, stop }
    }

    /// Adds a source.
    pub fn source(&self, name: &str, interval: &str, manner: Manner) -> Metrics {
        let metrics = Metrics::new(manner);
        self.sources.lock().unwrap().insert(name.to_owned(), metrics.clone());
        self.api.apply("pilotguard.dev/metricssources", source(name, interval));
        metrics
    }

    /// Adds a pilot with the Deployment that it guards.
    pub fn pilot(&self, (namespace, name): (&str, &str), source: &str, triggers: &[Value]) {
        self.api.apply("apps/deployments", deployment(namespace, name, "app:1"));
        self.api.apply("pilotguard.dev/pilots", pilot(namespace, name, source, triggers));
    }

    /// Starts the operator.
    pub fn start(&self) {
        let client = self.api.client();
        let guarded = Arc::new(Guarded::new(TimeZoneDatabase::bundled()));
        let watching = Watching { client: client.clone(), namespaces: None, stop: self.stop.clone() };
        let store = watching.metrics_sources();
        let known = self.sources.clone();
        let sources =
            Sources::new(store.0.clone(), client.clone(), "pilotguard-system").over(Arc::new(move |spec, _| {
                let name = spec.url.trim_start_matches("http://");
                known
                    .lock()
                    .unwrap()
                    .get(name)
                    .map(|metrics| Box::new(metrics.clone()) as _)
                    .ok_or_else(|| name.to_owned())
            }));
        let context = Arc::new(Context {
            writer: Writer::new(client),
            cluster: Arc::new(Cluster::default()),
            enforcement: Enforcement::new(guarded.subscribe()),
            guarded,
            sources,
            rehearsals: pilotguard::controller::Rehearsals::default(),
            metrics: self.own_metrics.clone(),
            clock: clock::now,
            kept: Mutex::new(HashMap::new()),
            failing: Failing::default(),
            watches: Watches::default(),
        });
        assert!(self.context.set(context.clone()).is_ok(), "started twice");
        tokio::spawn(watch(watching, context, store));
    }

    /// What the operator that was started works with.
    pub fn context(&self) -> &Context {
        self.context.get().unwrap()
    }

    /// Lets time pass.
    pub async fn run_for(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// A pilot's status.
    pub fn status(&self, (namespace, name): (&str, &str)) -> Value {
        self.api.get("pilotguard.dev/pilots", namespace, name).unwrap()["status"].clone()
    }

    /// A condition of a pilot: its status, reason and message.
    pub fn condition(&self, pilot: (&str, &str), type_: &str) -> (String, String, String) {
        let status = self.status(pilot);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == type_);
        let text = |key: &str| found.and_then(|it| it[key].as_str()).unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// The value of one of the operator's own metrics, summed over its labels.
    pub fn own_metric(&self, name: &str) -> f64 {
        let text = self.own_metrics.text();
        let lines = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{')));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
