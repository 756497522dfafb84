//! `pilotguard windows`: what it prints, and how it points at mistakes.

use std::process::{Command, Stdio};

use jiff::Timestamp;
use miette::{GraphicalReportHandler, GraphicalTheme, Report};
use pilotguard::cli::file::File;
use pilotguard::cli::windows::{Output, WindowsArgs, render};

use crate::at;

const EXAMPLE: &str = include_str!("../../examples/windows.yaml");

fn print(text: &str, from: Option<&str>, to: Option<&str>, output: Output) -> Result<String, Report> {
    print_files(&[("pilot.yaml", text)], from, to, output)
}

pub(crate) fn print_files(
    files: &[(&str, &str)],
    from: Option<&str>,
    to: Option<&str>,
    output: Output,
) -> Result<String, Report> {
    let args =
        WindowsArgs { file: "pilot.yaml".into(), calendar: Vec::new(), from: from.map(at), to: to.map(at), output };
    let files: Vec<File> = files.iter().map(|(name, text)| File::parse(name, text)).collect::<Result<_, _>>()?;
    render(&files, &args, at("2026-12-17T08:30:00.5Z"))
}

fn refusal(text: &str) -> String {
    show(&print(text, None, None, Output::Json).unwrap_err())
}

fn show(report: &Report) -> String {
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(200);
    handler.render_report(&mut text, report.as_ref()).unwrap();
    text
}

fn pilot(windows: &str) -> String {
    format!(
        "apiVersion: pilotguard.dev/v1alpha1\nkind: Pilot\nmetadata: {{name: p}}\nspec:\n  changes:\n    windows:\n{windows}\n"
    )
}

#[test]
fn json_is_an_array_of_intervals_in_utc() {
    let text = print(EXAMPLE, Some("2026-12-17T14:00:00Z"), Some("2026-12-20T01:00:00Z"), Output::Json).unwrap();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let interval = |start: &str, end: &str, open: bool, reasons: &[&str]| serde_json::json!({"start": start, "end": end, "open": open, "reasons": reasons});
    // Thursday 17 to Sunday 20 December; Berlin is at +01:00.
    assert_eq!(
        found,
        serde_json::Value::Array(vec![
            interval("2026-12-17T14:00:00Z", "2026-12-17T15:00:00Z", true, &["weekday-mornings"]),
            interval("2026-12-17T15:00:00Z", "2026-12-18T02:30:00Z", false, &[]),
            interval("2026-12-18T02:30:00Z", "2026-12-18T04:30:00Z", true, &["nightly"]),
            interval("2026-12-18T04:30:00Z", "2026-12-18T21:00:00Z", false, &[]),
            interval("2026-12-18T21:00:00Z", "2026-12-19T01:00:00Z", true, &["friday-night"]),
            interval("2026-12-19T01:00:00Z", "2026-12-19T02:30:00Z", false, &[]),
            interval("2026-12-19T02:30:00Z", "2026-12-19T04:30:00Z", true, &["nightly"]),
            interval("2026-12-19T04:30:00Z", "2026-12-19T23:00:00Z", false, &[]),
            interval("2026-12-19T23:00:00Z", "2026-12-20T01:00:00Z", false, &["year-end"]),
        ])
    );
}

#[test]
fn the_table_is_in_the_zone_that_all_windows_share() {
    let text = print(EXAMPLE, Some("2026-12-18T20:00:00Z"), Some("2026-12-20T01:00:00Z"), Output::Table).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn the_table_is_in_utc_where_zones_differ_and_names_what_lies_in_the_past() {
    let windows = pilot(
        "    - {name: a, timeZone: Asia/Tokyo, weekly: {days: [Fri], from: '09:00', to: '10:00'}}
    - {name: b, timeZone: Asia/Seoul, once: {from: '2020-01-01T00:00:00', to: '2020-01-01T01:00:00'}}",
    );
    let text = print(&windows, None, Some("2026-12-19T00:00:00Z"), Output::Table).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn the_default_range_is_a_week_from_the_present_second() {
    let always = pilot("    - {name: a, always: true}");
    let found: serde_json::Value = serde_json::from_str(&print(&always, None, None, Output::Json).unwrap()).unwrap();
    assert_eq!(found[0]["start"], "2026-12-17T08:30:00Z");
    assert_eq!(found[0]["end"], "2026-12-24T08:30:00Z");
}

#[test]
fn a_range_that_is_reversed_empty_or_too_long_is_refused() {
    let always = pilot("    - {name: a, always: true}");
    let refuse = |from, to| show(&print(&always, Some(from), Some(to), Output::Json).unwrap_err());
    for to in ["2026-01-01T00:00:00Z", "2025-12-31T00:00:00Z"] {
        let text = refuse("2026-01-01T00:00:00Z", to);
        assert!(
            text.contains(&format!("the range is empty: it begins at 2026-01-01T00:00:00Z and ends at {to}")),
            "{text}"
        );
        assert!(text.contains("help: give a --to that is later than --from"), "{text}");
    }
    let text = refuse("2026-01-01T00:00:00Z", "2031-01-03T00:00:00Z");
    assert!(text.contains("is longer than five years"), "{text}");
    assert!(print(&always, Some("2026-01-01T00:00:00Z"), Some("2031-01-01T00:00:00Z"), Output::Json).is_ok());
}

#[test]
fn mistakes_are_shown_at_their_line() {
    insta::assert_snapshot!(
        "unknown_zone",
        refusal(&pilot(
            "    - name: nightly\n      timeZone: Mars/Olympus\n      cron: {schedule: '0 2 * * *', duration: 2h}"
        ))
    );
    insta::assert_snapshot!(
        "several_mistakes",
        refusal(&pilot(
            "    - name: nightly\n      timezone: Europe/Berlin\n      cron: {schedule: '0 0 30 2 *', duration: 0s}"
        ))
    );
    insta::assert_snapshot!(
        "not_a_duration",
        refusal(&pilot("    - {name: w, cron: {schedule: '0 2 * * *', duration: 2 hours}}"))
    );
    insta::assert_snapshot!(
        "not_a_day",
        refusal(&pilot("    - {name: w, weekly: {days: [Funday], from: '09:00', to: '10:00'}}"))
    );
    insta::assert_snapshot!("not_yaml", refusal("apiVersion: pilotguard.dev/v1alpha1\nkind: [Pilot\n"));
    insta::assert_snapshot!(
        "duplicate_field",
        refusal("apiVersion: pilotguard.dev/v1alpha1\nkind: Pilot\nspec:\n  changes: {}\n  changes: {windows: []}\n")
    );
    insta::assert_snapshot!(
        "no_windows",
        refusal("apiVersion: pilotguard.dev/v1alpha1\nkind: Pilot\nspec:\n  changes: {}\n")
    );
}

#[test]
fn a_file_without_a_pilot_says_what_it_holds() {
    let text = refusal("apiVersion: apps/v1\nkind: Deployment\n---\nkind: Pilot\n");
    assert!(text.contains("no Pilot in pilot.yaml; it holds Deployment (apps/v1), Pilot (no apiVersion)"), "{text}");
    assert!(
        text.contains("help: the file must hold an object with kind Pilot and apiVersion pilotguard.dev/v1alpha1"),
        "{text}"
    );
    for empty in ["", "---\n", "# nothing\n", "just text\n"] {
        assert!(refusal(empty).contains("no Pilot in pilot.yaml; it holds no object"), "{empty:?}");
    }
}

#[test]
fn the_first_pilot_of_several_documents_is_read_and_its_lines_are_those_of_the_file() {
    let text = format!(
        "# Größe\napiVersion: v1\nkind: ConfigMap\ndata: {{text: \"é\"}}\n---\n{}---\n{}",
        pilot("    - {name: first, timeZone: Nowhere, always: true}"),
        pilot("    - {name: second, always: true}"),
    );
    let refusal = refusal(&text);
    assert!(refusal.contains("[name=first].timeZone: unknown time zone \"Nowhere\""), "{refusal}");
    // The seventh line of the second document, which begins on line 6.
    assert!(refusal.contains("pilot.yaml:12:31"), "{refusal}");
}

#[test]
fn lists_of_pilots_are_read_as_kubectl_prints_them() {
    let item = |name: &str, zone: &str| {
        format!(
            "- apiVersion: pilotguard.dev/v1alpha1
  kind: Pilot
  metadata: {{name: {name}, namespace: shop}}
  spec: {{changes: {{windows: [{{name: w, timeZone: {zone}, always: true}}]}}}}\n"
        )
    };
    let list = |kind: &str, items: &str| {
        let version = if kind == "List" { "v1" } else { "pilotguard.dev/v1alpha1" };
        format!("apiVersion: {version}\nitems:\n{items}kind: {kind}\nmetadata: {{resourceVersion: ''}}\n")
    };
    for kind in ["List", "PilotList"] {
        let text = list(kind, &(item("checkout", "UTC") + &item("search", "UTC")));
        let found = print(&text, None, None, Output::Table).unwrap();
        assert!(found.contains("open"), "{found}");
        assert!(
            found.ends_with("Only the first Pilot is shown (pilot shop/checkout); the file holds 1 more.\n"),
            "{found}"
        );
        let refusal = refusal(&list(kind, &item("checkout", "Nowhere")));
        assert!(refusal.contains("spec.changes.windows[name=w].timeZone: unknown time zone"), "{refusal}");
        assert!(refusal.contains("pilot.yaml:6:50"), "{refusal}");
    }
    let empty = refusal("apiVersion: v1\nitems: []\nkind: List\n");
    assert!(empty.contains("no Pilot in pilot.yaml; it holds no object"), "{empty}");
}

#[test]
fn an_error_that_nobody_reads_is_still_an_error_and_no_panic() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotguard"));
    let command = command.args(["windows", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stderr.take());
    // The program waits for the end of its input, so nobody reads when it writes.
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn json_files_are_read_too() {
    let text = "{\n\t\"apiVersion\": \"pilotguard.dev/v1alpha1\",\n\t\"kind\": \"Pilot\",\n\t\"spec\": {\"changes\": {\"windows\": [{\"name\": \"a\", \"always\": true}]}}\n}\n";
    let found = print(text, None, None, Output::Json).unwrap();
    assert!(found.contains("\"open\": true"), "{found}");
}

#[test]
fn instants_on_the_command_line_are_rfc_3339() {
    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        windows: WindowsArgs,
    }
    use clap::Parser;
    let parse = |from: &str| Arguments::try_parse_from(["windows", "-f", "pilot.yaml", "--from", from]);
    let parsed = parse("2026-12-20T00:00:00+01:00").unwrap().windows;
    assert_eq!(
        (parsed.from, parsed.to, parsed.output),
        (Some(at("2026-12-19T23:00:00Z")), None::<Timestamp>, Output::Table)
    );
    let error = parse("tomorrow").map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains(
            "invalid value 'tomorrow' for '--from <TIME>': write a date, a time and an offset as in RFC 3339"
        ),
        "{error}"
    );
}

const CALENDAR: &str = "
apiVersion: pilotguard.dev/v1alpha1
kind: ChangeCalendar
metadata: {name: platform}
spec:
  namespaceSelector: {matchLabels: {stage: production}}
  windows:
  - {name: migration, kind: Deny, reason: Database migration, once: {from: '2026-12-17T10:00:00', to: '2026-12-17T12:00:00'}}
";

const SHOP: &str = "
apiVersion: pilotguard.dev/v1alpha1
kind: Pilot
metadata: {name: checkout, namespace: shop}
spec: {changes: {windows: [{name: always, always: true}]}}
";

fn namespace(stage: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{stage: {stage}}}}}\n")
}

fn table_of(files: &[(&str, &str)]) -> String {
    print_files(files, Some("2026-12-17T09:00:00Z"), Some("2026-12-17T13:00:00Z"), Output::Table).unwrap()
}

#[test]
fn a_calendar_narrows_the_pilot_in_the_same_file_or_in_another() {
    let one = table_of(&[("pilot.yaml", &format!("{SHOP}---{CALENDAR}"))]);
    insta::assert_snapshot!(one);
    assert_eq!(one, table_of(&[("pilot.yaml", SHOP), ("calendar.yaml", CALENDAR)]));
    let found = print_files(&[("a", SHOP), ("b", CALENDAR)], None, Some("2026-12-18T00:00:00Z"), Output::Json).unwrap();
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found[1]["reasons"], serde_json::json!(["platform/migration"]));
}

#[test]
fn a_namespace_that_is_given_decides_which_calendars_count() {
    let with_labels =
        |stage| table_of(&[("pilot.yaml", SHOP), ("all.yaml", &format!("{CALENDAR}---\n{}", namespace(stage)))]);
    assert!(with_labels("production").contains("migration of calendar platform (Database migration)"));
    let idle = with_labels("lab");
    assert!(!idle.contains("migration"), "{idle}");
    assert!(idle.ends_with("Calendar platform does not narrow this pilot.\n"), "{idle}");
    let assumed = table_of(&[("pilot.yaml", SHOP), ("calendar.yaml", CALENDAR)]);
    let note = "Calendar platform is assumed to select the pilot's namespace, because no file contains the Namespace with its labels.\n";
    assert!(assumed.ends_with(note) && !with_labels("production").contains("is assumed to"), "{assumed}");
    // One that selects nobody counts for those that name it.
    let nobody = CALENDAR.replace("  namespaceSelector: {matchLabels: {stage: production}}\n", "");
    let named = SHOP.replace("namespace: shop", "namespace: shop, labels: {pilotguard.dev/calendar: platform}");
    assert!(!table_of(&[("pilot.yaml", SHOP), ("calendar.yaml", &nobody)]).contains("migration"));
    assert!(table_of(&[("pilot.yaml", &named), ("calendar.yaml", &nobody)]).contains("migration"));
    let report = print_files(&[("pilot.yaml", &named)], None, None, Output::Table).unwrap_err();
    let text = show(&report);
    assert!(text.contains("names ChangeCalendar platform, which is in none of the files"), "{text}");
    assert!(text.contains("give its file with --calendar"), "{text}");
}

#[test]
fn calendars_can_be_read_without_a_pilot() {
    let text = table_of(&[("calendar.yaml", CALENDAR)]);
    assert!(text.contains("open     no freeze"), "{text}");
    assert!(text.contains("closed   migration of calendar platform (Database migration)"), "{text}");
}

#[test]
fn mistakes_in_a_calendar_are_shown_at_their_line() {
    let broken = CALENDAR.replace("migration, kind", "migration, timezone: Europe/Berlin, timeZone: Berlin, kind");
    let report =
        print_files(&[("pilot.yaml", SHOP), ("calendar.yaml", &broken)], None, None, Output::Table).unwrap_err();
    insta::assert_snapshot!(show(&report));
    let odd = CALENDAR.replace("matchLabels:", "matchlabels:");
    let text = show(&print_files(&[("calendar.yaml", &odd)], None, None, Output::Table).unwrap_err());
    assert!(text.contains("spec.namespaceSelector.matchlabels: unknown field"), "{text}");
}
