//! The watches: what is seen changes wakes the pilot that it belongs to.
//!
//! A watch that breaks is taken up again with backoff, and one whose task ends by itself is begun anew
//! (`supervisor.rs`); an object that cannot be read is passed over, loudly, and blinds nobody to the others. Pilots are
//! evaluated side by side without a common limit: whoever waits for its metrics source waits there
//! (`src/observe/prometheus/slots.rs`), and holds nothing that another pilot needs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::{Stream, StreamExt, future, stream};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, predicates};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::wakes::gathered;
use super::{Context, calendars, chain, orphans, reconcile, retry, source_status};
use crate::admit::pilots::WorkloadKey;
use crate::api::change_record::ChangeRecord;
use crate::api::decision::Decision;
use crate::api::metrics_source::{MetricsSource, MetricsSourceSpec};
use crate::api::pilot::Pilot;
use crate::api::workload::{PartKind, PartReference};
use crate::observe::cluster::{RawWorkload, reduce_change, reduce_decision, reduce_snapshot, reduce_workload};
use crate::observe::configuration::reduce_version;
use crate::observe::index::{Entry, Index, Owner};
use crate::observe::readable::readable_event;
use crate::record::snapshots;

/// A watch is renewed so often; a connection that died silently is noticed by then.
const WATCH_TIMEOUT_SECONDS: u32 = 25;

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
    /// A watch on MetricsSources: the store that it fills, and the names of those whose specification moved.
    pub fn metrics_sources(&self) -> (Store<MetricsSource>, impl Stream<Item = String> + Send + 'static) {
        let (store, writer) = reflector::store();
        let events = self.readable(config()).map(Ok);
        let mut specs = Specs::default();
        // Errors were logged and left out before.
        let moved = reflector::reflector(writer, events)
            .map(move |event| event.map(|event| specs.see(&event)).unwrap_or_default());
        (store, moved.flat_map(stream::iter))
    }

    fn looks_after(&self, namespace: Option<&str>) -> bool {
        match (&self.namespaces, namespace) {
            (Some(namespaces), Some(namespace)) => namespaces.contains(namespace),
            _ => true,
        }
    }

    /// The events of a kind, as far as they concern this operator.
    pub(super) fn events<K>(&self, config: watcher::Config) -> impl Stream<Item = Event<K>> + Send + use<K>
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
    ) -> impl Stream<Item = Event<K>> + Send + use<K>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let watching = self.clone();
        let (api, kind) = (Api::<K>::all_with(self.client.clone(), kind), K::kind(kind).into_owned());
        watcher(api, config).default_backoff().filter_map(move |event| {
            let event = match event {
                Ok(event) => watching.ours(event),
                Err(error) => {
                    tracing::warn!(kind, cause = chain(&error), "a watch broke; restarting it");
                    None
                }
            };
            future::ready(event)
        })
    }

    /// The events of those objects that can be read.
    fn readable<K>(&self, config: watcher::Config) -> impl Stream<Item = Event<K>> + Send + use<K>
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
    fn feed<K, T, E>(
        &self,
        kind: &'static str,
        events: impl Fn(&Self) -> E + Send + 'static,
        index: impl Fn(&Context) -> &Index<T> + Copy + Send + Sync + 'static,
        reduce: impl Fn(&K) -> Option<Entry<T>> + Copy + Send + Sync + 'static,
        wake: Wake,
    ) where
        E: Stream<Item = Event<K>> + Send + 'static,
        K: Send + Sync + 'static,
        T: Clone + Send + Sync + 'static,
    {
        let (watching, watches) = (self.clone(), wake.context.watches.clone());
        watches.keep(kind, &self.stop, move || {
            let (mut events, stop, wake) = (events(&watching).boxed(), watching.stop.clone(), wake.clone());
            async move {
                while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
                    for owner in index(&wake.context).see(&event, reduce) {
                        wake.pilot_of(&owner);
                    }
                }
            }
        });
    }
}

/// The specifications of the MetricsSources as they were seen last.
#[derive(Default)]
struct Specs {
    known: HashMap<String, MetricsSourceSpec>,
    arrived: HashSet<String>,
}

impl Specs {
    /// Takes up what a watch saw, and returns the names of those whose specification is not what it was.
    fn see(&mut self, event: &Event<MetricsSource>) -> Vec<String> {
        match event {
            Event::Init => self.arrived.clear(),
            Event::InitApply(source) => {
                self.arrived.insert(source.name_any());
                return self.note(source);
            }
            Event::InitDone => {
                let arrived = std::mem::take(&mut self.arrived);
                let gone = self.known.keys().filter(|name| !arrived.contains(*name)).cloned().collect();
                self.known.retain(|name, _| arrived.contains(name));
                return gone;
            }
            Event::Apply(source) => return self.note(source),
            Event::Delete(source) => {
                let name = source.name_any();
                return self.known.remove(&name).map(|_| name).into_iter().collect();
            }
        }
        Vec::new()
    }

    fn note(&mut self, source: &MetricsSource) -> Vec<String> {
        let name = source.name_any();
        if self.known.get(&name) == Some(&source.spec) {
            return Vec::new();
        }
        self.known.insert(name.clone(), source.spec.clone());
        vec![name]
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
    (sources, moved_sources): (Store<MetricsSource>, impl Stream<Item = String> + Send + 'static),
) {
    let (pilots, woken) = mpsc::unbounded_channel();
    calendars::follow(&watching, &context, &pilots);
    let of_pilot = Wake { context: context.clone(), pilots, by_workload: None };
    feed_indexes(&watching, &of_pilot);
    let (store, touched) = watch_pilots(&watching, of_pilot.clone());
    let of_source = |name: &str| {
        for pilot in store.state().into_iter().filter(|pilot| pilot.spec.metrics_source == name) {
            of_pilot.wake(&Owner { namespace: pilot.namespace().unwrap_or_default(), name: pilot.name_any() });
        }
    };
    let controller = Controller::for_stream(touched, store.clone())
        .reconcile_on(gathered(woken))
        .graceful_shutdown_on(watching.stop.clone().cancelled_owned());
    let sources_moving = moved_sources.take_until(watching.stop.clone().cancelled_owned()).for_each(|name| {
        of_source(&name);
        future::ready(())
    });
    let of_pilots = async {
        // Deciding on half a picture would mistake what has not arrived for what does not exist.
        if watching.stop.run_until_cancelled(context.cluster.ready()).await.is_some() {
            controller.run(reconcile, retry, context.clone()).for_each(|_| future::ready(())).await;
        }
    };
    let of_sources = source_status::keep(&context, sources, of_source, watching.stop.clone());
    let of_calendars = calendars::keep_status(&context, watching.stop.clone());
    let of_nobody = orphans::refuse(&context, watching.stop.clone());
    future::join5(of_pilots, sources_moving, of_sources, of_calendars, of_nobody).await;
}

/// Begins the watches on what pilots are judged by.
fn feed_indexes(watching: &Watching, of_pilot: &Wake) {
    for kind in &PartKind::WITH_PODS {
        let of_kind = Wake { by_workload: Some(std::slice::from_ref(kind)), ..of_pilot.clone() };
        watching.feed(
            kind.as_str(),
            |watching| watching.events_of::<RawWorkload>(kind, config()),
            |context| context.cluster.workloads.of(*kind),
            |workload: &_| reduce_workload(*kind, workload),
            of_kind,
        );
    }
    let of_config_map = Wake { by_workload: Some(&[PartKind::ConfigMap]), ..of_pilot.clone() };
    watching.feed(
        "ConfigMap",
        |watching| watching.events::<PartialObjectMeta<ConfigMap>>(config()),
        |context| &context.cluster.versions,
        reduce_version,
        of_config_map,
    );
    // A snapshot names its workload and not the kind.
    let of_workload = Wake { by_workload: Some(&PartKind::ALL), ..of_pilot.clone() };
    watching.feed(
        "ControllerRevision",
        |watching| watching.readable::<ControllerRevision>(config().labels(snapshots::ALL)),
        |context| &context.cluster.snapshots,
        reduce_snapshot,
        of_workload,
    );
    watching.feed(
        "ChangeRecord",
        |watching| watching.readable::<ChangeRecord>(config()),
        |context| &context.cluster.changes,
        |record: &_| Some(reduce_change(record)),
        of_pilot.clone(),
    );
    watching.feed(
        "Decision",
        |watching| watching.readable::<Decision>(config()),
        |context| &context.cluster.decisions,
        |decision: &_| Some(reduce_decision(decision)),
        of_pilot.clone(),
    );
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
    let events = events.inspect(move |event| {
        for rival in wake.context.guarded.see(event) {
            wake.wake(&Owner { namespace: rival.namespace, name: rival.name });
        }
    });
    // After that: an evaluation that still runs looks there whether its Pilot exists.
    let events = noticing_gone(events, store.clone(), move |pilot| forgetting.forget(pilot)).map(Ok);
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
