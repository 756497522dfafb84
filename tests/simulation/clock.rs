//! The time of day in virtual time: it moves when tokio's does.

use std::cell::Cell;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

thread_local! {
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// When every simulation begins.
pub const BEGIN: Timestamp = Timestamp::constant(1_772_442_000, 0);

/// Begins anew; a simulation runs on one thread.
pub fn start() {
    STARTED.set(Some(Instant::now()));
}

/// The time, to the millisecond.
pub fn now() -> Timestamp {
    let begun = STARTED.get().expect("the simulation has started");
    let passed = i64::try_from(begun.elapsed().as_millis()).unwrap();
    BEGIN + SignedDuration::from_millis(passed)
}
