//! ChangeRecord: one change from its start to its outcome.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Requester;
use super::workload::ReleasePart;

/// One move of a pilot to another release. The operator writes it for every change that it observes; it
/// outlives the Pilot.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pilotguard.dev",
    version = "v1alpha1",
    kind = "ChangeRecord",
    namespaced,
    status = "ChangeRecordStatus",
    shortname = "chg",
    category = "pilotguard",
    doc = "One move of a pilot to another release, from its start to its outcome. Written by the operator for every change that it observes.",
    selectable = ".spec.pilot",
    printcolumn(name = "Pilot", type_ = "string", json_path = ".spec.pilot"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.class"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.requestedBy.user"),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startedAt"),
    printcolumn(name = "Completed", type_ = "date", json_path = ".status.completedAt", priority = 1),
    printcolumn(name = "Approval owed from", type_ = "string", json_path = ".status.approvalOwed.from", priority = 1),
    printcolumn(name = "Cause", type_ = "string", json_path = ".status.cause", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRecordSpec {
    /// The Pilot, by name.
    #[schemars(length(min = 1, max = 253))]
    pub pilot: String,
    /// `Normal`, `Emergency` (let through by an Override or by break-glass; it owes an approval), `Rollback` (back to a
    /// known-good release) or `Unauthorized` (seen running without having been admitted).
    pub class: ChangeClass,
    /// The digest of the release: that of its one part, or SHA-256 over the RFC 8785 form of the list of kind,
    /// name and template digest of all parts.
    #[schemars(length(max = 64))]
    pub release: String,
    /// The payload digest of the release, taken over its parts in the same way: what runs, without labels and dates.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// The parts of the release: what each workload runs.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub workloads: Vec<ReleasePart>,
    /// Who asked for it.
    pub requested_by: Requester,
}

/// The class of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChangeClass {
    /// Admitted by the guards.
    Normal,
    /// Let through although guards refused it: by an Override or by break-glass.
    Emergency,
    /// Back to a known-good release.
    Rollback,
    /// Seen running without having been admitted.
    Unauthorized,
}

/// How the change went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRecordStatus {
    /// When it was admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it was completely available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// `Pending` until baked, then `Succeeded`; `Failed` where an incident blames it; `Superseded` by a newer
    /// change before it was baked; `Aborted` where it never became available and did no harm. Default Pending.
    #[serde(default)]
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub cause: Option<String>,
    /// What the guards found when it was admitted; with enforcement Observe what they would have refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 512)))]
    pub findings: Vec<String>,
    /// The approval that an emergency change still owes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_owed: Option<ApprovalOwed>,
}

/// An approval that has to be given afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalOwed {
    /// Who may give it: the owners of the pilot who may loosen. Example: `Ada Lovelace (service owner)`.
    #[schemars(length(max = 8), inner(length(max = 256)))]
    pub from: Vec<String>,
    /// Who may not: the user who made the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub not_from: Option<String>,
}

/// The outcome of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Not decided yet.
    #[default]
    Pending,
    /// Completely available and baked.
    Succeeded,
    /// Blamed by an incident.
    Failed,
    /// Replaced by a newer change before it was baked.
    Superseded,
    /// Never became available, and did no harm.
    Aborted,
}
