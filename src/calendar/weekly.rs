//! Windows on days of the week between two wall-clock times.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::span::Span;
use super::wall;

/// Begins on each of `days` at `from`, and ends at `to` on the same day, or on the next one.
#[derive(Clone, Debug)]
pub(super) struct Weekly {
    pub(super) zone: TimeZone,
    pub(super) days: Vec<Weekday>,
    pub(super) from: Time,
    pub(super) to: Time,
    pub(super) ends_next_day: bool,
}

impl Weekly {
    /// The spans from the last ones that may still be active at `from` on, in order, without end.
    pub(super) fn spans(&self, from: Timestamp) -> impl Iterator<Item = Span> + '_ {
        // A span lasts at most a day and the size of a clock change; two days reach back far enough for both.
        let today = self.zone.to_datetime(from).date();
        let first = today.saturating_sub(2.days());
        first.series(1.day()).filter(|date| self.days.contains(&date.weekday())).map(|date| self.span_of(date))
    }

    fn span_of(&self, date: Date) -> Span {
        let last_date = if self.ends_next_day { date.saturating_add(1.day()) } else { date };
        Span {
            start: wall::start(&self.zone, date.to_datetime(self.from)),
            end: wall::end(&self.zone, last_date.to_datetime(self.to)),
        }
    }
}
