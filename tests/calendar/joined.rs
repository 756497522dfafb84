//! Calendars that narrow each other: the rule by brute force in every zone, and that nobody gains time by it.

use jiff::tz::TimeZoneDatabase;
use pilotguard::api::window::{Window, WindowKind};
use pilotguard::calendar::{Calendar, Unusable};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{TestRng, TestRunner};

use crate::oracle::{Plain, WallClock, by_minute};
use crate::properties::{FIRST_MINUTE, anywhere, around, changes, in_zone, several, zone_names};
use crate::{at, calendar, check_calendar, windows};

/// Windows that were declared together, each in a plain and in a written form, all in one zone.
type Layer = Vec<(Plain, Window)>;

/// The windows of a ChangeCalendar: as a Pilot's, or without any Allow.
fn shared(near: i64) -> impl Strategy<Value = Layer> {
    (several(near, 3), any::<bool>()).prop_map(|(mut layer, only_freezes)| {
        if only_freezes {
            for (_, window) in &mut layer {
                window.kind = WindowKind::Deny;
            }
        }
        layer
    })
}

fn layers(near: i64) -> impl Strategy<Value = Vec<Layer>> {
    (several(near, 3), proptest::collection::vec(shared(near), 1..=2))
        .prop_map(|(own, shared)| [vec![own], shared].concat())
}

fn joined(layers: &[Layer], zone: &str) -> Calendar {
    let zones = TimeZoneDatabase::bundled();
    let own = Calendar::parse(&in_zone(&layers[0], zone), &zones, "own").unwrap();
    layers[1..].iter().enumerate().fold(own, |joined, (index, layer)| {
        joined.narrowed_by(&format!("c{index}"), &Calendar::parse_shared(&in_zone(layer, zone), &zones, "c").unwrap())
    })
}

/// The rule as it is written: no Deny is active and, of each part that has Allows, one is.
fn is_open(layers: &[Vec<(WindowKind, Vec<bool>)>], minute: usize) -> bool {
    let is_frozen = layers.iter().flatten().any(|(kind, active)| *kind == WindowKind::Deny && active[minute]);
    let is_shut = |layer: &Vec<(WindowKind, Vec<bool>)>| {
        let mut allows = layer.iter().filter(|(kind, _)| *kind == WindowKind::Allow).peekable();
        allows.peek().is_some() && !allows.any(|(_, active)| active[minute])
    };
    !is_frozen && !layers.iter().any(is_shut)
}

fn agree(zone: &str, clock: &WallClock, core: std::ops::Range<usize>, layers: &[Layer]) {
    let calendar = joined(layers, zone);
    let scanned: Vec<Vec<_>> = layers
        .iter()
        .map(|layer| layer.iter().map(|(plain, window)| (window.kind, plain.active(clock))).collect())
        .collect();
    let expected: Vec<bool> = core.clone().map(|minute| is_open(&scanned, minute)).collect();
    let found = by_minute(&calendar, clock, core.clone());
    assert_eq!(found.len(), expected.len(), "{zone}");
    if let Some(index) = (0..core.len()).find(|index| found[*index] != expected[*index]) {
        panic!(
            "{zone}, {}: {} instead of {}, {layers:#?}",
            clock.instant_of(core.start + index),
            found[index],
            expected[index]
        );
    }
    // The next opening and closing are the first such minutes of the scan.
    let start = clock.instant_of(core.start);
    for open in [true, false] {
        // Where there is none, the search is long and the scan does not know.
        if let Some(index) = expected.iter().position(|expected| *expected == open) {
            let next = if open { calendar.next_open(start) } else { calendar.next_close(start) };
            assert_eq!(next, Some(clock.instant_of(core.start + index)), "{zone}, {open}, {layers:#?}");
        }
    }
}

#[test]
fn every_zone_agrees_with_the_written_rule_around_the_changes_of_its_clocks() {
    let database = TimeZoneDatabase::bundled();
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig::default(),
        TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let mut draw = |near| layers(near).new_tree(&mut runner).unwrap().current();
    let mut zones = 0;
    for name in zone_names() {
        let zone = database.get(&name).unwrap();
        let changes = changes(&zone);
        let places = if changes.is_empty() { vec![FIRST_MINUTE + 500_000] } else { changes };
        // Windows alone are compared at every change; here each zone takes its turn at some of them.
        for minute in places.iter().copied().skip(zones % places.len().min(4)).step_by(4) {
            let (clock, core) = around(&zone, minute);
            agree(&name, &clock, core, &draw(minute));
        }
        zones += 1;
    }
    assert!(zones > 500, "the bundled database has {zones} zones");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_day_in_any_zone_agrees_with_the_written_rule(
        (zone, minute, layers) in anywhere().prop_flat_map(|(zone, minute)| (Just(zone), Just(minute), layers(minute)))
    ) {
        let (clock, core) = around(&TimeZoneDatabase::bundled().get(&zone).unwrap(), minute);
        agree(&zone, &clock, core, &layers);
    }

    /// Nothing that is closed is opened by one more calendar, and their order does not matter.
    #[test]
    fn one_more_calendar_only_narrows(
        (zone, minute, layers) in anywhere().prop_flat_map(|(zone, minute)| (Just(zone), Just(minute), layers(minute)))
    ) {
        let (clock, core) = around(&TimeZoneDatabase::bundled().get(&zone).unwrap(), minute);
        let by = |layers: &[Layer]| by_minute(&joined(layers, &zone), &clock, core.clone());
        let (fewer, all) = (by(&layers[..layers.len() - 1]), by(&layers));
        prop_assert!(all.iter().zip(&fewer).all(|(narrowed, before)| narrowed <= before));
        let mut reversed = layers.clone();
        reversed[1..].reverse();
        prop_assert_eq!(by(&reversed), all);
    }
}

fn narrowed(own: &str, shared: &[(&str, &str)]) -> Calendar {
    shared.iter().fold(calendar(own), |joined, (name, yaml)| {
        let shared = Calendar::parse_shared(&windows(yaml), &TimeZoneDatabase::bundled(), "windows").unwrap();
        joined.narrowed_by(name, &shared)
    })
}

const MORNINGS: &str = "[{name: mornings, weekly: {days: [Mon, Tue, Wed], from: '09:00', to: '12:00'}}]";

#[test]
fn each_has_to_be_open_and_who_is_not_is_named() {
    let joined = narrowed(
        MORNINGS,
        &[
            ("platform", "[{name: train, weekly: {days: [Tue, Wed], from: '10:00', to: '16:00'}}]"),
            (
                "bank",
                "[{name: audit, kind: Deny, reason: Audit, once: {from: '2026-02-04T11:00:00', to: '2026-02-05T00:00:00'}}]",
            ),
        ],
    );
    // Monday 2 to Wednesday 4 February 2026.
    check_calendar(
        &joined,
        "2026-02-02T00:00:00Z",
        "2026-02-05T00:00:00Z",
        &[("2026-02-03T10:00:00Z", "2026-02-03T12:00:00Z"), ("2026-02-04T10:00:00Z", "2026-02-04T11:00:00Z")],
    );
    for (instant, outside, names) in [
        ("2026-02-02T08:00:00Z", "the change windows and those of calendar platform", ""),
        ("2026-02-02T09:30:00Z", "the windows of calendar platform", ""),
        ("2026-02-03T13:00:00Z", "the change windows", ""),
        ("2026-02-03T11:00:00Z", "", "mornings, train of calendar platform"),
        ("2026-02-04T11:30:00Z", "", "audit of calendar bank (Audit)"),
    ] {
        let opening = joined.opening_at(at(instant));
        let reasons = opening.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let said = if opening.outside.is_empty() { String::new() } else { opening.outside_of() };
        assert_eq!((said.as_str(), reasons.as_str()), (outside, names), "{instant}");
    }
    assert_eq!(joined.next_open(at("2026-02-02T09:30:00Z")), Some(at("2026-02-03T10:00:00Z")));
    assert_eq!(joined.next_close(at("2026-02-04T10:30:00Z")), Some(at("2026-02-04T11:00:00Z")));
}

#[test]
fn what_cannot_be_used_is_closed_for_ever_and_asks_no_window() {
    let unusable =
        Unusable { calendar: "platform".into(), why: "does not exist".into(), remedy: "somebody creates it".into() };
    let closed = narrowed("[{name: w, cron: {schedule: '*/2 * * * *', duration: 1m}}]", &[]).closed_by(unusable);
    let started = std::time::Instant::now();
    let now = at("2026-02-02T10:00:00Z");
    assert_eq!((closed.next_open(now), closed.next_close(now)), (None, Some(now)));
    assert!(started.elapsed() < std::time::Duration::from_millis(50), "it walked through the windows");
    let opening = closed.opening_at(now);
    assert!(!opening.open && opening.reasons.is_empty() && opening.outside.is_empty());
    assert_eq!(
        opening.unusable.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["calendar platform counts as closed, because it does not exist"]
    );
    let range = closed.intervals(now, at("2026-02-03T10:00:00Z"));
    assert_eq!((range.len(), range[0].opening.open), (1, false));
}

#[test]
fn a_pilot_without_times_of_its_own_is_told_the_time_of_its_calendar() {
    let tokyo = "[{name: train, timeZone: Asia/Tokyo, weekly: {days: [Tue], from: '10:00', to: '16:00'}}]";
    let zone = |calendar: &Calendar| calendar.common_zone().and_then(|zone| zone.iana_name().map(str::to_owned));
    assert_eq!(zone(&narrowed("[{name: a, always: true}]", &[("c", tokyo)])).as_deref(), Some("Asia/Tokyo"));
    let berlin = "[{name: a, timeZone: Europe/Berlin, weekly: {days: [Tue], from: '10:00', to: '16:00'}}]";
    assert_eq!(zone(&narrowed(berlin, &[("c", tokyo)])).as_deref(), Some("Europe/Berlin"), "its own comes first");
}
