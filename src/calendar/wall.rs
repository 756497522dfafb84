//! From wall-clock times to instants.
//!
//! Where the clocks change, a wall-clock time can be missing or come twice. A missing one means the first instant
//! after the gap; of two instants a start takes the earlier and an end the later, so that a window never loses time
//! which its author can read on the wall.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// The instant at which something that begins at `wall` begins.
pub(super) fn start(zone: &TimeZone, wall: DateTime) -> Timestamp {
    let found = zone.to_ambiguous_timestamp(wall);
    match found.offset() {
        AmbiguousOffset::Gap { .. } => first_after_gap(zone, wall),
        _ => found.earlier().unwrap_or(nearest_limit(wall)),
    }
}

/// The instant at which something that ends at `wall` ends.
pub(super) fn end(zone: &TimeZone, wall: DateTime) -> Timestamp {
    let found = zone.to_ambiguous_timestamp(wall);
    match found.offset() {
        AmbiguousOffset::Gap { .. } => first_after_gap(zone, wall),
        _ => found.later().unwrap_or(nearest_limit(wall)),
    }
}

/// The second instant at which the clocks show `wall`, if they do so twice.
pub(super) fn repeated(zone: &TimeZone, wall: DateTime) -> Option<Timestamp> {
    let found = zone.to_ambiguous_timestamp(wall);
    match found.offset() {
        AmbiguousOffset::Fold { .. } => found.later().ok(),
        _ => None,
    }
}

/// The first instant of a day, if from there on the clocks run undisturbed into the next day. A change at the very end
/// disturbs too: it may repeat the last hour of the day.
pub(super) fn undisturbed_midnight(zone: &TimeZone, midnight: DateTime) -> Option<Timestamp> {
    let found = zone.to_ambiguous_timestamp(midnight);
    if !matches!(found.offset(), AmbiguousOffset::Unambiguous { .. }) {
        return None;
    }
    let first = found.earlier().ok()?;
    let next_midnight = first.checked_add(SignedDuration::from_hours(24)).ok()?;
    let just_before = first.checked_sub(SignedDuration::from_nanos(1)).ok()?;
    let undisturbed = zone.following(just_before).next().is_none_or(|change| change.timestamp() > next_midnight);
    undisturbed.then_some(first)
}

fn first_after_gap(zone: &TimeZone, wall: DateTime) -> Timestamp {
    let found = zone.to_ambiguous_timestamp(wall);
    // With the offset of before the gap `wall` lies after the change, with the offset of after it before the change.
    found
        .earlier()
        .ok()
        .and_then(|before| zone.following(before).next().map(|change| change.timestamp()))
        .or_else(|| found.later().ok())
        .unwrap_or(nearest_limit(wall))
}

/// For dates that no instant can express: an end in the year 9999 means for ever.
fn nearest_limit(wall: DateTime) -> Timestamp {
    if wall.year() > 0 { Timestamp::MAX } else { Timestamp::MIN }
}
