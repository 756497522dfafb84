//! Whether a change may start now as far as windows are concerned: the Pilot's own and those of the ChangeCalendars that
//! narrow them.
//!
//! When windows are open is computed in [`crate::calendar`]; here it is only asked, and put into words.

use jiff::{SignedDuration, Timestamp};

use super::Case;
use super::proposal::{Finding, GuardName, Proposal, Until};
use crate::api::duration::Duration;
use crate::calendar::{Opening, Reason};

/// Maximum number of windows searched for one that leaves enough runway.
const MOST_WINDOWS_AHEAD: usize = 64;

/// The guard: outside the windows, in a freeze, or with too little of a window left.
pub(super) fn window(case: &Case<'_>, _: &Proposal) -> Option<Finding> {
    let opening = case.declaration.calendar.opening_at(case.now);
    if opening.open {
        return too_little_runway(case);
    }
    let next = next_start(case, case.now);
    let until = next.map_or_else(|| Until::Someone(remedy(&opening)), Until::Instant);
    Some(Finding {
        guard: GuardName::Window,
        mode: case.declaration.enforcement.changes,
        problem: problem(case, &opening, next),
        until,
    })
}

/// A window that closes before a change could be seen through is as good as closed.
fn too_little_runway(case: &Case<'_>) -> Option<Finding> {
    let runway = case.declaration.runway;
    if runway <= SignedDuration::ZERO {
        // Most pilots: when the window closes, which may take long to compute, is asked by nobody.
        return None;
    }
    let closes = case.declaration.calendar.next_close(case.now)?;
    let left = closes.duration_since(case.now);
    if left >= runway {
        return None;
    }
    let problem = format!(
        "too little of the change window is left: it closes at {closes:.0}, and changes.runway is {}",
        Duration::from_secs(runway.as_secs())
    );
    let until = match next_start(case, closes) {
        Some(instant) => Until::Instant(instant),
        None => Until::Someone("the team declares a window that is longer than changes.runway".to_owned()),
    };
    Some(Finding { guard: GuardName::Window, mode: case.declaration.enforcement.changes, problem, until })
}

/// The first instant from `from` on at which a window is open and leaves enough runway.
fn next_start(case: &Case<'_>, mut from: Timestamp) -> Option<Timestamp> {
    let calendar = &case.declaration.calendar;
    if case.declaration.runway <= SignedDuration::ZERO {
        return calendar.next_open(from);
    }
    for _ in 0..MOST_WINDOWS_AHEAD {
        let opens = calendar.next_open(from)?;
        match calendar.next_close(opens) {
            Some(closes) if closes.duration_since(opens) < case.declaration.runway => from = closes,
            _ => return Some(opens),
        }
    }
    None
}

/// Why changes are closed.
fn problem(case: &Case<'_>, opening: &Opening, next: Option<Timestamp>) -> String {
    let mut problems: Vec<String> = opening.unusable.iter().map(ToString::to_string).collect();
    if !opening.reasons.is_empty() {
        problems.push(format!("in a freeze: {}", list(&opening.reasons)));
    }
    if problems.is_empty() {
        let windows = opening.outside_of();
        problems.push(match next.map(|instant| case.declaration.calendar.opening_at(instant).reasons) {
            Some(reasons) => format!("outside {windows}; the next is {}", list(&reasons)),
            None => format!("outside {windows}"),
        });
    }
    problems.join(", and ")
}

/// What has to be done where waiting opens nothing.
fn remedy(opening: &Opening) -> String {
    let remedies: Vec<&str> = opening.unusable.iter().map(|unusable| unusable.remedy.as_str()).collect();
    if !remedies.is_empty() {
        return remedies.join(", and ");
    }
    let of_calendars = opening.reasons.iter().map(|reason| &reason.calendar).chain(&opening.outside).flatten();
    match of_calendars.min() {
        Some(calendar) => format!("a platform admin lets calendar {calendar} open again"),
        None => "the team declares a window that opens again".to_owned(),
    }
}

fn list(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
