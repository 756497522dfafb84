//! ChangeCalendar: shared windows and freezes for many pilots. Written by platform admins.
//!
//! A calendar only narrows a Pilot's own windows; it never opens them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::selector::LabelSelector;
use super::window::Window;

/// Label of a Pilot that opts in to one more calendar; its value is the calendar's name.
pub const CALENDAR_LABEL: &str = "pilotguard.dev/calendar";

/// Windows and freezes for all Pilots of the selected namespaces. Written by platform admins.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pilotguard.dev",
    version = "v1alpha1",
    kind = "ChangeCalendar",
    status = "ChangeCalendarStatus",
    shortname = "cal",
    category = "pilotguard",
    doc = "Windows and freezes for all Pilots of the selected namespaces. Written by platform admins.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Open", type_ = "string", json_path = ".status.conditions[?(@.type=='WindowOpen')].status"),
    printcolumn(name = "Windows", type_ = "string", json_path = ".status.conditions[?(@.type=='WindowOpen')].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ChangeCalendarSpec {
    /// Selects the namespaces whose Pilots this calendar narrows, by their labels. `{}` selects all namespaces. If
    /// omitted, the calendar narrows only Pilots with the label `pilotguard.dev/calendar` and this calendar's name as
    /// its value. One namespace by name: `matchLabels: {kubernetes.io/metadata.name: shop}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// The windows of the calendar. A change may start while the Pilot's own windows allow it, no Deny of the calendar
    /// is active and, if the calendar has Allows, at least one of them is.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub windows: Vec<Window>,
}

/// Status of a ChangeCalendar, reported by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeCalendarStatus {
    /// `Ready`: the calendar is valid and narrows Pilots. `Stalled`: it is invalid and counts as closed. `WindowOpen`:
    /// it is open now. `WindowsCurrent`: none of its one-off windows lies in the past.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}
