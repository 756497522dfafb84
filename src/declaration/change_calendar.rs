//! From a ChangeCalendar as it is stored to what it means: whom it selects, and when it is open.
//!
//! It only ever narrows. What cannot be read counts as closed, and whom it cannot be known not to select it selects:
//! what is unknown never widens. Nothing here looks at the present.

use std::collections::BTreeMap;

use jiff::tz::TimeZoneDatabase;
use serde::Deserialize;
use serde_json::Value;

use crate::api::change_calendar::CALENDAR_LABEL;
use crate::api::selector::{LabelSelector, Operator};
use crate::api::window::Window;
use crate::calendar::{Calendar, Unusable};
use crate::violation::Violation;

/// A ChangeCalendar, read.
#[derive(Clone, Debug)]
pub struct SharedCalendar {
    /// Its name.
    pub name: String,
    /// Which namespaces it selects.
    selection: Selection,
    /// Its windows, or everything that is wrong with it.
    pub windows: Result<Calendar, Vec<Violation>>,
}

/// Which namespaces a ChangeCalendar selects.
#[derive(Clone, Debug)]
enum Selection {
    /// None: only Pilots that name it.
    Nobody,
    /// Those whose labels fit.
    Labels(LabelSelector),
    /// Nobody knows.
    Unknown,
}

/// Where a Pilot stands, as far as ChangeCalendars ask.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The labels of its namespace; `None` where they are not known.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// The ChangeCalendar that its own label names.
    pub named: Option<&'a str>,
}

impl SharedCalendar {
    /// Reads the spec of the ChangeCalendar of this name, whatever it is.
    pub fn read(name: &str, spec: &Value, zones: &TimeZoneDatabase) -> Self {
        let mut violations = Vec::new();
        let selection = read_selection(&spec["namespaceSelector"]).unwrap_or_else(|violation| {
            violations.push(violation);
            Selection::Unknown
        });
        let windows = read_windows(&spec["windows"], zones).map_err(|mut found| violations.append(&mut found));
        let windows = windows.ok().filter(|_| violations.is_empty()).ok_or(violations);
        Self { name: name.to_owned(), selection, windows }
    }

    /// Whether it narrows a Pilot that stands there.
    pub fn applies_to(&self, standing: &Standing<'_>) -> bool {
        let is_selected = match (&self.selection, standing.namespace_labels) {
            (Selection::Nobody, _) => false,
            (Selection::Unknown, _) | (Selection::Labels(_), None) => true,
            (Selection::Labels(selector), Some(labels)) => selector.matches(labels),
        };
        is_selected || standing.named == Some(self.name.as_str())
    }

    /// Whether it narrows a Pilot there only because nobody knows the labels that it selects by.
    pub fn applies_for_lack_of_labels(&self, standing: &Standing<'_>) -> bool {
        let selects_by_labels = matches!(self.selection, Selection::Labels(_));
        selects_by_labels && standing.namespace_labels.is_none() && standing.named != Some(self.name.as_str())
    }

    fn narrow(&self, calendar: Calendar) -> Calendar {
        match &self.windows {
            Ok(windows) => calendar.narrowed_by(&self.name, windows),
            Err(violations) => {
                let list = violations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" · ");
                calendar.closed_by(Unusable {
                    calendar: self.name.clone(),
                    why: format!("is invalid: {list}"),
                    remedy: format!("a platform admin corrects ChangeCalendar {}", self.name),
                })
            }
        }
    }
}

/// A Pilot's calendar, narrowed by those of `shared` that apply. Of every ChangeCalendar that there is `shared` has one.
pub fn narrowed<'a>(
    own: &Calendar,
    shared: impl IntoIterator<Item = &'a SharedCalendar>,
    standing: &Standing<'_>,
) -> Calendar {
    let mut calendar = own.clone();
    let mut missing = standing.named;
    for shared in shared {
        if missing == Some(shared.name.as_str()) {
            missing = None;
        }
        if shared.applies_to(standing) {
            calendar = shared.narrow(calendar);
        }
    }
    match missing {
        Some(name) => calendar.closed_by(Unusable {
            calendar: name.to_owned(),
            why: format!("does not exist, though the Pilot's label {CALENDAR_LABEL} names it"),
            remedy: format!("a platform admin creates ChangeCalendar {name}, or the team corrects the label"),
        }),
        None => calendar,
    }
}

fn read_selection(written: &Value) -> Result<Selection, Violation> {
    const PATH: &str = "spec.namespaceSelector";
    const HINT: &str = "write matchLabels or matchExpressions as Kubernetes does, {} for all namespaces, or nothing";
    if written.is_null() {
        return Ok(Selection::Nobody);
    }
    let selector =
        LabelSelector::deserialize(written).map_err(|error| Violation::new(PATH, error.to_string(), HINT))?;
    // A list without values would select nobody, which is never meant.
    let needs_values = |operator| matches!(operator, Operator::In | Operator::NotIn);
    let mut bare = selector.match_expressions.iter().filter(|it| needs_values(it.operator) && it.values.is_empty());
    if let Some(bare) = bare.next() {
        let problem = format!("{:?} of label {} names no value", bare.operator, bare.key);
        return Err(Violation::new(PATH, problem, HINT));
    }
    Ok(Selection::Labels(selector))
}

fn read_windows(written: &Value, zones: &TimeZoneDatabase) -> Result<Calendar, Vec<Violation>> {
    const PATH: &str = "spec.windows";
    let windows = Vec::<Window>::deserialize(written).map_err(|error| {
        vec![Violation::new(PATH, error.to_string(), "write windows as in a Pilot's spec.changes.windows")]
    })?;
    Calendar::parse_shared(&windows, zones, PATH)
}
