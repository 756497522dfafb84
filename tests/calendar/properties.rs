//! What holds for all windows: agreement with the brute-force reading in every zone, and of all questions with each
//! other.

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use pilotguard::api::duration::Duration;
use pilotguard::api::window::{Cron, Once, Weekday, Weekly, Window, WindowKind};
use pilotguard::calendar::Calendar;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{TestRng, TestRunner};

use crate::oracle::{MINUTES_OF_DAY, Plain, WallClock, by_minute, instant};
use crate::parse;

const WEEKDAYS: [Weekday; 7] =
    [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];

/// 2024-01-01T00:00Z to 2031-01-01T00:00Z.
pub(crate) const FIRST_MINUTE: i64 = 19_723 * MINUTES_OF_DAY;
const LAST_MINUTE: i64 = 22_280 * MINUTES_OF_DAY;

/// A window lasts at most this long, so that a scan which starts this much earlier sees all that matters.
const LONGEST: i64 = MINUTES_OF_DAY;

/// Times of day; mostly where clocks change, and mostly round.
fn time_of_day() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => (0..17_i64).prop_map(|quarter| quarter * 15),
        1 => (90..96_i64).prop_map(|quarter| quarter * 15),
        2 => 0..MINUTES_OF_DAY,
    ]
}

fn days() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        1 => Just((0..7).collect()),
        2 => proptest::sample::subsequence((0..7).collect::<Vec<usize>>(), 1..7),
    ]
}

fn weekly() -> impl Strategy<Value = (Plain, Window)> {
    (days(), time_of_day(), prop_oneof![5 => time_of_day(), 1 => Just(MINUTES_OF_DAY)]).prop_map(|(days, from, to)| {
        let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
        let written =
            Weekly { days: days.iter().map(|day| WEEKDAYS[*day]).collect(), from: clock(from), to: clock(to) };
        (Plain::Weekly { days, from, to }, Window { weekly: Some(written), ..window() })
    })
}

/// A field of a schedule with the values that it stands for, and whether it is a wildcard or a step.
fn field(values: i64) -> impl Strategy<Value = (String, Vec<i64>, bool)> {
    let list = |values: &[i64]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    prop_oneof![
        1 => Just(("*".to_owned(), (0..values).collect(), true)),
        1 => (2..values).prop_map(move |step| {
            (format!("*/{step}"), (0..values).step_by(usize::try_from(step).unwrap()).collect(), true)
        }),
        2 => (0..values).prop_map(|value| (value.to_string(), vec![value], false)),
        2 => (0..4_i64).prop_map(|value| (value.to_string(), vec![value], false)),
        1 => proptest::sample::subsequence((0..values).collect::<Vec<_>>(), 1..4).prop_map(move |some| (list(&some), some, false)),
        1 => (0..values, 0..values).prop_map(|(one, other)| {
            let (low, high) = (one.min(other), one.max(other));
            (format!("{low}-{high}"), (low..=high).collect(), false)
        }),
    ]
}

fn cron() -> impl Strategy<Value = (Plain, Window)> {
    let duration = prop_oneof![1_i64..120, (1_i64..49).prop_map(|half_hours| half_hours * 30)];
    (field(60), field(24), prop_oneof![Just(vec![]), days()], duration).prop_map(
        |((minute, minutes, _), (hour, hours, hour_is_wildcard_or_step), days, duration)| {
            // In a schedule days of the week count from Sunday = 0.
            let names: Vec<_> = days.iter().map(|day| ((day + 1) % 7).to_string()).collect();
            let day = if days.is_empty() { "*".into() } else { names.join(",") };
            let written =
                Cron { schedule: format!("{minute} {hour} * * {day}"), duration: Duration::minutes(duration) };
            let plain = Plain::Cron { minutes, hours, days, hour_is_wildcard_or_step, duration };
            (plain, Window { cron: Some(written), ..window() })
        },
    )
}

/// A one-off window within a day and a half of a minute.
fn once(near: i64) -> impl Strategy<Value = (Plain, Window)> {
    (-1080..1080_i64, 1..LONGEST).prop_map(move |(start, length)| {
        let (from, to) = (near + start, near + start + length);
        // Any wall-clock time can be written as what the clock in UTC would show.
        let wall = |minute| TimeZone::UTC.to_datetime(instant(minute)).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let written = Once { from: wall(from), to: wall(to) };
        (Plain::Once { from, to }, Window { once: Some(written), ..window() })
    })
}

fn window() -> Window {
    Window {
        name: "w".into(),
        kind: WindowKind::Allow,
        reason: None,
        time_zone: "UTC".into(),
        weekly: None,
        cron: None,
        once: None,
        always: None,
    }
}

/// A few windows around a minute, each in a plain and in a written form; the first is an Allow.
pub(crate) fn several(near: i64, most: usize) -> impl Strategy<Value = Vec<(Plain, Window)>> {
    let one = prop_oneof![2 => weekly(), 3 => cron(), 1 => once(near)];
    proptest::collection::vec((one, prop_oneof![3 => Just(WindowKind::Allow), 1 => Just(WindowKind::Deny)]), 1..=most)
        .prop_map(|some| {
            let named = some.into_iter().enumerate().map(|(index, ((plain, window), kind))| {
                let kind = if index == 0 { WindowKind::Allow } else { kind };
                let name = format!("w{index}");
                (plain, Window { name, kind, ..window })
            });
            named.collect()
        })
}

pub(crate) fn in_zone(written: &[(Plain, Window)], zone: &str) -> Vec<Window> {
    let windows = written.iter().map(|(_, window)| Window { time_zone: zone.into(), ..window.clone() });
    windows.collect()
}

/// Compares the calendar with the plain windows in every minute of a day before and after `near`.
fn agree(zone: &str, clock: &WallClock, core: std::ops::Range<usize>, written: &[(Plain, Window)]) {
    let windows = in_zone(written, zone);
    let found = by_minute(&parse(&windows), clock, core.clone());
    let mut expected = vec![false; core.len()];
    for (kind, effect) in [(WindowKind::Allow, true), (WindowKind::Deny, false)] {
        for (plain, _) in written.iter().filter(|(_, window)| window.kind == kind) {
            for (minute, _) in plain.active(clock)[core.clone()].iter().enumerate().filter(|(_, active)| **active) {
                expected[minute] = effect;
            }
        }
    }
    if let Some(index) = (0..core.len()).find(|index| found.get(*index) != expected.get(*index)) {
        panic!(
            "{zone}, {}: {:?} instead of {}, {windows:#?}",
            clock.instant_of(core.start + index),
            found.get(index),
            expected[index]
        );
    }
}

/// The minutes at which a zone's wall clock jumps, found by looking at it.
pub(crate) fn changes(zone: &TimeZone) -> Vec<i64> {
    let ahead =
        |minute: i64| zone.to_datetime(instant(minute)).duration_since(TimeZone::UTC.to_datetime(instant(minute)));
    let mut found = Vec::new();
    let half_days: Vec<i64> = (FIRST_MINUTE..LAST_MINUTE).step_by(720).collect();
    for pair in half_days.windows(2) {
        let (mut before, mut after) = (pair[0], pair[1]);
        if ahead(before) == ahead(after) {
            continue;
        }
        while after - before > 1 {
            let middle = i64::midpoint(before, after);
            if ahead(middle) == ahead(before) { before = middle } else { after = middle }
        }
        found.push(after);
    }
    found
}

pub(crate) fn zone_names() -> Vec<String> {
    TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect()
}

/// Back from the compared day: the longest window, the day on which it begins, and a day shown only in part.
const BEFORE: i64 = 720 + LONGEST + 2 * MINUTES_OF_DAY + 120;
const CORE: usize = 1440;
const AFTER: i64 = 720 + MINUTES_OF_DAY + 120;

/// The wall clock around a minute, and the day of it that is compared.
pub(crate) fn around(zone: &TimeZone, minute: i64) -> (WallClock, std::ops::Range<usize>) {
    let clock = WallClock::scan(zone, minute - BEFORE, BEFORE + AFTER);
    let start = usize::try_from(BEFORE).unwrap() - CORE / 2;
    (clock, start..start + CORE)
}

#[test]
fn every_zone_agrees_with_the_written_rules_around_the_changes_of_its_clocks() {
    let database = TimeZoneDatabase::bundled();
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig::default(),
        TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let mut draw = |near| several(near, 3).new_tree(&mut runner).unwrap().current();
    let (mut zones, mut compared) = (0, 0);
    for name in zone_names() {
        let zone = database.get(&name).unwrap();
        let changes = changes(&zone);
        // Zones whose clocks never change are looked at once.
        let places = if changes.is_empty() { vec![FIRST_MINUTE + 500_000] } else { changes };
        for minute in places {
            let (clock, core) = around(&zone, minute);
            for _ in 0..3 {
                agree(&name, &clock, core.clone(), &draw(minute));
                compared += 1;
            }
        }
        zones += 1;
    }
    println!("{compared} calendars in {zones} zones");
    assert!(zones > 500, "the bundled database has {zones} zones");
}

pub(crate) fn anywhere() -> impl Strategy<Value = (String, i64)> {
    (proptest::sample::select(zone_names()), FIRST_MINUTE..LAST_MINUTE)
}

/// A zone, and windows and an instant near a change of its clocks where it has one.
fn place_and_windows() -> impl Strategy<Value = (String, Timestamp, Vec<Window>)> {
    anywhere().prop_flat_map(|(zone, minute)| {
        (several(minute, 4), -4 * MINUTES_OF_DAY..0_i64, 0..60_000_000_000_i64).prop_map(
            move |(written, offset, nanos)| {
                let from = instant(minute + offset) + SignedDuration::from_nanos(nanos);
                (zone.clone(), from, in_zone(&written, &zone))
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_day_in_any_zone_agrees_with_the_written_rules(
        (zone, minute, written) in anywhere().prop_flat_map(|(zone, minute)| (Just(zone), Just(minute), several(minute, 4)))
    ) {
        let (clock, core) = around(&TimeZoneDatabase::bundled().get(&zone).unwrap(), minute);
        agree(&zone, &clock, core, &written);
    }

    #[test]
    fn intervals_cover_the_range_and_change_at_every_edge((_, from, windows) in place_and_windows()) {
        let calendar = parse(&windows);
        let to = from + SignedDuration::from_hours(24 * 8);
        let intervals = calendar.intervals(from, to);
        prop_assert_eq!(intervals.first().map(|interval| interval.start), Some(from));
        prop_assert_eq!(intervals.last().map(|interval| interval.end), Some(to));
        for pair in intervals.windows(2) {
            prop_assert_eq!(pair[0].end, pair[1].start);
            prop_assert!(pair[0].opening != pair[1].opening);
        }
        prop_assert!(intervals.iter().all(|interval| interval.start < interval.end));
    }

    #[test]
    fn intervals_agree_with_every_instant_beside_their_edges((_, from, windows) in place_and_windows()) {
        let calendar = parse(&windows);
        let to = from + SignedDuration::from_hours(24 * 8);
        let second = SignedDuration::from_secs(1);
        for interval in calendar.intervals(from, to).iter().take(60) {
            let instants = [interval.start, interval.start + second, interval.end - second, interval.end - SignedDuration::from_nanos(1)];
            for at in instants.into_iter().filter(|at| interval.start <= *at && *at < interval.end) {
                let opening = calendar.opening_at(at);
                prop_assert_eq!(&opening, &interval.opening, "{}", at);
            }
        }
    }

    #[test]
    fn the_next_opening_and_closing_are_edges_of_the_intervals((_, from, windows) in place_and_windows()) {
        let calendar = parse(&windows);
        let to = from + SignedDuration::from_hours(24 * 8);
        let intervals = calendar.intervals(from, to);
        for (index, interval) in intervals.iter().enumerate().take(40) {
            let middle = interval.start + SignedDuration::from_nanos(1);
            for open in [true, false] {
                let next = intervals[index..].iter().find(|interval| interval.opening.open == open);
                let expected = next.map(|next| next.start.max(middle));
                let found = if open { calendar.next_open(middle) } else { calendar.next_close(middle) };
                // Beyond the range the intervals do not know.
                prop_assert_eq!(found.filter(|found| *found < to), expected, "open: {}, from {}", open, middle);
            }
        }
    }

    #[test]
    fn one_more_freeze_never_opens_and_one_more_allow_never_closes(
        (_, from, windows) in place_and_windows(),
        (_, extra) in weekly(),
    ) {
        let before = parse(&windows);
        for kind in [WindowKind::Allow, WindowKind::Deny] {
            let more = [windows.clone(), vec![Window { name: "extra".into(), kind, ..extra.clone() }]].concat();
            let after = parse(&more);
            for hours in 0..48 {
                let at = from + SignedDuration::from_hours(hours);
                let (before, after) = (before.opening_at(at).open, after.opening_at(at).open);
                let is_monotone = if kind == WindowKind::Allow { after >= before } else { after <= before };
                prop_assert!(is_monotone, "{kind:?} at {at}");
            }
        }
    }
}

/// Answers must not depend on how long ago a schedule began, nor on how many starts lie in its duration.
#[test]
fn the_costliest_windows_answer_at_once() {
    let costly = [
        ("* * * * *", "2w"),
        ("* * * * *", "3650d"),
        ("* * * * *", "1m"),
        ("*/2 * * * *", "1m"),
        ("0 0 29 2 *", "3650d"),
        ("59 23 31 12 *", "1s"),
    ];
    for (schedule, duration) in costly {
        let yaml = format!(
            "[{{name: w, timeZone: Africa/Casablanca, cron: {{schedule: '{schedule}', duration: {duration}}}}}]"
        );
        let calendar: Calendar = crate::calendar(&yaml);
        let started = std::time::Instant::now();
        let now = crate::at("2026-02-15T01:30:00Z");
        let _ = (calendar.opening_at(now), calendar.next_open(now), calendar.next_close(now));
        let took = started.elapsed();
        println!("{schedule} for {duration}: {took:?}");
        assert!(took < std::time::Duration::from_secs(2), "{schedule} for {duration} took {took:?}");
    }
}
