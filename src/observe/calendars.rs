//! The ChangeCalendars that there are and the labels of all namespaces: what narrows a Pilot's own windows.
//!
//! Both are kept up to date by watches that others run. Declarations are narrowed when they are used, so that nobody
//! goes by a calendar of before. Until both lists have arrived nobody may conclude that a Pilot is not narrowed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::tz::TimeZoneDatabase;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use crate::api::change_calendar::ChangeCalendarStatus;
use crate::declaration::Declaration;
use crate::declaration::change_calendar::{SharedCalendar, Standing, narrowed};

/// A ChangeCalendar as raw JSON: one that this version cannot read must not be passed over, because it narrows.
#[derive(kube::Resource, Clone, Debug, Serialize, Deserialize)]
#[resource(inherit = "crate::api::change_calendar::ChangeCalendar")]
pub struct RawCalendar {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its spec as sent.
    #[serde(default)]
    pub spec: Value,
    /// Its status as sent.
    #[serde(default)]
    pub status: Value,
}

/// A ChangeCalendar as it is kept.
#[derive(Clone, Debug)]
pub struct KeptCalendar {
    /// What it means.
    pub calendar: Arc<SharedCalendar>,
    /// Its generation.
    pub generation: Option<i64>,
    /// Its status.
    pub status: ChangeCalendarStatus,
    uid: Option<String>,
}

/// Whether both say the same; what the operator wrote into the status does not count.
impl PartialEq for KeptCalendar {
    fn eq(&self, other: &Self) -> bool {
        self.generation.is_some() && (&self.uid, self.generation) == (&other.uid, other.generation)
    }
}

type Labels = BTreeMap<String, String>;

/// What the watches have seen.
#[derive(Debug)]
pub struct Calendars {
    seen: RwLock<Seen>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Seen {
    calendars: Listed<KeptCalendar>,
    namespaces: Listed<Labels>,
}

impl Calendars {
    /// Whether the first complete lists have arrived.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until the first complete lists have arrived.
    pub async fn ready(&self) {
        // The sender lives in `self`, so the wait can only end by becoming ready.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// A declaration as it counts now: narrowed by the ChangeCalendars that apply.
    pub fn narrow<'a>(&self, declaration: &'a Declaration) -> Cow<'a, Declaration> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let standing = seen.standing(&declaration.pilot.namespace, declaration.named_calendar.as_deref());
        let shared = || seen.calendars.current.values().map(|kept| &*kept.calendar);
        if standing.named.is_none() && !shared().any(|calendar| calendar.applies_to(&standing)) {
            return Cow::Borrowed(declaration);
        }
        let calendar = narrowed(&declaration.calendar, shared(), &standing);
        Cow::Owned(Declaration { calendar, ..declaration.clone() })
    }

    /// Whether a ChangeCalendar narrows a Pilot of this namespace whose label names that calendar.
    pub fn applies(&self, calendar: &SharedCalendar, namespace: &str, named: Option<&str>) -> bool {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        calendar.applies_to(&seen.standing(namespace, named))
    }

    /// All ChangeCalendars.
    pub fn all(&self) -> Vec<KeptCalendar> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.calendars.current.values().cloned().collect()
    }

    /// Takes up what a watch on ChangeCalendars saw, and returns those that say something else than before: as they
    /// were and as they are.
    pub fn see_calendar(&self, event: &Event<RawCalendar>, zones: &TimeZoneDatabase) -> Vec<Arc<SharedCalendar>> {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let moved = seen.calendars.see(event, |raw| keep(raw, zones));
        self.update(&seen);
        moved.into_iter().flat_map(|moved| [moved.before, moved.after]).flatten().map(|kept| kept.calendar).collect()
    }

    /// Takes up what a watch on Namespaces saw, and returns those whose labels are not what they were.
    pub fn see_namespace(&self, event: &Event<PartialObjectMeta<Namespace>>) -> Vec<String> {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let moved = seen.namespaces.see(event, |namespace| namespace.labels().clone());
        self.update(&seen);
        moved.into_iter().map(|moved| moved.name).collect()
    }

    fn update(&self, seen: &Seen) {
        let is_ready = seen.calendars.is_complete && seen.namespaces.is_complete;
        self.ready.send_if_modified(|ready| !std::mem::replace(ready, is_ready) && is_ready);
    }
}

impl Default for Calendars {
    fn default() -> Self {
        Self { seen: RwLock::default(), ready: watch::Sender::new(false) }
    }
}

impl Seen {
    fn standing<'a>(&'a self, namespace: &str, named: Option<&'a str>) -> Standing<'a> {
        Standing { namespace_labels: self.namespaces.current.get(namespace), named }
    }
}

fn keep(raw: &RawCalendar, zones: &TimeZoneDatabase) -> KeptCalendar {
    KeptCalendar {
        calendar: Arc::new(SharedCalendar::read(&raw.name_any(), &raw.spec, zones)),
        generation: raw.metadata.generation,
        status: ChangeCalendarStatus::deserialize(&raw.status).unwrap_or_default(),
        uid: raw.metadata.uid.clone(),
    }
}

/// What a watch has seen of a kind that belongs to no namespace, by name.
#[derive(Debug)]
struct Listed<T> {
    current: BTreeMap<String, T>,
    /// What a list that is still arriving has brought so far.
    arriving: BTreeMap<String, T>,
    is_complete: bool,
}

/// What a watch saw move.
struct Moved<T> {
    name: String,
    before: Option<T>,
    after: Option<T>,
}

impl<T: PartialEq + Clone> Listed<T> {
    fn see<K: ResourceExt>(&mut self, event: &Event<K>, reduce: impl Fn(&K) -> T) -> Vec<Moved<T>> {
        match event {
            Event::Init => self.arriving.clear(),
            Event::InitApply(object) => drop(self.arriving.insert(object.name_any(), reduce(object))),
            Event::InitDone => {
                let after = std::mem::take(&mut self.arriving);
                let before = std::mem::replace(&mut self.current, after);
                self.is_complete = true;
                let gone = before.keys().filter(|name| !self.current.contains_key(*name));
                let names: Vec<String> = self.current.keys().chain(gone).cloned().collect();
                return names
                    .into_iter()
                    .filter_map(|name| self.moved(name.clone(), before.get(&name).cloned()))
                    .collect();
            }
            Event::Apply(object) => {
                let before = self.current.insert(object.name_any(), reduce(object));
                return self.moved(object.name_any(), before).into_iter().collect();
            }
            Event::Delete(object) => {
                let before = self.current.remove(&object.name_any());
                return self.moved(object.name_any(), before).into_iter().collect();
            }
        }
        Vec::new()
    }

    fn moved(&self, name: String, before: Option<T>) -> Option<Moved<T>> {
        let after = self.current.get(&name).cloned();
        (before != after).then_some(Moved { name, before, after })
    }
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { current: BTreeMap::new(), arriving: BTreeMap::new(), is_complete: false }
    }
}
