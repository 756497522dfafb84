//! References to what a pilot guards, and the parts of a release.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A workload in the Pilot's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReference {
    /// Kind of the workload: `Deployment`, `StatefulSet` or `DaemonSet` (apps/v1). StatefulSets and DaemonSets are
    /// guarded like Deployments, but never held or rolled back; a DaemonSet is never scaled down. Default Deployment.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// Name of the workload. Example: `checkout`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// Kind of a guarded workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    #[default]
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 DaemonSet.
    DaemonSet,
}

/// Reference to a part of a release: a workload or a governed ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartReference {
    /// Kind of the part: `Deployment`, `StatefulSet`, `DaemonSet` or `ConfigMap`.
    pub kind: PartKind,
    /// Name of the workload or ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl From<&WorkloadReference> for PartReference {
    fn from(workload: &WorkloadReference) -> Self {
        let kind = match workload.kind {
            WorkloadKind::Deployment => PartKind::Deployment,
            WorkloadKind::StatefulSet => PartKind::StatefulSet,
            WorkloadKind::DaemonSet => PartKind::DaemonSet,
        };
        Self { kind, name: workload.name.clone() }
    }
}

impl From<&ConfigurationReference> for PartReference {
    fn from(configuration: &ConfigurationReference) -> Self {
        let kind = match configuration.kind {
            ConfigurationKind::ConfigMap => PartKind::ConfigMap,
        };
        Self { kind, name: configuration.name.clone() }
    }
}

impl PartReference {
    /// Whether it has this kind and name.
    pub fn is(&self, kind: PartKind, name: &str) -> bool {
        self.kind == kind && self.name == name
    }
}

impl fmt::Display for PartReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// One part of a release: what a workload runs, or the content of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleasePart {
    /// Kind of the part: `Deployment`, `StatefulSet`, `DaemonSet` or `ConfigMap`.
    pub kind: PartKind,
    /// Name of the workload or ConfigMap.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Template digest: SHA-256 over the RFC 8785 form of the pod template as stored.
    #[schemars(length(max = 64))]
    pub template: String,
    /// Payload digest: what the template runs, without labels and dates.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// Images that its containers run, each once, 16 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub images: Vec<String>,
}

/// Kind of a part of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PartKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 DaemonSet.
    DaemonSet,
    /// v1 ConfigMap, which runs no pods and configures those that do.
    ConfigMap,
}

impl PartKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::ConfigMap];

    /// The kinds that run pods.
    pub const WITH_PODS: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    /// The `kind` of its objects.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// The resource name, as in API requests and RBAC rules.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::ConfigMap => "configmaps",
        }
    }

    /// The API group; empty for the core one.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet => "apps",
            Self::ConfigMap => "",
        }
    }

    /// The `apiVersion` of its objects.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet => "apps/v1",
            Self::ConfigMap => "v1",
        }
    }

    /// The kind with this API group and resource name, if it is one of these.
    pub fn of_resource(group: &str, resource: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.group() == group && kind.resource() == resource)
    }

    /// Whether it runs pods.
    pub const fn has_pods(self) -> bool {
        !matches!(self, Self::ConfigMap)
    }

    /// Whether it has `spec.replicas`; a DaemonSet runs one pod on each node instead.
    pub const fn has_replicas(self) -> bool {
        matches!(self, Self::Deployment | Self::StatefulSet)
    }

    /// Whether a rollback is possible. What pods of a StatefulSet or DaemonSet wrote stays on volumes and nodes, where
    /// the older release finds it.
    pub const fn is_rolled_back(self) -> bool {
        matches!(self, Self::Deployment | Self::ConfigMap)
    }
}

/// A ConfigMap in the Pilot's namespace whose content is part of the pilot's release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationReference {
    /// Kind of the object: `ConfigMap` (v1). Default ConfigMap.
    #[serde(default)]
    pub kind: ConfigurationKind,
    /// Name of the ConfigMap, for example `checkout-flags`. ConfigMaps that kustomize generates from it, such as
    /// `checkout-flags-7f8c9dk2m4`, are governed too if a pod template of the Pilot names them.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// Kind of a governed configuration object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ConfigurationKind {
    /// v1 ConfigMap.
    #[default]
    ConfigMap,
}

/// Limits on the size of a pilot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlastRadius {
    /// Maximum number of replicas of each guarded workload. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_replicas: Option<i32>,
}
