//! `pilotguard windows -o ics`: read again by another author's parser, and byte by byte where RFC 5545 is strict.

use std::collections::BTreeMap;

use pilotguard::cli::windows::Output;

use crate::command_line::print_files;

const PILOT: &str = "
apiVersion: pilotguard.dev/v1alpha1
kind: Pilot
metadata: {name: checkout, namespace: shop}
spec:
  changes:
    windows:
    - {name: mornings, timeZone: Europe/Berlin, weekly: {days: [Thu, Fri], from: '09:00', to: '12:00'}}
    - name: year-end
      kind: Deny
      reason: \"Jahresabschluss; Größe, Maße und Gewichte: nichts wird geändert, bis die Prüfer gegangen sind \\\\o/\"
      once: {from: '2026-12-18T09:00:00', to: '2026-12-20T00:00:00'}
";

type Event = BTreeMap<String, String>;

fn export(from: &str, to: &str) -> String {
    print_files(&[("pilot.yaml", PILOT)], Some(from), Some(to), Output::Ics).unwrap()
}

fn read(text: &str) -> Vec<Event> {
    let calendars: Vec<_> = ical::IcalParser::new(text.as_bytes()).collect::<Result<_, _>>().unwrap();
    assert_eq!(calendars.len(), 1);
    let event = |event: &ical::parser::ical::component::IcalEvent| {
        let property = |it: &ical::property::Property| (it.name.clone(), it.value.clone().unwrap_or_default());
        event.properties.iter().map(property).collect()
    };
    calendars[0].events.iter().map(event).collect()
}

fn told(event: &Event) -> [&str; 4] {
    ["SUMMARY", "DTSTART", "DTEND", "CATEGORIES"].map(|key| event[key].as_str())
}

#[test]
fn open_spans_and_freezes_are_events_in_utc() {
    let events = read(&export("2026-12-17T00:00:00Z", "2026-12-21T00:00:00Z"));
    assert_eq!(
        events.iter().map(told).collect::<Vec<_>>(),
        [
            ["Changes open: mornings", "20261217T080000Z", "20261217T110000Z", "CHANGES-OPEN"],
            ["Changes open: mornings", "20261218T080000Z", "20261218T090000Z", "CHANGES-OPEN"],
            ["Change freeze: year-end", "20261218T090000Z", "20261220T000000Z", "CHANGE-FREEZE"],
        ]
    );
    assert!(events.iter().all(|event| event["DTSTAMP"] == "20261217T083000Z" && event["TRANSP"] == "TRANSPARENT"));
    // RFC 5545, 3.3.11: backslash, semicolon, comma and line break are escaped in text.
    assert_eq!(
        events[2]["DESCRIPTION"],
        r"pilot shop/checkout\nyear-end: Jahresabschluss\; Größe\, Maße und Gewichte: nichts wird geändert\, bis die Prüfer gegangen sind \\o/"
    );
}

#[test]
fn lines_are_as_the_rfc_wants_them() {
    let text = export("2026-12-17T00:00:00Z", "2026-12-21T00:00:00Z");
    assert!(text.ends_with("END:VCALENDAR\r\n"), "{text}");
    for line in text.trim_end_matches("\r\n").split("\r\n") {
        assert!(line.len() <= 75 && !line.contains(['\r', '\n']) && !line.is_empty(), "{line:?}");
    }
    assert!(text.contains("\r\n "), "something long is folded");
    let head: Vec<&str> = text.split("\r\n").take(5).collect();
    assert_eq!(head[0], "BEGIN:VCALENDAR");
    for property in ["VERSION:2.0", "PRODID:-//pilotguard//windows//EN", "CALSCALE:GREGORIAN", "METHOD:PUBLISH"] {
        assert!(head.contains(&property), "{head:?}");
    }
}

#[test]
fn an_event_is_the_same_in_every_export_that_has_it() {
    let whole = read(&export("2026-12-17T00:00:00Z", "2026-12-21T00:00:00Z"));
    // The range begins and ends inside the freeze.
    let part = read(&export("2026-12-18T23:00:00Z", "2026-12-19T01:00:00Z"));
    assert_eq!(part, [whole[2].clone()]);
    let mut uids: Vec<&String> = whole.iter().map(|event| &event["UID"]).collect();
    uids.sort();
    uids.dedup();
    assert_eq!(uids.len(), whole.len());
    assert!(uids.iter().all(|uid| uid.ends_with("@pilotguard.dev")), "{uids:?}");
}
