//! The watches: what is seen changes wakes the pilot that it belongs to.
//!
//! A watch that breaks is taken up again with backoff; a Pilot that cannot be read is passed over, loudly, and
//! blinds nobody to the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, future};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Controller, PredicateConfig, WatchStreamExt, controller, predicates};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{Context, chain, reconcile, retry, source_status};
use crate::admit::pilots::WorkloadKey;
use crate::api::metrics_source::MetricsSource;
use crate::api::pilot::Pilot;
use crate::observe::cluster::{reduce_change, reduce_decision, reduce_deployment, reduce_snapshot};
use crate::observe::index::{Entry, Index, Owner};
use crate::record::snapshots;

/// A watch is renewed so often; a connection that died silently is noticed by then.
const WATCH_TIMEOUT_SECONDS: u32 = 25;

/// Pilots that are looked at at the same time.
const CONCURRENCY: u16 = 8;

/// A burst of events wakes a pilot once.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// What is watched, with what.
#[derive(Clone)]
pub struct Watching {
    /// A client that retries.
    pub client: Client,
    /// The namespaces that this operator looks after; `None`: all.
    pub namespaces: Option<Arc<BTreeSet<String>>>,
    /// Ends it all.
    pub stop: CancellationToken,
}

impl Watching {
    /// A watch on MetricsSources, and the store that it fills.
    pub fn metrics_sources(&self) -> (Store<MetricsSource>, impl Stream<Item = ()> + Send + 'static) {
        let (store, writer) = reflector::store();
        let events = watcher(Api::<MetricsSource>::all(self.client.clone()), config()).default_backoff();
        let touched = reflector::reflector(writer, events).touched_objects();
        (store, touched.filter_map(|touched| future::ready(touched.ok().map(drop))))
    }

    fn looks_after(&self, namespace: Option<&str>) -> bool {
        match (&self.namespaces, namespace) {
            (Some(namespaces), Some(namespace)) => namespaces.contains(namespace),
            _ => true,
        }
    }

    fn events<K>(&self, config: watcher::Config) -> impl Stream<Item = Event<K>> + Send + 'static
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let watching = self.clone();
        watcher(Api::<K>::all(self.client.clone()), config).default_backoff().filter_map(move |event| {
            let event = match event {
                Ok(event) => watching.ours(event),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), cause = chain(&error), "a watch broke; taking it up again");
                    None
                }
            };
            future::ready(event)
        })
    }

    fn ours<K: Resource>(&self, event: Event<K>) -> Option<Event<K>> {
        let is_ours = match &event {
            Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => {
                self.looks_after(object.meta().namespace.as_deref())
            }
            Event::Init | Event::InitDone => true,
        };
        is_ours.then_some(event)
    }

    /// Feeds an index for as long as the operator runs, and wakes the pilots whose entries it touches.
    fn feed<K, T>(
        &self,
        config: watcher::Config,
        index: impl Fn(&Context) -> &Index<T> + Send + 'static,
        reduce: impl Fn(&K) -> Option<Entry<T>> + Send + 'static,
        wake: Wake,
    ) -> tokio::task::JoinHandle<()>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
        T: Clone + Send + Sync + 'static,
    {
        let mut events = self.events::<K>(config).boxed();
        let stop = self.stop.clone();
        tokio::spawn(async move {
            while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
                for owner in index(&wake.context).see(&event, &reduce) {
                    wake.pilot_of(&owner);
                }
            }
        })
    }
}

/// Wakes the pilot that something belongs to.
#[derive(Clone)]
struct Wake {
    context: Arc<Context>,
    pilots: mpsc::UnboundedSender<ObjectRef<Pilot>>,
    /// Whether owners are workloads, which their pilots have to be looked up by.
    by_workload: bool,
}

impl Wake {
    fn pilot_of(&self, owner: &Owner) {
        let name = if self.by_workload {
            let guardian = self.context.guarded.guardian(&WorkloadKey::new(&owner.namespace, &owner.name));
            guardian.map(|guardian| guardian.id.name.clone())
        } else {
            Some(owner.name.clone())
        };
        if let Some(name) = name {
            // Nobody listens any more only when the operator is ending.
            let _ = self.pilots.send(ObjectRef::new(&name).within(&owner.namespace));
        }
    }
}

/// Runs the loop until it is stopped. `sources` is what [`Watching::metrics_sources`] gave.
pub async fn watch(
    watching: Watching,
    context: Arc<Context>,
    (sources, sources_touched): (Store<MetricsSource>, impl Stream<Item = ()> + Send + 'static),
) {
    let (pilots, woken) = mpsc::unbounded_channel();
    let of_workload = Wake { context: context.clone(), pilots, by_workload: true };
    let of_pilot = Wake { by_workload: false, ..of_workload.clone() };
    let ours = config().labels(snapshots::ALL);
    watching.feed(config(), |context| &context.cluster.workloads, reduce_deployment, of_workload.clone());
    watching.feed::<ControllerRevision, _>(ours, |context| &context.cluster.snapshots, reduce_snapshot, of_workload);
    watching.feed(config(), |context| &context.cluster.changes, |record| Some(reduce_change(record)), of_pilot.clone());
    watching.feed(config(), |context| &context.cluster.decisions, |decision| Some(reduce_decision(decision)), of_pilot);

    let (store, touched) = watch_pilots(&watching, &context);
    let controller = Controller::for_stream(touched, store)
        .with_config(controller::Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .reconcile_on(UnboundedReceiverStream::new(woken))
        .reconcile_all_on(sources_touched)
        .graceful_shutdown_on(watching.stop.clone().cancelled_owned());
    // Deciding on half a picture would mistake what has not arrived for what does not exist.
    if watching.stop.run_until_cancelled(context.cluster.ready()).await.is_none() {
        return;
    }
    let looking = controller.run(reconcile, retry, context.clone()).for_each(|_| future::ready(()));
    future::join(looking, source_status::keep(&context, sources, watching.stop)).await;
}

/// The watch on Pilots: keeps the index of admission, and passes on those whose spec moved.
fn watch_pilots(
    watching: &Watching,
    context: &Arc<Context>,
) -> (Store<Pilot>, impl Stream<Item = Result<Pilot, watcher::Error>> + Send + 'static) {
    let (store, writer) = reflector::store();
    let context = context.clone();
    let events = watching
        .events::<DeserializeGuard<Pilot>>(config())
        .filter_map(|event| future::ready(readable(event)))
        .inspect(move |event| {
            context.guarded.see(event);
            if let Event::Delete(pilot) = event {
                context.forget(pilot);
            }
        })
        .map(Ok);
    let touched = reflector::reflector(writer, events)
        .touched_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    (store, touched)
}

/// A Pilot that cannot be read is passed over: what it said before stays in force.
fn readable(event: Event<DeserializeGuard<Pilot>>) -> Option<Event<Pilot>> {
    let read = |guard: DeserializeGuard<Pilot>| match guard.0 {
        Ok(pilot) => Some(pilot),
        Err(invalid) => {
            let (namespace, name) = (invalid.metadata.namespace, invalid.metadata.name);
            tracing::error!(
                namespace,
                pilot = name,
                cause = invalid.error,
                "a Pilot cannot be read and is passed over"
            );
            None
        }
    };
    Some(match event {
        Event::Apply(pilot) => Event::Apply(read(pilot)?),
        Event::InitApply(pilot) => Event::InitApply(read(pilot)?),
        Event::Delete(pilot) => Event::Delete(read(pilot)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

fn config() -> watcher::Config {
    watcher::Config::default().streaming_lists().timeout(WATCH_TIMEOUT_SECONDS)
}
