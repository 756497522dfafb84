//! When and how a pilot may change, and how old a rollback target may be.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::duration::Duration;
use super::window::Window;

/// Rules for changes: when a change may start, and how long it is watched afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.windows.exists(w, !has(w.kind) || w.kind == 'Allow')").message("at least one window of kind Allow is needed, or nothing could ever change; for a pilot that may change at any time declare {name: always, always: true}").field_path(".windows"))]
pub struct Changes {
    /// Change windows. A change may start while at least one Allow is active and no Deny is.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub windows: Vec<Window>,
    /// Answer to a change that may not start now. `Auto` holds changes by GitOps tools outside windows, pins them where
    /// waiting does not help, and refuses everyone else; a GitOps tool is a service account that writes a workload with
    /// Argo CD's tracking-id or Flux's labels. `Hold` stores any change and rolls it out once it is allowed. `Pin`
    /// keeps the stored release for machines and refuses people. `Deny` refuses everyone. Default Auto.
    #[serde(default)]
    pub outside_window: OutsideWindow,
    /// Minimum time that must remain in a window for a change to start. Default 0s.
    #[serde(default = "no_time")]
    pub runway: Duration,
    /// Action on a change that is not completely available when its window closes. `Finish` lets the rollout continue.
    /// `Revert` restores the known-good release without blaming the change, which may be applied again in the next
    /// window; without a rollback target, or if rolling back is declared unsafe, the rollout continues. Default Finish.
    #[serde(default)]
    pub on_window_close: OnWindowClose,
    /// Time for which a change is watched after it is completely available, before its release becomes known-good. Time
    /// during which an SLO is Unknown, other than for low traffic or warm-up, does not count. Default 30m.
    #[serde(default = "thirty_minutes")]
    pub bake: Duration,
    /// Time after the first template change in which further ones of the same pilot join the same change. Default 1m.
    #[serde(default = "sixty_seconds")]
    pub group_within: Duration,
    /// Action on a release that bypassed admission. `Notify` records and reports it, and refuses further changes until
    /// an owner accepts it or the known-good release runs again. `Rollback` also restores the known-good release. With
    /// either, a quarantined release is rolled back at once. Default Notify.
    #[serde(default)]
    pub unauthorized: UnauthorizedPolicy,
    /// Holds changes while too little of an SLO's error budget remains. Going back to the known-good release, an owner's
    /// fix and emergencies pass. Default: no budget holds changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_freeze: Option<BudgetFreeze>,
}

/// When an error budget holds changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetFreeze {
    /// The name of the SLO. What it means that its budget is unknown says its `noData.changes`.
    #[schemars(length(min = 1, max = 63))]
    pub slo: String,
    /// Percent of the error budget, at most 100, below which changes are held. Example: `"10"`. `"0"` holds them while the
    /// budget is overspent.
    #[x_kube(validation = Rule::new("self.matches(r\'^-?[0-9]{1,3}([.][0-9]+)?$\') && double(self) <= 100.0").message("remainingBelow is a percentage of the error budget, at most 100"))]
    pub remaining_below: Decimal,
}

/// Action on a release that bypassed admission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnauthorizedPolicy {
    /// Records and reports it, and refuses further changes.
    #[default]
    Notify,
    /// Restores the known-good release.
    Rollback,
}

/// Action on a change that is not completely available when its window closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnWindowClose {
    /// Lets the rollout continue.
    #[default]
    Finish,
    /// Restores the known-good release.
    Revert,
}

/// Answer to a change that may not start now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutsideWindow {
    /// Holds or pins changes by GitOps tools, and refuses everyone else.
    #[default]
    Auto,
    /// Stores the change, and rolls it out once it is allowed.
    Hold,
    /// Keeps the stored release for machines, and refuses people.
    Pin,
    /// Refuses everyone.
    Deny,
}

/// Limits of a rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackPolicy {
    /// Maximum time since a known-good release last ran for it to be a rollback target. Default 7d.
    #[serde(default = "seven_days")]
    pub max_age: Duration,
}

impl Default for RollbackPolicy {
    fn default() -> Self {
        Self { max_age: seven_days() }
    }
}

const fn no_time() -> Duration {
    Duration::from_secs(0)
}

fn thirty_minutes() -> Duration {
    Duration::minutes(30)
}

fn sixty_seconds() -> Duration {
    Duration::from_secs(60)
}

fn seven_days() -> Duration {
    Duration::days(7)
}
