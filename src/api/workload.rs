//! What a pilot guards.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A workload of the Pilot's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReference {
    /// `Deployment`, `StatefulSet` or `DaemonSet` (apps/v1). Default Deployment. A StatefulSet and a DaemonSet are
    /// guarded as a Deployment is, and never held or rolled back by themselves; only what has replicas is scaled down.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// The workload's name. Example: `checkout`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

impl WorkloadReference {
    /// Whether these are its kind and name.
    pub fn is(&self, kind: WorkloadKind, name: &str) -> bool {
        self.kind == kind && self.name == name
    }
}

impl fmt::Display for WorkloadReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// What one workload runs: its part of a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleasePart {
    /// The workload's kind: `Deployment`, `StatefulSet` or `DaemonSet`.
    pub kind: WorkloadKind,
    /// The workload's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// SHA-256 over the RFC 8785 form of the pod template as stored.
    #[schemars(length(max = 64))]
    pub template: String,
    /// The payload digest: what the template runs, without its labels and dates.
    #[schemars(length(max = 64))]
    pub payload: String,
}

/// The kinds of workload that can be guarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    #[default]
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 DaemonSet.
    DaemonSet,
}

impl WorkloadKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    /// The kind as objects carry it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }

    /// The resource as requests and rights name it.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
        }
    }

    /// The kind of a resource of the group `apps`.
    pub fn of_resource(resource: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.resource() == resource)
    }

    /// Whether a number of replicas can be asked of it; a DaemonSet runs one pod on each node.
    pub const fn has_replicas(self) -> bool {
        !matches!(self, Self::DaemonSet)
    }

    /// Whether going back is a rollout like any other. What a StatefulSet's or a DaemonSet's pods wrote stays behind on
    /// volumes and nodes, where the older release meets it.
    pub const fn is_rolled_back(self) -> bool {
        matches!(self, Self::Deployment)
    }
}

/// How much a pilot may reach at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlastRadius {
    /// The most replicas that a guarded workload may ask for. Without it replicas are not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_replicas: Option<i32>,
}
