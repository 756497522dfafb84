//! The one clock. Everything that judges is told the time by whoever calls it.

use jiff::{Timestamp, Unit};

/// The time, to the millisecond: finer digits would only fill the records.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    // Only an instant at the end of time cannot be rounded.
    now.round(Unit::Millisecond).unwrap_or(now)
}
