//! From windows as written to windows that can be evaluated, with a violation for all that cannot be.
//!
//! Nothing here depends on the present: a window in the past is read like any other.

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::cron::Cron;
use super::span::Span;
use super::weekly::Weekly;
use super::{Calendar, Layer, Times, Window, wall};
use crate::api::window::{self, WindowKind};
use crate::violation::Violation;

/// Reads a Pilot's windows, or says everything that is wrong with them.
pub(super) fn own(
    windows: &[window::Window],
    zones: &TimeZoneDatabase,
    path: &str,
) -> Result<Calendar, Vec<Violation>> {
    let found = shared(windows, zones, path);
    if windows.iter().any(|window| window.kind == WindowKind::Allow) {
        return found;
    }
    let never_open = Violation::new(
        path,
        "no window allows changes, so they would never be open",
        "declare at least one Allow, such as {name: always, kind: Allow, always: true}",
    );
    Err(found.err().into_iter().flatten().chain([never_open]).collect())
}

/// Reads windows that need not allow anything, or says everything that is wrong with them.
pub(super) fn shared(
    windows: &[window::Window],
    zones: &TimeZoneDatabase,
    path: &str,
) -> Result<Calendar, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut parsed = Vec::new();
    for (index, window) in windows.iter().enumerate() {
        if windows[..index].iter().any(|earlier| earlier.name == window.name) {
            violations.push(Violation::new(
                format!("{path}[{index}].name"),
                format!("two windows are named {:?}", window.name),
                "give each window a name of its own, because refusals name the window",
            ));
            continue;
        }
        match read(window, zones, &format!("{path}[name={}]", window.name)) {
            Ok(window) => parsed.push(window),
            Err(found) => violations.extend(found),
        }
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let has_allows = parsed.iter().any(|window| window.kind == WindowKind::Allow);
    Ok(Calendar { layers: vec![Layer { calendar: None, has_allows, unusable: None }], windows: parsed })
}

fn read(window: &window::Window, zones: &TimeZoneDatabase, path: &str) -> Result<Window, Vec<Violation>> {
    let zone = zones.get(&window.time_zone).map_err(|_| unknown_zone(&window.time_zone, zones, path));
    // Times are read even where the zone is unknown, so that all mistakes are reported at once.
    let (zone, unknown_zone) = match zone {
        Ok(zone) => (zone, None),
        Err(violation) => (TimeZone::UTC, Some(violation)),
    };
    let times = times(window, &zone, path);
    match (times, unknown_zone) {
        (Ok(times), None) => Ok(Window {
            layer: 0,
            name: window.name.clone(),
            kind: window.kind,
            reason: window.reason.clone(),
            zone,
            times,
        }),
        (times, unknown_zone) => Err(unknown_zone.into_iter().chain(times.err().unwrap_or_default()).collect()),
    }
}

fn unknown_zone(name: &str, zones: &TimeZoneDatabase, path: &str) -> Violation {
    let city = |zone: &str| zone.rsplit('/').next().unwrap_or_default().replace(' ', "_").to_lowercase();
    let known: Vec<String> = zones.available().map(|zone| zone.to_string()).collect();
    let alike = known.iter().find(|zone| city(zone) == city(name));
    let hint = match alike {
        Some(zone) => format!("did you mean {zone}?"),
        None => "use a name from the IANA time-zone database, such as Europe/Berlin or UTC".into(),
    };
    Violation::new(format!("{path}.timeZone"), format!("unknown time zone {name:?}"), hint)
}

fn times(window: &window::Window, zone: &TimeZone, path: &str) -> Result<Times, Vec<Violation>> {
    match (&window.weekly, &window.cron, &window.once, window.always) {
        (Some(weekly), None, None, None) => read_weekly(weekly, zone, &format!("{path}.weekly")),
        (None, Some(cron), None, None) => read_cron(cron, zone, &format!("{path}.cron")),
        (None, None, Some(once), None) => read_once(once, zone, &format!("{path}.once")),
        (None, None, None, Some(true)) => Ok(Times::Always),
        (None, None, None, Some(false)) => Err(vec![Violation::new(
            format!("{path}.always"),
            "always can only be true",
            "remove it and use weekly, cron or once, or remove the window",
        )]),
        _ => Err(vec![Violation::new(
            path,
            "a window needs exactly one of weekly, cron, once and always",
            "keep one of them; for a second one declare another window",
        )]),
    }
}

fn read_weekly(weekly: &window::Weekly, zone: &TimeZone, path: &str) -> Result<Times, Vec<Violation>> {
    let mut violations = Vec::new();
    let twice = |index: usize| weekly.days[..index].contains(&weekly.days[index]);
    if weekly.days.is_empty() {
        violations.push(Violation::new(
            format!("{path}.days"),
            "no day is listed, so the window would never be active",
            "list the days on which it begins, such as [Mon, Tue]",
        ));
    } else if let Some(index) = (0..weekly.days.len()).find(|index| twice(*index)) {
        violations.push(Violation::new(
            format!("{path}.days"),
            format!("{:?} is listed twice", weekly.days[index]),
            "list each day once",
        ));
    }
    let from = time_of_day(&weekly.from);
    if from.is_none() {
        violations.push(Violation::new(
            format!("{path}.from"),
            format!("{:?} is not a time of day", weekly.from),
            "write HH:MM between 00:00 and 23:59, such as \"09:00\"",
        ));
    }
    let to = if weekly.to == "24:00" { Some(Time::midnight()) } else { time_of_day(&weekly.to) };
    if to.is_none() {
        violations.push(Violation::new(
            format!("{path}.to"),
            format!("{:?} is not a time of day", weekly.to),
            "write HH:MM between 00:00 and 24:00, such as \"16:00\"",
        ));
    }
    let (Some(from), Some(to), true) = (from, to, violations.is_empty()) else {
        return Err(violations);
    };
    Ok(Times::Weekly(Weekly {
        zone: zone.clone(),
        days: weekly.days.iter().copied().map(weekday).collect(),
        from,
        to,
        ends_next_day: to <= from,
    }))
}

fn read_cron(cron: &window::Cron, zone: &TimeZone, path: &str) -> Result<Times, Vec<Violation>> {
    let mut violations = Vec::new();
    let duration = cron.duration.as_signed();
    if duration.is_zero() {
        violations.push(Violation::new(
            format!("{path}.duration"),
            "a window without length is never active",
            "give a duration such as 2h",
        ));
    }
    match Cron::parse(&cron.schedule, duration, zone.clone()) {
        Err(message) => violations.push(Violation::new(
            format!("{path}.schedule"),
            format!("{:?} is not a cron schedule: {message}", cron.schedule),
            "write minute, hour, day of month, month and day of week, such as \"0 2 * * *\"",
        )),
        Ok(parsed) if parsed.never_starts() => violations.push(Violation::new(
            format!("{path}.schedule"),
            format!("{:?} never occurs", cron.schedule),
            "check the day of month against the month",
        )),
        Ok(parsed) if violations.is_empty() => return Ok(Times::Cron(Box::new(parsed))),
        Ok(_) => {}
    }
    Err(violations)
}

fn read_once(once: &window::Once, zone: &TimeZone, path: &str) -> Result<Times, Vec<Violation>> {
    let read = |field: &str, text: &str| {
        date_and_time(text).map_err(|problem| {
            Violation::new(
                format!("{path}.{field}"),
                format!("{text:?} is not a date and time{problem}"),
                "write YYYY-MM-DDTHH:MM:SS in the window's time zone, such as \"2026-12-20T00:00:00\"",
            )
        })
    };
    match (read("from", &once.from), read("to", &once.to)) {
        (Ok(from), Ok(to)) if from < to => {
            Ok(Times::Once(Span { start: wall::start(zone, from), end: wall::end(zone, to) }))
        }
        (Ok(_), Ok(_)) => Err(vec![Violation::new(
            format!("{path}.to"),
            format!("{} is not after {}", once.to, once.from),
            "let the window end after it begins",
        )]),
        (from, to) => Err([from.err(), to.err()].into_iter().flatten().collect()),
    }
}

/// `HH:MM`, and nothing else.
fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    Time::new(number(hour, 2)?, number(minute, 2)?, 0, 0).ok()
}

/// `YYYY-MM-DDTHH:MM:SS`, and nothing else; the error says which part of it is impossible, where one is.
fn date_and_time(text: &str) -> Result<DateTime, String> {
    let parts = || {
        let (date, time) = text.split_once('T')?;
        let [year, month, day] = <[&str; 3]>::try_from(date.split('-').collect::<Vec<_>>()).ok()?;
        let [hour, minute, second] = <[&str; 3]>::try_from(time.split(':').collect::<Vec<_>>()).ok()?;
        let year = i16::from(number(year.get(..2)?, 2)?) * 100 + i16::from(number(year.get(2..)?, 2)?);
        let [month, day, hour, minute, second] = [month, day, hour, minute, second].map(|part| number(part, 2));
        Some(DateTime::new(year, month?, day?, hour?, minute?, second?, 0))
    };
    parts().ok_or_else(String::new)?.map_err(|error| format!(": {error}"))
}

fn number(text: &str, digits: usize) -> Option<i8> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn weekday(day: window::Weekday) -> Weekday {
    match day {
        window::Weekday::Mon => Weekday::Monday,
        window::Weekday::Tue => Weekday::Tuesday,
        window::Weekday::Wed => Weekday::Wednesday,
        window::Weekday::Thu => Weekday::Thursday,
        window::Weekday::Fri => Weekday::Friday,
        window::Weekday::Sat => Weekday::Saturday,
        window::Weekday::Sun => Weekday::Sunday,
    }
}
