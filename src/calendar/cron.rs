//! Windows that start by a cron schedule and last a fixed elapsed time.
//!
//! The schedule is read by croner; the search is ours, day by day: the starts of a day are known in advance as minutes
//! after midnight, so that a day on which the clocks run undisturbed costs one addition per run of starts, and only a
//! day with a clock change is worked out minute by minute. Because all occurrences last equally long, the latest start
//! decides whether the window is active; nothing before it is ever looked at.

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::span::Span;
use super::wall;

/// Starts at every wall-clock minute that the schedule matches, and lasts `duration`.
#[derive(Clone, Debug)]
pub(super) struct Cron {
    zone: TimeZone,
    schedule: croner::Cron,
    duration: SignedDuration,
    /// Wall-clock times of the starts on a day that matches, in order.
    times: Vec<Time>,
    /// The spans of such a day as time since midnight, those that touch joined: each from its start to its end.
    runs: Vec<(SignedDuration, SignedDuration)>,
    /// A start that the clocks show twice happens twice.
    runs_twice_in_fold: bool,
}

impl Cron {
    /// Reads a five-field schedule; the error is what croner says about it.
    pub(super) fn parse(schedule: &str, duration: SignedDuration, zone: TimeZone) -> Result<Cron, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let schedule = parser.parse(schedule).map_err(|error| error.to_string())?;
        let times = times_of_day(&schedule);
        // The pattern is the schedule with its nicknames (`@daily`) written out.
        let hour = schedule.pattern.as_str().split_whitespace().nth(1).unwrap_or_default();
        let runs_twice_in_fold = hour.contains(['*', '/']);
        let runs = runs_of_day(&times, duration);
        Ok(Cron { zone, schedule, duration, times, runs, runs_twice_in_fold })
    }

    /// Whether the schedule never starts at all, such as one for the 30th of February.
    pub(super) fn never_starts(&self) -> bool {
        // Dates and weekdays repeat every 400 years.
        let matches_in = |year: i16, month: i8| {
            let first = Date::constant(year, month, 1);
            self.month_matches(first)
                && first.series(1.day()).take_while(|date| date.month() == month).any(|date| self.matches(date))
        };
        self.times.is_empty() || !(2000..2400).any(|year| (1..=12).any(|month| matches_in(year, month)))
    }

    /// The spans from the one that decides at `from` on, in order, up to `until`.
    pub(super) fn spans(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = Span> + '_ {
        let last = self.zone.to_datetime(until).date().saturating_add(1.day());
        self.deciding_day(from)
            .series(1.day())
            .take_while(move |date| *date <= last)
            .flat_map(|date| self.spans_of(date))
    }

    /// The day that holds the latest start by `at`, as far as it can matter; else the day of `at`.
    fn deciding_day(&self, at: Timestamp) -> Date {
        let today = self.zone.to_datetime(at).date();
        // A day more on each side, because the clocks may change.
        let days = self.duration.as_hours() / 24 + 2;
        let mut date = today.saturating_add(1.day());
        for _ in 0..=days {
            if self.spans_of(date).first().is_some_and(|span| span.start <= at) {
                return date;
            }
            let Ok(yesterday) = date.yesterday() else {
                break;
            };
            date = yesterday;
        }
        today
    }

    /// The spans that start on a day: at or after its first instant, and before the first of the next day.
    fn spans_of(&self, date: Date) -> Vec<Span> {
        let days = [date.yesterday().ok(), Some(date), date.tomorrow().ok()];
        let matching: Vec<Date> = days.into_iter().flatten().filter(|day| self.matches(*day)).collect();
        if matching.is_empty() {
            return Vec::new();
        }
        let Some(midnight) = wall::undisturbed_midnight(&self.zone, date.to_datetime(Time::midnight())) else {
            return self.spans_of_disturbed(date, &matching);
        };
        if !matching.contains(&date) {
            return Vec::new();
        }
        let since_midnight = |time| midnight.checked_add(time).unwrap_or(Timestamp::MAX);
        let spans =
            self.runs.iter().map(|(start, end)| Span { start: since_midnight(*start), end: since_midnight(*end) });
        spans.collect()
    }

    /// The same where the clocks change: wall-clock times of the days beside it can then fall on this one.
    fn spans_of_disturbed(&self, date: Date, matching: &[Date]) -> Vec<Span> {
        let first = wall::start(&self.zone, date.to_datetime(Time::midnight()));
        let next = date.saturating_add(1.day());
        let end = wall::start(&self.zone, next.to_datetime(Time::midnight()));
        let walls = matching.iter().flat_map(|day| self.times.iter().map(|time| day.to_datetime(*time)));
        let mut starts: Vec<Timestamp> = walls
            .flat_map(|wall| {
                let second = if self.runs_twice_in_fold { wall::repeated(&self.zone, wall) } else { None };
                [Some(wall::start(&self.zone, wall)), second]
            })
            .flatten()
            .filter(|start| first <= *start && *start < end)
            .collect();
        starts.sort_unstable();
        starts.dedup();
        let spans = starts
            .into_iter()
            .map(|start| Span { start, end: start.checked_add(self.duration).unwrap_or(Timestamp::MAX) });
        spans.collect()
    }

    fn matches(&self, date: Date) -> bool {
        let weekday = u32::from(date.weekday().to_sunday_zero_offset().unsigned_abs());
        let [month, day] = [date.month(), date.day()].map(|part| u32::from(part.unsigned_abs()));
        let weekday = croner::Weekday::from_days_from_sunday(weekday);
        self.month_matches(date)
            && self.schedule.pattern.day_match(i32::from(date.year()), month, day, weekday).unwrap_or(false)
    }

    fn month_matches(&self, date: Date) -> bool {
        let month = u32::from(date.month().unsigned_abs());
        self.schedule.pattern.month_match(month).unwrap_or(false)
    }
}

fn times_of_day(schedule: &croner::Cron) -> Vec<Time> {
    let minutes = schedule.pattern.minutes.values();
    let hours = schedule.pattern.hours.values();
    let part = |value: u16| i8::try_from(value).unwrap_or_default();
    let times =
        hours.iter().flat_map(|hour| minutes.iter().map(|minute| Time::constant(part(*hour), part(*minute), 0, 0)));
    times.collect()
}

fn runs_of_day(times: &[Time], duration: SignedDuration) -> Vec<(SignedDuration, SignedDuration)> {
    let mut runs: Vec<(SignedDuration, SignedDuration)> = Vec::new();
    for time in times {
        let start = time.duration_since(Time::midnight());
        let end = start.saturating_add(duration);
        match runs.last_mut() {
            Some(last) if start <= last.1 => last.1 = end,
            _ => runs.push((start, end)),
        }
    }
    runs
}
