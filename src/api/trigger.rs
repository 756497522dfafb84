//! Triggers: which condition moves a pilot back to safety, how, and after how long.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::duration::Duration;

/// One rule that, when it fires, moves the pilot back to safety.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// The name by which records and messages speak of it. Example: `fast-burn`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The condition.
    pub when: When,
    /// The condition must hold for so long, on fresh data, before the trigger fires. Default 2m.
    #[serde(rename = "for", default = "two_minutes")]
    pub hold_for: Duration,
    /// The condition must be false for so long, on fresh data, before it counts as clear. Default 2m.
    #[serde(default = "two_minutes")]
    pub clear_after: Duration,
    /// The window over which it is judged whether the service still suffers, where the trigger is not a
    /// burnRate with a short window of its own. Default 5m.
    #[serde(default = "five_minutes")]
    pub short_window: Duration,
    /// How long the owners may decide before `action` happens by itself. `0s` acts at once. Default 5m.
    #[serde(default = "five_minutes")]
    pub decision_window: Duration,
    /// What happens at the deadline: `Notify` (tell people), `HoldChanges` (refuse new changes until it
    /// is clear), `Rollback` (back to the newest known-good release) or `ScaleDown` (to `scaleDownTo`).
    pub action: TriggerAction,
    /// What happens instead of Rollback where no release can be blamed or none can be gone back to, and instead of
    /// any act where the workload cannot be acted on so (a StatefulSet and a DaemonSet are not rolled back, and
    /// nothing is done to what Argo Rollouts or Flagger drives): `Notify`, `HoldChanges` or `ScaleDown`. Default
    /// HoldChanges, which also takes the place of a ScaleDown that is not possible.
    #[serde(default)]
    pub otherwise: Otherwise,
    /// The replicas that ScaleDown leaves. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub scale_down_to: i32,
}

/// The condition of a trigger. Exactly one of its fields is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.errorBudget), has(self.burnRate), has(self.promql), has(self.consecutiveFailedChanges), has(self.workload)].filter(x, x).size() == 1").message("exactly one of errorBudget, burnRate, promql, consecutiveFailedChanges or workload is needed"))]
pub struct When {
    /// Too little of an SLO's error budget remains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_budget: Option<ErrorBudget>,
    /// An SLO's error budget is spent too fast, over a long and a short window at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn_rate: Option<BurnRate>,
    /// A PromQL expression that yields exactly one value, compared with a threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promql: Option<PromQl>,
    /// Too many changes in a row failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failed_changes: Option<ConsecutiveFailedChanges>,
    /// A condition that the workload itself reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadTrigger>,
}

/// Fires when less than `remainingBelow` percent of the error budget remains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBudget {
    /// The name of the SLO.
    #[schemars(length(min = 1, max = 63))]
    pub slo: String,
    /// Percent of the budget, at most 100. Example: `"20"`. `"0"` fires when it is overspent.
    #[x_kube(validation = Rule::new("self.matches(r\'^-?[0-9]{1,3}([.][0-9]+)?$\') && double(self) <= 100.0").message("remainingBelow is a percentage of the error budget, at most 100"))]
    pub remaining_below: Decimal,
}

/// Fires when the burn rate over `long` and over `short` is above `factor` (SRE workbook, chapter 5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BurnRate {
    /// The name of the SLO.
    #[schemars(length(min = 1, max = 63))]
    pub slo: String,
    /// The long window: is it significant? Example: `1h`.
    pub long: Duration,
    /// The short window: is it still going on? Usually a twelfth of `long`. Example: `5m`.
    pub short: Duration,
    /// How many times faster than sustainable the budget is spent; 1 spends it exactly over the SLO's
    /// window. Example: `"13.4"`.
    #[x_kube(validation = Rule::new("self.matches(r\'^[0-9]+([.][0-9]+)?$\') && double(self) > 0.0").message("factor must be above 0; 1 spends the budget exactly over the SLO's window"))]
    pub factor: Decimal,
}

/// Fires when `query operator threshold` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromQl {
    /// A PromQL expression that yields exactly one value.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
    /// `GT` (>), `GE` (>=), `LT` (<) or `LE` (<=).
    pub operator: Operator,
    /// The value to compare with. Example: `"0.25"`.
    pub threshold: Decimal,
}

/// How a value is compared with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operator {
    /// Greater than.
    Gt,
    /// Greater than or equal.
    Ge,
    /// Less than.
    Lt,
    /// Less than or equal.
    Le,
}

/// Fires when the newest `count` decided changes all failed. Rollbacks, aborted, superseded and
/// pending changes are passed over; one that succeeded starts the count anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsecutiveFailedChanges {
    /// How many in a row. Example: 2.
    #[schemars(range(min = 1, max = 100))]
    pub count: i32,
}

/// Fires when the workload reports the condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadTrigger {
    /// `ProgressDeadlineExceeded`: the rollout made no progress within `progressDeadlineSeconds`.
    pub condition: WorkloadCondition,
}

/// Conditions of a workload that a trigger can watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadCondition {
    /// The rollout made no progress in time.
    ProgressDeadlineExceeded,
}

/// What a trigger does, from mild to strict. The order is the order of strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TriggerAction {
    /// Tell people; changes go on.
    Notify,
    /// Refuse new changes until the condition is clear.
    HoldChanges,
    /// Go back to the newest known-good release.
    Rollback,
    /// Leave only `scaleDownTo` replicas until an owner resumes.
    ScaleDown,
}

/// What happens where an act is declared that is not possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Otherwise {
    /// Tell people; changes go on.
    Notify,
    /// Refuse new changes until the condition is clear.
    #[default]
    HoldChanges,
    /// Leave only `scaleDownTo` replicas until an owner resumes.
    ScaleDown,
}

impl From<Otherwise> for TriggerAction {
    fn from(otherwise: Otherwise) -> Self {
        match otherwise {
            Otherwise::Notify => Self::Notify,
            Otherwise::HoldChanges => Self::HoldChanges,
            Otherwise::ScaleDown => Self::ScaleDown,
        }
    }
}

fn two_minutes() -> Duration {
    Duration::minutes(2)
}

fn five_minutes() -> Duration {
    Duration::minutes(5)
}
