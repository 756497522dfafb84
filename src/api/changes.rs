//! When and how a pilot may change, and how far back it may be rolled.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::window::Window;

/// When a change may start and how it is watched afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.windows.exists(w, !has(w.kind) || w.kind == 'Allow')").message("at least one window of kind Allow is needed, or nothing could ever change; for a pilot that may change at any time declare {name: always, always: true}").field_path(".windows"))]
pub struct Changes {
    /// The windows. A change may start while some Allow is active and no Deny is.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub windows: Vec<Window>,
    /// How long a change is watched after it is completely available before it counts as good.
    /// Time in which an SLO is Unknown (other than for low traffic or warm-up) does not count. Default 30m.
    #[serde(default = "thirty_minutes")]
    pub bake: Duration,
    /// Template changes of the same pilot within this time of the first are one change. Default 1m.
    #[serde(default = "sixty_seconds")]
    pub group_within: Duration,
}

/// How far back an automatic rollback may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackPolicy {
    /// A known-good release is a target only if it was running within this time. Default 7d.
    #[serde(default = "seven_days")]
    pub max_age: Duration,
}

impl Default for RollbackPolicy {
    fn default() -> Self {
        Self { max_age: seven_days() }
    }
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
