//! Triggers: the condition that moves a pilot back to safety, the action, and the delays.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::duration::Duration;

/// A rule that moves the pilot back to safety when its condition holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// Name of the trigger, shown in records and messages. Example: `fast-burn`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Condition of the trigger.
    pub when: When,
    /// Time for which the condition must hold, on fresh data, before the trigger fires. Default 2m.
    #[serde(rename = "for", default = "two_minutes")]
    pub hold_for: Duration,
    /// Time for which the condition must be false, on fresh data, before it counts as clear. Default 2m.
    #[serde(default = "two_minutes")]
    pub clear_after: Duration,
    /// Window over which the service is checked for recovery and after an action. A burnRate trigger uses its own
    /// `short` instead; after a rollback a promql trigger waits at least for the longest range in its expression.
    /// Default 5m.
    #[serde(default = "five_minutes")]
    pub short_window: Duration,
    /// Time in which owners may decide before `action` happens automatically. `0s` acts at once. Default 5m.
    #[serde(default = "five_minutes")]
    pub decision_window: Duration,
    /// Action at the end of the decision window: `Notify` (report the incident), `HoldChanges` (refuse new changes until the
    /// condition is clear), `Rollback` (restore the newest known-good release) or `ScaleDown` (to `scaleDownTo`).
    pub action: TriggerAction,
    /// Action that replaces a Rollback if no release can be blamed or there is no rollback target, and any action that
    /// the workload does not allow: StatefulSets and DaemonSets are not rolled back, and workloads that Argo Rollouts
    /// or Flagger drives are left alone. `Notify`, `HoldChanges` or `ScaleDown`. Default HoldChanges, which also
    /// replaces a ScaleDown that is not possible.
    #[serde(default)]
    pub otherwise: Otherwise,
    /// Replicas that remain after a ScaleDown. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub scale_down_to: i32,
}

/// Condition of a trigger. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.errorBudget), has(self.burnRate), has(self.promql), has(self.consecutiveFailedChanges), has(self.workload)].filter(x, x).size() == 1").message("exactly one of errorBudget, burnRate, promql, consecutiveFailedChanges or workload is needed"))]
pub struct When {
    /// Little of an SLO's error budget remains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_budget: Option<ErrorBudget>,
    /// Burn rate of an SLO is too high over a long and a short window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn_rate: Option<BurnRate>,
    /// PromQL expression with exactly one value, compared with a threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promql: Option<PromQl>,
    /// Several consecutive changes failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failed_changes: Option<ConsecutiveFailedChanges>,
    /// Condition that a workload reports itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadTrigger>,
}

/// Holds while less than `remainingBelow` percent of the error budget remains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBudget {
    /// Name of the SLO.
    #[schemars(length(min = 1, max = 63))]
    pub slo: String,
    /// Threshold in percent of the budget, at most 100. `"0"` means that the budget is overspent. Example: `"20"`.
    #[x_kube(validation = Rule::new("self.matches(r\'^-?[0-9]{1,3}([.][0-9]+)?$\') && double(self) <= 100.0").message("remainingBelow is a percentage of the error budget, at most 100"))]
    pub remaining_below: Decimal,
}

/// Holds while the burn rate over both `long` and `short` is above `factor` (SRE workbook, chapter 5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BurnRate {
    /// Name of the SLO.
    #[schemars(length(min = 1, max = 63))]
    pub slo: String,
    /// Long window, which shows that the burn is significant. Example: `1h`.
    pub long: Duration,
    /// Short window, which shows that the burn is still going on; usually a twelfth of `long`. Example: `5m`.
    pub short: Duration,
    /// Burn rate threshold, above 0; 1 spends the budget exactly over the SLO's window. Example: `"13.4"`.
    #[x_kube(validation = Rule::new("self.matches(r\'^[0-9]+([.][0-9]+)?$\') && double(self) > 0.0").message("factor must be above 0; 1 spends the budget exactly over the SLO's window"))]
    pub factor: Decimal,
}

/// Holds while `query operator threshold` is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromQl {
    /// PromQL expression with exactly one value.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
    /// Comparison: `GT` (>), `GE` (>=), `LT` (<) or `LE` (<=).
    pub operator: Operator,
    /// Value to compare with. Example: `"0.25"`.
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

/// Holds while the newest `count` changes all failed. Pending, aborted and superseded changes and rollbacks are not
/// counted; a change that succeeded resets the count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsecutiveFailedChanges {
    /// Number of consecutive failed changes. Example: 2.
    #[schemars(range(min = 1, max = 100))]
    pub count: i32,
}

/// Holds while a workload reports the condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadTrigger {
    /// `ProgressDeadlineExceeded`: the rollout made no progress within `progressDeadlineSeconds`.
    pub condition: WorkloadCondition,
}

/// Condition of a workload that a trigger can watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadCondition {
    /// The rollout made no progress within `progressDeadlineSeconds`.
    ProgressDeadlineExceeded,
}

/// Action of a trigger, ordered from mild to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TriggerAction {
    /// Report the incident; changes continue.
    Notify,
    /// Refuse new changes until the condition is clear.
    HoldChanges,
    /// Restore the newest known-good release.
    Rollback,
    /// Scale down to `scaleDownTo` until an owner resumes.
    ScaleDown,
}

/// Action that replaces a declared action that is not possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Otherwise {
    /// Report the incident; changes continue.
    Notify,
    /// Refuse new changes until the condition is clear.
    #[default]
    HoldChanges,
    /// Scale down to `scaleDownTo` until an owner resumes.
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
