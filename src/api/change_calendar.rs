//! ChangeCalendar: windows and freezes that hold for many pilots. Written by platform admins.
//!
//! It only ever narrows what a Pilot's own windows allow, so that nobody gains time by it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::selector::LabelSelector;
use super::window::Window;

/// The label by which a Pilot asks to be narrowed by one more calendar. Its value is the calendar's name.
pub const CALENDAR_LABEL: &str = "pilotguard.dev/calendar";

/// Windows and freezes that hold for all Pilots of the namespaces that it selects. Written by platform admins.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pilotguard.dev",
    version = "v1alpha1",
    kind = "ChangeCalendar",
    status = "ChangeCalendarStatus",
    shortname = "cal",
    category = "pilotguard",
    doc = "Windows and freezes that hold for all Pilots of the namespaces that it selects. Written by platform admins.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Open", type_ = "string", json_path = ".status.conditions[?(@.type=='WindowOpen')].status"),
    printcolumn(name = "Windows", type_ = "string", json_path = ".status.conditions[?(@.type=='WindowOpen')].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ChangeCalendarSpec {
    /// The namespaces whose Pilots it narrows, by their labels. `{}` selects all. Without it only those Pilots are
    /// narrowed that carry the label `pilotguard.dev/calendar` with this calendar's name. One namespace by name:
    /// `matchLabels: {kubernetes.io/metadata.name: shop}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// The windows. A change may start where the Pilot's own windows allow it, none of the Denies here is active and, if
    /// there are Allows here, one of them is.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub windows: Vec<Window>,
}

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeCalendarStatus {
    /// `Ready`: it can be used, and narrows. `Stalled`: it cannot, and counts as closed. `WindowOpen`: it is open now.
    /// `WindowsCurrent`: none of its one-off windows is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}
