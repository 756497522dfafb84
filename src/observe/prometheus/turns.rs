//! Whose turn is it? A queue in which namespaces take turns, and within a namespace its pilots.
//!
//! However much one pilot asks, another one's next query waits behind one of its queries and not behind all of them.
//! It knows no time and no network.

use std::collections::VecDeque;

use crate::declaration::PilotId;

/// What waits, by namespace and pilot.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// The one whose turn comes next first. None is empty.
    namespaces: VecDeque<Namespace<T>>,
}

#[derive(Debug)]
struct Namespace<T> {
    name: String,
    /// The one whose turn comes next first. None is empty.
    pilots: VecDeque<Pilot<T>>,
}

#[derive(Debug)]
struct Pilot<T> {
    id: PilotId,
    /// In the order of their arrival.
    waiting: VecDeque<T>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { namespaces: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    /// Takes a place at the end of the pilot's own line.
    pub(super) fn push(&mut self, pilot: &PilotId, item: T) {
        if !self.namespaces.iter().any(|namespace| namespace.name == pilot.namespace) {
            self.namespaces.push_back(Namespace { name: pilot.namespace.clone(), pilots: VecDeque::new() });
        }
        let mut namespaces = self.namespaces.iter_mut();
        let Some(Namespace { pilots, .. }) = namespaces.find(|namespace| namespace.name == pilot.namespace) else {
            return;
        };
        match pilots.iter_mut().find(|waiting| waiting.id == *pilot) {
            Some(line) => line.waiting.push_back(item),
            None => pilots.push_back(Pilot { id: pilot.clone(), waiting: VecDeque::from([item]) }),
        }
    }

    /// Takes out the item whose turn it is, among the pilots that may go.
    pub(super) fn pop(&mut self, may_go: impl Fn(&PilotId) -> bool) -> Option<(PilotId, T)> {
        let found = |namespace: &Namespace<T>| namespace.pilots.iter().position(|pilot| may_go(&pilot.id));
        let (at, line) =
            self.namespaces.iter().enumerate().find_map(|(at, namespace)| Some((at, found(namespace)?)))?;
        let mut namespace = self.namespaces.remove(at)?;
        let taken = take(&mut namespace.pilots, line);
        // Whoever has had a turn goes behind all others.
        if !namespace.pilots.is_empty() {
            self.namespaces.push_back(namespace);
        }
        taken
    }
}

fn take<T>(pilots: &mut VecDeque<Pilot<T>>, line: usize) -> Option<(PilotId, T)> {
    let mut pilot = pilots.remove(line)?;
    let item = pilot.waiting.pop_front()?;
    let id = pilot.id.clone();
    if !pilot.waiting.is_empty() {
        pilots.push_back(pilot);
    }
    Some((id, item))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pilot(namespace: &str, name: &str) -> PilotId {
        PilotId { namespace: namespace.to_owned(), name: name.to_owned(), uid: format!("{namespace}-{name}") }
    }

    fn order(turns: &mut Turns<u32>, may_go: impl Fn(&PilotId) -> bool) -> Vec<u32> {
        std::iter::from_fn(|| turns.pop(&may_go).map(|(_, item)| item)).collect()
    }

    #[test]
    fn namespaces_take_turns_and_so_do_their_pilots() {
        let mut turns = Turns::default();
        for item in 10..14 {
            turns.push(&pilot("a", "greedy"), item);
        }
        turns.push(&pilot("a", "modest"), 20);
        turns.push(&pilot("b", "modest"), 30);
        assert_eq!(order(&mut turns, |_| true), [10, 30, 20, 11, 12, 13]);
        assert_eq!(turns.pop(|_| true), None);
    }

    #[test]
    fn who_may_not_go_is_passed_over_and_keeps_its_place() {
        let mut turns = Turns::default();
        turns.push(&pilot("a", "one"), 1);
        turns.push(&pilot("a", "two"), 2);
        turns.push(&pilot("b", "three"), 3);
        assert_eq!(turns.pop(|id| id.name != "one"), Some((pilot("a", "two"), 2)));
        assert_eq!(order(&mut turns, |_| true), [3, 1]);
        assert_eq!(turns.pop(|_| false), None);
    }

    #[test]
    fn who_comes_back_at_once_waits_behind_the_others() {
        let mut turns = Turns::default();
        for item in 0..3 {
            turns.push(&pilot("a", "patient"), 100 + item);
        }
        let mut taken = Vec::new();
        for item in 0..3 {
            turns.push(&pilot("a", "eager"), item);
            taken.extend(turns.pop(|_| true).map(|(_, item)| item));
        }
        assert_eq!(taken, [100, 0, 101]);
    }
}
