//! The rules of windows, one by one, away from changes of the clocks.

use pilotguard::api::window::WindowKind;
use pilotguard::calendar::Reason;

use crate::{at, calendar, check};

#[test]
fn weekly_lasts_from_its_time_to_its_time_on_each_listed_day() {
    let windows = "[{name: mornings, timeZone: Europe/Berlin, weekly: {days: [Mon, Wed], from: '09:00', to: '16:00'}}]";
    // Monday 2 and Wednesday 4 February 2026; Berlin is at +01:00.
    check(
        windows,
        "2026-02-01T00:00:00Z",
        "2026-02-08T00:00:00Z",
        &[("2026-02-02T08:00:00Z", "2026-02-02T15:00:00Z"), ("2026-02-04T08:00:00Z", "2026-02-04T15:00:00Z")],
    );
}

#[test]
fn a_weekly_end_that_is_not_after_the_start_is_on_the_next_day() {
    check(
        "[{name: w, weekly: {days: [Fri], from: '22:00', to: '06:00'}}]",
        "2026-02-01T00:00:00Z",
        "2026-02-15T00:00:00Z",
        &[("2026-02-06T22:00:00Z", "2026-02-07T06:00:00Z"), ("2026-02-13T22:00:00Z", "2026-02-14T06:00:00Z")],
    );
    check(
        "[{name: w, weekly: {days: [Fri], from: '10:00', to: '10:00'}}]",
        "2026-02-01T00:00:00Z",
        "2026-02-08T00:00:00Z",
        &[("2026-02-06T10:00:00Z", "2026-02-07T10:00:00Z")],
    );
    check(
        "[{name: w, weekly: {days: [Fri], from: '10:00', to: '00:00'}}]",
        "2026-02-01T00:00:00Z",
        "2026-02-08T00:00:00Z",
        &[("2026-02-06T10:00:00Z", "2026-02-07T00:00:00Z")],
    );
}

#[test]
fn a_weekly_end_of_24_00_is_the_end_of_the_same_day() {
    for from in ["00:00", "18:30"] {
        check(
            &format!("[{{name: w, weekly: {{days: [Fri], from: '{from}', to: '24:00'}}}}]"),
            "2026-02-01T00:00:00Z",
            "2026-02-08T00:00:00Z",
            &[(&format!("2026-02-06T{from}:00Z"), "2026-02-07T00:00:00Z")],
        );
    }
}

#[test]
fn days_that_touch_are_one_opening() {
    check(
        "[{name: w, weekly: {days: [Mon, Tue, Wed], from: '00:00', to: '24:00'}}]",
        "2026-02-01T00:00:00Z",
        "2026-02-08T00:00:00Z",
        &[("2026-02-02T00:00:00Z", "2026-02-05T00:00:00Z")],
    );
}

#[test]
fn cron_lasts_its_duration_from_each_start() {
    check(
        "[{name: nightly, timeZone: UTC, cron: {schedule: '0 2 * * *', duration: 2h}}]",
        "2026-02-01T03:00:00Z",
        "2026-02-02T03:00:00Z",
        &[("2026-02-01T03:00:00Z", "2026-02-01T04:00:00Z"), ("2026-02-02T02:00:00Z", "2026-02-02T03:00:00Z")],
    );
}

#[test]
fn cron_occurrences_that_overlap_or_touch_are_one_opening() {
    for duration in ["1h", "90m"] {
        check(
            &format!("[{{name: w, cron: {{schedule: '0 2,3,4 * * *', duration: {duration}}}}}]"),
            "2026-02-01T00:00:00Z",
            "2026-02-02T00:00:00Z",
            &[("2026-02-01T02:00:00Z", if duration == "1h" { "2026-02-01T05:00:00Z" } else { "2026-02-01T05:30:00Z" })],
        );
    }
}

#[test]
fn cron_reads_lists_ranges_steps_names_and_nicknames() {
    // The first Monday of a month; the last day of a month; Saturdays; a day of the month or a Friday.
    let cases = [
        ("0 6 * * MON#1", vec!["2026-02-02T06:00:00Z", "2026-03-02T06:00:00Z"]),
        ("0 6 L FEB,MAR *", vec!["2026-02-28T06:00:00Z", "2026-03-31T06:00:00Z"]),
        ("30 8-16/8 1 FEB *", vec!["2026-02-01T08:30:00Z", "2026-02-01T16:30:00Z"]),
        ("@monthly", vec!["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]),
        (
            "0 0 3 2 5",
            vec![
                "2026-02-03T00:00:00Z",
                "2026-02-06T00:00:00Z",
                "2026-02-13T00:00:00Z",
                "2026-02-20T00:00:00Z",
                "2026-02-27T00:00:00Z",
            ],
        ),
    ];
    for (schedule, starts) in cases {
        let calendar = calendar(&format!("[{{name: w, cron: {{schedule: '{schedule}', duration: 10m}}}}]"));
        let found = crate::open_spans(&calendar, "2026-02-01T00:00:00Z", "2026-04-01T00:00:00Z");
        let found: Vec<_> = found.into_iter().map(|(start, _)| start).collect();
        assert_eq!(found, starts.into_iter().map(at).collect::<Vec<_>>(), "{schedule}");
    }
}

#[test]
fn once_is_wall_clock_time_in_its_zone() {
    check(
        "[{name: w, timeZone: America/New_York, once: {from: '2026-02-01T09:00:00', to: '2026-02-03T10:30:15'}}]",
        "2026-01-01T00:00:00Z",
        "2026-03-01T00:00:00Z",
        &[("2026-02-01T14:00:00Z", "2026-02-03T15:30:15Z")],
    );
}

#[test]
fn an_end_in_the_year_9999_is_for_ever() {
    let calendar = calendar(
        "[{name: a, always: true}, {name: f, kind: Deny, once: {from: '2026-02-01T00:00:00', to: '9999-12-31T23:59:59'}}]",
    );
    assert_eq!(calendar.next_close(at("2026-01-01T00:00:00Z")), Some(at("2026-02-01T00:00:00Z")));
    assert_eq!(calendar.next_open(at("2026-03-01T00:00:00Z")), None);
}

#[test]
fn a_window_is_active_at_its_start_and_no_longer_at_its_end() {
    let calendar = calendar("[{name: w, weekly: {days: [Mon], from: '09:00', to: '16:00'}}]");
    let is_open = |time| calendar.opening_at(at(time)).open;
    assert!(!is_open("2026-02-02T08:59:59.999999999Z"));
    assert!(is_open("2026-02-02T09:00:00Z"));
    assert!(is_open("2026-02-02T15:59:59.999999999Z"));
    assert!(!is_open("2026-02-02T16:00:00Z"));
}

#[test]
fn a_freeze_wins_over_whatever_is_allowed_and_names_itself() {
    let calendar = calendar(
        "
- {name: always, always: true}
- {name: mornings, weekly: {days: [Mon], from: '00:00', to: '24:00'}}
- {name: quarter-end, kind: Deny, reason: Quarter end, weekly: {days: [Mon], from: '10:00', to: '12:00'}}
- {name: review, kind: Deny, weekly: {days: [Mon], from: '11:00', to: '13:00'}}",
    );
    let reason = |window: &str, kind, reason: Option<&str>| Reason {
        calendar: None,
        window: window.into(),
        kind,
        reason: reason.map(Into::into),
    };
    let quarter_end = reason("quarter-end", WindowKind::Deny, Some("Quarter end"));
    let review = reason("review", WindowKind::Deny, None);
    let allows = vec![reason("always", WindowKind::Allow, None), reason("mornings", WindowKind::Allow, None)];
    let found = calendar.intervals(at("2026-02-02T09:00:00Z"), at("2026-02-02T14:00:00Z"));
    let found: Vec<_> =
        found.into_iter().map(|interval| (interval.start, interval.opening.open, interval.opening.reasons)).collect();
    assert_eq!(
        found,
        vec![
            (at("2026-02-02T09:00:00Z"), true, allows.clone()),
            (at("2026-02-02T10:00:00Z"), false, vec![quarter_end.clone()]),
            (at("2026-02-02T11:00:00Z"), false, vec![quarter_end, review.clone()]),
            (at("2026-02-02T12:00:00Z"), false, vec![review]),
            (at("2026-02-02T13:00:00Z"), true, allows),
        ]
    );
}

#[test]
fn what_is_hidden_behind_a_freeze_cuts_nothing() {
    let calendar = calendar(
        "
- {name: hours, cron: {schedule: '0 */2 * * *', duration: 1h}}
- {name: frozen, kind: Deny, always: true}",
    );
    let found = calendar.intervals(at("2026-02-02T00:00:00Z"), at("2026-02-03T00:00:00Z"));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn outside_all_windows_nothing_is_named() {
    let opening = calendar("[{name: w, weekly: {days: [Mon], from: '09:00', to: '16:00'}}]")
        .opening_at(at("2026-02-03T12:00:00Z"));
    assert!(!opening.open);
    assert_eq!(opening.reasons, vec![]);
}

#[test]
fn the_next_opening_and_closing_start_with_now() {
    let calendar = calendar("[{name: w, weekly: {days: [Mon], from: '09:00', to: '16:00'}}]");
    let inside = at("2026-02-02T12:00:00.5Z");
    let outside = at("2026-02-02T16:00:00Z");
    assert_eq!(calendar.next_open(inside), Some(inside));
    assert_eq!(calendar.next_close(inside), Some(at("2026-02-02T16:00:00Z")));
    assert_eq!(calendar.next_close(outside), Some(outside));
    assert_eq!(calendar.next_open(outside), Some(at("2026-02-09T09:00:00Z")));
}

#[test]
fn what_never_opens_or_closes_has_no_next_time() {
    let frozen = calendar("[{name: a, always: true}, {name: d, kind: Deny, always: true}]");
    assert_eq!(frozen.next_open(at("2026-02-02T12:00:00Z")), None);
    let open = calendar("[{name: a, always: true}]");
    assert_eq!(open.next_close(at("2026-02-02T12:00:00Z")), None);
    let every_minute = calendar("[{name: a, cron: {schedule: '* * * * *', duration: 1m}}]");
    assert_eq!(every_minute.next_close(at("2026-02-02T12:00:00Z")), None);
}

#[test]
fn a_search_ends_where_windows_shut_each_other_out_for_ever() {
    let calendar = calendar(
        "
- {name: even, cron: {schedule: '*/2 * * * *', duration: 1m}}
- {name: even-too, kind: Deny, cron: {schedule: '*/2 * * * *', duration: 1m}}",
    );
    assert_eq!(calendar.next_open(at("2026-02-02T12:00:00Z")), None);
}

#[test]
fn a_start_is_found_years_ahead() {
    let calendar = calendar("[{name: leap, timeZone: Europe/Berlin, cron: {schedule: '0 12 29 2 *', duration: 1h}}]");
    assert_eq!(calendar.next_open(at("2028-02-29T12:00:00Z")), Some(at("2032-02-29T11:00:00Z")));
    assert_eq!(calendar.next_open(at("2028-02-29T11:59:59Z")), Some(at("2028-02-29T11:59:59Z")));
}

#[test]
fn a_start_is_found_years_back() {
    // The last start before is the 29th of February 2024, and it lasts ten years.
    let calendar = calendar("[{name: leap, cron: {schedule: '0 0 29 2 *', duration: 3650d}}]");
    assert!(calendar.opening_at(at("2027-06-01T00:00:00Z")).open);
    // The next one is in 2028, so a window of three years ends in between.
    let three_years = crate::calendar("[{name: leap, cron: {schedule: '0 0 29 2 *', duration: 1095d}}]");
    assert_eq!(three_years.next_close(at("2026-06-01T00:00:00Z")), Some(at("2027-02-28T00:00:00Z")));
    assert_eq!(three_years.next_open(at("2027-06-01T00:00:00Z")), Some(at("2028-02-29T00:00:00Z")));
}

#[test]
fn a_one_off_window_in_the_past_is_reported_and_harmless() {
    let calendar = calendar(
        "
- {name: past, once: {from: '2020-01-01T00:00:00', to: '2020-02-01T00:00:00'}}
- {name: nightly, cron: {schedule: '0 2 * * *', duration: 2h}}",
    );
    assert_eq!(calendar.past_windows(at("2020-01-31T23:59:59Z")), Vec::<&str>::new());
    assert_eq!(calendar.past_windows(at("2020-02-01T00:00:00Z")), vec!["past"]);
    assert!(calendar.opening_at(at("2026-02-01T03:00:00Z")).open);
}

#[test]
fn an_empty_or_reversed_range_has_no_intervals() {
    let calendar = calendar("[{name: a, always: true}]");
    let noon = at("2026-02-02T12:00:00Z");
    assert_eq!(calendar.intervals(noon, noon), vec![]);
    assert_eq!(calendar.intervals(noon, at("2026-02-01T00:00:00Z")), vec![]);
}
