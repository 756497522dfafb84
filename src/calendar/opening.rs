//! What decides at an instant: from the windows that are active to whether changes are open, and why.
//!
//! The rule of openness stands here and nowhere else.

use std::fmt;

use jiff::Timestamp;

use super::Calendar;
use crate::api::window::WindowKind;

/// Whether changes are open, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// No Deny is active and, of each layer that has Allows, one is.
    pub open: bool,
    /// The active Denies; where changes are open, the active Allows. In declared order.
    pub reasons: Vec<Reason>,
    /// Where no Deny is active and all is known, and changes are closed all the same: whose Allows are all inactive. `None` is the Pilot itself, the others
    /// are ChangeCalendars by name.
    pub outside: Vec<Option<String>>,
    /// The ChangeCalendars that count as closed because nobody knows what they say.
    pub unusable: Vec<Unusable>,
}

/// A window that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Its name.
    pub window: String,
    /// The ChangeCalendar that it is of; `None` for one of the Pilot's own.
    pub calendar: Option<String>,
    /// Whether it allows or freezes.
    pub kind: WindowKind,
    /// Why it was declared, where its author said so.
    pub reason: Option<String>,
}

/// A ChangeCalendar that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its name.
    pub calendar: String,
    /// What is wrong, as the end of a sentence about it. Example: `does not exist`.
    pub why: String,
    /// What someone has to do, as a sentence. Example: `a platform admin corrects it`.
    pub remedy: String,
}

/// A span of time, `[start, end)`, in which the opening does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Its first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
    /// Whether changes are open in it, and why.
    pub opening: Opening,
}

/// The windows and layers, by their index, that decide an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deciding {
    pub(super) is_open: bool,
    windows: Vec<usize>,
    outside: Vec<usize>,
}

impl Calendar {
    /// What decides while these windows are active.
    pub(super) fn deciding(&self, active: &[usize]) -> Deciding {
        let of_kind =
            |kind| -> Vec<usize> { active.iter().copied().filter(|index| self.windows[*index].kind == kind).collect() };
        let denies = of_kind(WindowKind::Deny);
        if !denies.is_empty() || self.is_unusable() {
            return Deciding { is_open: false, windows: denies, outside: Vec::new() };
        }
        let allows = of_kind(WindowKind::Allow);
        let is_outside = |layer: &usize| {
            self.layers[*layer].has_allows && !allows.iter().any(|index| self.windows[*index].layer == *layer)
        };
        let outside: Vec<usize> = (0..self.layers.len()).filter(is_outside).collect();
        let is_open = outside.is_empty();
        Deciding { is_open, windows: if is_open { allows } else { Vec::new() }, outside }
    }

    /// Whether nobody knows what narrows it.
    pub(super) fn is_unusable(&self) -> bool {
        self.layers.iter().any(|layer| layer.unusable.is_some())
    }

    pub(super) fn opening(&self, deciding: &Deciding) -> Opening {
        let reason = |index: &usize| {
            let window = &self.windows[*index];
            Reason {
                window: window.name.clone(),
                calendar: self.layers[window.layer].calendar.clone(),
                kind: window.kind,
                reason: window.reason.clone(),
            }
        };
        Opening {
            open: deciding.is_open,
            reasons: deciding.windows.iter().map(reason).collect(),
            outside: deciding.outside.iter().map(|layer| self.layers[*layer].calendar.clone()).collect(),
            unusable: self.layers.iter().filter_map(|layer| layer.unusable.clone()).collect(),
        }
    }
}

impl Opening {
    /// Whose windows have to open first. Example: `the change windows and those of calendar platform`.
    pub fn outside_of(&self) -> String {
        let calendars: Vec<&str> = self.outside.iter().flatten().map(String::as_str).collect();
        let shared = format!("calendar{} {}", if calendars.len() == 1 { "" } else { "s" }, calendars.join(", "));
        match (self.outside.contains(&None), calendars.is_empty()) {
            (_, true) => "the change windows".to_owned(),
            (true, false) => format!("the change windows and those of {shared}"),
            (false, false) => format!("the windows of {shared}"),
        }
    }
}

impl Reason {
    /// Which window it is, in words. Example: `year-end of calendar platform`.
    pub fn name(&self) -> String {
        match &self.calendar {
            Some(calendar) => format!("{} of calendar {calendar}", self.window),
            None => self.window.clone(),
        }
    }
}

impl fmt::Display for Reason {
    /// `year-end of calendar platform (Year-end freeze)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        self.reason.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

impl fmt::Display for Unusable {
    /// `calendar platform counts as closed, because it does not exist`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calendar {} counts as closed, because it {}", self.calendar, self.why)
    }
}
