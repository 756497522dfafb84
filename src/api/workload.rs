//! What a pilot guards.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A workload of the Pilot's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
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

/// The kinds of workload that can be guarded.
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

/// A part of a release, by the object that it is: a workload, or a ConfigMap that configures workloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartReference {
    /// Its kind: `Deployment`, `StatefulSet`, `DaemonSet` or `ConfigMap`.
    pub kind: PartKind,
    /// Its name.
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
    /// Whether these are its kind and name.
    pub fn is(&self, kind: PartKind, name: &str) -> bool {
        self.kind == kind && self.name == name
    }
}

impl fmt::Display for PartReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// What one workload runs: its part of a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleasePart {
    /// Its kind: `Deployment`, `StatefulSet`, `DaemonSet` or `ConfigMap`.
    pub kind: PartKind,
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

/// The kinds of objects that a release consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PartKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 DaemonSet.
    DaemonSet,
    /// v1 ConfigMap: it runs no pods, and configures those that do.
    ConfigMap,
}

impl PartKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::ConfigMap];

    /// The kinds that run pods.
    pub const WITH_PODS: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    /// The kind as objects carry it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// The resource as requests and rights name it.
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

    /// The kind of a resource of this group.
    pub fn of_resource(group: &str, resource: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.group() == group && kind.resource() == resource)
    }

    /// Whether it runs pods.
    pub const fn has_pods(self) -> bool {
        !matches!(self, Self::ConfigMap)
    }

    /// Whether a number of replicas can be asked of it; a DaemonSet runs one pod on each node.
    pub const fn has_replicas(self) -> bool {
        matches!(self, Self::Deployment | Self::StatefulSet)
    }

    /// Whether going back is a rollout like any other. What a StatefulSet's or a DaemonSet's pods wrote stays behind on
    /// volumes and nodes, where the older release meets it.
    pub const fn is_rolled_back(self) -> bool {
        matches!(self, Self::Deployment | Self::ConfigMap)
    }
}

/// A ConfigMap of the Pilot's own namespace whose content is a part of the pilot's release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationReference {
    /// `ConfigMap` (v1). Default ConfigMap.
    #[serde(default)]
    pub kind: ConfigurationKind,
    /// The ConfigMap's name, for example `checkout-flags`. It also governs those that kustomize generates from it
    /// (`checkout-flags-7f8c9dk2m4`), as far as a pod template of the Pilot names them.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// The kinds of configuration that can be governed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ConfigurationKind {
    /// v1 ConfigMap.
    #[default]
    ConfigMap,
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
