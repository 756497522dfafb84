//! What a watch has seen, kept by the pilot or workload that it belongs to.
//!
//! One index holds one kind. It is fed by one watch, keeps only what judging needs, and says when the first
//! complete list has arrived; before that nobody may conclude that something does not exist.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

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
}

#[derive(Debug)]
struct Entries<T> {
    current: HashMap<Owner, BTreeMap<String, T>>,
    /// What a list that is still arriving has brought so far.
    arriving: HashMap<Owner, BTreeMap<String, T>>,
}

impl<T: Clone> Index<T> {
    /// An empty index that is not ready.
    pub fn new() -> Self {
        let entries = Entries { current: HashMap::new(), arriving: HashMap::new() };
        Self { entries: RwLock::new(entries), ready: watch::Sender::new(false) }
    }

    /// Everything that belongs to an owner, by name.
    pub fn of(&self, owner: &Owner) -> Vec<T> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.current.get(owner).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Those owners of anything that are wanted.
    pub fn owners(&self, is_wanted: impl Fn(&Owner) -> bool) -> Vec<Owner> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.current.keys().filter(|owner| is_wanted(owner)).cloned().collect()
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
                let before = std::mem::replace(&mut entries.current, arrived);
                // Also those who lost everything.
                let gone = before.into_keys().filter(|owner| !entries.current.contains_key(owner));
                let touched = entries.current.keys().cloned().chain(gone).collect();
                drop(entries);
                self.ready.send_replace(true);
                return touched;
            }
            Event::Apply(object) => {
                if let Some(entry) = reduce(object) {
                    let owner = entry.owner.clone();
                    entries.current.entry(entry.owner).or_default().insert(entry.name, entry.kept);
                    return vec![owner];
                }
            }
            Event::Delete(object) => {
                if let Some(entry) = reduce(object) {
                    if let Some(owned) = entries.current.get_mut(&entry.owner) {
                        owned.remove(&entry.name);
                        if owned.is_empty() {
                            entries.current.remove(&entry.owner);
                        }
                    }
                    return vec![entry.owner];
                }
            }
        }
        Vec::new()
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
        assert_eq!(index.of(&owner), [1, 2]);
        index.see(&Event::Init, reduce);
        index.see(&Event::InitApply(("b", 3)), reduce);
        assert_eq!(index.of(&owner), [1, 2], "half a list is no list");
        index.see(&Event::InitDone::<(&str, i32)>, reduce);
        assert_eq!(index.of(&owner), [3], "what the list lacks is gone");
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
}
