//! What a pilot guards.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A workload of the Pilot's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReference {
    /// `Deployment` (apps/v1). Default Deployment.
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
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// What one workload runs: its part of a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleasePart {
    /// The workload's kind: `Deployment`.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    #[default]
    Deployment,
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
