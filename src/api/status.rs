//! Status of a Pilot, reported by the operator.
//!
//! Everything except the incident and the latches can be rebuilt. Figures are shown in bands that end where somebody
//! would act differently, so that a quiet pilot causes no writes; exact figures are metrics.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::change_record::Outcome;
use super::duration::Duration;
use super::incident::{Incident, Latch, RollbackTarget};

/// Status of a Pilot, reported by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PilotStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions of the pilot: `Ready`, `Reconciling`, `Stalled`, `Enforced`, `WindowOpen`, `BudgetHealthy`, `InSync`,
    /// `IncidentOpen`, `ChangesHeld` and others. docs/conditions.md explains every type and reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 32))]
    pub conditions: Vec<Condition>,
    /// The last valid spec. It stays in force while a newer one cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration: Option<StoredDeclaration>,
    /// Time at which the windows open next; absent while they are open, or if they never open again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_open: Option<Timestamp>,
    /// Time at which the windows close next; absent while they are closed, or if they never close.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_close: Option<Timestamp>,
    /// Release that is running or rolling out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStatus>,
    /// Release that a rollback would restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_target: Option<RollbackTarget>,
    /// State of each SLO.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub slos: Vec<SloStatus>,
    /// Whether `changes.budgetFreeze` holds changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_freeze: Option<BudgetFreezeStatus>,
    /// Open incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// Time at which the open incident goes on by itself: the end of its decision window, or of an owner's Continue.
    /// Absent at other stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Triggers that fired and whose condition was not clear since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub latches: Vec<Latch>,
    /// Latest changes, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub last_changes: Vec<ChangeReference>,
}

/// A valid spec as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredDeclaration {
    /// The generation of the spec.
    pub generation: i64,
    /// The spec as JSON, compressed by zlib, in base64.
    #[schemars(length(max = 32768))]
    pub packed: String,
}

/// Release that is running or rolling out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// Payload digest of the release.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// Time at which it was admitted or adopted.
    pub admitted_at: Timestamp,
    /// State of the release: `RollingOut` until it is completely available, `Baking` until the bake ends, then
    /// `KnownGood`. `Baked` instead of `KnownGood` while it is not stored, so that no rollback can return to it.
    pub state: ReleaseState,
    /// Time at which the bake ends. Absent while the bake is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake_until: Option<Timestamp>,
    /// Bake time that was left when the bake was paused. Absent while it is not paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake_remaining: Option<Duration>,
    /// Reason why the bake is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake_paused_by: Option<BakePause>,
}

/// Reason why time does not count towards the bake: `BypassedAdmission`, `NotServing`, `ChangeFailed`, `IncidentOpen`,
/// `TriggerPending` or `SloUnknown`. Present while the bake is paused, and for one minute after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BakePause {
    /// What runs was never admitted.
    BypassedAdmission,
    /// No replica runs.
    NotServing,
    /// Its change has failed.
    ChangeFailed,
    /// An incident is open.
    IncidentOpen,
    /// The condition of a trigger holds.
    TriggerPending,
    /// An SLO cannot be measured.
    SloUnknown,
}

/// State of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReleaseState {
    /// Not completely available yet.
    RollingOut,
    /// Completely available and being watched.
    Baking,
    /// Survived its bake; not stored, so no rollback can return to it.
    Baked,
    /// Survived its bake, and stored.
    KnownGood,
}

impl ReleaseState {
    /// Whether the release survived its bake.
    pub const fn is_baked(self) -> bool {
        matches!(self, Self::Baked | Self::KnownGood)
    }
}

/// State of one SLO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SloStatus {
    /// Name of the SLO.
    #[schemars(length(max = 63))]
    pub name: String,
    /// A digest of the SLO's definition that the verdict is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub definition: Option<String>,
    /// `Ok` (the objective is met over its window), `Breach` (it is missed) or `Unknown`.
    pub verdict: SloVerdict,
    /// Why the verdict is Unknown: `NoSeries`, `Stale`, `NotFinite`, `Partial`, `Ambiguous`,
    /// `Inconsistent`, `SourceUnavailable`, `QueryRefused`, `LowTraffic` or `WarmingUp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Time at which the verdict last changed.
    pub since: Timestamp,
    /// Remaining error budget, as a band: `75-100%`, `50-75%`, `25-50%`, `10-25%`, `0-10%`, or `<0%` where it is
    /// overspent; the thresholds of the Pilot's triggers are edges, too. Absent while it is unknown. The exact figure
    /// is the metric `pilotguard_slo_budget_remaining_ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub budget_remaining: Option<String>,
    /// Windows of the triggers over which the budget certainly burns faster than is sustainable. A window whose burn rate
    /// is lower or unknown is absent. The exact figures are the metric `pilotguard_slo_burn_rate`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub burn: Vec<BurnStatus>,
}

/// How the budget stands that may hold changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetFreezeStatus {
    /// A digest of the freeze and its SLO as they are declared.
    #[schemars(length(max = 64))]
    pub definition: String,
    /// `Enough` of the budget remains, it is `Spent` (changes are held), or that is `Unknown`.
    pub budget: BudgetVerdict,
    /// Why it is Unknown, as for the SLO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// Whether enough of an error budget remains for changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BudgetVerdict {
    /// Enough remains.
    Enough,
    /// Too little remains.
    Spent,
    /// Not known.
    Unknown,
}

/// Burn rate over one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BurnStatus {
    /// Length of the window. Example: `1h`.
    #[schemars(length(max = 32))]
    pub window: String,
    /// Burn rate, as a band between 1 and the factors of the triggers that name the window; 1 spends the budget
    /// exactly over the SLO's window. Examples: `1-13.4`, `>13.4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub rate: Option<String>,
}

/// Verdict on an SLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SloVerdict {
    /// Met, on fresh data.
    Ok,
    /// Missed, on fresh data.
    Breach,
    /// Not known for lack of fresh, sufficient data.
    Unknown,
}

/// Reference to a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeReference {
    /// Name of the ChangeRecord.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Outcome of the change: `Pending`, `Succeeded`, `Failed`, `Superseded` or `Aborted`.
    pub outcome: Outcome,
}
