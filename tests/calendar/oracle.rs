//! The written rules of windows, read by brute force.
//!
//! Every minute of a range is converted from an instant to the wall clock of the zone, and nothing else is asked of the
//! time library: which wall-clock times are missing or come twice is seen in that list. Schedules are kept as plain
//! sets of minutes, hours and days, so that no cron parser takes part either.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

pub(crate) const MINUTES_OF_DAY: i64 = 1440;

/// What a zone's wall clock shows in each minute of a range, as minutes since Thursday 1970-01-01 00:00.
pub(crate) struct WallClock {
    first_minute: i64,
    shown: Vec<i64>,
    seen: HashMap<i64, Vec<usize>>,
}

impl WallClock {
    pub(crate) fn scan(zone: &TimeZone, first_minute: i64, minutes: i64) -> Self {
        let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
        let shown: Vec<i64> = (first_minute..first_minute + minutes)
            .map(|minute| zone.to_datetime(instant(minute)).duration_since(epoch).as_mins())
            .collect();
        let mut seen: HashMap<i64, Vec<usize>> = HashMap::new();
        for (index, wall) in shown.iter().enumerate() {
            seen.entry(*wall).or_default().push(index);
        }
        WallClock { first_minute, shown, seen }
    }

    pub(crate) fn instant_of(&self, index: usize) -> Timestamp {
        instant(self.first_minute + i64::try_from(index).unwrap())
    }

    /// The days that the range shows, without the one at each end, which it may show only in part.
    fn days(&self) -> impl Iterator<Item = i64> + use<> {
        let day = |wall: &i64| wall.div_euclid(MINUTES_OF_DAY);
        let first = self.shown.iter().map(day).min().unwrap_or_default();
        let last = self.shown.iter().map(day).max().unwrap_or_default();
        first + 1..last
    }

    /// All minutes at which the clock shows `wall`; for a time it never shows the first minute after the gap.
    fn minutes_of(&self, wall: i64) -> Vec<usize> {
        match self.seen.get(&wall) {
            Some(indices) => indices.clone(),
            None => self.shown.iter().position(|shown| *shown > wall).into_iter().collect(),
        }
    }
}

pub(crate) fn instant(minute: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute)
}

/// A window as plain numbers; days of the week count from Monday = 0.
#[derive(Clone, Debug)]
pub(crate) enum Plain {
    /// Minutes of the day; `to` may be 1440.
    Weekly { days: Vec<usize>, from: i64, to: i64 },
    Cron {
        minutes: Vec<i64>,
        hours: Vec<i64>,
        /// All days where empty.
        days: Vec<usize>,
        hour_is_wildcard_or_step: bool,
        duration: i64,
    },
    /// Minutes on the wall clock since 1970-01-01 00:00.
    Once { from: i64, to: i64 },
}

impl Plain {
    /// For each minute of the scanned range, whether the window is active.
    pub(crate) fn active(&self, clock: &WallClock) -> Vec<bool> {
        let mut active = vec![false; clock.shown.len()];
        for (start, end) in self.spans(clock) {
            let end = end.min(active.len());
            if start < end {
                active[start..end].fill(true);
            }
        }
        active
    }

    fn spans(&self, clock: &WallClock) -> Vec<(usize, usize)> {
        match self {
            Plain::Weekly { days, from, to } => {
                let listed = clock.days().filter(|day| days.contains(&weekday(*day)));
                let walls = listed.map(|day| {
                    let end = if to <= from { to + MINUTES_OF_DAY } else { *to };
                    (day * MINUTES_OF_DAY + from, day * MINUTES_OF_DAY + end)
                });
                walls.map(|(from, to)| between(clock, from, to)).collect()
            }
            Plain::Once { from, to } => vec![between(clock, *from, *to)],
            Plain::Cron { minutes, hours, days, hour_is_wildcard_or_step, duration } => {
                let mut spans = Vec::new();
                for day in clock.days().filter(|day| days.is_empty() || days.contains(&weekday(*day))) {
                    for (hour, minute) in hours.iter().flat_map(|hour| minutes.iter().map(move |minute| (hour, minute)))
                    {
                        let wall = day * MINUTES_OF_DAY + hour * 60 + minute;
                        let mut starts = clock.minutes_of(wall);
                        if !hour_is_wildcard_or_step {
                            starts.truncate(1);
                        }
                        let length = usize::try_from(*duration).unwrap();
                        spans.extend(starts.into_iter().map(|start| (start, start + length)));
                    }
                }
                spans
            }
        }
    }
}

/// From the earlier minute that shows `from` to the later one that shows `to`; what is not shown is beyond the range.
fn between(clock: &WallClock, from: i64, to: i64) -> (usize, usize) {
    let beyond = clock.shown.len();
    let start = clock.minutes_of(from).first().copied().unwrap_or(beyond);
    let end = clock.minutes_of(to).last().copied().unwrap_or(beyond);
    (start, end)
}

fn weekday(day: i64) -> usize {
    // The first of January 1970 was a Thursday.
    usize::try_from((day + 3).rem_euclid(7)).unwrap()
}

/// The calendar's own answer as one value per minute, for comparison.
pub(crate) fn by_minute(
    calendar: &pilotguard::calendar::Calendar,
    clock: &WallClock,
    core: std::ops::Range<usize>,
) -> Vec<bool> {
    let minute = |index: usize| clock.instant_of(index);
    let mut open = Vec::with_capacity(core.len());
    for interval in calendar.intervals(minute(core.start), minute(core.end)) {
        while open.len() < core.len() && minute(core.start + open.len()) < interval.end {
            assert!(interval.start <= minute(core.start + open.len()), "a gap before {}", interval.start);
            open.push(interval.opening.open);
        }
    }
    open
}
