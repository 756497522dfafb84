//! MetricsSource: where SLO data comes from. Written by platform admins only, because a team that could
//! name an address or a credential could read other teams' data.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::duration::Duration;

/// A Prometheus-compatible API that Pilots read by name.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pilotguard.dev",
    version = "v1alpha1",
    kind = "MetricsSource",
    status = "MetricsSourceStatus",
    category = "pilotguard",
    doc = "A Prometheus-compatible API that Pilots read by name. Written by platform admins.",
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "Interval", type_ = "string", json_path = ".spec.evaluationInterval"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MetricsSourceSpec {
    /// The base address; a path is kept. Example: `https://prometheus.monitoring.svc:9090`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^\s?#@]+$"))]
    pub url: String,
    /// How to authenticate. Without it no credential is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How the server is verified. Without it the system's certificate authorities count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Sent as `X-Scope-OrgID` (Mimir, Cortex, Loki).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 150), regex(pattern = r"^[A-Za-z0-9!._*'()|-]+$"))]
    pub tenant: Option<String>,
    /// The namespaces whose Pilots may use this source. Omitted: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)))]
    pub allowed_namespaces: Option<Vec<String>>,
    /// A label that every selector of every query is forced to carry with the Pilot's own namespace as its
    /// value, so that one team cannot read another's series. Example: `namespace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub namespace_label: Option<String>,
    /// How often SLOs and triggers are evaluated, at least 1s. Default 15s.
    #[serde(default = "fifteen_seconds")]
    #[x_kube(validation = Rule::new("self.matches('[1-9][0-9]*(s|m|h|d|w)([0-9]|$)|[1-9][0-9]{3,}ms')").message("evaluationInterval is at least 1s, for example 15s"))]
    pub evaluation_interval: Duration,
    /// How far in the past to ask, for backends whose samples arrive late. Default 0s.
    #[serde(default = "no_time")]
    pub query_offset: Duration,
    /// A query that takes longer is given up. Default 5s.
    #[serde(default = "five_seconds")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("timeout is more than 0s, for example 5s"))]
    pub timeout: Duration,
}

/// How to authenticate. At most one of its fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.basic), has(self.bearer)].filter(x, x).size() == 1").message("exactly one of basic or bearer is needed"))]
pub struct Auth {
    /// HTTP basic authentication; the Secret holds `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<SecretReference>,
    /// A bearer token; the Secret holds `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretReference>,
}

/// How the server is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Certificate authorities to trust instead of the system's; the Secret holds `ca.crt` (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretReference>,
}

/// A Secret in the operator's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How the source answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsSourceStatus {
    /// `Ready`: it answered the last query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}

fn fifteen_seconds() -> Duration {
    Duration::from_secs(15)
}

fn no_time() -> Duration {
    Duration::from_secs(0)
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}
