//! What a watch has seen, kept by the pilot or workload that it belongs to.
//!
//! One index holds one kind. It is fed by one watch, keeps only what judging needs, and says when the first
//! complete list has arrived; before that nobody may conclude that something does not exist. What belongs to one owner is
//! arranged when it changes and shared until then, so that reading it copies nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::watcher::Event;
use tokio::sync::watch;

/// What an entry belongs to: a namespace and the name of a pilot or a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// An object that was reduced to what is kept of it.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// What it belongs to.
    pub owner: Owner,
    /// Its own name.
    pub name: String,
    /// What is kept.
    pub kept: T,
}

/// What a watch has seen of one kind.
#[derive(Debug)]
pub struct Index<T> {
    entries: RwLock<Entries<T>>,
    ready: watch::Sender<bool>,
    arrange: Arrange<T>,
    /// What is kept of an owner that has nothing.
    nothing: Arc<Vec<T>>,
}

/// Says which of one owner's entries, each with its name, are kept and in which order. What is left out is met again with
/// the next complete list.
pub type Arrange<T> = fn(Vec<(String, T)>) -> Vec<(String, T)>;

/// What belongs to one owner, arranged.
#[derive(Debug)]
struct Owned<T> {
    /// The name of each, in the same order.
    names: Vec<String>,
    kept: Arc<Vec<T>>,
}

#[derive(Debug)]
struct Entries<T> {
    current: HashMap<Owner, Owned<T>>,
    /// What a list that is still arriving has brought so far.
    arriving: HashMap<Owner, BTreeMap<String, T>>,
}

impl<T: Clone> Index<T> {
    /// An empty index that is not ready and keeps everything, by name.
    pub fn new() -> Self {
        Self::arranged(|mut all| {
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
            all
        })
    }

    /// An empty index that is not ready and keeps of each owner's entries what `arrange` says.
    pub fn arranged(arrange: Arrange<T>) -> Self {
        let entries = Entries { current: HashMap::new(), arriving: HashMap::new() };
        Self { entries: RwLock::new(entries), ready: watch::Sender::new(false), arrange, nothing: Arc::default() }
    }

    /// What is kept of an owner's entries; shared, and the same until one of them changes.
    pub fn of(&self, owner: &Owner) -> Arc<Vec<T>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.current.get(owner).map_or(&self.nothing, |owned| &owned.kept).clone()
    }

    /// The entry of an owner that has at most one: an object under its own name.
    pub fn one_of(&self, owner: &Owner) -> Option<T> {
        self.of(owner).last().cloned()
    }

    /// Those owners of anything that are wanted.
    pub fn owners(&self, is_wanted: impl Fn(&Owner) -> bool) -> Vec<Owner> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.current.keys().filter(|owner| is_wanted(owner)).cloned().collect()
    }

    /// Forgets owners that are not wanted any more.
    pub fn retain(&self, is_wanted: impl Fn(&Owner) -> bool) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.current.retain(|owner, _| is_wanted(owner));
    }

    /// Whether the first complete list has arrived.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until the first complete list has arrived.
    pub async fn ready(&self) {
        // The sender lives in `self`, so the wait can only end by becoming ready.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Takes up what a watch saw, and returns whose entries it touched. `reduce` says what is kept of an
    /// object, and `None` for one that belongs to nobody.
    pub fn see<K>(&self, event: &Event<K>, reduce: impl Fn(&K) -> Option<Entry<T>>) -> Vec<Owner> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => entries.arriving.clear(),
            Event::InitApply(object) => {
                if let Some(entry) = reduce(object) {
                    entries.arriving.entry(entry.owner).or_default().insert(entry.name, entry.kept);
                }
            }
            Event::InitDone => {
                let arrived = std::mem::take(&mut entries.arriving);
                let current = arrived.into_iter().map(|(owner, all)| (owner, self.owned(all.into_iter().collect())));
                let before = std::mem::replace(&mut entries.current, current.collect());
                // Also those who lost everything.
                let gone = before.into_keys().filter(|owner| !entries.current.contains_key(owner));
                let touched = entries.current.keys().cloned().chain(gone).collect();
                drop(entries);
                self.ready.send_replace(true);
                return touched;
            }
            Event::Apply(object) => {
                if let Some(entry) = reduce(object) {
                    let mut all = entries.current.remove(&entry.owner).map(Owned::into_entries).unwrap_or_default();
                    all.retain(|(name, _)| *name != entry.name);
                    all.push((entry.name, entry.kept));
                    entries.current.insert(entry.owner.clone(), self.owned(all));
                    return vec![entry.owner];
                }
            }
            Event::Delete(object) => {
                if let Some(entry) = reduce(object) {
                    let mut left = entries.current.remove(&entry.owner).map(Owned::into_entries).unwrap_or_default();
                    left.retain(|(name, _)| *name != entry.name);
                    if !left.is_empty() {
                        entries.current.insert(entry.owner.clone(), self.owned(left));
                    }
                    return vec![entry.owner];
                }
            }
        }
        Vec::new()
    }

    fn owned(&self, all: Vec<(String, T)>) -> Owned<T> {
        let (names, kept): (Vec<_>, Vec<_>) = (self.arrange)(all).into_iter().unzip();
        Owned { names, kept: Arc::new(kept) }
    }
}

impl<T: Clone> Owned<T> {
    /// Copies only where somebody still reads it.
    fn into_entries(self) -> Vec<(String, T)> {
        self.names.into_iter().zip(Arc::unwrap_or_clone(self.kept)).collect()
    }
}

impl<T: Clone> Default for Index<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "the shape of a reduction")]
    fn reduce(object: &(&str, i32)) -> Option<Entry<i32>> {
        let owner = Owner { namespace: "shop".to_owned(), name: "web".to_owned() };
        Some(Entry { owner, name: object.0.to_owned(), kept: object.1 })
    }

    #[test]
    fn a_list_replaces_everything_only_once_it_is_complete() {
        let index = Index::new();
        let owner = Owner { namespace: "shop".to_owned(), name: "web".to_owned() };
        for event in [Event::Init, Event::InitApply(("a", 1)), Event::InitDone, Event::Apply(("b", 2))] {
            index.see(&event, reduce);
        }
        assert_eq!(*index.of(&owner), [1, 2]);
        index.see(&Event::Init, reduce);
        index.see(&Event::InitApply(("b", 3)), reduce);
        assert_eq!(*index.of(&owner), [1, 2], "half a list is no list");
        index.see(&Event::InitDone::<(&str, i32)>, reduce);
        assert_eq!(*index.of(&owner), [3], "what the list lacks is gone");
        assert_eq!(index.see(&Event::Delete(("b", 3)), reduce), std::slice::from_ref(&owner));
        assert!(index.of(&owner).is_empty());
    }

    #[test]
    fn whoever_lost_everything_between_two_lists_is_touched() {
        let index = Index::new();
        let owner = Owner { namespace: "shop".to_owned(), name: "web".to_owned() };
        for event in [Event::Init, Event::InitApply(("a", 1)), Event::InitDone, Event::Init] {
            index.see(&event, reduce);
        }
        assert_eq!(index.see(&Event::InitDone::<(&str, i32)>, reduce), [owner]);
    }

    /// Keeps the two largest.
    fn largest(mut all: Vec<(String, i32)>) -> Vec<(String, i32)> {
        all.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
        all.truncate(2);
        all
    }

    #[test]
    fn entries_are_arranged_when_one_changes_and_shared_until_then() {
        let index = Index::arranged(largest);
        let owner = Owner { namespace: "shop".to_owned(), name: "web".to_owned() };
        for event in [Event::Init, Event::InitApply(("a", 1)), Event::InitApply(("b", 2)), Event::InitApply(("c", 3))] {
            index.see(&event, reduce);
        }
        index.see(&Event::<(&str, i32)>::InitDone, reduce);
        let seen = index.of(&owner);
        assert_eq!(*seen, [3, 2]);
        assert!(Arc::ptr_eq(&seen, &index.of(&owner)), "a reading copies nothing");
        index.see(&Event::Apply(("b", 4)), reduce);
        assert_eq!((&*index.of(&owner), &*seen), (&vec![4, 3], &vec![3, 2]), "a reader keeps what it has read");
        index.see(&Event::Apply(("d", 1)), reduce);
        assert_eq!(*index.of(&owner), [4, 3], "what is not kept takes no place");
    }

    #[test]
    fn an_owner_without_entries_takes_no_memory() {
        let index = Index::arranged(largest);
        for event in [Event::Init, Event::InitDone, Event::Apply(("a", 1)), Event::Apply(("b", 2))] {
            index.see(&event, reduce);
        }
        for event in [Event::Apply(("c", 3)), Event::Delete(("a", 1)), Event::Delete(("b", 2)), Event::Delete(("c", 3))]
        {
            index.see(&event, reduce);
        }
        assert_eq!(index.owners(|_| true), []);
    }
}
