//! A calendar as an iCalendar file (RFC 5545): each open span and each freeze is an event, so that people see them
//! beside their meetings.
//!
//! All instants are UTC. An event has the same uid in every export, whatever range was asked for, so that a calendar
//! program that imports it again replaces it.

use icalendar::{Calendar as File, Component, Event, Property};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::api::window::WindowKind;
use crate::calendar::{Calendar, Interval, Reason};
use crate::release::digest::digest;

/// The file for the windows `of` someone, with the events that touch the range; `now` is when it is made.
pub(super) fn export(of: &str, calendar: &Calendar, range: (Timestamp, Timestamp), now: Timestamp) -> String {
    let mut file = File::empty();
    file.append_property(Property::new("VERSION", "2.0"))
        .append_property(Property::new("PRODID", "-//pilotguard//windows//EN"))
        .append_property(Property::new("CALSCALE", "GREGORIAN"))
        .append_property(Property::new("METHOD", "PUBLISH"))
        .name(&format!("Change windows of {of}"));
    // Spans are followed beyond the range, or their edges, and with them their uids, would depend on it.
    let (first, last) = (turn_of_year(range.0, -1), turn_of_year(range.1, 2));
    for interval in calendar.intervals(first, last) {
        let is_in_range = interval.start < range.1 && range.0 < interval.end;
        if let Some(event) = Some(&interval).filter(|_| is_in_range).and_then(|interval| event(of, interval, now)) {
            file.push(event);
        }
    }
    file.to_string()
}

/// The event of an interval; none where no window decides it.
fn event(of: &str, interval: &Interval, now: Timestamp) -> Option<Event> {
    let Interval { start, end, opening } = interval;
    let names = opening.reasons.iter().map(Reason::name).collect::<Vec<_>>().join(", ");
    let (summary, category) = match (opening.open, opening.reasons.first().map(|reason| reason.kind)) {
        (true, Some(_)) => (format!("Changes open: {names}"), "CHANGES-OPEN"),
        (false, Some(WindowKind::Deny)) => (format!("Change freeze: {names}"), "CHANGE-FREEZE"),
        (_, _) => return None,
    };
    let why = opening.reasons.iter().filter_map(|reason| Some((reason.name(), reason.reason.as_ref()?)));
    let why: Vec<String> = why.map(|(name, why)| format!("{name}: {why}")).collect();
    let mut uid = digest(&serde_json::json!([of, category, names, start.as_second()]));
    uid.truncate(32);
    let mut event = Event::new();
    event
        .uid(&format!("{uid}@pilotguard.dev"))
        .add_property("DTSTAMP", utc(now))
        .add_property("DTSTART", utc(*start))
        .add_property("DTEND", utc(*end))
        .add_property("CATEGORIES", category)
        // It says nothing about anybody's time.
        .add_property("TRANSP", "TRANSPARENT")
        .summary(&summary)
        .description(&[vec![of.to_owned()], why].concat().join("\n"));
    Some(event)
}

fn utc(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The first instant of a year in UTC, so many years from the one of an instant.
fn turn_of_year(at: Timestamp, years: i16) -> Timestamp {
    let year = at.to_zoned(TimeZone::UTC).year().saturating_add(years);
    let first = Date::new(year, 1, 1).ok().and_then(|date| date.to_zoned(TimeZone::UTC).ok());
    first.map_or(at, |first| first.timestamp())
}
