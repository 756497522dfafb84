//! From answers to readings: pure, and the one place where data is found doubtful.
//!
//! No rule here turns a missing figure into a number, with one exception that the declaration promises: where
//! the counter of all events is fresh, a counter of bad events that does not exist yet counts 0.

use jiff::{SignedDuration, Timestamp};

use super::envelope::{QueryResult, Sample, Series};
use crate::observation::{Counts, Reading, Unknown};

/// Extrapolation moves two counters apart: by so large a share of the total, or by one event, bad may exceed it.
const ROUNDING: f64 = 0.01;

/// A value, nothing, or why it is not known.
pub type Figure = Result<Option<f64>, Unknown>;

/// Values by their time in seconds, or why they are not known.
pub type Points = Result<Vec<(f64, f64)>, Unknown>;

/// The one number that a query yielded.
pub fn figure(result: &QueryResult) -> Figure {
    let number = match result {
        QueryResult::Scalar(number) => *number,
        QueryResult::Vector(rows) => match rows.as_slice() {
            [] => return Ok(None),
            [Series { sample: Sample::Float(number), .. }] => *number,
            [Series { sample: Sample::Histogram, .. }] => return Err(Unknown::QueryRefused),
            _ => return Err(Unknown::Ambiguous),
        },
        QueryResult::Matrix(_) | QueryResult::Other(_) => return Err(Unknown::QueryRefused),
    };
    if number.is_finite() { Ok(Some(number)) } else { Err(Unknown::NotFinite) }
}

/// The numbers that a query yielded for several times, by the time in seconds.
pub fn points(result: &QueryResult) -> Points {
    match result {
        QueryResult::Matrix(rows) => match rows.as_slice() {
            [] => Ok(Vec::new()),
            [only] if only.points.iter().all(|(_, number)| number.is_finite()) => Ok(only.points.clone()),
            [_] => Err(Unknown::NotFinite),
            _ => Err(Unknown::Ambiguous),
        },
        _ => Err(Unknown::QueryRefused),
    }
}

/// Bad and total events at `asked`. `newest` is the time of the newest sample of the total.
pub fn counts(
    newest: Figure,
    total: Figure,
    bad: Figure,
    asked: Timestamp,
    stale_after: SignedDuration,
) -> Reading<Counts> {
    let read = || {
        let (newest, total, bad) = (newest?, total?, bad?);
        match (newest, total) {
            (None, None) => return Err(Unknown::NoSeries),
            (None, Some(_)) => return Err(Unknown::Stale),
            (Some(newest), _) if is_stale(newest, asked, stale_after) => return Err(Unknown::Stale),
            _ => {}
        }
        // A range with fewer than two samples has no increase, though the series is there.
        let total = total.ok_or(Unknown::NoSeries)?;
        let bad = bad.unwrap_or(0.0);
        if bad < 0.0 || total < 0.0 || bad > total + (total * ROUNDING).max(1.0) {
            return Err(Unknown::Inconsistent);
        }
        Ok(Counts { bad: bad.min(total), total })
    };
    read().map_or_else(Reading::Unknown, Reading::Fresh)
}

/// The value of an expression at `asked`. `newest` has the time of the newest sample of each selector in it; a
/// selector without series says nothing against an expression that yields a value all the same.
pub fn value(value: Figure, newest: &[Figure], asked: Timestamp, stale_after: SignedDuration) -> Reading<f64> {
    let read = || {
        let value = value?;
        for figure in newest {
            if (*figure)?.is_some_and(|newest| is_stale(newest, asked, stale_after)) {
                return Err(Unknown::Stale);
            }
        }
        value.ok_or(Unknown::NoSeries)
    };
    read().map_or_else(Reading::Unknown, Reading::Fresh)
}

/// A time that a query yielded, in seconds.
pub fn timestamp(seconds: Figure) -> Reading<Timestamp> {
    let read = || {
        let seconds = seconds?.ok_or(Unknown::NoSeries)?;
        let since = SignedDuration::try_from_secs_f64(seconds).map_err(|_| Unknown::Inconsistent)?;
        Timestamp::from_duration(since).map_err(|_| Unknown::Inconsistent)
    };
    read().map_or_else(Reading::Unknown, Reading::Fresh)
}

fn is_stale(newest: f64, asked: Timestamp, stale_after: SignedDuration) -> bool {
    asked.as_duration().as_secs_f64() - newest > stale_after.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Timestamp = Timestamp::constant(1_763_800_000, 250_000_000);
    const NOW: Figure = Ok(Some(1_763_800_000.0));
    const TWO_MINUTES: SignedDuration = SignedDuration::from_mins(2);

    #[test]
    fn counts_are_known_only_where_nothing_is_in_doubt() {
        let some = |number| Ok(Some(number));
        let fresh = |bad, total| Reading::Fresh(Counts { bad, total });
        let unknown = Reading::Unknown;
        let at_limit = some(1_763_799_880.25);
        let past_limit = some(1_763_799_880.125);
        let cases = [
            ("all there", NOW, some(100.0), some(3.0), fresh(3.0, 100.0)),
            ("no events", NOW, some(0.0), some(0.0), fresh(0.0, 0.0)),
            ("bad never seen", NOW, some(100.0), Ok(None), fresh(0.0, 100.0)),
            ("all bad", NOW, some(100.0), some(100.0), fresh(100.0, 100.0)),
            ("bad rounded up by a share", NOW, some(1000.0), some(1010.0), fresh(1000.0, 1000.0)),
            ("bad rounded up by an event", NOW, some(3.0), some(4.0), fresh(3.0, 3.0)),
            ("bad beyond rounding, many", NOW, some(1000.0), some(1010.1), unknown(Unknown::Inconsistent)),
            ("bad beyond rounding, few", NOW, some(3.0), some(4.1), unknown(Unknown::Inconsistent)),
            ("negative", NOW, some(100.0), some(-1.0), unknown(Unknown::Inconsistent)),
            ("nothing at all", Ok(None), Ok(None), Ok(None), unknown(Unknown::NoSeries)),
            ("only bad", Ok(None), Ok(None), some(3.0), unknown(Unknown::NoSeries)),
            ("only one sample", NOW, Ok(None), Ok(None), unknown(Unknown::NoSeries)),
            ("ended within the span", Ok(None), some(100.0), some(3.0), unknown(Unknown::Stale)),
            ("as old as allowed", at_limit, some(100.0), some(3.0), fresh(3.0, 100.0)),
            ("older", past_limit, some(100.0), some(3.0), unknown(Unknown::Stale)),
            ("from the future", some(1_763_800_900.0), some(100.0), some(3.0), fresh(3.0, 100.0)),
            ("age unknown", Err(Unknown::Partial), some(100.0), some(3.0), unknown(Unknown::Partial)),
            ("total unknown", NOW, Err(Unknown::NotFinite), some(3.0), unknown(Unknown::NotFinite)),
            ("bad unknown", NOW, some(100.0), Err(Unknown::SourceUnavailable), unknown(Unknown::SourceUnavailable)),
        ];
        for (name, newest, total, bad, expected) in cases {
            assert_eq!(counts(newest, total, bad, ASKED, TWO_MINUTES), expected, "{name}");
        }
    }

    #[test]
    fn a_value_is_known_only_where_what_it_reads_is_fresh() {
        let old = Ok(Some(1_763_799_000.0));
        let cases: [(&str, Figure, &[Figure], Reading<f64>); 8] = [
            ("fresh", Ok(Some(7.0)), &[NOW], Reading::Fresh(7.0)),
            ("no selector", Ok(Some(7.0)), &[], Reading::Fresh(7.0)),
            ("a selector without series", Ok(Some(0.0)), &[Ok(None)], Reading::Fresh(0.0)),
            ("one of two is old", Ok(Some(7.0)), &[NOW, old], Reading::Unknown(Unknown::Stale)),
            ("an age is unknown", Ok(Some(7.0)), &[NOW, Err(Unknown::Partial)], Reading::Unknown(Unknown::Partial)),
            ("no value", Ok(None), &[NOW], Reading::Unknown(Unknown::NoSeries)),
            ("no value, old", Ok(None), &[old], Reading::Unknown(Unknown::Stale)),
            ("not a number", Err(Unknown::NotFinite), &[NOW], Reading::Unknown(Unknown::NotFinite)),
        ];
        for (name, figure, newest, expected) in cases {
            assert_eq!(value(figure, newest, ASKED, TWO_MINUTES), expected, "{name}");
        }
    }

    #[test]
    fn a_time_outside_the_calendar_is_inconsistent() {
        assert_eq!(timestamp(Ok(Some(1_763_800_000.25))), Reading::Fresh(ASKED));
        assert_eq!(timestamp(Ok(Some(1e300))), Reading::Unknown(Unknown::Inconsistent));
        assert_eq!(timestamp(Ok(Some(1e15))), Reading::Unknown(Unknown::Inconsistent));
        assert_eq!(timestamp(Ok(None)), Reading::Unknown(Unknown::NoSeries));
    }
}
