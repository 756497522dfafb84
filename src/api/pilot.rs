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
use super::workload::{BlastRadius, ConfigurationReference, WorkloadReference};

/// The annotation of a Pilot that says who created it; written at admission.
pub const CREATED_BY: &str = "pilotguard.dev/created-by";

/// The annotation by which an owner of both has a Pilot take over the workloads that an older one, named here, names too.
pub const TAKES_OVER: &str = "pilotguard.dev/takes-over";

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
    printcolumn(name = "Incident", type_ = "string", json_path = ".status.incident.id"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.incident.stage"),
    printcolumn(name = "Opens", type_ = "string", json_path = ".status.nextOpen", priority = 1),
    printcolumn(name = "Deadline", type_ = "string", json_path = ".status.deadline", priority = 1),
    printcolumn(name = "Decision date", type_ = "string", json_path = ".spec.intent.decisionDate", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.triggers) || self.triggers.all(t, !has(t.when.errorBudget) || (has(self.slos) && self.slos.exists(s, s.name == t.when.errorBudget.slo)))").message("a trigger's when.errorBudget.slo names no SLO of this Pilot: declare it under slos or correct the name").field_path(".triggers"))]
#[x_kube(validation = Rule::new("!has(self.triggers) || !self.workloads.exists(w, w.kind == 'DaemonSet') || self.triggers.all(t, t.action != 'ScaleDown' && t.otherwise != 'ScaleDown')").message("a DaemonSet runs one pod on each node and has no replicas to scale down: let the triggers' action and otherwise be Notify, HoldChanges or Rollback").field_path(".triggers"))]
#[x_kube(validation = Rule::new("!has(self.triggers) || self.triggers.all(t, !has(t.when.burnRate) || (has(self.slos) && self.slos.exists(s, s.name == t.when.burnRate.slo)))").message("a trigger's when.burnRate.slo names no SLO of this Pilot: declare it under slos or correct the name").field_path(".triggers"))]
#[x_kube(validation = Rule::new("!has(self.changes.budgetFreeze) || (has(self.slos) && self.slos.exists(s, s.name == self.changes.budgetFreeze.slo))").message("changes.budgetFreeze.slo names no SLO of this Pilot: declare it under slos or correct the name").field_path(".changes"))]
pub struct PilotSpec {
    /// Purpose of the pilot, and the date on which its future is decided.
    pub intent: Intent,
    /// Owners of the pilot, by role.
    pub owners: Owners,
    /// Guarded workloads in the Pilot's namespace. What they run together is the pilot's release. A workload belongs to
    /// the oldest Pilot that names it.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub workloads: Vec<WorkloadReference>,
    /// Governed ConfigMaps, whose content belongs to the release: guarded, rolled back and recorded with the workloads.
    /// A change that may not happen yet is refused, or pinned for machines. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub configuration: Vec<ConfigurationReference>,
    /// Services that the pilot depends on.
    #[serde(default)]
    pub constraints: Constraints,
    /// Limits on the size of the pilot.
    #[serde(default)]
    pub blast_radius: BlastRadius,
    /// When and how the pilot may change.
    pub changes: Changes,
    /// Limits of a rollback.
    #[serde(default)]
    pub rollback: RollbackPolicy,
    /// Name of the MetricsSource that SLOs, triggers and dependencies are read from. Default `default`.
    #[serde(default = "default_source")]
    #[schemars(length(min = 1, max = 253))]
    pub metrics_source: String,
    /// Service level objectives. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub slos: Vec<Slo>,
    /// Triggers that move the pilot back to safety. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub triggers: Vec<Trigger>,
    /// Whether changes and actions are enforced or only observed.
    #[serde(default)]
    pub enforcement: Enforcement,
}

/// Purpose of the pilot, and the date on which its future is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.start) || self.start < timestamp('9999-01-01T00:00:00Z')").message("start must lie before the year 9999").field_path(".start"))]
#[x_kube(validation = Rule::new("self.decisionDate < timestamp('9999-01-01T00:00:00Z')").message("decisionDate must lie before the year 9999").field_path(".decisionDate"))]
pub struct Intent {
    /// Purpose in one sentence. Example: `One-click checkout for returning customers`.
    #[schemars(length(min = 1, max = 512))]
    pub summary: String,
    /// Hypothesis that the pilot tests. Example: `Conversion of returning customers rises by 5 %`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub hypothesis: Option<String>,
    /// User segments that take part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub segments: Vec<String>,
    /// User journeys in scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub journeys: Vec<String>,
    /// Start of the pilot, RFC 3339; SLOs are evaluated from then on. Default: the Pilot's creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// Date on which to decide whether to scale, iterate or stop, RFC 3339. After it, changes are refused until the
    /// date is moved.
    pub decision_date: Timestamp,
}

/// Services that the pilot depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Constraints {
    /// Services that the pilot depends on. While one is in breach or unknown, no release of the pilot is blamed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dependencies: Vec<Dependency>,
}

/// A service that the pilot depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// Name of the service. Example: `payments`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// PromQL expression with exactly one value: 0 is healthy, any other value is in breach.
    /// Example: `max(ALERTS{alertname="PaymentsDown",alertstate="firing"}) or vector(0)`.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
}

/// Whether changes and actions are enforced or only observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// Mode of change control. `Enforce` refuses changes; `Observe` lets them pass and records what would have
    /// happened. Default Enforce.
    #[serde(default)]
    pub changes: Mode,
    /// Mode of triggers and incidents. `Enforce` acts when a trigger fires; `Observe` only records what would have
    /// happened. Default Enforce.
    #[serde(default)]
    pub actions: Mode,
}

/// Whether rules are enforced or only observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Refuses and acts.
    #[default]
    Enforce,
    /// Only warns and records.
    Observe,
}

fn default_source() -> String {
    "default".to_owned()
}
