//! `pilotguard windows`: when a Pilot's windows are open and closed.
//!
//! It reads one file and asks nothing of a cluster. The clock is read once, for the default range.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use comfy_table::Table;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use miette::{IntoDiagnostic, miette};
use serde::{Deserialize, Serialize};

use super::file::Document;
use crate::api::duration::Duration;
use crate::api::window::{Window, WindowKind};
use crate::calendar::{Calendar, Interval, Reason};

const PATH: &str = "spec.changes.windows";
const DEFAULT_RANGE: SignedDuration = SignedDuration::from_hours(24 * 7);
/// Five years with two leap days.
const LONGEST_RANGE: SignedDuration = SignedDuration::from_hours(24 * 1827);

/// Print when a Pilot's change windows are open and closed
///
/// Reads the first Pilot of a YAML or JSON file, without a cluster, and prints the intervals in which changes are open
/// or closed, and the windows that decide it.
#[derive(Debug, Args)]
pub struct WindowsArgs {
    /// File with the Pilot; `-` reads the standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// First instant, RFC 3339, such as 2026-12-20T00:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub from: Option<Timestamp>,
    /// First instant after the range, RFC 3339; at most five years after the first [default: 7 days after it]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub to: Option<Timestamp>,
    /// Format: a table in local time, or JSON in UTC
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How the intervals are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people: local time in the zone of the windows where it is the same for all, else UTC.
    Table,
    /// For programs: an array of `{start, end, open, reasons}`, in UTC.
    Json,
}

/// The part of a Pilot that is read here.
#[derive(Deserialize)]
struct Pilot {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    changes: Changes,
}

#[derive(Deserialize)]
struct Changes {
    windows: Vec<Window>,
}

#[derive(Serialize)]
struct Line<'a> {
    start: Timestamp,
    end: Timestamp,
    open: bool,
    reasons: Vec<&'a str>,
}

impl<'a> From<&'a Interval> for Line<'a> {
    fn from(interval: &'a Interval) -> Self {
        Line {
            start: interval.start,
            end: interval.end,
            open: interval.open,
            reasons: interval.reasons.iter().map(|reason| reason.window.as_str()).collect(),
        }
    }
}

/// Prints the intervals to the standard output.
#[expect(clippy::needless_pass_by_value, reason = "a command owns its arguments")]
pub fn run(args: WindowsArgs) -> miette::Result<()> {
    let now = Timestamp::now();
    let document = Document::read(&args.file, "Pilot")?;
    let text = render(&document, &args, now)?;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).into_diagnostic(),
        _ => Ok(()),
    }
}

/// What is printed for a document at an instant; `now` is the default start of the range.
pub fn render(document: &Document, args: &WindowsArgs, now: Timestamp) -> miette::Result<String> {
    let (from, to) = range(args, now)?;
    let calendar = read(document)?;
    let intervals = calendar.intervals(from, to);
    match args.output {
        Output::Json => json(&intervals),
        Output::Table => Ok(table(&calendar, &intervals, now)),
    }
}

fn read(document: &Document) -> miette::Result<Calendar> {
    let pilot: Pilot = document.parse()?;
    let windows = pilot.spec.changes.windows;
    let schema = schemars::schema_for!(Vec<Window>);
    let unknown = document.unknown_fields(PATH, schema.as_value());
    let parsed = Calendar::parse(&windows, &TimeZoneDatabase::bundled(), PATH);
    match parsed {
        Ok(calendar) if unknown.is_empty() => Ok(calendar),
        Ok(_) => Err(document.report(&unknown)),
        Err(violations) => Err(document.report(&[unknown, violations].concat())),
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
    let lines: Vec<Line<'_>> = intervals.iter().map(Line::from).collect();
    let text = serde_json::to_string_pretty(&lines).into_diagnostic()?;
    Ok(format!("{text}\n"))
}

fn table(calendar: &Calendar, intervals: &[Interval], now: Timestamp) -> String {
    let zone = calendar.common_zone().cloned().unwrap_or(TimeZone::UTC);
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["FROM", "TO", "LASTS", "CHANGES", "BECAUSE"]);
    for interval in intervals {
        let lasts = interval.end.duration_since(interval.start);
        table.add_row([
            local(interval.start, &zone),
            local(interval.end, &zone),
            Duration::from_secs(lasts.as_secs()).to_string(),
            if interval.open { "open" } else { "closed" }.into(),
            because(&interval.reasons),
        ]);
    }
    let zone = zone.iana_name().unwrap_or("UTC");
    let past = calendar.past_windows(now);
    let past = past.iter().map(|name| format!("Window {name} lies in the past.\n"));
    format!("Times are local time in {zone}.\n{}\n{}", table.trim_fmt(), past.collect::<String>())
}

fn local(at: Timestamp, zone: &TimeZone) -> String {
    let zoned = at.to_zoned(zone.clone());
    let format = if zoned.second() == 0 { "%a %Y-%m-%d %H:%M %Z" } else { "%a %Y-%m-%d %H:%M:%S %Z" };
    zoned.strftime(format).to_string()
}

fn because(reasons: &[Reason]) -> String {
    if reasons.is_empty() {
        return "outside all windows".into();
    }
    let name = |reason: &Reason| match (&reason.reason, reason.kind) {
        (Some(why), WindowKind::Deny) => format!("{} ({why})", reason.window),
        _ => reason.window.clone(),
    };
    reasons.iter().map(name).collect::<Vec<_>>().join(", ")
}
