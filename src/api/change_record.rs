//! ChangeRecord: one change from its start to its outcome.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Requester;
use super::workload::ReleasePart;

/// One change of a pilot to another release. The operator writes one for every change that it observes; the record
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
    doc = "One change of a pilot to another release, from its start to its outcome. Written by the operator for every change that it observes.",
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
    /// Name of the Pilot.
    #[schemars(length(min = 1, max = 253))]
    pub pilot: String,
    /// Class of the change: `Normal` (admitted by the guards), `Emergency` (let through by an Override or by
    /// break-glass; owes an approval), `Rollback` (restored a known-good release) or `Unauthorized` (bypassed
    /// admission).
    pub class: ChangeClass,
    /// Template digest of the release: with one part the digest of that part, with several SHA-256 over the RFC 8785
    /// form of the list of kind, name and template digest of all parts.
    #[schemars(length(max = 64))]
    pub release: String,
    /// Payload digest of the release, computed over its parts in the same way. It covers only what runs, without labels
    /// and dates.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// Parts of the release: what each workload runs.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub workloads: Vec<ReleasePart>,
    /// Release that ran before, as far as it is known: absent where a workload was only just created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<ReplacedRelease>,
    /// User who requested the change.
    pub requested_by: Requester,
}

/// Release that a change replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplacedRelease {
    /// Payload digest of the release, computed over its parts.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// Images that its containers run, each once, 16 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub images: Vec<String>,
}

/// Class of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChangeClass {
    /// Admitted by the guards.
    Normal,
    /// Refused by guards, and let through by an Override or by break-glass.
    Emergency,
    /// Restored a known-good release.
    Rollback,
    /// Bypassed admission.
    Unauthorized,
}

/// Progress and outcome of the change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRecordStatus {
    /// Time at which the change was admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Time at which the release was completely available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// Outcome of the change: `Pending` until the bake ends, then `Succeeded`; `Failed` (blamed by an incident);
    /// `Superseded` (replaced by a newer change during the bake); `Aborted` (never became available, and did no harm).
    /// Default Pending.
    #[serde(default)]
    pub outcome: Outcome,
    /// Why the change failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub cause: Option<String>,
    /// Findings of the guards at admission; with enforcement Observe, what they would have refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 512)))]
    pub findings: Vec<String>,
    /// Approval that an emergency change still owes. A Decision of type Approve gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_owed: Option<ApprovalOwed>,
    /// Approval of an emergency change, once it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// An approval that was given after an emergency change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// User who gave it.
    #[schemars(length(max = 512))]
    pub by: String,
    /// Time at which the Decision was created.
    pub at: Timestamp,
    /// Name of the Decision.
    #[schemars(length(max = 253))]
    pub decision: String,
}

/// An approval that is due after an emergency change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalOwed {
    /// Owners who may approve: those who may relax guards. Example: `Ada Lovelace (service owner)`.
    #[schemars(length(max = 8), inner(length(max = 256)))]
    pub from: Vec<String>,
    /// User who may not approve: the one who made the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub not_from: Option<String>,
}

/// Outcome of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Not known yet.
    #[default]
    Pending,
    /// Completely available and baked.
    Succeeded,
    /// Blamed by an incident.
    Failed,
    /// Replaced by a newer change during its bake.
    Superseded,
    /// Never became available, and did no harm.
    Aborted,
}
