//! When changes are open: the windows of a declaration, and the shared ones that narrow them, evaluated.
//!
//! A calendar has layers: a Pilot's own windows, and one for each ChangeCalendar that applies. It is open while no Deny
//! of any layer is active and, of each layer that has Allows, one is. It is a pure function of the declared windows, the
//! time-zone database handed to [`Calendar::parse`], and the instant asked about: it never reads the clock, the
//! environment or the disk.
//!
//! - Spans are half-open: a window is active at its start and no longer at its end.
//! - Every question costs work in proportion to the edges it passes, not to the time that has passed since a schedule
//!   began. Searches for an edge give up after [`HORIZON`] or [`MOST_EDGES`], whichever comes first.

mod cron;
mod opening;
mod parse;
mod span;
mod timeline;
mod wall;
mod weekly;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::api::window::{self, WindowKind};
use crate::violation::Violation;

pub use opening::{Interval, Opening, Reason, Unusable};

use opening::Deciding;
use span::{Merged, Span};
use timeline::{Stretch, Timeline};

/// How far [`Calendar::next_open`] and [`Calendar::next_close`] look ahead: ten years.
pub const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 3653);

/// How many edges of windows [`Calendar::next_open`] and [`Calendar::next_close`] pass at most. Only windows that
/// change every few minutes and never let each other be open come near it; such a search ends after some weeks.
pub const MOST_EDGES: usize = 50_000;

/// Windows, checked and ready to be asked, layer by layer in the order in which they were declared.
#[derive(Clone, Debug)]
pub struct Calendar {
    layers: Vec<Layer>,
    windows: Vec<Window>,
}

/// Windows that were declared together.
#[derive(Clone, Debug)]
struct Layer {
    /// The ChangeCalendar that they are of; `None` where they stand alone or are the Pilot's own.
    calendar: Option<String>,
    /// Whether one of its Allows has to be active.
    has_allows: bool,
    /// Why it counts as closed, whatever its windows are.
    unusable: Option<Unusable>,
}

#[derive(Clone, Debug)]
struct Window {
    layer: usize,
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

impl Calendar {
    /// Checks and reads a Pilot's `windows`, of which one must allow; `path` is where they stand, such as
    /// `spec.changes.windows`, and `zones` the time-zone database to look their zones up in. All violations are
    /// returned, not only the first.
    pub fn parse(windows: &[window::Window], zones: &TimeZoneDatabase, path: &str) -> Result<Calendar, Vec<Violation>> {
        parse::own(windows, zones, path)
    }

    /// As [`Calendar::parse`], for windows that only narrow: without an Allow they are open wherever no Deny is active.
    pub fn parse_shared(
        windows: &[window::Window],
        zones: &TimeZoneDatabase,
        path: &str,
    ) -> Result<Calendar, Vec<Violation>> {
        parse::shared(windows, zones, path)
    }

    /// A calendar without windows, which is always open.
    pub const fn unrestricted() -> Calendar {
        Calendar { layers: Vec::new(), windows: Vec::new() }
    }

    /// This calendar, open only where `other`, the windows of the ChangeCalendar `name`, is open too.
    #[must_use]
    pub fn narrowed_by(mut self, name: &str, other: &Calendar) -> Calendar {
        let below = self.layers.len();
        let named = |layer: &Layer| Layer { calendar: Some(name.to_owned()), ..layer.clone() };
        self.layers.extend(other.layers.iter().map(named));
        self.windows
            .extend(other.windows.iter().map(|window| Window { layer: below + window.layer, ..window.clone() }));
        self
    }

    /// This calendar, never open: a ChangeCalendar that narrows it cannot be used, and nobody knows what it says.
    #[must_use]
    pub fn closed_by(mut self, unusable: Unusable) -> Calendar {
        let calendar = Some(unusable.calendar.clone());
        self.layers.push(Layer { calendar, has_allows: false, unusable: Some(unusable) });
        self
    }

    /// Whether changes are open at `now`, and which windows decide it.
    pub fn opening_at(&self, now: Timestamp) -> Opening {
        let just_after = later(now, SignedDuration::from_nanos(1));
        let active = self.stretches(now, just_after).next().map(|stretch| stretch.active).unwrap_or_default();
        self.opening(&self.deciding(&active))
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

    /// The intervals that cover `[from, to)` without gaps or overlaps, a new one wherever their opening changes; none if
    /// `to` is not after `from`.
    pub fn intervals(&self, from: Timestamp, to: Timestamp) -> Vec<Interval> {
        let mut intervals: Vec<Interval> = Vec::new();
        let mut decided_by: Option<Deciding> = None;
        for stretch in self.stretches(from, to) {
            let deciding = self.deciding(&stretch.active);
            match intervals.last_mut() {
                Some(last) if decided_by.as_ref() == Some(&deciding) => last.end = stretch.end,
                _ => intervals.push(Interval {
                    start: stretch.start,
                    end: stretch.end,
                    opening: self.opening(&deciding),
                }),
            }
            decided_by = Some(deciding);
        }
        intervals
    }

    /// The one-off windows of the first layer that lie entirely before `now`, in declared order. They do no harm, and
    /// their author may want to know.
    pub fn past_windows(&self, now: Timestamp) -> Vec<&str> {
        let past = self.of_layer(0).filter(|window| match &window.times {
            Times::Once(span) => span.end <= now,
            Times::Always | Times::Weekly(_) | Times::Cron(_) => false,
        });
        past.map(|window| window.name.as_str()).collect()
    }

    /// The time zone in which all windows of the first layer are written, if it is the same; where they are always
    /// active they have none, and that of the next layer counts.
    pub fn common_zone(&self) -> Option<&TimeZone> {
        (0..self.layers.len()).find_map(|layer| {
            let timed = self.of_layer(layer).filter(|window| !matches!(window.times, Times::Always));
            let mut zones = timed.map(|window| &window.zone);
            let first = zones.next()?;
            Some(zones.all(|zone| zone == first).then_some(first))
        })?
    }

    fn of_layer(&self, layer: usize) -> impl Iterator<Item = &Window> {
        self.windows.iter().filter(move |window| window.layer == layer)
    }

    fn next_where(&self, from: Timestamp, open: bool) -> Option<Timestamp> {
        if self.is_unusable() {
            return (!open).then_some(from);
        }
        self.stretches(from, later(from, HORIZON))
            .take(MOST_EDGES)
            .find(|stretch| self.deciding(&stretch.active).is_open == open)
            .map(|stretch| stretch.start)
    }

    fn stretches(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = Stretch> + '_ {
        Timeline::new(self.windows.iter().map(|window| window.times.spans(from, until)), from, until)
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
