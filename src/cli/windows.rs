//! `pilotguard windows`: when a Pilot's windows are open and closed, ChangeCalendars included.
//!
//! It reads files and asks nothing of a cluster. The clock is read once, for the default range.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use comfy_table::Table;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use miette::{IntoDiagnostic, miette};
use serde::Serialize;

use super::calendars::{Calendars, read};
use super::file::File;
use super::ics;
use crate::api::duration::Duration;
use crate::api::window::WindowKind;
use crate::calendar::{Interval, Opening, Reason};

const DEFAULT_RANGE: SignedDuration = SignedDuration::from_hours(24 * 7);
/// Five years with two leap days.
const LONGEST_RANGE: SignedDuration = SignedDuration::from_hours(24 * 1827);

/// Print when a Pilot's change windows are open and closed
///
/// Prints the intervals in which changes are open or closed for the first Pilot in a YAML or JSON file, or in a list as
/// `kubectl get pilots -o yaml` prints it, and the windows that decide. It needs no cluster. ChangeCalendars in the same
/// file, or given with --calendar, narrow the Pilot; for a file with only ChangeCalendars the calendars are printed.
#[derive(Debug, Args)]
pub struct WindowsArgs {
    /// File with the Pilot; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// File with ChangeCalendars, and optionally the Pilot's Namespace, whose labels then decide which of them apply;
    /// may be repeated
    #[arg(long, value_name = "FILE")]
    pub calendar: Vec<PathBuf>,
    /// Start of the range, RFC 3339, for example 2026-12-20T00:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub from: Option<Timestamp>,
    /// End of the range, exclusive, RFC 3339; at most five years after the start [default: 7 days after the start]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub to: Option<Timestamp>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How the intervals are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people: a table in the time zone that all windows share, otherwise in UTC.
    Table,
    /// For programs: a JSON array of `{start, end, open, reasons}`, in UTC.
    Json,
    /// For calendar programs: an iCalendar file (RFC 5545) with openings and freezes as events.
    Ics,
}

#[derive(Serialize)]
struct Line {
    start: Timestamp,
    end: Timestamp,
    open: bool,
    reasons: Vec<String>,
}

impl From<&Interval> for Line {
    fn from(interval: &Interval) -> Self {
        let name = |reason: &Reason| match &reason.calendar {
            Some(calendar) => format!("{calendar}/{}", reason.window),
            None => reason.window.clone(),
        };
        Line {
            start: interval.start,
            end: interval.end,
            open: interval.opening.open,
            reasons: interval.opening.reasons.iter().map(name).collect(),
        }
    }
}

/// Prints the intervals to the standard output.
#[expect(clippy::needless_pass_by_value, reason = "a command owns its arguments")]
pub fn run(args: WindowsArgs) -> miette::Result<()> {
    let now = Timestamp::now();
    let files = [&args.file].into_iter().chain(&args.calendar).map(|path| File::read(path));
    let files: Vec<File> = files.collect::<miette::Result<_>>()?;
    let text = render(&files, &args, now)?;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).into_diagnostic(),
        _ => Ok(()),
    }
}

/// What is printed for these files at an instant; the first is the one with the Pilot, and `now` is the default start
/// of the range.
pub fn render(files: &[File], args: &WindowsArgs, now: Timestamp) -> miette::Result<String> {
    let (from, to) = range(args, now)?;
    let found = read(files)?;
    match args.output {
        Output::Json => json(&found.joined.intervals(from, to)),
        Output::Table => Ok(table(&found, &found.joined.intervals(from, to), now)),
        Output::Ics => Ok(ics::export(&found.of, &found.joined, (from, to), now)),
    }
}

fn range(args: &WindowsArgs, now: Timestamp) -> miette::Result<(Timestamp, Timestamp)> {
    // Nobody reads fractions of the present second.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let from = args.from.unwrap_or(now);
    let to = args.to.unwrap_or(from.checked_add(DEFAULT_RANGE).unwrap_or(Timestamp::MAX));
    if to <= from {
        return Err(miette!(
            help = "give a --to that is later than --from; without --from the range begins now",
            "the range is empty: it begins at {from} and ends at {to}"
        ));
    }
    if to.duration_since(from) > LONGEST_RANGE {
        return Err(miette!(
            help = "ask for at most five years at a time",
            "the range from {from} to {to} is longer than five years"
        ));
    }
    Ok((from, to))
}

fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        "write a date, a time and an offset as in RFC 3339, such as 2026-12-20T00:00:00Z or 2026-12-20T00:00:00+01:00"
            .to_owned()
    })
}

fn json(intervals: &[Interval]) -> miette::Result<String> {
    let lines: Vec<Line> = intervals.iter().map(Line::from).collect();
    let text = serde_json::to_string_pretty(&lines).into_diagnostic()?;
    Ok(format!("{text}\n"))
}

fn table(found: &Calendars, intervals: &[Interval], now: Timestamp) -> String {
    let zone = found.joined.common_zone().cloned().unwrap_or(TimeZone::UTC);
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["FROM", "TO", "LASTS", "CHANGES", "BECAUSE"]);
    for interval in intervals {
        let lasts = interval.end.duration_since(interval.start);
        table.add_row([
            local(interval.start, &zone),
            local(interval.end, &zone),
            Duration::from_secs(lasts.as_secs()).to_string(),
            if interval.opening.open { "open" } else { "closed" }.into(),
            because(&interval.opening),
        ]);
    }
    let zone = zone.iana_name().unwrap_or("UTC");
    let past = found.joined.past_windows(now);
    let past = past.iter().map(|name| format!("Window {name} lies in the past.\n"));
    let idle = found.idle.iter().map(|name| format!("Calendar {name} does not narrow this pilot.\n"));
    let assumed = found.assumed.iter().map(|name| {
        format!(
            "Calendar {name} is assumed to select the pilot's namespace, because no file contains the Namespace with its labels.\n"
        )
    });
    let others = (found.other_pilots > 0).then(|| {
        let (others, of) = (found.other_pilots, &found.of);
        format!("Only the first Pilot is shown ({of}); the file holds {others} more.\n")
    });
    let notes: String = others.into_iter().chain(past).chain(idle).chain(assumed).collect();
    format!("Times are in {zone}.\n{}\n{notes}", table.trim_fmt())
}

fn local(at: Timestamp, zone: &TimeZone) -> String {
    let zoned = at.to_zoned(zone.clone());
    let format = if zoned.second() == 0 { "%a %Y-%m-%d %H:%M %Z" } else { "%a %Y-%m-%d %H:%M:%S %Z" };
    zoned.strftime(format).to_string()
}

fn because(opening: &Opening) -> String {
    if !opening.outside.is_empty() {
        let is_own = opening.outside.iter().all(Option::is_none);
        return if is_own { "outside all windows".into() } else { format!("outside {}", opening.outside_of()) };
    }
    if opening.reasons.is_empty() {
        return "no freeze".into();
    }
    let name = |reason: &Reason| match reason.kind {
        WindowKind::Deny => reason.to_string(),
        WindowKind::Allow => reason.name(),
    };
    opening.reasons.iter().map(name).collect::<Vec<_>>().join(", ")
}
