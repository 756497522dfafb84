//! When changes are open: the rules as tables, the mistakes of other tools as named cases, and every time zone against
//! a brute-force reading of the rules.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod clock_changes;
mod command_line;
mod durations;
mod ics;
mod joined;
mod oracle;
mod other_tools;
mod properties;
mod rules;
mod schema;
mod violations;

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use pilotguard::api::window::Window;
use pilotguard::calendar::{Calendar, Interval};

fn windows(yaml: &str) -> Vec<Window> {
    serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}\n{error}"))
}

fn calendar(yaml: &str) -> Calendar {
    parse(&windows(yaml))
}

fn parse(windows: &[Window]) -> Calendar {
    Calendar::parse(windows, &TimeZoneDatabase::bundled(), "windows")
        .unwrap_or_else(|violations| panic!("{violations:#?}"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The open spans between two instants; touching intervals (where only the reasons change) count as one.
fn open_spans(calendar: &Calendar, from: &str, to: &str) -> Vec<(Timestamp, Timestamp)> {
    let mut spans: Vec<(Timestamp, Timestamp)> = Vec::new();
    for Interval { start, end, opening } in calendar.intervals(at(from), at(to)) {
        let open = opening.open;
        match spans.last_mut() {
            Some(last) if open && last.1 == start => last.1 = end,
            _ if open => spans.push((start, end)),
            _ => {}
        }
    }
    spans
}

/// One line per case: windows, the range asked about, and the open spans expected in it.
#[track_caller]
fn check(windows: &str, from: &str, to: &str, expected: &[(&str, &str)]) {
    check_calendar(&calendar(windows), from, to, expected);
}

#[track_caller]
fn check_calendar(calendar: &Calendar, from: &str, to: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(start, end)| (at(start), at(end))).collect();
    assert_eq!(open_spans(calendar, from, to), expected, "{calendar:?}");
}
