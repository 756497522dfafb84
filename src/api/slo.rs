//! Service level objectives: what is measured, and what counts as good enough.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::duration::Duration;

/// One service level objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slo {
    /// The name by which triggers, status and messages speak of it. Example: `availability`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The share of good events in percent, above 0 and below 100. Example: `"99.5"`.
    #[x_kube(validation = Rule::new("self.matches(r\'^[0-9]{1,2}([.][0-9]+)?$\') && double(self) > 0.0").message("target is a percentage above 0 and below 100, for example \"99.5\"; at 100 there is no error budget to spend"))]
    pub target: Decimal,
    /// The time over which the objective is judged.
    pub window: SloWindow,
    /// How good and bad events are counted.
    pub indicator: Indicator,
    /// Below so many events in the window that is judged (of a burn rate: the long one) nothing is concluded
    /// from it: Unknown, with the reason LowTraffic. Default 50.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_events: i64,
    /// For so long after the pilot's start the SLO is Unknown with the reason WarmingUp. Default 0s.
    #[serde(default = "no_time")]
    pub warmup: Duration,
    /// What missing data means.
    #[serde(default)]
    pub no_data: NoData,
}

/// The time over which an objective is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SloWindow {
    /// A window that ends now and reaches back so far. Example: `7d`.
    pub rolling: Duration,
}

/// How good and bad events are counted. Exactly one of its fields is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.ratio)").message("an indicator is needed: ratio {bad, total}"))]
pub struct Indicator {
    /// The ratio of two counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

/// The ratio of bad to all events, each a Prometheus counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.bad != self.total").message("bad and total are the same selector: every event would be bad"))]
pub struct Ratio {
    /// A PromQL vector selector of the counter of bad events.
    /// Example: `http_requests_total{app="checkout",code=~"5.."}`.
    #[schemars(length(min = 1, max = 1024))]
    pub bad: String,
    /// A PromQL vector selector of the counter of all events.
    /// Example: `http_requests_total{app="checkout"}`.
    #[schemars(length(min = 1, max = 1024))]
    pub total: String,
}

/// What missing data means. It never counts as good or as bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoData {
    /// Samples older than this make the SLO Unknown with the reason Stale. Default 2m.
    #[serde(default = "two_minutes")]
    pub after: Duration,
}

impl Default for NoData {
    fn default() -> Self {
        Self { after: two_minutes() }
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
