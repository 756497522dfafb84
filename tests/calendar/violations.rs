//! What a calendar refuses, where, and in which words.

use jiff::tz::TimeZoneDatabase;
use pilotguard::calendar::Calendar;
use pilotguard::violation::Violation;

use crate::windows;

fn violations(yaml: &str) -> Vec<String> {
    let found = Calendar::parse(&windows(yaml), &TimeZoneDatabase::bundled(), "spec.changes.windows");
    found.err().unwrap_or_default().iter().map(Violation::to_string).collect()
}

/// The window, and the one violation that it has.
#[test]
fn what_cannot_be_evaluated_is_refused_with_its_place_and_a_remedy() {
    let zone = "use a name from the IANA time-zone database, such as Europe/Berlin or UTC";
    let schedule = "write minute, hour, day of month, month and day of week, such as \"0 2 * * *\"";
    let instant = "write YYYY-MM-DDTHH:MM:SS in the window's time zone, such as \"2026-12-20T00:00:00\"";
    let exactly_one = "w]: a window needs exactly one of weekly, cron, once and always; keep one of them; for a second one declare another window".to_owned();
    let cases = [
        ("timeZone: Mars/Olympus, always: true", format!("w].timeZone: unknown time zone \"Mars/Olympus\"; {zone}")),
        ("timeZone: '', always: true", format!("w].timeZone: unknown time zone \"\"; {zone}")),
        ("timeZone: Berlin, always: true", "w].timeZone: unknown time zone \"Berlin\"; did you mean Europe/Berlin?".into()),
        ("timeZone: US/New York, always: true", "w].timeZone: unknown time zone \"US/New York\"; did you mean America/New_York?".into()),
        ("cron: {schedule: '0 0 30 2 *', duration: 1h}", "w].cron.schedule: \"0 0 30 2 *\" never occurs; check the day of month against the month".into()),
        ("cron: {schedule: '0 0 31 4,6 *', duration: 1h}", "w].cron.schedule: \"0 0 31 4,6 *\" never occurs; check the day of month against the month".into()),
        ("cron: {schedule: '0 2 * * *', duration: 0s}", "w].cron.duration: a window without length is never active; give a duration such as 2h".into()),
        ("cron: {schedule: '0 25 * * *', duration: 1h}", format!("w].cron.schedule: \"0 25 * * *\" is not a cron schedule: Component error: Number out of bounds.; {schedule}")),
        ("cron: {schedule: '0 0 2 * * *', duration: 1h}", format!("w].cron.schedule: \"0 0 2 * * *\" is not a cron schedule: Invalid pattern: Pattern must have 5 fields when seconds are disallowed.; {schedule}")),
        ("weekly: {days: [], from: '09:00', to: '16:00'}", "w].weekly.days: no day is listed, so the window would never be active; list the days on which it begins, such as [Mon, Tue]".into()),
        ("weekly: {days: [Mon, Tue, Mon], from: '09:00', to: '16:00'}", "w].weekly.days: Mon is listed twice; list each day once".into()),
        ("weekly: {days: [Mon], from: '24:00', to: '16:00'}", "w].weekly.from: \"24:00\" is not a time of day; write HH:MM between 00:00 and 23:59, such as \"09:00\"".into()),
        ("weekly: {days: [Mon], from: '9:00', to: '16:00'}", "w].weekly.from: \"9:00\" is not a time of day; write HH:MM between 00:00 and 23:59, such as \"09:00\"".into()),
        ("weekly: {days: [Mon], from: '09:00', to: '24:01'}", "w].weekly.to: \"24:01\" is not a time of day; write HH:MM between 00:00 and 24:00, such as \"16:00\"".into()),
        ("once: {from: '2026-12-20', to: '2027-01-01T00:00:00'}", format!("w].once.from: \"2026-12-20\" is not a date and time; {instant}")),
        ("once: {from: '2026-12-20T00:00:00Z', to: '2027-01-01T00:00:00'}", format!("w].once.from: \"2026-12-20T00:00:00Z\" is not a date and time; {instant}")),
        ("once: {from: '2027-01-01T00:00:00', to: '2026-12-20T00:00:00'}", "w].once.to: 2026-12-20T00:00:00 is not after 2027-01-01T00:00:00; let the window end after it begins".into()),
        ("always: false", "w].always: always can only be true; remove it and use weekly, cron or once, or remove the window".into()),
        ("always: true, cron: {schedule: '0 2 * * *', duration: 1h}", exactly_one.clone()),
        ("kind: Allow", exactly_one),
    ];
    for (window, expected) in cases {
        let found = violations(&format!("[{{name: w, {window}}}]"));
        assert_eq!(found, vec![format!("spec.changes.windows[name={expected}")], "{window}");
    }
}

#[test]
fn an_impossible_date_says_which_part_is_impossible() {
    let found = violations("[{name: w, once: {from: '2026-02-30T00:00:00', to: '2026-13-01T00:00:00'}}]");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].contains("once.from: \"2026-02-30T00:00:00\" is not a date and time: ") && found[0].contains("day"),
        "{}",
        found[0]
    );
    assert!(found[1].contains("month"), "{}", found[1]);
}

#[test]
fn all_mistakes_are_reported_together() {
    let found = violations(
        "
- {name: a, kind: Deny, timeZone: Nowhere, cron: {schedule: 'x', duration: 0s}}
- {name: a, kind: Deny, always: true}",
    );
    let places: Vec<_> = found.iter().map(|violation| violation.split(':').next().unwrap_or_default()).collect();
    assert_eq!(
        places,
        vec![
            "spec.changes.windows[name=a].timeZone",
            "spec.changes.windows[name=a].cron.duration",
            "spec.changes.windows[name=a].cron.schedule",
            "spec.changes.windows[1].name",
            "spec.changes.windows",
        ]
    );
    assert!(found[3].ends_with(
        "two windows are named \"a\"; give each window a name of its own, because refusals name the window"
    ));
    assert!(found[4].contains("no window allows changes, so they would never be open; declare at least one Allow"));
}

#[test]
fn no_window_at_all_is_refused() {
    assert_eq!(violations("[]").len(), 1);
}

#[test]
fn a_window_in_the_past_a_day_that_comes_rarely_and_a_zone_in_lower_case_are_accepted() {
    for window in [
        "once: {from: '2020-01-01T00:00:00', to: '2020-01-02T00:00:00'}",
        "cron: {schedule: '0 0 29 2 *', duration: 1h}",
        "cron: {schedule: '0 0 29 2 +MON', duration: 1h}",
        "timeZone: europe/berlin, always: true",
        "timeZone: Etc/GMT+5, always: true",
    ] {
        assert_eq!(violations(&format!("[{{name: w, {window}}}]")), Vec::<String>::new(), "{window}");
    }
}
