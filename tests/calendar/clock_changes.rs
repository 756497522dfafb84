//! The rules where the clocks change. The instants of the changes are those that the governments announced, as
//! published in the IANA time-zone database.

use crate::check;

const BERLIN: &str = "Europe/Berlin";
const NEW_YORK: &str = "America/New_York";
const LORD_HOWE: &str = "Australia/Lord_Howe";
const CASABLANCA: &str = "Africa/Casablanca";
const APIA: &str = "Pacific/Apia";

type Case = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Zone, the `weekly`, `cron` or `once` of a window, the UTC day around the change, and the open spans in it.
#[track_caller]
fn check_all(day: (&str, &str), cases: &[Case]) {
    for (zone, kind, times, expected) in cases {
        let windows = format!("[{{name: w, timeZone: {zone}, {kind}: {times}}}]");
        check(&windows, day.0, day.1, expected);
    }
}

#[test]
fn a_time_in_the_gap_is_the_first_instant_after_it() {
    // Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00Z.
    check_all(
        ("2026-03-28T22:00:00Z", "2026-03-29T22:00:00Z"),
        &[
            (
                BERLIN,
                "weekly",
                "{days: [Sun], from: '02:30', to: '04:00'}",
                &[("2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z")],
            ),
            (
                BERLIN,
                "weekly",
                "{days: [Sun], from: '01:00', to: '02:30'}",
                &[("2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z")],
            ),
            (BERLIN, "weekly", "{days: [Sun], from: '02:10', to: '02:50'}", &[]),
            (BERLIN, "weekly", "{days: [Sun], from: '02:00', to: '03:00'}", &[]),
            (
                BERLIN,
                "weekly",
                "{days: [Sat], from: '23:30', to: '02:30'}",
                &[("2026-03-28T22:30:00Z", "2026-03-29T01:00:00Z")],
            ),
            (
                BERLIN,
                "cron",
                "{schedule: '30 2 * * *', duration: 15m}",
                &[("2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z")],
            ),
            (
                BERLIN,
                "cron",
                "{schedule: '30 2 * * SUN', duration: 15m}",
                &[("2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z")],
            ),
            (
                BERLIN,
                "cron",
                "{schedule: '30 1-3 * * *', duration: 15m}",
                &[
                    ("2026-03-29T00:30:00Z", "2026-03-29T00:45:00Z"),
                    ("2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"),
                    ("2026-03-29T01:30:00Z", "2026-03-29T01:45:00Z"),
                ],
            ),
            (
                BERLIN,
                "once",
                "{from: '2026-03-29T02:15:00', to: '2026-03-29T03:15:00'}",
                &[("2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z")],
            ),
        ],
    );
}

#[test]
fn a_time_in_the_gap_is_the_first_instant_after_it_elsewhere_too() {
    // New York, 8 March 2026: 02:00 becomes 03:00 at 07:00Z.
    check_all(
        ("2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
        &[
            (
                NEW_YORK,
                "weekly",
                "{days: [Sun], from: '02:30', to: '04:00'}",
                &[("2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z")],
            ),
            (
                NEW_YORK,
                "cron",
                "{schedule: '30 2 * * *', duration: 1h}",
                &[("2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z")],
            ),
        ],
    );
    // Lord Howe, 4 October 2026: 02:00 becomes 02:30 at 15:30Z on the 3rd.
    check_all(
        ("2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z"),
        &[
            (
                LORD_HOWE,
                "weekly",
                "{days: [Sun], from: '02:15', to: '03:00'}",
                &[("2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z")],
            ),
            (
                LORD_HOWE,
                "weekly",
                "{days: [Sun], from: '01:45', to: '02:30'}",
                &[("2026-10-03T15:15:00Z", "2026-10-03T15:30:00Z")],
            ),
            (
                LORD_HOWE,
                "cron",
                "{schedule: '15 2 * * *', duration: 10m}",
                &[("2026-10-03T15:30:00Z", "2026-10-03T15:40:00Z")],
            ),
        ],
    );
    // Casablanca, 22 March 2026, after Ramadan: 02:00 becomes 03:00 at 02:00Z.
    check_all(
        ("2026-03-22T00:00:00Z", "2026-03-22T23:00:00Z"),
        &[(
            CASABLANCA,
            "weekly",
            "{days: [Sun], from: '02:30', to: '04:00'}",
            &[("2026-03-22T02:00:00Z", "2026-03-22T03:00:00Z")],
        )],
    );
}

#[test]
fn of_a_time_that_comes_twice_a_start_takes_the_earlier_and_an_end_the_later() {
    // Berlin, 25 October 2026: 03:00 becomes 02:00 at 01:00Z.
    check_all(
        ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        &[
            (
                BERLIN,
                "weekly",
                "{days: [Sun], from: '02:30', to: '04:00'}",
                &[("2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z")],
            ),
            (
                BERLIN,
                "weekly",
                "{days: [Sun], from: '01:00', to: '02:30'}",
                &[("2026-10-24T23:00:00Z", "2026-10-25T01:30:00Z")],
            ),
            (
                BERLIN,
                "weekly",
                "{days: [Sun], from: '02:10', to: '02:20'}",
                &[("2026-10-25T00:10:00Z", "2026-10-25T01:20:00Z")],
            ),
            (
                BERLIN,
                "weekly",
                "{days: [Sun], from: '01:00', to: '02:00'}",
                &[("2026-10-24T23:00:00Z", "2026-10-25T01:00:00Z")],
            ),
            (
                BERLIN,
                "weekly",
                "{days: [Sun], from: '03:00', to: '04:00'}",
                &[("2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z")],
            ),
            (
                BERLIN,
                "once",
                "{from: '2026-10-25T02:15:00', to: '2026-10-25T02:45:00'}",
                &[("2026-10-25T00:15:00Z", "2026-10-25T01:45:00Z")],
            ),
        ],
    );
}

#[test]
fn of_a_time_that_comes_twice_the_same_holds_elsewhere() {
    // New York, 1 November 2026: 02:00 becomes 01:00 at 06:00Z.
    check_all(
        ("2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        &[(
            NEW_YORK,
            "weekly",
            "{days: [Sun], from: '01:30', to: '01:45'}",
            &[("2026-11-01T05:30:00Z", "2026-11-01T06:45:00Z")],
        )],
    );
    // Lord Howe, 5 April 2026: 02:00 becomes 01:30 at 15:00Z on the 4th.
    check_all(
        ("2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z"),
        &[
            (
                LORD_HOWE,
                "weekly",
                "{days: [Sun], from: '01:40', to: '01:50'}",
                &[("2026-04-04T14:40:00Z", "2026-04-04T15:20:00Z")],
            ),
            (
                LORD_HOWE,
                "weekly",
                "{days: [Sun], from: '01:00', to: '02:00'}",
                &[("2026-04-04T14:00:00Z", "2026-04-04T15:30:00Z")],
            ),
        ],
    );
    // Casablanca, 15 February 2026, before Ramadan: 03:00 becomes 02:00 at 02:00Z.
    check_all(
        ("2026-02-14T23:00:00Z", "2026-02-16T00:00:00Z"),
        &[(
            CASABLANCA,
            "weekly",
            "{days: [Sun], from: '02:30', to: '02:45'}",
            &[("2026-02-15T01:30:00Z", "2026-02-15T02:45:00Z")],
        )],
    );
}

#[test]
fn a_cron_start_that_comes_twice_counts_once_unless_its_hour_is_a_wildcard_or_a_step() {
    let (first, second) =
        (("2026-10-25T00:30:00Z", "2026-10-25T00:40:00Z"), ("2026-10-25T01:30:00Z", "2026-10-25T01:40:00Z"));
    let day = ("2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z");
    let once = ["30 2 * * *", "30 2,5 * * *", "30 1-3 * * *", "*/30 2 * * *"];
    for schedule in once {
        let windows = format!("[{{name: w, timeZone: {BERLIN}, cron: {{schedule: '{schedule}', duration: 10m}}}}]");
        let found = crate::open_spans(&crate::calendar(&windows), day.0, day.1);
        assert!(found.contains(&(crate::at(first.0), crate::at(first.1))), "{schedule}: {found:?}");
        assert!(!found.contains(&(crate::at(second.0), crate::at(second.1))), "{schedule}: {found:?}");
    }
    for schedule in ["30 * * * *", "30 */2 * * *", "30 0-4/2 * * *", "30 5,*/2 * * *"] {
        let windows = format!("[{{name: w, timeZone: {BERLIN}, cron: {{schedule: '{schedule}', duration: 10m}}}}]");
        check(&windows, day.0, day.1, &[first, second]);
    }
    // Half an hour comes twice on Lord Howe, so a quarter to two does, and a quarter past one does not.
    let windows = format!("[{{name: w, timeZone: {LORD_HOWE}, cron: {{schedule: '15,45 * * * *', duration: 5m}}}}]");
    check(
        &windows,
        "2026-04-04T14:00:00Z",
        "2026-04-04T15:35:00Z",
        &[
            ("2026-04-04T14:15:00Z", "2026-04-04T14:20:00Z"),
            ("2026-04-04T14:45:00Z", "2026-04-04T14:50:00Z"),
            ("2026-04-04T15:15:00Z", "2026-04-04T15:20:00Z"),
        ],
    );
}

#[test]
fn cron_lasts_elapsed_time_whatever_the_clocks_show() {
    check_all(
        ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        &[(
            BERLIN,
            "cron",
            "{schedule: '0 1 * * SUN', duration: 4h}",
            &[("2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z")],
        )],
    );
    check_all(
        ("2026-03-28T22:00:00Z", "2026-03-29T22:00:00Z"),
        &[(
            BERLIN,
            "cron",
            "{schedule: '0 1 * * SUN', duration: 4h}",
            &[("2026-03-29T00:00:00Z", "2026-03-29T04:00:00Z")],
        )],
    );
}

#[test]
fn a_gap_that_ends_at_midnight_carries_starts_into_the_next_day() {
    // Nuuk, 28 March 2026: 23:00 on Saturday becomes 00:00 on Sunday at 01:00Z on the 29th.
    check_all(
        ("2026-03-28T22:00:00Z", "2026-03-29T12:00:00Z"),
        &[
            (
                "America/Nuuk",
                "cron",
                "{schedule: '30 23 * * SAT', duration: 10m}",
                &[("2026-03-29T01:00:00Z", "2026-03-29T01:10:00Z")],
            ),
            ("America/Nuuk", "weekly", "{days: [Sat], from: '23:30', to: '24:00'}", &[]),
            (
                "America/Nuuk",
                "weekly",
                "{days: [Sat], from: '23:30', to: '01:00'}",
                &[("2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z")],
            ),
        ],
    );
    // Cairo, 24 April 2026: 00:00 becomes 01:00 at 22:00Z on the 23rd.
    check_all(
        ("2026-04-23T12:00:00Z", "2026-04-24T12:00:00Z"),
        &[
            (
                "Africa/Cairo",
                "cron",
                "{schedule: '0 0 * * FRI', duration: 10m}",
                &[("2026-04-23T22:00:00Z", "2026-04-23T22:10:00Z")],
            ),
            (
                "Africa/Cairo",
                "cron",
                "{schedule: '0 2 * * FRI', duration: 10m}",
                &[("2026-04-23T23:00:00Z", "2026-04-23T23:10:00Z")],
            ),
        ],
    );
}

#[test]
fn a_day_that_comes_back_for_an_hour_keeps_its_order() {
    // St. John's, 30 October 2005: 00:01 on Sunday became 23:01 on Saturday again at 02:31Z.
    check_all(
        ("2005-10-30T01:00:00Z", "2005-10-30T05:00:00Z"),
        &[
            (
                "America/St_Johns",
                "cron",
                "{schedule: '30 * * * *', duration: 10m}",
                &[
                    ("2005-10-30T01:00:00Z", "2005-10-30T01:10:00Z"),
                    ("2005-10-30T02:00:00Z", "2005-10-30T02:10:00Z"),
                    ("2005-10-30T03:00:00Z", "2005-10-30T03:10:00Z"),
                    ("2005-10-30T04:00:00Z", "2005-10-30T04:10:00Z"),
                ],
            ),
            (
                "America/St_Johns",
                "cron",
                "{schedule: '0 0 * * *', duration: 10m}",
                &[("2005-10-30T02:30:00Z", "2005-10-30T02:40:00Z")],
            ),
            (
                "America/St_Johns",
                "cron",
                "{schedule: '59 23 * * *', duration: 1m}",
                &[("2005-10-30T02:29:00Z", "2005-10-30T02:30:00Z")],
            ),
        ],
    );
}

#[test]
fn a_day_that_a_zone_skips_does_not_exist() {
    // Samoa went from Thursday 29 to Saturday 31 December 2011, at 10:00Z on the 30th.
    check_all(
        ("2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z"),
        &[
            (APIA, "weekly", "{days: [Fri], from: '09:00', to: '16:00'}", &[]),
            (
                APIA,
                "weekly",
                "{days: [Thu], from: '22:00', to: '06:00'}",
                &[("2011-12-30T08:00:00Z", "2011-12-30T10:00:00Z")],
            ),
            (
                APIA,
                "weekly",
                "{days: [Sat], from: '09:00', to: '16:00'}",
                &[("2011-12-30T19:00:00Z", "2011-12-31T02:00:00Z")],
            ),
            (
                APIA,
                "cron",
                "{schedule: '0 9 * * FRI', duration: 1h}",
                &[("2011-12-30T10:00:00Z", "2011-12-30T11:00:00Z")],
            ),
        ],
    );
}

#[test]
fn a_last_hour_of_the_day_that_comes_twice_starts_twice() {
    // Cairo, 29 October 2026: 24:00 becomes 23:00 at 21:00Z.
    check_all(
        ("2026-10-29T20:00:00Z", "2026-10-29T23:00:00Z"),
        &[
            (
                "Africa/Cairo",
                "cron",
                "{schedule: '31 * * * *', duration: 10m}",
                &[
                    ("2026-10-29T20:31:00Z", "2026-10-29T20:41:00Z"),
                    ("2026-10-29T21:31:00Z", "2026-10-29T21:41:00Z"),
                    ("2026-10-29T22:31:00Z", "2026-10-29T22:41:00Z"),
                ],
            ),
            (
                "Africa/Cairo",
                "weekly",
                "{days: [Thu], from: '23:15', to: '24:00'}",
                &[("2026-10-29T20:15:00Z", "2026-10-29T22:00:00Z")],
            ),
        ],
    );
}
