//! From files to one calendar: a Pilot's windows, narrowed by the ChangeCalendars that are given with it.
//!
//! Who is narrowed by what is the operator's own rule; where the labels of the Pilot's namespace are not given, every
//! calendar that selects namespaces counts, as it does for the operator.

use std::collections::BTreeMap;

use jiff::tz::TimeZoneDatabase;
use miette::miette;
use serde::Deserialize;
use serde_json::Value;

use super::file::{File, Object};
use crate::api::change_calendar::{CALENDAR_LABEL, ChangeCalendarSpec};
use crate::api::window::Window;
use crate::calendar::Calendar;
use crate::declaration::change_calendar::{SharedCalendar, Standing, narrowed};
use crate::violation::Violation;

const PATH: &str = "spec.changes.windows";

/// Set by Kubernetes on every Namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What the files say.
pub(super) struct Calendars {
    /// Whose windows these are. Example: `pilot shop/checkout`.
    pub(super) of: String,
    /// The Pilot's windows with all that narrows them; without a Pilot all ChangeCalendars.
    pub(super) joined: Calendar,
    /// The ChangeCalendars that do not narrow the Pilot, by name.
    pub(super) idle: Vec<String>,
    /// Those that narrow it only because the labels of its namespace are in none of the files, by name.
    pub(super) assumed: Vec<String>,
    /// Pilots of the file that are not shown.
    pub(super) other_pilots: usize,
}

/// The part of a Pilot that is read here.
#[derive(Deserialize)]
struct Pilot {
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Spec {
    changes: Changes,
}

#[derive(Deserialize)]
struct Changes {
    windows: Vec<Window>,
}

/// The part of a ChangeCalendar or a Namespace that is read here.
#[derive(Deserialize)]
struct Shared {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
}

/// Reads the first Pilot of the first file, and all ChangeCalendars and Namespaces of all files.
pub(super) fn read(files: &[File]) -> miette::Result<Calendars> {
    let shared = files.iter().flat_map(|file| file.of_kind("ChangeCalendar")).map(read_shared);
    let shared: Vec<SharedCalendar> = shared.collect::<miette::Result<_>>()?;
    let file = files.first().ok_or_else(|| miette!("no file was given"))?;
    let Some(object) = file.of_kind("Pilot").next() else {
        return without_pilot(file, &shared);
    };
    let pilot: Pilot = object.parse()?;
    let own = read_own(object, &pilot)?;
    let labels = namespace_labels(files, pilot.metadata.namespace.as_deref())?;
    let named = pilot.metadata.labels.get(CALENDAR_LABEL).map(String::as_str);
    if let Some(name) = named.filter(|name| shared.iter().all(|calendar| calendar.name != **name)) {
        return Err(miette!(
            help = "give its file with --calendar; in a cluster such a pilot is closed until the calendar exists",
            "the Pilot's label {CALENDAR_LABEL} names ChangeCalendar {name}, which is in none of the files"
        ));
    }
    let standing = Standing { namespace_labels: labels.as_ref(), named };
    let those = |is_so: &dyn Fn(&SharedCalendar) -> bool| -> Vec<String> {
        shared.iter().filter(|calendar| is_so(calendar)).map(|calendar| calendar.name.clone()).collect()
    };
    let idle = those(&|calendar| !calendar.applies_to(&standing));
    let assumed = those(&|calendar| calendar.applies_for_lack_of_labels(&standing));
    let name = pilot.metadata.name.unwrap_or_default();
    let of = pilot.metadata.namespace.map_or_else(|| format!("pilot {name}"), |space| format!("pilot {space}/{name}"));
    let other_pilots = file.of_kind("Pilot").count() - 1;
    Ok(Calendars { of, joined: narrowed(&own, &shared, &standing), idle, assumed, other_pilots })
}

fn without_pilot(file: &File, shared: &[SharedCalendar]) -> miette::Result<Calendars> {
    if file.of_kind("ChangeCalendar").next().is_none() {
        return Err(file.lacks("Pilot"));
    }
    let windows = shared.iter().filter_map(|calendar| Some((&calendar.name, calendar.windows.as_ref().ok()?)));
    let joined = windows.fold(Calendar::unrestricted(), |joined, (name, windows)| joined.narrowed_by(name, windows));
    let names = shared.iter().map(|calendar| calendar.name.as_str()).collect::<Vec<_>>().join(", ");
    Ok(Calendars { of: format!("calendar {names}"), joined, idle: Vec::new(), assumed: Vec::new(), other_pilots: 0 })
}

fn read_own(object: &Object, pilot: &Pilot) -> miette::Result<Calendar> {
    let schema = schemars::schema_for!(Vec<Window>);
    let unknown = object.unknown_fields(PATH, schema.as_value());
    let parsed = Calendar::parse(&pilot.spec.changes.windows, &TimeZoneDatabase::bundled(), PATH);
    report(object, unknown, parsed)
}

fn read_shared(object: &Object) -> miette::Result<SharedCalendar> {
    // Read into its own type first: what does not fit is then pointed at.
    let _: Typed = object.parse()?;
    let written: Shared = object.parse()?;
    let schema = schemars::schema_for!(ChangeCalendarSpec);
    let unknown = object.unknown_fields("spec", schema.as_value());
    let name = written.metadata.name.unwrap_or_default();
    let calendar = SharedCalendar::read(&name, &written.spec, &TimeZoneDatabase::bundled());
    report(object, unknown, calendar.windows.clone())?;
    Ok(calendar)
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "spec")]
    _spec: ChangeCalendarSpec,
}

fn report<T>(object: &Object, unknown: Vec<Violation>, parsed: Result<T, Vec<Violation>>) -> miette::Result<T> {
    match parsed {
        Ok(parsed) if unknown.is_empty() => Ok(parsed),
        Ok(_) => Err(object.report(&unknown)),
        Err(violations) => Err(object.report(&[unknown, violations].concat())),
    }
}

/// The labels of this namespace, if one of the files has it.
fn namespace_labels(files: &[File], namespace: Option<&str>) -> miette::Result<Option<BTreeMap<String, String>>> {
    for object in files.iter().flat_map(|file| file.of_core_kind("Namespace")) {
        let Shared { metadata, .. } = object.parse()?;
        if let Some(name) = metadata.name.filter(|name| namespace == Some(name)) {
            let mut labels = metadata.labels;
            labels.insert(NAME_LABEL.to_owned(), name);
            return Ok(Some(labels));
        }
    }
    Ok(None)
}
