//! Change windows as written in YAML: when changes are allowed, and when they are frozen.
//!
//! The rules that the API server can check are CEL rules here. [`crate::calendar`] interprets the windows and makes the
//! checks that need a time-zone database.

#![expect(unreachable_pub, reason = "KubeSchema repeats each type inside a function")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;

/// A named span of time, once or recurring, in which changes are allowed or frozen.
///
/// Exactly one of `weekly`, `cron`, `once` and `always` says when it is active. Changes are open while at least one
/// Allow is active and no Deny is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.weekly), has(self.cron), has(self.once), has(self.always)].filter(x, x).size() == 1")
        .message("a window needs exactly one of weekly, cron, once and always"),
    validation = Rule::new("!has(self.always) || self.always")
        .message("always can only be true; remove it, or use weekly, cron or once").field_path(".always")
)]
pub struct Window {
    /// Name of the window, shown in the refusals that it causes; unique in the list. A lower-case DNS label, for
    /// example `weekday-mornings`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Effect while the window is active. `Allow`: changes are open, unless a Deny is active. `Deny`: changes are
    /// frozen, whatever any Allow says. Default: Allow.
    #[serde(default)]
    pub kind: WindowKind,
    /// Reason for the window, shown in refusals, for example `Year-end freeze`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// IANA time zone of the wall-clock times in this window, for example `Europe/Berlin`. Default: UTC.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Active on days of the week between two wall-clock times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekly: Option<Weekly>,
    /// Active for a fixed time after each occurrence of a cron schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// Active once, between two wall-clock dates and times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// Active at all times. The only value is `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always: Option<bool>,
}

fn utc() -> String {
    "UTC".into()
}

/// Effect of a window while it is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WindowKind {
    /// Changes are open, unless a Deny is active.
    #[default]
    Allow,
    /// Changes are frozen, whatever any Allow says.
    Deny,
}

/// Days of the week and wall-clock times in the window's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.days.all(day, self.days.exists_one(other, other == day))")
        .message("each day can be listed once").field_path(".days")
)]
pub struct Weekly {
    /// Days on which the window begins: Mon, Tue, Wed, Thu, Fri, Sat, Sun; each at most once. Example:
    /// `[Mon, Tue, Wed, Thu]`.
    #[schemars(length(min = 1, max = 7))]
    pub days: Vec<Weekday>,
    /// Wall-clock time at which it begins, `HH:MM` from 00:00 to 23:59, for example `"09:00"`.
    #[schemars(length(max = 5), regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// Wall-clock time at which it ends, exclusive: `HH:MM` up to `"24:00"`. A time that is not after `from` is on the
    /// next day: Fri from "22:00" to "06:00" ends on Saturday.
    #[schemars(length(max = 5), regex(pattern = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"))]
    pub to: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Starts on a cron schedule; each occurrence lasts for the same duration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!self.duration.matches('^(0+(ms|s|m|h|d|w))+$')")
        .message("a window without length is never active; give a duration such as 2h").field_path(".duration")
)]
pub struct Cron {
    /// Cron schedule of the starts, in the window's time zone: minute, hour, day of month, month, day of week, for
    /// example `"0 2 * * *"` for 02:00 every day. Names (MON, JAN), lists, ranges and steps are allowed.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: String,
    /// Duration from each start, in elapsed time, more than 0s, for example `2h`. Overlapping occurrences are merged.
    pub duration: Duration,
}

/// One span between two wall-clock dates and times in the window's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.from < self.to").message("from must be before to").field_path(".to")
)]
pub struct Once {
    /// Start: `YYYY-MM-DDTHH:MM:SS` without an offset, for example `"2026-12-20T00:00:00"`.
    #[schemars(length(max = 19), regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}$"))]
    pub from: String,
    /// End, exclusive, in the same format, for example `"2027-01-02T00:00:00"`.
    #[schemars(length(max = 19), regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}$"))]
    pub to: String,
}
