//! Decision: an immutable record of a judgement, by a person or by the operator.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::incident::{DecidedBy, Evidence, IncidentOrigin, RollbackTarget, Suspect, Verification};

/// An immutable record of a judgement. People create one to decide an incident or to make an exception; the operator
/// creates one for every incident that ends.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pilotguard.dev",
    version = "v1alpha1",
    kind = "Decision",
    namespaced,
    status = "DecisionStatus",
    shortname = "dec",
    category = "pilotguard",
    doc = "An immutable record of a judgement. People create one to decide an incident or to make an exception; the operator creates one for every incident that ends.",
    selectable = ".spec.pilot",
    selectable = ".spec.by.user",
    selectable = ".status.phase",
    validation = Rule::new("self.spec == oldSelf.spec").message("a Decision is immutable; create another one"),
    printcolumn(name = "Pilot", type_ = "string", json_path = ".spec.pilot"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.by.user"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'Continue' || (has(self.incident) && has(self.until))").message("Continue needs an incident and an end: set incident (the Pilot's status.incident.id) and until (at most 4h ahead)"))]
#[x_kube(validation = Rule::new("self.type != 'Resume' || has(self.incident)").message("Resume needs an incident: set incident (the Pilot's status.incident.id)").field_path(".incident"))]
#[x_kube(validation = Rule::new("self.type != 'Readmit' || has(self.payload)").message("Readmit needs the payload digest of the release: copy it from the refusal").field_path(".payload"))]
#[x_kube(validation = Rule::new("self.type != 'Override' || (has(self.payload) && has(self.until))").message("Override needs the payload digest of the one release it lets through and an end: copy payload from the refusal and set until (at most 4h ahead)"))]
#[x_kube(validation = Rule::new("self.type != 'Approve' || has(self.change)").message("Approve needs the ChangeRecord that it approves: set change to its name").field_path(".change"))]
#[x_kube(validation = Rule::new("!has(self.change) || self.type == 'Approve'").message("change belongs to Approve; remove it or write type: Approve").field_path(".change"))]
#[x_kube(validation = Rule::new("!has(self.fix) || self.type == 'Override'").message("fix belongs to Override; remove it or write type: Override").field_path(".fix"))]
#[x_kube(validation = Rule::new("!has(self.until) || self.until < timestamp('9999-01-01T00:00:00Z')").message("until must lie before the year 9999; write the time at which the exception ends (at most 4h ahead)").field_path(".until"))]
pub struct DecisionSpec {
    /// Name of the Pilot.
    #[schemars(length(min = 1, max = 253))]
    pub pilot: String,
    /// Type of the Decision: `Continue` (let the release keep running), `Rollback` (restore the rollback target),
    /// `ScaleDown` (reduce replicas), `HoldChanges` (refuse new changes), `Resume` (end an incident and restore
    /// replicas), `Readmit` (allow a rolled-back release again), `Override` (let one release past the guards) or
    /// `Approve` (approve an emergency change afterwards).
    #[serde(rename = "type")]
    pub type_: DecisionType,
    /// ID of the incident that it decides, from the Pilot's `status.incident.id`. Required for Continue and Resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub incident: Option<String>,
    /// Name of the ChangeRecord to approve. Required for Approve. The Pilot's condition `ApprovalsCurrent` lists the
    /// changes that owe an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub change: Option<String>,
    /// Payload digest of the release to readmit or to let through, as printed in the refusal. Required for Readmit and
    /// Override.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub payload: Option<String>,
    /// Time at which a Continue or an Override ends, RFC 3339, at most 4h after the Decision was created. Required for
    /// both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether the release of an Override fixes the open incident. If true, one owner's Override, even the requester's
    /// own, is enough to let it past the incident's hold on changes. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fix: bool,
    /// Reason for the decision, kept for the review. The placeholder of a printed command (`<…>`) is refused.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// User who decided. Set at admission to the user and groups of the request; any other value is replaced. While
    /// pilotguard is down, a request that names another user is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Requester>,
    /// Record of the incident, in Decisions that the operator creates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<IncidentRecord>,
}

/// Annotation in which admission notes when it received a Decision, by the operator's own clock.
pub const RECEIVED_AT: &str = "pilotguard.dev/received-at";

/// Type of a Decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecisionType {
    /// Let the release keep running; changes stay held.
    Continue,
    /// Restore the rollback target.
    Rollback,
    /// Scale down to the replicas that the incident's trigger declares, else to 0.
    ScaleDown,
    /// Refuse new changes until the trigger's condition is clear.
    HoldChanges,
    /// End the incident and restore the parked replicas.
    Resume,
    /// Allow a rolled-back release again.
    Readmit,
    /// Let one release past the guards.
    Override,
    /// Approve an emergency change afterwards.
    Approve,
}

/// A user as the API server authenticated it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requester {
    /// User name.
    #[schemars(length(max = 512))]
    pub user: String,
    /// Groups of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), inner(length(max = 256)))]
    pub groups: Vec<String>,
}

/// An incident from its first evidence to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentRecord {
    /// What opened it: `Trigger`, `Person`, `WindowClosed` or `Unauthorized`. Absent on records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<IncidentOrigin>,
    /// The trigger that opened it; of another origin `person`, `window-closed` or `unauthorized`.
    #[schemars(length(max = 63))]
    pub trigger: String,
    /// Time at which the incident opened.
    pub opened_at: Timestamp,
    /// Time at which the incident ended.
    pub closed_at: Timestamp,
    /// What caused the action or the end of the incident: `Person` (a Decision), `Recovery` (the service was healthy
    /// again), `Deadline` (the decision window ended) or `Policy` (a rule of the Pilot without a decision window).
    pub decided_by: DecidedBy,
    /// Whether the action was carried out; false with enforcement Observe.
    pub carried_out: bool,
    /// How the verification of the act ended: `Healthy`, `Unhealthy` or `Unknown`. Absent where nothing was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verification>,
    /// Name of the accepted Decision, if a person decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub decision: Option<String>,
    /// Name of the Decision that ended the incident: a `Resume`, or the `Override` of the fix that ran when the service was
    /// healthy again. Absent where neither did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub ended_by: Option<String>,
    /// Payload digests of the quarantined releases, which are refused until an owner readmits them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 320), inner(length(max = 64)))]
    pub quarantined: Vec<String>,
    /// What was seen, one entry for each trigger that fired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    pub evidence: Vec<Evidence>,
    /// Change that the incident blames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<Suspect>,
    /// Rollback target of the incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RollbackTarget>,
}

/// Result of a Decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    // The schema shows the description of the enum here, because the field is optional.
    /// `Accepted` (the Decision takes or took effect) or `Refused` (it has no effect; see `message`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<DecisionPhase>,
    /// Why the Decision was accepted or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Time at which it was accepted or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// Result of a Decision: `Accepted` (it takes or took effect) or `Refused` (it has no effect; see `message`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecisionPhase {
    /// It takes or took effect.
    Accepted,
    /// It has no effect; `message` says why.
    Refused,
}
