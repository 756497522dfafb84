//! Running counts: what has been counted of a counter, so that a long span is not read again at every evaluation.
//!
//! A tally moves forward by the events since it was moved last. Of a window it keeps the counts of slots, of a span that
//! begins at one instant their sum. The slot that the beginning of a window cuts is left out, a hundredth of the window at
//! most. Pure; what is asked to keep it is in `counting.rs`.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

/// Whole slots of a window, at most.
const SLOTS: i128 = 128;

/// A part that nobody asked for during this time is forgotten.
const KEPT: SignedDuration = SignedDuration::from_mins(10);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The events within a span that ends now.
    Window(SignedDuration),
    /// The events since an instant.
    Since(Timestamp),
}

/// The running counts of one counter.
#[derive(Clone, Debug)]
pub struct Tally {
    /// All events until then have been counted.
    until: Timestamp,
    parts: BTreeMap<Part, Counted>,
}

#[derive(Clone, Debug)]
struct Counted {
    used: Timestamp,
    events: Events,
}

#[derive(Clone, Debug)]
enum Events {
    Sum(f64),
    Slots(Slots),
}

/// The counts of a window. Slot number n reaches from n times its length after 1970 to n + 1 times that.
#[derive(Clone, Debug)]
struct Slots {
    length: SignedDuration,
    /// The number of the last of them, which is still open.
    newest: i128,
    counts: VecDeque<f32>,
}

impl Tally {
    /// A tally that has counted nothing.
    pub const fn new(until: Timestamp) -> Self {
        Self { until, parts: BTreeMap::new() }
    }

    /// Until when everything has been counted.
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether a part is counted.
    pub fn knows(&self, part: Part) -> bool {
        self.parts.contains_key(&part)
    }

    /// Whether nobody has asked for any part lately.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.parts.values().all(|counted| is_old(counted, now))
    }

    /// Moves forward from an instant to another, unless another evaluation has done so already.
    pub fn advance(&mut self, from: Timestamp, to: Timestamp, events: f64) {
        if self.until != from || to <= from {
            return;
        }
        self.until = to;
        self.parts.retain(|_, counted| !is_old(counted, to));
        for counted in self.parts.values_mut() {
            match &mut counted.events {
                Events::Sum(sum) => *sum += events,
                Events::Slots(slots) => slots.add(to, events),
            }
        }
    }

    /// Begins to count the events since an instant; so many have been until now.
    pub fn begin_since(&mut self, from: Timestamp, events: f64) {
        self.parts.insert(Part::Since(from), Counted { used: self.until, events: Events::Sum(events) });
    }

    /// Begins to count a window. `past` are the counts of whole slots by the second of their end, `open` is that of the newest
    /// slot until now.
    pub fn begin_window(&mut self, span: SignedDuration, length: SignedDuration, past: &[(f64, f64)], open: f64) {
        let newest = slot_at(self.until, length);
        let mut counts: VecDeque<f32> = (0..span.as_nanos() / length.as_nanos()).map(|_| 0.0).collect();
        counts.push_back(narrow(open));
        for (end, events) in past {
            let end = SignedDuration::try_from_secs_f64(*end).unwrap_or_default();
            let back = usize::try_from(newest - (ceil(end.as_nanos(), length) - 1)).unwrap_or(0);
            let place = counts.len().checked_sub(1 + back).filter(|_| back > 0);
            if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
                *count = narrow(*events);
            }
        }
        let events = Events::Slots(Slots { length, newest, counts });
        self.parts.insert(Part::Window(span), Counted { used: self.until, events });
    }

    /// The events of a part since an instant: those of a sum have their own.
    pub fn count(&mut self, part: Part, from: Timestamp) -> Option<f64> {
        let counted = self.parts.get_mut(&part)?;
        counted.used = self.until;
        Some(match &counted.events {
            Events::Sum(sum) => *sum,
            Events::Slots(slots) => slots.since(from),
        })
    }
}

impl Slots {
    fn add(&mut self, until: Timestamp, events: f64) {
        let kept = self.counts.len();
        let slot = slot_at(until, self.length);
        // What lies further back than all of them is gone.
        let passed = usize::try_from(slot - self.newest).unwrap_or(0).min(kept);
        self.counts.drain(..passed);
        self.counts.extend(std::iter::repeat_n(0.0, passed));
        self.newest = self.newest.max(slot);
        if let Some(open) = self.counts.back_mut() {
            *open += narrow(events);
        }
    }

    /// The events of all slots that begin at an instant or later.
    fn since(&self, from: Timestamp) -> f64 {
        let first = ceil(from.as_nanosecond(), self.length);
        let whole = usize::try_from(self.newest - first + 1).unwrap_or(0);
        self.counts.iter().rev().take(whole).map(|count| f64::from(*count)).sum()
    }
}

/// The length of the slots of a window: a multiple of the interval.
pub fn slot_length(span: SignedDuration, interval: SignedDuration) -> SignedDuration {
    let shortest = SignedDuration::from_nanos_i128(span.as_nanos() / SLOTS);
    let interval = interval.max(SignedDuration::from_secs(1));
    SignedDuration::from_nanos_i128(ceil(shortest.as_nanos(), interval).max(1) * interval.as_nanos())
}

/// For how long the slot that is open at an instant has been open.
pub fn open_for(until: Timestamp, length: SignedDuration) -> SignedDuration {
    let begun = slot_at(until, length) * length.as_nanos();
    SignedDuration::from_nanos_i128(until.as_nanosecond() - begun)
}

fn slot_at(until: Timestamp, length: SignedDuration) -> i128 {
    ceil(until.as_nanosecond(), length) - 1
}

/// How many times a length fits, rounded up.
fn ceil(nanoseconds: i128, length: SignedDuration) -> i128 {
    let length = length.as_nanos().max(1);
    nanoseconds.div_euclid(length) + i128::from(nanoseconds.rem_euclid(length) > 0)
}

fn is_old(counted: &Counted, now: Timestamp) -> bool {
    now.duration_since(counted.used) > KEPT
}

/// Seven digits are enough for a slot.
#[expect(clippy::cast_possible_truncation, reason = "that is the purpose")]
const fn narrow(events: f64) -> f32 {
    events as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    const INTERVAL: SignedDuration = SignedDuration::from_secs(15);

    #[test]
    fn slots_are_multiples_of_the_interval_and_a_hundredth_at_most() {
        for (span, slot) in [(600, 15), (1920, 15), (1921, 30), (3600, 30), (604_800, 4725)] {
            let found = slot_length(SignedDuration::from_secs(span), INTERVAL);
            assert_eq!(found, SignedDuration::from_secs(slot), "{span}");
        }
        assert_eq!(open_for(at(100), SignedDuration::from_secs(30)).as_secs(), 10);
        assert_eq!(open_for(at(120), SignedDuration::from_secs(30)).as_secs(), 30);
    }

    #[test]
    fn who_was_overtaken_counts_nothing_twice() {
        let mut tally = Tally::new(at(0));
        tally.begin_since(at(-60), 5.0);
        for _ in 0..3 {
            tally.advance(at(0), at(15), 7.0);
        }
        assert_eq!(tally.count(Part::Since(at(-60)), at(-60)), Some(12.0));
        tally.advance(at(15), at(15), 7.0);
        tally.advance(at(30), at(45), 7.0);
        assert_eq!((tally.until(), tally.count(Part::Since(at(-60)), at(-60))), (at(15), Some(12.0)));
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let (mut tally, kept, left) = (Tally::new(at(0)), Part::Since(at(-60)), Part::Since(at(-90)));
        tally.begin_since(at(-60), 0.0);
        tally.begin_since(at(-90), 0.0);
        for step in 0..50 {
            tally.advance(at(step * 15), at(step * 15 + 15), 1.0);
            let _ = tally.count(kept, at(-60));
        }
        assert!(tally.knows(kept) && !tally.knows(left));
        assert!(!tally.is_idle(at(900)) && tally.is_idle(at(9000)));
    }

    proptest! {
        /// Compared with a plain list of all events: inwards, and never more than a slot less.
        #[test]
        fn a_window_counts_what_lies_in_it(
            span in 600_i64..100_000,
            before in prop::collection::vec(0_u16..1000, 0..200),
            steps in prop::collection::vec((1_i64..40, 0_u16..1000), 1..300),
            begun in 10_000_000_i64..10_010_000,
        ) {
            let begun = begun / 15 * 15;
            let (span, part) = (SignedDuration::from_secs(span), Part::Window(SignedDuration::from_secs(span)));
            let length = slot_length(span, INTERVAL);
            let mut tally = Tally::new(at(begun));
            let newest = slot_at(at(begun), length);
            // Events at the ends of whole slots, and then at the ends of steps.
            let mut events: Vec<(i64, u16)> = Vec::new();
            for (back, count) in before.iter().enumerate() {
                let end = (newest - back as i128) * length.as_nanos() / 1_000_000_000;
                events.push((i64::try_from(end).unwrap(), *count));
            }
            #[expect(clippy::cast_precision_loss, reason = "seconds fit")]
            let past: Vec<(f64, f64)> = events.iter().map(|(end, count)| (*end as f64, f64::from(*count))).collect();
            tally.begin_window(span, length, &past, 0.0);
            let mut now = begun;
            for (intervals, count) in steps {
                let next = now + intervals * 15;
                tally.advance(at(now), at(next), f64::from(count));
                events.push((next, count));
                now = next;
                let counted = tally.count(part, at(now) - span).unwrap();
                let within = |from: i64| -> f64 {
                    events.iter().filter(|(end, _)| *end > from).map(|(_, count)| f64::from(*count)).sum()
                };
                let from = now - span.as_secs();
                prop_assert!(counted <= within(from) + 1e-3, "{counted} of {}", within(from));
                prop_assert!(counted >= within(from + length.as_secs()) - 1e-3, "{counted}, at least {}", within(from + length.as_secs()));
            }
        }
    }
}
