//! When and how a pilot may change, and how far back it may be rolled.

use kube::KubeSchema;
use schemars::JsonSchema;
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
    /// What becomes of a change that may not start now. Default Auto. `Auto`: what a GitOps tool applies (a service account
    /// that writes a workload with Argo CD's tracking-id or Flux's labels) is held outside windows and pinned where
    /// waiting does not help; everyone else is refused. `Hold` stores any change and rolls it out by itself once it is
    /// allowed. `Pin` answers machines with the release that runs, and refuses people. `Deny` refuses everyone.
    #[serde(default)]
    pub outside_window: OutsideWindow,
    /// How much of a window must be left for a change to start in it. Default 0s.
    #[serde(default = "no_time")]
    pub runway: Duration,
    /// What becomes of a change that is not completely available when its window closes. Default `Finish`: its rollout
    /// goes on. `Revert` puts the known-good release back, without blaming the change: it may be applied again in the
    /// next window. Where there is none to go back to, or going back is declared unsafe, the rollout goes on.
    #[serde(default)]
    pub on_window_close: OnWindowClose,
    /// How long a change is watched after it is completely available before it counts as good.
    /// Time in which an SLO is Unknown (other than for low traffic or warm-up) does not count. Default 30m.
    #[serde(default = "thirty_minutes")]
    pub bake: Duration,
    /// Template changes of the same pilot within this time of the first are one change. Default 1m.
    #[serde(default = "sixty_seconds")]
    pub group_within: Duration,
    /// What becomes of a release that runs without having been admitted. It is always recorded and told, and further
    /// changes are refused until an owner accepts it or the known-good release is back. Default `Notify`: no more than
    /// that. `Rollback` puts the known-good release back. A quarantined release is undone at once in both cases.
    #[serde(default)]
    pub unauthorized: UnauthorizedPolicy,
}

/// What becomes of a release that runs without having been admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnauthorizedPolicy {
    /// People are told.
    #[default]
    Notify,
    /// The known-good release is put back.
    Rollback,
}

/// What becomes of a change that is not completely available when its window closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnWindowClose {
    /// Its rollout goes on.
    #[default]
    Finish,
    /// The known-good release is put back.
    Revert,
}

/// What becomes of a change that may not start now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutsideWindow {
    /// Held or pinned where a GitOps tool asks, refused for everyone else.
    #[default]
    Auto,
    /// Stored, and rolled out by itself once it is allowed.
    Hold,
    /// Answered with the release that runs where a machine asks, refused for people.
    Pin,
    /// Refused.
    Deny,
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
