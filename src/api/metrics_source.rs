//! MetricsSource: the Prometheus-compatible API that SLO data is read from. Written by platform admins only, because a
//! team that could name an address or a credential could read other teams' data.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
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
    /// Base URL of the API; a path is kept, redirects are not followed. Example:
    /// `https://prometheus.monitoring.svc:9090`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^\s?#@]+$"))]
    pub url: String,
    /// Credentials for the API. Default: none are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Verification of the server's certificate. Default: the system's certificate authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Tenant, sent as the header `X-Scope-OrgID` (Mimir, Cortex, Loki). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 150), regex(pattern = r"^[A-Za-z0-9!._*'()|-]+$"))]
    pub tenant: Option<String>,
    /// Namespaces whose Pilots may use this source. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)))]
    pub allowed_namespaces: Option<Vec<String>>,
    /// Label that is forced on every selector of every query, with the Pilot's namespace as its value, so that one team
    /// cannot read another's series. Default: none. Example: `namespace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub namespace_label: Option<String>,
    /// Query language of the source: `PromQL`, or `MetricsQL` for `VictoriaMetrics`, to which expressions with functions that
    /// only it has are sent unchecked. With `namespaceLabel` such expressions are refused in either. Default `PromQL`.
    #[serde(default)]
    pub dialect: Dialect,
    /// Interval between evaluations of SLOs and triggers, at least 1s. Default 15s.
    #[serde(default = "fifteen_seconds")]
    #[x_kube(validation = Rule::new("self.matches('[1-9][0-9]*(s|m|h|d|w)([0-9]|$)|[1-9][0-9]{3,}ms')").message("evaluationInterval is at least 1s, for example 15s"))]
    pub evaluation_interval: Duration,
    /// How far in the past every query is evaluated, for backends whose samples arrive late. Default 0s.
    #[serde(default = "no_time")]
    pub query_offset: Duration,
    /// Timeout of a query, more than 0s. Default 5s.
    #[serde(default = "five_seconds")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("timeout is more than 0s, for example 5s"))]
    pub timeout: Duration,
}

/// Query language of a metrics source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Dialect {
    /// That of Prometheus.
    #[default]
    #[serde(rename = "PromQL")]
    PromQl,
    /// That of `VictoriaMetrics`.
    #[serde(rename = "MetricsQL")]
    MetricsQl,
}

/// Credentials for the API. Exactly one field is set.
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

/// Verification of the server's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Certificate authorities that replace the system's; the Secret holds `ca.crt` (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretReference>,
}

/// A Secret in the operator's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Status of a MetricsSource, reported by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsSourceStatus {
    /// `Ready`: the source answered the last query.
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
