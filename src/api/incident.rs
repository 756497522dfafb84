//! The life of a fired trigger, as it is kept in the Pilot's status.
//!
//! Together with the latches this is the only part of the status that cannot be rebuilt from the
//! workload's annotations, the release snapshots and the records. It is written before anything is
//! done in the world, so a restarted operator goes on where the last one stopped.

use jiff::Timestamp;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::trigger::TriggerAction;
use super::workload::{PartKind, PartReference};

/// An open incident. A Pilot has at most one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Incident {
    /// The name by which Decisions speak of it. Example: `fast-burn-3f9c2a71`.
    #[schemars(length(max = 128))]
    pub id: String,
    /// The trigger that opened it, or `person` where a Decision did.
    #[schemars(length(max = 63))]
    pub trigger: String,
    /// When the trigger fired.
    pub opened_at: Timestamp,
    /// How far it has come: `DecisionWindow` (owners may decide; the action happens at the deadline), `Continued` (an
    /// owner let the release run on), `Acting` (the intent is written and being carried out), `Verifying` (is the
    /// service well again?), `Standing` (nothing more happens by itself; changes stay held), `Resuming` (parked
    /// replicas are being restored) or `Closing` (it is over; the record is being written).
    pub stage: IncidentStage,
    /// When the current decision window ends.
    pub deadline: Timestamp,
    /// The strictest action that the triggers of this incident declare: `Notify`, `HoldChanges`, `Rollback` or
    /// `ScaleDown`.
    pub declared: TriggerAction,
    /// What happens at the deadline: `Notify`, `HoldChanges`, `Rollback` or `ScaleDown`.
    pub action: TriggerAction,
    /// The replicas that ScaleDown leaves. Default 0.
    #[serde(default)]
    pub scale_down_to: i32,
    /// Why this action: which release is blamed, or why none is.
    #[schemars(length(max = 1024))]
    pub because: String,
    /// What was seen, oldest first; frozen when the trigger fired, later triggers join.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub evidence: Vec<Evidence>,
    /// The change that is blamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<Suspect>,
    /// The release that a rollback would go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RollbackTarget>,
    /// The burn rate over the short window when the trigger fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn_at_trip: Option<Decimal>,
    /// The last fresh answer to the question whether the service still suffers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fresh: Option<FreshReading>,
    /// An owner let the release run on until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Continued>,
    /// What is about to be done or was done; written before the act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// Why people were called, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub paged: Option<String>,
    /// How it ended; set while the record is being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<Closing>,
}

/// How far an incident has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IncidentStage {
    /// Owners may decide; the action happens at the deadline.
    DecisionWindow,
    /// An owner let the release run on; changes stay held.
    Continued,
    /// The intent is written; the act is being carried out.
    Acting,
    /// The act is done; is the service well again?
    Verifying,
    /// Nothing more happens by itself; changes stay held until it is clear or an owner resumes.
    Standing,
    /// An owner resumed; the parked replicas are being restored.
    Resuming,
    /// It is over; the record is being written.
    Closing,
}

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The trigger whose condition held.
    #[schemars(length(max = 63))]
    pub trigger: String,
    /// When.
    pub at: Timestamp,
    /// The figures, in words.
    #[schemars(length(max = 512))]
    pub text: String,
}

/// The change that an incident blames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suspect {
    /// The ChangeRecord of the change.
    #[schemars(length(max = 253))]
    pub change: String,
    /// The payload digest of its release.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// When it was admitted.
    pub admitted_at: Timestamp,
}

/// The release that a rollback goes back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackTarget {
    /// The payload digest of the release, taken over its parts.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// When it became known-good.
    pub known_good_at: Timestamp,
    /// What each workload would run.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub workloads: Vec<TargetPart>,
}

/// What one workload would run after a rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetPart {
    /// Its kind: `Deployment`, `StatefulSet`, `DaemonSet` or `ConfigMap`.
    pub kind: PartKind,
    /// The workload's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The payload digest of its part of the release.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// The ControllerRevision that holds it.
    #[schemars(length(max = 253))]
    pub revision: String,
}

/// A fresh answer to the question whether the service still suffers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FreshReading {
    /// When the answer last changed.
    pub since: Timestamp,
    /// Whether it still suffers.
    pub burning: bool,
}

/// An owner let the release run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Continued {
    /// Until then.
    pub until: Timestamp,
    /// The Decision that said so.
    #[schemars(length(max = 253))]
    pub decision: String,
}

/// What is about to be done, by whose word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// What is done: `Notify`, `HoldChanges`, `Rollback` or `ScaleDown`.
    pub action: TriggerAction,
    /// What made it happen: `Person` (a Decision), `Recovery`, `Deadline` or `Policy`
    /// (a rule that allows no decision window).
    pub decided_by: DecidedBy,
    /// The Decision object, where a person decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub decision: Option<String>,
    /// When it was decided.
    pub at: Timestamp,
    /// When the act was seen to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Timestamp>,
    /// What is done to each workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub workloads: Vec<WorkloadIntent>,
}

impl Incident {
    /// Whether what was decided last is to scale down, which only a person's Resume ends.
    pub fn scales_down(&self) -> bool {
        self.intent.as_ref().is_some_and(|intent| intent.action == TriggerAction::ScaleDown)
    }
}

impl Intent {
    /// The payload digests that may not come back, if it was carried out.
    pub fn put_away(&self) -> impl Iterator<Item = &String> {
        let done = self.done_at.is_some().then_some(&self.workloads);
        done.into_iter().flatten().flat_map(|workload| &workload.quarantine)
    }
}

/// What is done to one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIntent {
    /// The workload.
    pub workload: PartReference,
    /// Its uid: a workload that was deleted and created anew is another one.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The payload digest that it ran when the intent was written.
    #[schemars(length(max = 64))]
    pub from: String,
    /// The ControllerRevision whose template is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub revision: Option<String>,
    /// The payload digest that it shall run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub to: Option<String>,
    /// The replicas that it shall have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Payload digests that may not come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 64)))]
    pub quarantine: Vec<String>,
}

/// What made something happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecidedBy {
    /// A person's Decision.
    Person,
    /// The service recovered.
    Recovery,
    /// The decision window ended.
    Deadline,
    /// A rule that allows no decision window.
    Policy,
}

/// How an incident ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Closing {
    /// What had been done about it, the strictest: `Notify`, `HoldChanges`, `Rollback` or `ScaleDown`.
    pub action: TriggerAction,
    /// Whether that was really carried out, and not only would have been.
    pub carried_out: bool,
    /// What made it end: `Person` (a Decision), `Recovery`, `Deadline` or `Policy`
    /// (a rule that allows no decision window).
    pub decided_by: DecidedBy,
    /// The Decision that ended it, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub decision: Option<String>,
    /// When.
    pub at: Timestamp,
    /// In words.
    #[schemars(length(max = 1024))]
    pub summary: String,
}

/// A trigger that has fired for a release and does not fire for it again until it was clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latch {
    /// The trigger.
    #[schemars(length(max = 63))]
    pub trigger: String,
    /// The payload digest of the release that it fired for.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// When it fired.
    pub since: Timestamp,
}
