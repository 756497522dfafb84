//! The watches: what is seen changes wakes the pilot that it belongs to.
//!
//! A watch that breaks is taken up again with backoff; an object that cannot be read is passed over, loudly, and
//! blinds nobody to the others.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, future};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, controller, predicates};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{Context, calendars, chain, orphans, reconcile, retry, source_status};
use crate::admit::pilots::WorkloadKey;
use crate::api::change_record::ChangeRecord;
use crate::api::decision::Decision;
use crate::api::metrics_source::MetricsSource;
use crate::api::pilot::Pilot;
use crate::api::workload::{PartKind, PartReference};
use crate::observe::cluster::{RawWorkload, reduce_change, reduce_decision, reduce_snapshot, reduce_workload};
use crate::observe::configuration::reduce_version;
use crate::observe::index::{Entry, Index, Owner};
use crate::observe::readable::readable_event;
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
        let events = self.readable(config()).map(Ok);
        let touched = reflector::reflector(writer, events).touched_objects();
        (store, touched.filter_map(|touched| future::ready(touched.ok().map(drop))))
    }

    fn looks_after(&self, namespace: Option<&str>) -> bool {
        match (&self.namespaces, namespace) {
            (Some(namespaces), Some(namespace)) => namespaces.contains(namespace),
            _ => true,
        }
    }

    /// The events of a kind, as far as they concern this operator.
    pub(super) fn events<K>(&self, config: watcher::Config) -> impl Stream<Item = Event<K>> + Send + 'static
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        self.events_of(&(), config)
    }

    /// The events of a kind that is known only now.
    fn events_of<K>(
        &self,
        kind: &K::DynamicType,
        config: watcher::Config,
    ) -> impl Stream<Item = Event<K>> + Send + 'static
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let watching = self.clone();
        let (api, kind) = (Api::<K>::all_with(self.client.clone(), kind), K::kind(kind).into_owned());
        watcher(api, config).default_backoff().filter_map(move |event| {
            let event = match event {
                Ok(event) => watching.ours(event),
                Err(error) => {
                    tracing::warn!(kind, cause = chain(&error), "a watch broke; taking it up again");
                    None
                }
            };
            future::ready(event)
        })
    }

    /// The events of those objects that can be read.
    fn readable<K>(&self, config: watcher::Config) -> impl Stream<Item = Event<K>> + Send + 'static
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        self.events::<DeserializeGuard<K>>(config).filter_map(|event| future::ready(readable_event(event)))
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
        events: impl Stream<Item = Event<K>> + Send + 'static,
        index: impl Fn(&Context) -> &Index<T> + Send + 'static,
        reduce: impl Fn(&K) -> Option<Entry<T>> + Send + 'static,
        wake: Wake,
    ) -> tokio::task::JoinHandle<()>
    where
        K: Send + Sync + 'static,
        T: Clone + Send + Sync + 'static,
    {
        let mut events = events.boxed();
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
    /// Whether owners are workloads of one of these kinds, which their pilots have to be looked up by.
    by_workload: Option<&'static [PartKind]>,
}

impl Wake {
    fn pilot_of(&self, owner: &Owner) {
        let Some(kinds) = self.by_workload else { return self.wake(owner) };
        for kind in kinds {
            let workload = PartReference { kind: *kind, name: owner.name.clone() };
            let key = WorkloadKey { namespace: owner.namespace.clone(), reference: workload };
            if let Some(guardian) = self.context.guarded.guardian(&key) {
                self.wake(&Owner { namespace: owner.namespace.clone(), name: guardian.id.name.clone() });
            }
        }
    }

    fn wake(&self, pilot: &Owner) {
        // Nobody listens any more only when the operator is ending.
        let _ = self.pilots.send(ObjectRef::new(&pilot.name).within(&pilot.namespace));
    }
}

/// Runs the loop until it is stopped. `sources` is what [`Watching::metrics_sources`] gave.
pub async fn watch(
    watching: Watching,
    context: Arc<Context>,
    (sources, sources_touched): (Store<MetricsSource>, impl Stream<Item = ()> + Send + 'static),
) {
    let (pilots, woken) = mpsc::unbounded_channel();
    calendars::follow(&watching, &context, pilots.clone());
    let of_pilot = Wake { context: context.clone(), pilots, by_workload: None };
    // A snapshot names its workload and not the kind.
    let of_workload = Wake { by_workload: Some(&PartKind::ALL), ..of_pilot.clone() };
    for kind in &PartKind::WITH_PODS {
        let events = watching.events_of::<RawWorkload>(kind, config());
        let of_kind = Wake { by_workload: Some(std::slice::from_ref(kind)), ..of_pilot.clone() };
        let reduce = |workload: &_| reduce_workload(*kind, workload);
        watching.feed(events, |context| context.cluster.workloads.of(*kind), reduce, of_kind);
    }
    let versions = watching.events::<PartialObjectMeta<ConfigMap>>(config());
    let of_config_map = Wake { by_workload: Some(&[PartKind::ConfigMap]), ..of_pilot.clone() };
    watching.feed(versions, |context| &context.cluster.versions, reduce_version, of_config_map);
    let snapshots = watching.readable::<ControllerRevision>(config().labels(snapshots::ALL));
    let changes = watching.readable::<ChangeRecord>(config());
    let decisions = watching.readable::<Decision>(config());
    let change = |record: &_| Some(reduce_change(record));
    let decision = |decision: &_| Some(reduce_decision(decision));
    watching.feed(snapshots, |context| &context.cluster.snapshots, reduce_snapshot, of_workload);
    watching.feed(changes, |context| &context.cluster.changes, change, of_pilot.clone());
    watching.feed(decisions, |context| &context.cluster.decisions, decision, of_pilot.clone());

    let (store, touched) = watch_pilots(&watching, of_pilot);
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
    let of_sources = source_status::keep(&context, sources, watching.stop.clone());
    let of_calendars = calendars::keep_status(&context, watching.stop.clone());
    let of_nobody = orphans::refuse(&context, watching.stop);
    future::join4(looking, of_sources, of_calendars, of_nobody).await;
}

/// The watch on Pilots: keeps the index of admission, passes on those whose spec moved, and wakes those that may have got
/// or lost a workload by it.
fn watch_pilots(
    watching: &Watching,
    wake: Wake,
) -> (Store<Pilot>, impl Stream<Item = Result<Pilot, watcher::Error>> + Send + 'static) {
    let (store, writer) = reflector::store();
    let events = watching.readable::<Pilot>(config());
    let forgetting = wake.context.clone();
    let events = noticing_gone(events, store.clone(), move |pilot| forgetting.forget(pilot))
        .inspect(move |event| {
            for rival in wake.context.guarded.see(event) {
                wake.wake(&Owner { namespace: rival.namespace, name: rival.name });
            }
        })
        .map(Ok);
    let touched = reflector::reflector(writer, events)
        .touched_objects()
        // A label may name a ChangeCalendar.
        .predicate_filter(predicates::generation.combine(predicates::labels), PredicateConfig::default());
    (store, touched)
}

/// Passes events on, and tells of each Pilot that is gone: deleted before our eyes, or absent from a complete list
/// that was made anew. `store` is what the events fill further on.
fn noticing_gone(
    events: impl Stream<Item = Event<Pilot>> + Send + 'static,
    store: Store<Pilot>,
    gone: impl Fn(&Pilot) + Send + 'static,
) -> impl Stream<Item = Event<Pilot>> + Send + 'static {
    let mut arrived: HashSet<Option<String>> = HashSet::new();
    events.inspect(move |event| match event {
        Event::Init => arrived.clear(),
        Event::InitApply(pilot) => drop(arrived.insert(pilot.uid())),
        Event::InitDone => {
            // The store still holds what was known before this list.
            store.state().iter().filter(|pilot| !arrived.contains(&pilot.uid())).for_each(|pilot| gone(pilot));
            arrived.clear();
        }
        Event::Delete(pilot) => gone(pilot),
        Event::Apply(_) => {}
    })
}

pub(super) fn config() -> watcher::Config {
    watcher::Config::default().streaming_lists().timeout(WATCH_TIMEOUT_SECONDS)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use serde_json::json;

    use super::*;

    fn object(name: &str, uid: &str) -> serde_json::Value {
        json!({
            "apiVersion": "pilotguard.dev/v1alpha1",
            "kind": "Pilot",
            "metadata": {"name": name, "namespace": "shop", "uid": uid},
            "spec": {
                "intent": {"summary": "s", "hypothesis": "h", "decisionDate": "2030-01-01T00:00:00Z"},
                "owners": {"serviceOwner": {"name": "Sam"}},
                "workloads": [{"kind": "Deployment", "name": name}],
                "changes": {"windows": [{"name": "always", "kind": "Allow", "always": true}]},
            },
        })
    }

    #[tokio::test]
    async fn a_pilot_that_a_new_list_lacks_is_gone() {
        let pilot = |name, uid| -> Pilot { serde_json::from_value(object(name, uid)).unwrap() };
        let events = vec![
            Event::Init,
            Event::InitApply(pilot("stays", "1")),
            Event::InitApply(pilot("goes", "2")),
            Event::InitApply(pilot("returns", "3")),
            Event::InitDone,
            Event::Init,
            Event::InitApply(pilot("stays", "1")),
            Event::InitApply(pilot("returns", "4")),
            Event::InitDone,
            Event::Delete(pilot("stays", "1")),
        ];
        let gone: Arc<Mutex<Vec<_>>> = Arc::default();
        let noted = gone.clone();
        let (store, writer) = reflector::store();
        let events = noticing_gone(futures::stream::iter(events), store, move |pilot| {
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(pilot.uid().unwrap_or_default());
        });
        reflector::reflector(writer, events.map(Ok::<_, watcher::Error>)).for_each(|_| future::ready(())).await;
        let mut gone = gone.lock().unwrap().clone();
        gone[..2].sort();
        assert_eq!(gone, ["2", "3", "1"]);
    }
}
