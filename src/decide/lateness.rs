//! Late evaluations: what a gap does to timers, and how late is too late.
//!
//! An evaluation vouches for the time up to the next one, as long as that comes about when it is due. The rest of a
//! longer gap is not known: it counts toward no timer, and it stops none. The same holds for `for` while a condition
//! is Unknown. Only after an hour without evidence does a timer start anew, as Prometheus does with its own alerts
//! after an outage.

use jiff::{SignedDuration, Timestamp};

use super::turn::{RESYNC, Turn};
use super::{Case, SourceFacts, Timer};
use crate::declaration::Declaration;

/// Evaluations so far apart follow each other without a gap; so do those within three evaluation intervals.
const LONGEST_STEP: SignedDuration = SignedDuration::from_secs(30);

/// After so long without evidence a timer starts anew.
const TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

impl Turn<'_> {
    /// Keeps time that nobody watched from counting as time in which the service was healthy.
    pub(super) fn pause_timers(&mut self) {
        let now = self.case.now;
        let longest = longest_step(self.case.source);
        let memory = &mut self.ledger.memory;
        let Some(gap) = memory.last_evaluation.map(|last| now.duration_since(last)) else { return };
        let unwatched = (gap - longest).max(SignedDuration::ZERO);
        let paused = |since: Option<Timestamp>| since.filter(|_| gap <= TOLERANCE).map(|since| since + unwatched);
        for timer in memory.timers.values_mut() {
            timer.clear_since = paused(timer.clear_since);
        }
        memory.well_since = paused(memory.well_since);
        memory.clear_since = paused(memory.clear_since);
    }

    /// Since when a condition that holds now has held, without the time in which that was not known.
    pub(super) fn held_since(&self, timer: &Timer) -> Timestamp {
        let now = self.case.now;
        let (Some(since), Some(at)) = (timer.holds_since, timer.held_at) else { return now };
        if is_forgotten(at, now) {
            return now;
        }
        let gap = now.duration_since(at);
        let follows = self.case.ledger.memory.last_evaluation == Some(at);
        let watched = if follows { gap.min(longest_step(self.case.source)) } else { SignedDuration::ZERO };
        since + (gap - watched)
    }
}

/// Whether a condition that was last seen to hold at `at` is as good as never seen.
pub(super) fn is_forgotten(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) > TOLERANCE
}

/// How late this evaluation is.
pub fn lag(case: &Case<'_>) -> SignedDuration {
    let due = case.ledger.memory.due.unwrap_or(case.now);
    case.now.duration_since(due).max(SignedDuration::ZERO)
}

/// Evaluations that are later than this endanger what the triggers promise: time would be left out of their `for`, or the
/// shortest `for` is over before anybody looks.
pub fn longest_lag(declaration: &Declaration, source: SourceFacts) -> SignedDuration {
    if !declaration.asks_metrics() {
        return RESYNC * 3;
    }
    let holds = declaration.triggers.iter().map(|trigger| trigger.hold_for);
    let shortest = holds.filter(SignedDuration::is_positive).min().unwrap_or(SignedDuration::MAX);
    longest_step(source).min(shortest.max(source.evaluation_interval * 3))
}

fn longest_step(source: SourceFacts) -> SignedDuration {
    (source.evaluation_interval * 3).max(LONGEST_STEP)
}
