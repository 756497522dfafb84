//! Service level objectives: the indicator, the target and the handling of missing data.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::duration::Duration;

/// A service level objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slo {
    /// Name of the SLO, referred to by triggers, status and messages. Example: `availability`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Target share of good events in percent, above 0 and below 100. Example: `"99.5"`.
    #[x_kube(validation = Rule::new("self.matches(r\'^[0-9]{1,2}([.][0-9]+)?$\') && double(self) > 0.0").message("target is a percentage above 0 and below 100, for example \"99.5\"; at 100 there is no error budget to spend"))]
    pub target: Decimal,
    /// Window over which the objective is evaluated.
    pub window: SloWindow,
    /// Indicator: how bad and all events are counted.
    pub indicator: Indicator,
    /// Minimum number of events in the evaluated window (for a burn rate, the long one). With fewer the result is
    /// Unknown with the reason LowTraffic. Default 50.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_events: i64,
    /// Time after the pilot's start during which the SLO is Unknown with the reason WarmingUp. Default 0s.
    #[serde(default = "no_time")]
    pub warmup: Duration,
    /// Handling of missing data.
    #[serde(default)]
    pub no_data: NoData,
}

/// Window over which an objective is evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SloWindow {
    /// Length of a rolling window that ends now. Example: `7d`.
    pub rolling: Duration,
}

/// Indicator: how bad and all events are counted. Exactly one field is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.ratio)").message("an indicator is needed: ratio {bad, total}"))]
pub struct Indicator {
    /// Ratio of two counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

/// Ratio of bad to all events, each a Prometheus counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.bad != self.total").message("bad and total are the same selector: every event would be bad"))]
pub struct Ratio {
    /// PromQL vector selector of the counter of bad events.
    /// Example: `http_requests_total{app="checkout",code=~"5.."}`.
    #[schemars(length(min = 1, max = 1024))]
    pub bad: String,
    /// PromQL vector selector of the counter of all events.
    /// Example: `http_requests_total{app="checkout"}`.
    #[schemars(length(min = 1, max = 1024))]
    pub total: String,
}

/// Handling of missing data, which never counts as good or bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoData {
    /// Maximum age of the newest sample. With older samples the SLO is Unknown with the reason Stale. Default 2m.
    #[serde(default = "two_minutes")]
    pub after: Duration,
    /// What `changes.budgetFreeze` does while this SLO is Unknown. Default `Allow`: changes pass. `Hold` holds them.
    #[serde(default)]
    pub changes: NoDataChanges,
}

/// What becomes of changes while an SLO that may hold them is Unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoDataChanges {
    /// They pass.
    #[default]
    Allow,
    /// They are held.
    Hold,
}

impl Default for NoData {
    fn default() -> Self {
        Self { after: two_minutes(), changes: NoDataChanges::Allow }
    }
}

fn fifty() -> i64 {
    50
}

fn no_time() -> Duration {
    Duration::from_secs(0)
}

fn two_minutes() -> Duration {
    Duration::minutes(2)
}
