//! Which Pilot guards which workload: an index in memory, kept up to date from the watch on Pilots.
//!
//! A workload belongs to the oldest Pilot that names it (ties: the lower uid), unless an owner of both let another one take
//! over from that. A declaration is parsed again
//! only when it was edited; status updates, which are far more frequent, cost a copy. Nothing here asks the
//! API server, and until the first complete list has arrived the index says that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use kube::runtime::watcher;
use tokio::sync::watch;

use crate::api::pilot::{CREATED_BY, Enforcement, Mode, Pilot, TAKES_OVER};
use crate::api::workload::PartReference;
use crate::decide::Ledger;
use crate::declaration::{Declaration, PilotId, named_calendar, parts};
use crate::record::declared::in_force;
use crate::violation::Violation;

/// A workload by namespace, kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey {
    /// Its namespace.
    pub namespace: String,
    /// Its kind and name.
    pub reference: PartReference,
}

impl WorkloadKey {
    /// The key of a workload in a namespace.
    pub fn new(namespace: &str, reference: &PartReference) -> Self {
        Self { namespace: namespace.to_owned(), reference: reference.clone() }
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.reference.kind.resource(), self.namespace, self.reference.name)
    }
}

/// A Pilot as far as admission needs it.
#[derive(Clone, Debug)]
pub struct Guardian {
    /// Which Pilot.
    pub id: PilotId,
    /// When it was created.
    pub created_at: Timestamp,
    /// The workloads that it names.
    pub workloads: Vec<PartReference>,
    /// The ChangeCalendar that its label names.
    pub named_calendar: Option<String>,
    /// Whether its rules bind.
    pub enforcement: Enforcement,
    /// What it means by itself, without ChangeCalendars: its spec, or the last valid one where that cannot be used; or
    /// why that cannot be said.
    pub declaration: Result<Arc<Declaration>, Arc<Vec<Violation>>>,
    /// What was decided before.
    pub ledger: Ledger,
    /// Who created it, where admission saw it.
    pub created_by: Option<String>,
    /// The older Pilot that it takes over from.
    pub takes_over: Option<String>,
    generation: Option<i64>,
    /// The generation of the last valid spec that its status keeps.
    kept_generation: Option<i64>,
}

impl Guardian {
    /// Whether anything of it binds.
    pub fn is_enforcing(&self) -> bool {
        self.enforcement.changes == Mode::Enforce || self.enforcement.actions == Mode::Enforce
    }

    /// What decides who a workload belongs to, unless somebody settled it: the lower seniority wins.
    fn seniority(&self) -> (Timestamp, &str) {
        (self.created_at, &self.id.uid)
    }

    fn keys(&self) -> impl Iterator<Item = WorkloadKey> + '_ {
        self.workloads.iter().map(|workload| WorkloadKey::new(&self.id.namespace, workload))
    }
}

/// The guarded workloads, by whether their Pilot binds anything or only observes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardedSet {
    /// Those whose Pilot is enforcing.
    pub enforcing: BTreeSet<WorkloadKey>,
    /// Those whose Pilot only observes.
    pub observing: BTreeSet<WorkloadKey>,
}

/// The index.
#[derive(Debug)]
pub struct Guarded {
    zones: TimeZoneDatabase,
    index: RwLock<Index>,
    set: watch::Sender<Option<Arc<GuardedSet>>>,
}

#[derive(Debug, Default)]
struct Index {
    is_ready: bool,
    pilots: BTreeMap<(String, String), Arc<Guardian>>,
    /// Every Pilot that names a workload, the one it belongs to first.
    claims: BTreeMap<WorkloadKey, Vec<Arc<Guardian>>>,
    /// What a list that is still arriving has brought so far.
    arriving: BTreeMap<(String, String), Arc<Guardian>>,
}

impl Guarded {
    /// An empty index that is not ready; `zones` is where the time zones of windows are looked up.
    pub fn new(zones: TimeZoneDatabase) -> Self {
        Self { zones, index: RwLock::default(), set: watch::Sender::new(None) }
    }

    /// Whether the first complete list of Pilots has arrived.
    pub fn is_ready(&self) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).is_ready
    }

    /// The Pilot that a workload belongs to.
    pub fn guardian(&self, workload: &WorkloadKey) -> Option<Arc<Guardian>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.claims.get(workload)?.first().cloned()
    }

    /// The Pilot of this name.
    pub fn pilot(&self, namespace: &str, name: &str) -> Option<Arc<Guardian>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.pilots.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Whether this very Pilot exists, as far as is known: before the first complete list every one may.
    pub fn knows(&self, pilot: &PilotId) -> bool {
        let known = self.pilot(&pilot.namespace, &pilot.name);
        !self.is_ready() || known.is_some_and(|known| known.id == *pilot)
    }

    /// The Pilots of a namespace.
    pub fn pilots_of(&self, namespace: &str) -> Vec<Arc<Guardian>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let from = (namespace.to_owned(), String::new());
        index.pilots.range(from..).take_while(|((of, _), _)| of == namespace).map(|(_, it)| it.clone()).collect()
    }

    /// All Pilots.
    pub fn pilots(&self) -> Vec<Arc<Guardian>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.pilots.values().cloned().collect()
    }

    /// The guarded workloads now and whenever they change; `None` until the index is ready.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<GuardedSet>>> {
        self.set.subscribe()
    }

    /// The time-zone database that declarations are parsed with.
    pub fn zones(&self) -> &TimeZoneDatabase {
        &self.zones
    }

    /// Takes up what a watch on Pilots saw. The first complete list makes the index ready. Returns the other Pilots that
    /// name a workload of one that came, went or was edited: it may be theirs now, or no more.
    pub fn see(&self, event: &watcher::Event<Pilot>) -> BTreeSet<PilotId> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            watcher::Event::Init => index.arriving.clear(),
            watcher::Event::InitApply(pilot) => {
                let guardian = self.guardian_of(pilot, index.pilots.get(&key_of(pilot)));
                index.arriving.insert(key_of(pilot), guardian);
            }
            watcher::Event::InitDone => {
                let arrived = std::mem::take(&mut index.arriving);
                let before = index.replace(arrived);
                self.publish(&index);
                return index.rivals_since(&before);
            }
            watcher::Event::Apply(pilot) => {
                let known = index.pilots.get(&key_of(pilot)).cloned();
                let guardian = self.guardian_of(pilot, known.as_ref());
                if index.insert(key_of(pilot), &guardian) {
                    self.publish(&index);
                    return known.iter().chain([&guardian]).flat_map(|guardian| index.rivals(guardian)).collect();
                }
            }
            watcher::Event::Delete(pilot) => {
                if let Some(known) = index.remove(&key_of(pilot)) {
                    self.publish(&index);
                    return index.rivals(&known).collect();
                }
            }
        }
        BTreeSet::new()
    }

    fn guardian_of(&self, pilot: &Pilot, known: Option<&Arc<Guardian>>) -> Arc<Guardian> {
        let id = PilotId::of(pilot);
        let generation = pilot.metadata.generation;
        let named_calendar = named_calendar(pilot).map(str::to_owned);
        let stored = pilot.status.as_ref().and_then(|status| status.declaration.as_ref());
        let kept_generation = stored.map(|stored| stored.generation);
        let unchanged = known.filter(|known| {
            (generation.is_some() && known.generation == generation && known.kept_generation == kept_generation)
                && (known.id == id && known.named_calendar == named_calendar)
        });
        let declaration = match unchanged {
            Some(known) => known.declaration.clone(),
            None => match in_force(pilot, stored, &self.zones) {
                Ok(in_force) => Ok(Arc::new(in_force.declaration)),
                Err(violations) => Err(Arc::new(violations)),
            },
        };
        let (workloads, enforcement) = match &declaration {
            Ok(declaration) => (declaration.workloads.clone(), declaration.enforcement),
            Err(_) => (parts(&pilot.spec), pilot.spec.enforcement),
        };
        let annotation = |key: &str| pilot.metadata.annotations.as_ref()?.get(key).cloned();
        Arc::new(Guardian {
            id,
            created_by: annotation(CREATED_BY),
            takes_over: annotation(TAKES_OVER),
            created_at: pilot.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
            workloads,
            named_calendar,
            enforcement,
            declaration,
            ledger: pilot.status.as_ref().map(Ledger::read).unwrap_or_default(),
            generation,
            kept_generation,
        })
    }

    fn publish(&self, index: &Index) {
        if !index.is_ready {
            return;
        }
        let mut set = GuardedSet::default();
        for (workload, claims) in &index.claims {
            let is_enforcing = claims.first().is_some_and(|guardian| guardian.is_enforcing());
            let part = if is_enforcing { &mut set.enforcing } else { &mut set.observing };
            part.insert(workload.clone());
        }
        self.set.send_if_modified(|current| {
            let is_new = current.as_deref() != Some(&set);
            if is_new {
                *current = Some(Arc::new(set));
            }
            is_new
        });
    }
}

impl Index {
    /// Returns what was known before.
    fn replace(
        &mut self,
        pilots: BTreeMap<(String, String), Arc<Guardian>>,
    ) -> BTreeMap<(String, String), Arc<Guardian>> {
        self.claims.clear();
        for guardian in pilots.values() {
            self.claim(guardian);
        }
        self.is_ready = true;
        std::mem::replace(&mut self.pilots, pilots)
    }

    /// The other Pilots that name a workload of this one.
    fn rivals<'a>(&'a self, guardian: &'a Guardian) -> impl Iterator<Item = PilotId> + 'a {
        let claims = guardian.keys().filter_map(|workload| self.claims.get(&workload)).flatten();
        claims.filter(|claim| claim.id != guardian.id).map(|claim| claim.id.clone())
    }

    /// The rivals of all Pilots that differ from what was known before.
    fn rivals_since(&self, before: &BTreeMap<(String, String), Arc<Guardian>>) -> BTreeSet<PilotId> {
        let differs = |one: &Guardian, other: Option<&Arc<Guardian>>| {
            let is_same = |other: &Guardian| {
                other.id == one.id && other.workloads == one.workloads && other.takes_over == one.takes_over
            };
            other.is_none_or(|other| !is_same(other))
        };
        let gone = before.iter().filter(|(key, known)| differs(known, self.pilots.get(*key)));
        let new = self.pilots.iter().filter(|(key, guardian)| differs(guardian, before.get(*key)));
        gone.chain(new).flat_map(|(_, guardian)| self.rivals(guardian)).collect()
    }

    /// Returns whether the set of guarded workloads may have changed.
    fn insert(&mut self, key: (String, String), guardian: &Arc<Guardian>) -> bool {
        let known = self.pilots.insert(key, guardian.clone());
        let same = known.as_ref().is_some_and(|known| {
            known.workloads == guardian.workloads
                && known.enforcement == guardian.enforcement
                && known.takes_over == guardian.takes_over
                && known.id == guardian.id
        });
        if let Some(known) = known {
            self.release(&known);
        }
        self.claim(guardian);
        !same
    }

    fn remove(&mut self, key: &(String, String)) -> Option<Arc<Guardian>> {
        let known = self.pilots.remove(key)?;
        self.release(&known);
        Some(known)
    }

    fn claim(&mut self, guardian: &Arc<Guardian>) {
        for workload in guardian.keys() {
            let claims = self.claims.entry(workload).or_default();
            claims.push(guardian.clone());
            settle(claims);
        }
    }

    fn release(&mut self, guardian: &Guardian) {
        for workload in guardian.keys() {
            if let Some(claims) = self.claims.get_mut(&workload) {
                claims.retain(|claim| claim.id != guardian.id);
                settle(claims);
                if claims.is_empty() {
                    self.claims.remove(&workload);
                }
            }
        }
    }
}

/// The oldest first, and before it the one that takes over from it, if there is one.
fn settle(claims: &mut [Arc<Guardian>]) {
    claims.sort_by(|one, other| one.seniority().cmp(&other.seniority()));
    let Some(oldest) = claims.first().map(|claim| claim.id.name.clone()) else { return };
    if let Some(heir) = claims.iter().position(|claim| claim.takes_over.as_ref() == Some(&oldest)) {
        claims[..=heir].rotate_right(1);
    }
}

fn key_of(pilot: &Pilot) -> (String, String) {
    let id = PilotId::of(pilot);
    (id.namespace, id.name)
}
