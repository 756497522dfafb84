//! Decision: an immutable record of a judgement, by a person or by the operator.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::incident::{DecidedBy, Evidence, RollbackTarget, Suspect};

/// An immutable record of a judgement. People write one to decide an incident; the operator writes one for
/// every incident that ends.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pilotguard.dev",
    version = "v1alpha1",
    kind = "Decision",
    namespaced,
    status = "DecisionStatus",
    shortname = "dec",
    category = "pilotguard",
    doc = "An immutable record of a judgement. People write one to decide an incident; the operator writes one for every incident that ends.",
    selectable = ".spec.pilot",
    validation = Rule::new("self.spec == oldSelf.spec").message("a Decision cannot be changed; write another one"),
    printcolumn(name = "Pilot", type_ = "string", json_path = ".spec.pilot"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.by.user"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'Continue' || (has(self.incident) && has(self.until))").message("Continue needs the incident it speaks of and an end: set incident and until (at most 4h ahead)"))]
#[x_kube(validation = Rule::new("self.type != 'Resume' || has(self.incident)").message("Resume needs the incident it speaks of: set incident").field_path(".incident"))]
#[x_kube(validation = Rule::new("self.type != 'Readmit' || has(self.payload)").message("Readmit needs the payload digest of the release: copy it from the refusal").field_path(".payload"))]
#[x_kube(validation = Rule::new("self.type != 'Override' || (has(self.payload) && has(self.until))").message("Override needs the payload digest of the one release it lets through and an end: copy payload from the refusal and set until (at most 4h ahead)"))]
#[x_kube(validation = Rule::new("!has(self.fix) || self.type == 'Override'").message("fix belongs to Override; remove it or write type: Override").field_path(".fix"))]
#[x_kube(validation = Rule::new("!has(self.until) || self.until < timestamp('9999-01-01T00:00:00Z')").message("until must lie before the year 9999; write the time at which the exception ends (at most 4h ahead)").field_path(".until"))]
pub struct DecisionSpec {
    /// The Pilot, by name.
    #[schemars(length(min = 1, max = 253))]
    pub pilot: String,
    /// `Continue` (let the release run on), `Rollback`, `ScaleDown`, `HoldChanges`, `Resume` (end an incident,
    /// restore replicas), `Readmit` (let a rolled-back release be tried again) or `Override` (let one release through
    /// although guards refuse it).
    #[serde(rename = "type")]
    pub type_: DecisionType,
    /// The incident that it speaks of, as in the Pilot's `status.incident.id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub incident: Option<String>,
    /// The payload digest that Readmit or Override speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub payload: Option<String>,
    /// When a Continue or an Override ends; at most 4h after the Decision was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether the release that an Override lets through mends the open incident: then one owner's word, also the
    /// requester's own, lets it through while the incident holds changes. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fix: bool,
    /// Why. Kept for the review.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Who decided. Filled in from the request; anything else is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Requester>,
    /// What the operator adds where it writes the Decision itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<IncidentRecord>,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecisionType {
    /// Let the release run on; changes stay held.
    Continue,
    /// Go back to the newest known-good release.
    Rollback,
    /// Leave the number of replicas that the incident's trigger declares, else none.
    ScaleDown,
    /// Refuse new changes until the condition is clear.
    HoldChanges,
    /// End the incident and restore what it parked.
    Resume,
    /// Let a rolled-back release be tried again.
    Readmit,
    /// Let one release through although guards refuse it.
    Override,
}

/// A user as the API server authenticated it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requester {
    /// The user name.
    #[schemars(length(max = 512))]
    pub user: String,
    /// The user's groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), inner(length(max = 256)))]
    pub groups: Vec<String>,
}

/// An incident from its first evidence to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentRecord {
    /// The trigger that opened it.
    #[schemars(length(max = 63))]
    pub trigger: String,
    /// When.
    pub opened_at: Timestamp,
    /// When it ended.
    pub closed_at: Timestamp,
    /// What made the action happen, or the incident end: `Person` (a Decision), `Recovery`, `Deadline` or `Policy`
    /// (a rule that allows no decision window).
    pub decided_by: DecidedBy,
    /// Whether the action was really carried out; false with enforcement Observe.
    pub carried_out: bool,
    /// The Decision that was followed, where a person decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub decision: Option<String>,
    /// Payload digests of the releases that were put away; they are refused until they are readmitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 64)))]
    pub quarantined: Vec<String>,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub evidence: Vec<Evidence>,
    /// The change that was blamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<Suspect>,
    /// The release that was gone back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RollbackTarget>,
}

/// Whether the Decision counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    // The schema shows the description of the enum here, because the field is optional.
    /// Whether the Decision counts: `Accepted` or `Refused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<DecisionPhase>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// Whether a Decision counts: `Accepted` (it is or was followed) or `Refused` (it has no effect; the message says why).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecisionPhase {
    /// It is or was followed.
    Accepted,
    /// It has no effect; the message says why.
    Refused,
}
