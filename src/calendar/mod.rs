//! When changes are open: the windows of a declaration, evaluated.
//!
//! A calendar is open while some Allow window is active and no Deny is. It is a pure function of the declared windows,
//! the time-zone database handed to [`Calendar::parse`], and the instant asked about: it never reads the clock, the
//! environment or the disk.
//!
//! - Spans are half-open: a window is active at its start and no longer at its end.
//! - Every question costs work in proportion to the edges it passes, not to the time that has passed since a schedule
//!   began. Searches for an edge give up after [`HORIZON`] or [`MOST_EDGES`], whichever comes first.

mod cron;
mod parse;
mod span;
mod timeline;
mod wall;
mod weekly;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::api::window::{self, WindowKind};
use crate::violation::Violation;

use span::{Merged, Span};
use timeline::{Stretch, Timeline};

/// How far [`Calendar::next_open`] and [`Calendar::next_close`] look ahead: ten years.
pub const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 3653);

/// How many edges of windows [`Calendar::next_open`] and [`Calendar::next_close`] pass at most. Only windows that
/// change every few minutes and never let each other be open come near it; such a search ends after some weeks.
pub const MOST_EDGES: usize = 50_000;

/// The windows of one declaration, checked and ready to be asked, in the order in which they were declared.
#[derive(Clone, Debug)]
pub struct Calendar {
    windows: Vec<Window>,
}

#[derive(Clone, Debug)]
struct Window {
    name: String,
    kind: WindowKind,
    reason: Option<String>,
    zone: TimeZone,
    times: Times,
}

#[derive(Clone, Debug)]
enum Times {
    Always,
    Once(Span),
    Weekly(weekly::Weekly),
    Cron(Box<cron::Cron>),
}

/// Whether changes are open at an instant, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Some Allow is active and no Deny is.
    pub open: bool,
    /// The active Denies, else the active Allows, in declared order; none where nothing is active.
    pub reasons: Vec<Reason>,
}

/// A window that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Its name.
    pub window: String,
    /// Whether it allows or freezes.
    pub kind: WindowKind,
    /// Why it was declared, where its author said so.
    pub reason: Option<String>,
}

/// A span of time, `[start, end)`, in which neither `open` nor `reasons` changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Its first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
    /// As in [`Opening`].
    pub open: bool,
    /// As in [`Opening`].
    pub reasons: Vec<Reason>,
}

impl Calendar {
    /// Checks and reads `windows`; `path` is where they stand, such as `spec.changes.windows`, and `zones` the
    /// time-zone database to look their zones up in. All violations are returned, not only the first.
    pub fn parse(windows: &[window::Window], zones: &TimeZoneDatabase, path: &str) -> Result<Calendar, Vec<Violation>> {
        parse::calendar(windows, zones, path)
    }

    /// Whether changes are open at `now`, and which windows decide it.
    pub fn opening_at(&self, now: Timestamp) -> Opening {
        let just_after = later(now, SignedDuration::from_nanos(1));
        let active = self.stretches(now, just_after).next().map(|stretch| stretch.active).unwrap_or_default();
        Opening { open: self.is_open(&active), reasons: self.reasons(&active) }
    }

    /// The first instant at or after `from` at which changes are open; none if there is no such instant within
    /// [`HORIZON`] and [`MOST_EDGES`].
    pub fn next_open(&self, from: Timestamp) -> Option<Timestamp> {
        self.next_where(from, true)
    }

    /// The first instant at or after `from` at which changes are not open; none as for [`Calendar::next_open`].
    pub fn next_close(&self, from: Timestamp) -> Option<Timestamp> {
        self.next_where(from, false)
    }

    /// The intervals that cover `[from, to)` without gaps or overlaps, a new one wherever `open` or `reasons` changes;
    /// none if `to` is not after `from`.
    pub fn intervals(&self, from: Timestamp, to: Timestamp) -> Vec<Interval> {
        let mut intervals: Vec<Interval> = Vec::new();
        let mut decided_by: Vec<usize> = Vec::new();
        for stretch in self.stretches(from, to) {
            let deciding = self.deciding(&stretch.active);
            match intervals.last_mut() {
                Some(last) if deciding == decided_by => last.end = stretch.end,
                _ => intervals.push(Interval {
                    start: stretch.start,
                    end: stretch.end,
                    open: self.is_open(&stretch.active),
                    reasons: self.reasons(&stretch.active),
                }),
            }
            decided_by = deciding;
        }
        intervals
    }

    /// The one-off windows that lie entirely before `now`, in declared order. They do no harm, and their author may
    /// want to know.
    pub fn past_windows(&self, now: Timestamp) -> Vec<&str> {
        let past = self.windows.iter().filter(|window| match &window.times {
            Times::Once(span) => span.end <= now,
            Times::Always | Times::Weekly(_) | Times::Cron(_) => false,
        });
        past.map(|window| window.name.as_str()).collect()
    }

    /// The time zone in which all windows are written, if it is the same. One that is always active has none.
    pub fn common_zone(&self) -> Option<&TimeZone> {
        let mut zones =
            self.windows.iter().filter(|window| !matches!(window.times, Times::Always)).map(|window| &window.zone);
        let first = zones.next()?;
        zones.all(|zone| zone == first).then_some(first)
    }

    fn next_where(&self, from: Timestamp, open: bool) -> Option<Timestamp> {
        self.stretches(from, later(from, HORIZON))
            .take(MOST_EDGES)
            .find(|stretch| self.is_open(&stretch.active) == open)
            .map(|stretch| stretch.start)
    }

    fn stretches(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = Stretch> + '_ {
        Timeline::new(self.windows.iter().map(|window| window.times.spans(from, until)), from, until)
    }

    fn is_open(&self, active: &[usize]) -> bool {
        let any = |kind| active.iter().any(|index| self.windows[*index].kind == kind);
        any(WindowKind::Allow) && !any(WindowKind::Deny)
    }

    /// Of the active windows the Denies, else the Allows.
    fn deciding(&self, active: &[usize]) -> Vec<usize> {
        let of_kind =
            |kind| -> Vec<usize> { active.iter().copied().filter(|index| self.windows[*index].kind == kind).collect() };
        let denies = of_kind(WindowKind::Deny);
        if denies.is_empty() { of_kind(WindowKind::Allow) } else { denies }
    }

    fn reasons(&self, active: &[usize]) -> Vec<Reason> {
        let reason = |index: usize| {
            let window = &self.windows[index];
            Reason { window: window.name.clone(), kind: window.kind, reason: window.reason.clone() }
        };
        self.deciding(active).into_iter().map(reason).collect()
    }
}

impl Times {
    /// The spans from the last ones that may be active at `from` up to `until`: in order, apart, not empty.
    fn spans(&self, from: Timestamp, until: Timestamp) -> Box<dyn Iterator<Item = Span> + '_> {
        match self {
            Times::Always => {
                let always = Span { start: Timestamp::MIN, end: Timestamp::MAX };
                Box::new(Merged::new([always].into_iter(), until))
            }
            Times::Once(span) => Box::new(Merged::new([*span].into_iter(), until)),
            Times::Weekly(weekly) => Box::new(Merged::new(weekly.spans(from), until)),
            Times::Cron(cron) => Box::new(Merged::new(cron.spans(from, until), until)),
        }
    }
}

fn later(from: Timestamp, by: SignedDuration) -> Timestamp {
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}
