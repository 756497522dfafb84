//! The slots of one source: how many queries are in flight, and who comes next.
//!
//! Whoever waits here holds nothing that others need. Pilots take turns (`turns.rs`); one pilot never holds all slots;
//! pilots whose queries are slow leave one slot to those whose queries are not; and one slot is kept for confirmations,
//! which stand between a breach and the act that ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::turns::Turns;
use crate::declaration::PilotId;

/// Maximum number of queries in flight for each source.
pub const MAX_IN_FLIGHT: usize = 4;

/// Maximum number of them that are no confirmations.
const MOST_ORDINARY: usize = MAX_IN_FLIGHT - 1;

/// Maximum number of them for pilots whose queries are slow.
const MOST_SLOW: usize = MOST_ORDINARY - 1;

/// Maximum number of them for one pilot.
pub const MOST_OF_ONE: usize = 2;

/// More pilots with slow queries than this are not remembered.
const MOST_REMEMBERED: usize = 10_000;

/// How urgent a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    Ordinary,
    /// It confirms what was seen before something destructive is done; the evaluation with the earliest end goes first.
    Confirms(Instant),
}

/// The slots of one source.
#[derive(Debug, Default)]
pub(super) struct Slots(Arc<Mutex<Queue>>);

/// The right to send one query, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    /// Nothing once it was given back.
    queue: Option<Arc<Mutex<Queue>>>,
    held: Held,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    pilot: PilotId,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Confirmation,
    Ordinary,
    Slow,
}

type Waiter = oneshot::Sender<Slot>;

#[derive(Debug, Default)]
struct Queue {
    in_flight: Vec<Held>,
    confirmations: BTreeMap<(Instant, u64), (PilotId, Waiter)>,
    ordinary: Turns<Waiter>,
    slow: Turns<Waiter>,
    /// The pilots whose queries were slow when they were last evaluated.
    slow_pilots: BTreeSet<PilotId>,
    arrivals: u64,
}

impl Slots {
    /// Waits for a slot.
    pub(super) async fn acquire(&self, pilot: &PilotId, urgency: Urgency) -> Option<Slot> {
        let (sender, granted) = oneshot::channel();
        {
            let mut queue = lock(&self.0);
            match urgency {
                Urgency::Confirms(ends_at) => {
                    queue.arrivals += 1;
                    let place = (ends_at, queue.arrivals);
                    queue.confirmations.insert(place, (pilot.clone(), sender));
                }
                Urgency::Ordinary if queue.slow_pilots.contains(pilot) => queue.slow.push(pilot, sender),
                Urgency::Ordinary => queue.ordinary.push(pilot, sender),
            }
        }
        grant(&self.0);
        granted.await.ok()
    }

    /// Notes whether a pilot's queries are slow.
    pub(super) fn note(&self, pilot: &PilotId, is_slow: bool) {
        let mut queue = lock(&self.0);
        if !is_slow {
            queue.slow_pilots.remove(pilot);
        } else if queue.slow_pilots.len() < MOST_REMEMBERED {
            queue.slow_pilots.insert(pilot.clone());
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            lock(&queue).give_back(&self.held);
            grant(&queue);
        }
    }
}

impl Queue {
    fn give_back(&mut self, held: &Held) {
        if let Some(at) = self.in_flight.iter().position(|other| other == held) {
            self.in_flight.swap_remove(at);
        }
    }

    /// Takes out whoever may go now and comes first.
    fn next(&mut self) -> Option<(Held, Waiter)> {
        let in_flight = &self.in_flight;
        let of = |kind: Kind| in_flight.iter().filter(|held| held.kind == kind).count();
        let has_room = |pilot: &PilotId| in_flight.iter().filter(|held| held.pilot == *pilot).count() < MOST_OF_ONE;
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let confirmation = self.confirmations.iter().find(|(_, (pilot, _))| has_room(pilot)).map(|(place, _)| *place);
        if let Some((pilot, waiter)) = confirmation.and_then(|place| self.confirmations.remove(&place)) {
            return Some((Held { pilot, kind: Kind::Confirmation }, waiter));
        }
        let slow = of(Kind::Slow);
        if of(Kind::Ordinary) + slow >= MOST_ORDINARY {
            return None;
        }
        // Those with slow queries have one slot of their own, too: the others might never leave them one.
        let first_slow = if slow == 0 { self.slow.pop(has_room) } else { None };
        if let Some((pilot, waiter)) = first_slow {
            return Some((Held { pilot, kind: Kind::Slow }, waiter));
        }
        if let Some((pilot, waiter)) = self.ordinary.pop(has_room) {
            return Some((Held { pilot, kind: Kind::Ordinary }, waiter));
        }
        let (pilot, waiter) = if slow < MOST_SLOW { self.slow.pop(has_room)? } else { return None };
        Some((Held { pilot, kind: Kind::Slow }, waiter))
    }
}

/// Hands out free slots to those whose turn it is.
fn grant(queue: &Arc<Mutex<Queue>>) {
    loop {
        let (slot, waiter) = {
            let mut locked = lock(queue);
            let Some((held, waiter)) = locked.next() else { return };
            locked.in_flight.push(held.clone());
            (Slot { queue: Some(Arc::clone(queue)), held }, waiter)
        };
        if let Err(mut unwanted) = waiter.send(slot) {
            // Its waiter has given up. Given back here and not when it is dropped, which would begin this loop anew in itself.
            unwanted.queue = None;
            lock(queue).give_back(&unwanted.held);
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn pilot(name: &str) -> PilotId {
        PilotId { namespace: name.to_owned(), name: name.to_owned(), uid: name.to_owned() }
    }

    /// Takes as many as there are at once.
    fn take(slots: &Slots, name: &str, urgency: Urgency) -> Vec<Slot> {
        std::iter::from_fn(|| slots.acquire(&pilot(name), urgency).now_or_never().flatten()).collect()
    }

    #[tokio::test]
    async fn nobody_holds_them_all() {
        let slots = Slots::default();
        let greedy = take(&slots, "greedy", Urgency::Ordinary);
        assert_eq!(greedy.len(), MOST_OF_ONE);
        let other = take(&slots, "other", Urgency::Ordinary);
        assert_eq!(other.len(), MOST_ORDINARY - MOST_OF_ONE);
        let confirming = take(&slots, "confirming", Urgency::Confirms(Instant::now()));
        assert_eq!(confirming.len(), MAX_IN_FLIGHT - MOST_ORDINARY, "one is kept for confirmations");
    }

    #[tokio::test]
    async fn slow_pilots_leave_a_slot_and_have_one() {
        let slots = Slots::default();
        for name in ["slow", "slower"] {
            slots.note(&pilot(name), true);
        }
        let slow: Vec<Slot> =
            ["slow", "slower"].iter().flat_map(|name| take(&slots, name, Urgency::Ordinary)).collect();
        assert_eq!(slow.len(), MOST_SLOW);
        let quick = take(&slots, "quick", Urgency::Ordinary);
        assert_eq!(quick.len(), 1);
        drop(slow);
        let more = [take(&slots, "other", Urgency::Ordinary), quick];
        assert_eq!(more.iter().map(Vec::len).sum::<usize>(), MOST_ORDINARY);
        let waiting = [pilot("slow"), pilot("third")];
        let mut slow = Box::pin(slots.acquire(&waiting[0], Urgency::Ordinary));
        let mut quick = Box::pin(slots.acquire(&waiting[1], Urgency::Ordinary));
        assert!(quick.as_mut().now_or_never().is_none() && slow.as_mut().now_or_never().is_none());
        drop(more.into_iter().flatten().next());
        assert!(slow.await.is_some());
    }

    #[tokio::test]
    async fn the_most_urgent_confirmation_goes_first() {
        let slots = Slots::default();
        let holding: Vec<Slot> =
            ["a", "b"].iter().flat_map(|name| take(&slots, name, Urgency::Confirms(Instant::now()))).collect();
        assert_eq!(holding.len(), MAX_IN_FLIGHT);
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(1);
        let waiting = [pilot("c"), pilot("d")];
        let mut second = Box::pin(slots.acquire(&waiting[0], Urgency::Confirms(later)));
        let mut first = Box::pin(slots.acquire(&waiting[1], Urgency::Confirms(now)));
        assert!(second.as_mut().now_or_never().is_none() && first.as_mut().now_or_never().is_none());
        drop(holding.into_iter().next());
        assert!(first.await.is_some());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_holds_nothing() {
        let slots = Slots::default();
        let holding = take(&slots, "a", Urgency::Ordinary);
        for _ in 0..10_000 {
            assert!(slots.acquire(&pilot("a"), Urgency::Ordinary).now_or_never().is_none());
        }
        drop(holding);
        assert_eq!(take(&slots, "a", Urgency::Ordinary).len(), MOST_OF_ONE);
    }
}
