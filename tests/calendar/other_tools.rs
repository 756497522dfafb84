//! Mistakes that were found in the change windows of other tools. None may be made here.
//!
//! Those that are not about times have their tests elsewhere: that writes to metadata, finalizers, status and replicas are
//! no changes, in `tests/admission/changes.rs`; that scattered blips do not add up, and that an old release which is
//! deployed again is a new change, in `tests/scenarios/scattered-blips.yaml` and
//! `tests/scenarios/an-old-release-again-is-a-new-change.yaml`.

use crate::{at, calendar, check, open_spans};

#[test]
fn the_start_belongs_to_the_window() {
    let calendar = calendar("[{name: w, cron: {schedule: '0 2 * * *', duration: 2h}}]");
    assert!(calendar.opening_at(at("2026-02-01T02:00:00Z")).open);
}

#[test]
fn a_past_start_is_read_with_the_offset_of_its_own_day() {
    // The start is in summer time, the question is asked in winter time: 22:00 in Berlin on the 24th is 20:00Z.
    let calendar = calendar("[{name: w, timeZone: Europe/Berlin, cron: {schedule: '0 22 24 10 *', duration: 12h}}]");
    assert!(calendar.opening_at(at("2026-10-25T07:59:59Z")).open);
    assert!(!calendar.opening_at(at("2026-10-25T08:00:00Z")).open);
}

#[test]
fn a_wall_clock_window_opens_once_when_the_clocks_go_back() {
    let windows = "[{name: w, timeZone: Europe/Berlin, weekly: {days: [Sun], from: '02:10', to: '02:40'}}]";
    check(windows, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", &[("2026-10-25T00:10:00Z", "2026-10-25T01:40:00Z")]);
}

#[test]
fn a_nightly_window_does_not_vanish_in_spring_nor_repeat_in_autumn() {
    let calendar = calendar("[{name: w, timeZone: Europe/Berlin, cron: {schedule: '30 2 * * *', duration: 30m}}]");
    let year = open_spans(&calendar, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    assert_eq!(year.len(), 365);
}

#[test]
fn a_window_after_the_change_is_not_an_hour_off_on_that_day() {
    // 08:00 to 16:00 in Berlin on the days of the changes: one time at +02:00, one time at +01:00.
    let windows = "[{name: w, timeZone: Europe/Berlin, weekly: {days: [Sun], from: '08:00', to: '16:00'}}]";
    check(windows, "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z", &[("2026-03-29T06:00:00Z", "2026-03-29T14:00:00Z")]);
    check(windows, "2026-10-25T00:00:00Z", "2026-10-26T00:00:00Z", &[("2026-10-25T07:00:00Z", "2026-10-25T15:00:00Z")]);
}

#[test]
fn a_friday_night_lasts_into_saturday_and_monday_morning_stays_shut() {
    let windows = "[{name: w, timeZone: Europe/Berlin, weekly: {days: [Mon, Fri], from: '22:00', to: '06:00'}}]";
    // Monday 2 to Sunday 8 February 2026, Berlin at +01:00.
    check(
        windows,
        "2026-02-01T23:00:00Z",
        "2026-02-08T23:00:00Z",
        &[("2026-02-02T21:00:00Z", "2026-02-03T05:00:00Z"), ("2026-02-06T21:00:00Z", "2026-02-07T05:00:00Z")],
    );
    let calendar = calendar(windows);
    // Saturday and Monday, 05:30 in Berlin.
    assert!(calendar.opening_at(at("2026-02-07T04:30:00Z")).open);
    assert!(!calendar.opening_at(at("2026-02-09T04:30:00Z")).open);
}

#[test]
fn a_start_in_every_minute_with_a_long_duration_is_open() {
    let calendar = calendar("[{name: w, cron: {schedule: '* * * * *', duration: 2w}}]");
    let opening = calendar.opening_at(at("2026-02-01T12:34:56Z"));
    assert!(opening.open);
    assert_eq!(opening.reasons.len(), 1);
    assert_eq!(calendar.next_close(at("2026-02-01T12:34:56Z")), None);
    // A month of such starts every year: from the first of February to two weeks after its end.
    check(
        "[{name: w, timeZone: Europe/Berlin, cron: {schedule: '* * * 2 *', duration: 2w}}]",
        "2026-01-01T00:00:00Z",
        "2027-01-01T00:00:00Z",
        &[("2026-01-31T23:00:00Z", "2026-03-14T22:59:00Z")],
    );
}

#[test]
fn the_next_opening_is_when_the_last_of_several_freezes_ends() {
    let calendar = calendar(
        "
- {name: always, always: true}
- {name: short, kind: Deny, once: {from: '2026-02-01T00:00:00', to: '2026-02-02T00:00:00'}}
- {name: long, kind: Deny, once: {from: '2026-01-15T00:00:00', to: '2026-03-01T00:00:00'}}
- {name: next, kind: Deny, once: {from: '2026-03-01T00:00:00', to: '2026-03-02T00:00:00'}}",
    );
    assert_eq!(calendar.next_open(at("2026-02-01T12:00:00Z")), Some(at("2026-03-02T00:00:00Z")));
}

#[test]
fn a_freeze_ends_when_it_was_declared_to_end_not_at_midnight_utc() {
    let windows = "
- {name: always, always: true}
- {name: freeze, kind: Deny, timeZone: Europe/Berlin, once: {from: '2026-12-20T00:00:00', to: '2027-01-02T15:30:00'}}";
    check(
        windows,
        "2026-12-19T00:00:00Z",
        "2027-01-03T00:00:00Z",
        &[("2026-12-19T00:00:00Z", "2026-12-19T23:00:00Z"), ("2027-01-02T14:30:00Z", "2027-01-03T00:00:00Z")],
    );
}

#[test]
fn a_weekday_is_that_of_the_zone_not_of_utc() {
    // Monday 01:00 in Auckland (+13:00) is Sunday noon in UTC.
    let windows = "[{name: w, timeZone: Pacific/Auckland, weekly: {days: [Mon], from: '01:00', to: '02:00'}}]";
    check(windows, "2026-02-01T00:00:00Z", "2026-02-08T00:00:00Z", &[("2026-02-01T12:00:00Z", "2026-02-01T13:00:00Z")]);
    let windows = "[{name: w, timeZone: Pacific/Auckland, cron: {schedule: '0 1 * * MON', duration: 1h}}]";
    check(windows, "2026-02-01T00:00:00Z", "2026-02-08T00:00:00Z", &[("2026-02-01T12:00:00Z", "2026-02-01T13:00:00Z")]);
}

#[test]
fn wall_clock_times_follow_the_zone_through_the_year() {
    let calendar = calendar("[{name: w, timeZone: Europe/Berlin, weekly: {days: [Wed], from: '09:00', to: '10:00'}}]");
    assert!(calendar.opening_at(at("2026-01-14T08:30:00Z")).open);
    assert!(calendar.opening_at(at("2026-07-15T07:30:00Z")).open);
}

#[test]
fn a_window_with_an_end_is_read_and_one_without_any_is_refused() {
    let windows =
        "[{name: w, timeZone: America/New_York, once: {from: '2026-07-01T09:00:00', to: '2026-07-03T17:00:00'}}]";
    check(windows, "2026-06-01T00:00:00Z", "2026-08-01T00:00:00Z", &[("2026-07-01T13:00:00Z", "2026-07-03T21:00:00Z")]);
    let endless: Result<Vec<pilotguard::api::window::Window>, _> =
        serde_yaml::from_str("[{name: w, once: {from: '2026-07-01T09:00:00'}}]");
    assert!(endless.is_err_and(|error| error.to_string().contains("missing field `to`")));
}

#[test]
fn a_zone_is_a_name_and_never_a_fixed_offset() {
    let zones = jiff::tz::TimeZoneDatabase::bundled();
    for offset in ["+01:00", "UTC+1", "GMT+0100"] {
        let windows = crate::windows(&format!("[{{name: w, timeZone: '{offset}', always: true}}]"));
        let violations = pilotguard::calendar::Calendar::parse(&windows, &zones, "windows").unwrap_err();
        assert!(violations[0].problem.contains("unknown time zone"), "{violations:?}");
    }
}
