//! What the operator reports on a Pilot.
//!
//! Except for the incident and the latches everything here can be rebuilt; figures are rounded so
//! that a quiet pilot causes no writes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::change_record::Outcome;
use super::decimal::Decimal;
use super::incident::{Incident, Latch, RollbackTarget};

/// What the operator reports on a Pilot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PilotStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling`, `Stalled`, `Enforced`, `WindowOpen`, `BudgetHealthy`, `InSync`,
    /// `IncidentOpen`, `ChangesHeld`. Every reason is documented.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 32))]
    pub conditions: Vec<Condition>,
    /// The next instant at which the windows open; absent while open, or where they never open again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_open: Option<Timestamp>,
    /// The next instant at which the windows close; absent while closed, or where they never close.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_close: Option<Timestamp>,
    /// The release that runs or rolls out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStatus>,
    /// The release that a rollback would go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_target: Option<RollbackTarget>,
    /// One entry for each SLO.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub slos: Vec<SloStatus>,
    /// The open incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// Triggers that fired and have not been clear since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub latches: Vec<Latch>,
    /// The newest changes, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub last_changes: Vec<ChangeReference>,
}

/// The release that runs or rolls out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// Its payload digest.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// When it was admitted or adopted.
    pub admitted_at: Timestamp,
    /// `RollingOut` until completely available, `Baking` until the bake time is over, then `KnownGood`.
    pub state: ReleaseState,
    /// When the bake time is over, as far as is known now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake_until: Option<Timestamp>,
}

/// How far a release has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReleaseState {
    /// Not completely available yet.
    RollingOut,
    /// Available and watched.
    Baking,
    /// Survived its bake.
    KnownGood,
}

/// How one SLO stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SloStatus {
    /// The SLO's name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// `Ok`, `Breach` (the objective is missed over its window) or `Unknown`.
    pub verdict: SloVerdict,
    /// Why it is Unknown: `NoSeries`, `Stale`, `NotFinite`, `Partial`, `Ambiguous`, `SourceUnavailable`,
    /// `QueryRefused`, `LowTraffic` or `WarmingUp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Since when the verdict is so.
    pub since: Timestamp,
    /// Bad events as a share of all events over the window, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_ratio: Option<Decimal>,
    /// What remains of the error budget in percent; below 0 it is overspent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_remaining: Option<Decimal>,
    /// The burn rate over each window that a trigger names; 1 spends the budget exactly over the SLO's window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub burn: Vec<BurnStatus>,
}

/// The burn rate over one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BurnStatus {
    /// The window. Example: `1h`.
    #[schemars(length(max = 32))]
    pub window: String,
    /// The rate, to two digits. Absent where it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Decimal>,
}

/// How an SLO stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SloVerdict {
    /// Met, on fresh data.
    Ok,
    /// Missed, on fresh data.
    Breach,
    /// Not known.
    Unknown,
}

/// A change in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeReference {
    /// The ChangeRecord's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its outcome: `Pending`, `Succeeded`, `Failed`, `Superseded` or `Aborted`.
    pub outcome: Outcome,
}
