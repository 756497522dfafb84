//! Pilot: the one resource that a team writes.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::changes::{Changes, RollbackPolicy};
use super::owners::Owners;
use super::slo::Slo;
use super::status::PilotStatus;
use super::trigger::Trigger;
use super::workload::{BlastRadius, WorkloadReference};

/// A pilot: who owns it, when it may change, how much it may break and what moves it back to safety.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pilotguard.dev",
    version = "v1alpha1",
    kind = "Pilot",
    namespaced,
    status = "PilotStatus",
    shortname = "plt",
    category = "pilotguard",
    doc = "A pilot: who owns it, when it may change, how much it may break and what moves it back to safety.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Window", type_ = "string", json_path = ".status.conditions[?(@.type=='WindowOpen')].reason"),
    printcolumn(name = "Budget", type_ = "string", json_path = ".status.slos[0].budgetRemaining"),
    printcolumn(name = "Release", type_ = "string", json_path = ".status.release.state"),
    printcolumn(name = "Incident", type_ = "string", json_path = ".status.incident.stage"),
    printcolumn(name = "Deadline", type_ = "string", json_path = ".status.incident.deadline", priority = 1),
    printcolumn(name = "Decision date", type_ = "string", json_path = ".spec.intent.decisionDate", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.triggers) || self.triggers.all(t, !has(t.when.errorBudget) || (has(self.slos) && self.slos.exists(s, s.name == t.when.errorBudget.slo)))").message("a trigger's when.errorBudget.slo names no SLO of this Pilot: declare it under slos or correct the name").field_path(".triggers"))]
#[x_kube(validation = Rule::new("!has(self.triggers) || !self.workloads.exists(w, w.kind == 'DaemonSet') || self.triggers.all(t, t.action != 'ScaleDown' && t.otherwise != 'ScaleDown')").message("a DaemonSet runs one pod on each node and has no replicas to scale down: let the triggers' action and otherwise be Notify, HoldChanges or Rollback").field_path(".triggers"))]
#[x_kube(validation = Rule::new("!has(self.triggers) || self.triggers.all(t, !has(t.when.burnRate) || (has(self.slos) && self.slos.exists(s, s.name == t.when.burnRate.slo)))").message("a trigger's when.burnRate.slo names no SLO of this Pilot: declare it under slos or correct the name").field_path(".triggers"))]
pub struct PilotSpec {
    /// What the pilot is for and when it is decided on.
    pub intent: Intent,
    /// Who answers for it.
    pub owners: Owners,
    /// What it guards, in the Pilot's own namespace: what these run together is the pilot's release. A workload belongs
    /// to the oldest Pilot that names it.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub workloads: Vec<WorkloadReference>,
    /// What it depends on.
    #[serde(default)]
    pub constraints: Constraints,
    /// How much it may reach at most.
    #[serde(default)]
    pub blast_radius: BlastRadius,
    /// When and how it may change.
    pub changes: Changes,
    /// How far back a rollback may reach.
    #[serde(default)]
    pub rollback: RollbackPolicy,
    /// The MetricsSource, by name, that SLOs, triggers and dependencies are read from. Default `default`.
    #[serde(default = "default_source")]
    #[schemars(length(min = 1, max = 253))]
    pub metrics_source: String,
    /// What counts as good enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub slos: Vec<Slo>,
    /// What moves the pilot back to safety.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub triggers: Vec<Trigger>,
    /// Whether rules are enforced or only observed.
    #[serde(default)]
    pub enforcement: Enforcement,
}

/// What the pilot is for and when it is decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.start) || self.start < timestamp('9999-01-01T00:00:00Z')").message("start must lie before the year 9999").field_path(".start"))]
#[x_kube(validation = Rule::new("self.decisionDate < timestamp('9999-01-01T00:00:00Z')").message("decisionDate must lie before the year 9999").field_path(".decisionDate"))]
pub struct Intent {
    /// One sentence. Example: `One-click checkout for returning customers`.
    #[schemars(length(min = 1, max = 512))]
    pub summary: String,
    /// What the pilot shall prove. Example: `Conversion of returning customers rises by 5 %`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub hypothesis: Option<String>,
    /// The users that it is tried with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub segments: Vec<String>,
    /// The journeys in scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub journeys: Vec<String>,
    /// When it starts, RFC 3339; SLOs are judged from then on. Default: the Pilot's creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// When scale, iterate or stop is decided, RFC 3339. After it changes are refused until the date is moved.
    pub decision_date: Timestamp,
}

/// What the pilot depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Constraints {
    /// Services that the pilot needs. While one is in breach no release of the pilot is blamed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dependencies: Vec<Dependency>,
}

/// A service that the pilot needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// Its name. Example: `payments`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A PromQL expression with one value: 0 is healthy, anything else is in breach.
    /// Example: `max(ALERTS{alertname="PaymentsDown",alertstate="firing"}) or vector(0)`.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
}

/// Whether rules are enforced or only observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// `Enforce` refuses changes; `Observe` lets them pass and records what would have been. Default Enforce.
    #[serde(default)]
    pub changes: Mode,
    /// `Enforce` acts when a trigger fires; `Observe` only records what would have been done. Default Enforce.
    #[serde(default)]
    pub actions: Mode,
}

/// Whether a rule is enforced or only observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// It binds.
    #[default]
    Enforce,
    /// It only leaves a trace.
    Observe,
}

fn default_source() -> String {
    "default".to_owned()
}
