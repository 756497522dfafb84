//! The open incident and the latches, as stored in the Pilot's status.
//!
//! They are the only part of the status that cannot be rebuilt from the workload's annotations, the release snapshots
//! and the records. The incident is written before each act, so a restarted operator continues where the last one
//! stopped.

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
    /// Name of the incident, for `spec.incident` of a Decision. Example: `fast-burn-3f9c2a71`.
    #[schemars(length(max = 128))]
    pub id: String,
    /// What opened it: `Trigger`, `Person` (a Decision), `WindowClosed` (the Pilot's `onWindowClose: Revert`) or
    /// `Unauthorized` (a release that bypassed admission). Absent on incidents that an older version opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<IncidentOrigin>,
    /// The trigger that opened it; of another origin `person`, `window-closed` or `unauthorized`.
    #[schemars(length(max = 63))]
    pub trigger: String,
    /// When it opened.
    pub opened_at: Timestamp,
    /// Stage of the incident: `DecisionWindow` (owners may decide; the action happens at the deadline), `Continued` (an
    /// owner let the release keep running), `Acting` (the action is being carried out), `Verifying` (the service is
    /// being checked after the action), `Standing` (no further automatic action; changes stay held), `Resuming` (parked
    /// replicas are being restored) or `Closing` (the incident is over; its record is being written).
    pub stage: IncidentStage,
    /// Time at which the current decision window ends.
    pub deadline: Timestamp,
    /// Strictest action that the triggers of this incident declare: `Notify`, `HoldChanges`, `Rollback` or `ScaleDown`.
    pub declared: TriggerAction,
    /// Action that happens at the deadline: `Notify`, `HoldChanges`, `Rollback` or `ScaleDown`.
    pub action: TriggerAction,
    /// Replicas that remain after a ScaleDown, if not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_to: Option<i32>,
    /// Why this action was chosen: which release is blamed, or why none is.
    #[schemars(length(max = 1024))]
    pub because: String,
    /// What was seen, one entry for each trigger that fired, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    pub evidence: Vec<Evidence>,
    /// Change that the incident blames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<Suspect>,
    /// Release that a rollback would restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RollbackTarget>,
    /// Burn rate over the short window when the trigger fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn_at_trip: Option<Decimal>,
    /// Digest of whose data that burn rate was measured on: the address, account, tenant and namespace label of the
    /// metrics source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub source_at_trip: Option<String>,
    /// Last fresh reading of whether the service is unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fresh: Option<FreshReading>,
    /// Continue that an owner decided, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Continued>,
    /// Action that is being carried out or was carried out; written before the act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// What was done so far and how verification went, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub account: String,
    /// How the verification of the last act ended: `Healthy`, `Unhealthy` or `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verification>,
    /// Why people were paged, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub paged: Option<String>,
    /// How the incident ended; set while its record is being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<Closing>,
}

/// What opened an incident: `Trigger`, `Person` (a Decision), `WindowClosed` (a change was not completely available when
/// its window closed, under `onWindowClose: Revert`) or `Unauthorized` (a release bypassed admission).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum IncidentOrigin {
    /// A trigger fired.
    Trigger,
    /// A person's Decision.
    Person,
    /// A change was not completely available when its window closed.
    WindowClosed,
    /// A release bypassed admission.
    Unauthorized,
}

/// How the verification of an act ended: `Healthy` (the service was healthy again), `Unhealthy` (it was not) or `Unknown`
/// (that could not be measured).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verification {
    /// The service was healthy again.
    Healthy,
    /// It was not.
    Unhealthy,
    /// That could not be measured.
    Unknown,
}

/// Stage of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IncidentStage {
    /// Owners may decide; the action happens at the deadline.
    DecisionWindow,
    /// An owner let the release keep running; changes stay held.
    Continued,
    /// The action is being carried out.
    Acting,
    /// The action is done; the service is being checked.
    Verifying,
    /// No further automatic action; changes stay held until the triggers are clear or an owner resumes.
    Standing,
    /// An owner resumed; the parked replicas are being restored.
    Resuming,
    /// The incident is over; its record is being written.
    Closing,
}

/// What made one trigger fire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Trigger whose condition held.
    #[schemars(length(max = 63))]
    pub trigger: String,
    /// A digest of the trigger's definition and its SLO's: an edited trigger has an entry of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub definition: Option<String>,
    /// When it fired first.
    pub at: Timestamp,
    /// When it fired last, where it fired more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// How many times it fired while the incident was open. Default 1.
    #[serde(default = "once")]
    #[schemars(range(min = 1))]
    pub count: i32,
    /// The figures when it fired first, in words.
    #[schemars(length(max = 512))]
    pub text: String,
}

const fn once() -> i32 {
    1
}

/// Change that an incident blames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suspect {
    /// Name of the ChangeRecord.
    #[schemars(length(max = 253))]
    pub change: String,
    /// Payload digest of its release.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// Time at which the change was admitted.
    pub admitted_at: Timestamp,
    /// Images that its containers run, each once, 16 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub images: Vec<String>,
}

/// Release that a rollback restores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackTarget {
    /// Payload digest of the release, computed over its parts.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// Time at which it became known-good.
    pub known_good_at: Timestamp,
    /// Images that its containers run, each once, 16 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub images: Vec<String>,
    /// Parts of the release: what each workload would run.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub workloads: Vec<TargetPart>,
}

/// Part of a rollback target: what one workload would run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetPart {
    /// Kind of the part: `Deployment`, `StatefulSet`, `DaemonSet` or `ConfigMap`.
    pub kind: PartKind,
    /// Name of the workload or ConfigMap.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Payload digest of the part.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// Name of the ControllerRevision that stores the snapshot.
    #[schemars(length(max = 253))]
    pub revision: String,
}

/// A fresh reading of whether the service is unhealthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FreshReading {
    /// Time at which the reading last changed.
    pub since: Timestamp,
    /// Whether the service is unhealthy.
    pub burning: bool,
}

/// A Continue in effect: an owner let the release keep running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Continued {
    /// Time at which it ends.
    pub until: Timestamp,
    /// Name of the Decision.
    #[schemars(length(max = 253))]
    pub decision: String,
}

/// Action that was decided, and who decided it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The action: `Notify`, `HoldChanges`, `Rollback` or `ScaleDown`.
    pub action: TriggerAction,
    /// What caused the action: `Person` (a Decision), `Recovery` (the service was healthy again), `Deadline` (the
    /// decision window ended) or `Policy` (a rule of the Pilot without a decision window).
    pub decided_by: DecidedBy,
    /// Name of the Decision, if a person decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub decision: Option<String>,
    /// Time of the decision.
    pub at: Timestamp,
    /// Time at which the workloads showed that the action was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Timestamp>,
    /// What the action does to each workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub workloads: Vec<WorkloadIntent>,
}

impl IncidentOrigin {
    /// How an incident of this origin is named where no trigger opened it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Person => "person",
            Self::WindowClosed => "window-closed",
            Self::Unauthorized => "unauthorized",
        }
    }
}

impl Incident {
    /// What opened it. An older version stored only a name, which triggers may have too; but the first evidence of an
    /// incident that a trigger opened is that trigger's.
    pub fn origin(&self) -> IncidentOrigin {
        let named = || {
            let origins = [IncidentOrigin::Person, IncidentOrigin::WindowClosed, IncidentOrigin::Unauthorized];
            let is_triggered = self.evidence.first().is_some_and(|evidence| evidence.trigger == self.trigger);
            let named = origins.into_iter().find(|origin| origin.as_str() == self.trigger);
            named.filter(|_| !is_triggered).unwrap_or(IncidentOrigin::Trigger)
        };
        self.origin.unwrap_or_else(named)
    }

    /// Whether the last decided action is a scale-down, which only a person's Resume ends.
    pub fn scales_down(&self) -> bool {
        self.intent.as_ref().is_some_and(|intent| intent.action == TriggerAction::ScaleDown)
    }
}

impl Intent {
    /// Payload digests that the action quarantined, if it was carried out.
    pub fn put_away(&self) -> impl Iterator<Item = &String> {
        let done = self.done_at.is_some().then_some(&self.workloads);
        done.into_iter().flatten().flat_map(|workload| &workload.quarantine)
    }
}

/// What an action does to one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIntent {
    /// The workload or ConfigMap.
    pub workload: PartReference,
    /// Its UID; a workload that was deleted and recreated has another one.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Payload digest that it ran when the action was decided.
    #[schemars(length(max = 64))]
    pub from: String,
    /// Name of the ControllerRevision that is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub revision: Option<String>,
    /// Payload digest that it runs afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub to: Option<String>,
    /// Payload digest that it runs instead, because other admission (another webhook or a mutating policy) changes what is
    /// restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub lands_as: Option<String>,
    /// Replicas that it has afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Payload digests that the action quarantines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 64)))]
    pub quarantine: Vec<String>,
}

/// What caused an action or the end of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecidedBy {
    /// A person's Decision.
    Person,
    /// The service was healthy again.
    Recovery,
    /// The decision window ended.
    Deadline,
    /// A rule of the Pilot without a decision window.
    Policy,
}

/// End of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Closing {
    /// Strictest action of the incident: `Notify`, `HoldChanges`, `Rollback` or `ScaleDown`.
    pub action: TriggerAction,
    /// Whether the action was carried out; false with enforcement Observe.
    pub carried_out: bool,
    /// What ended the incident: `Person` (a Decision), `Recovery` (the service was healthy again), `Deadline` (the
    /// decision window ended) or `Policy` (a rule of the Pilot without a decision window).
    pub decided_by: DecidedBy,
    /// Name of the Decision that ended the incident: a `Resume`, or the `Override` of the fix that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub decision: Option<String>,
    /// Time of the end.
    pub at: Timestamp,
    /// Summary of the incident as a sentence.
    #[schemars(length(max = 1024))]
    pub summary: String,
}

/// Memory that a trigger fired for a release; it does not fire for that release again until its condition was clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latch {
    /// Name of the trigger.
    #[schemars(length(max = 63))]
    pub trigger: String,
    /// A digest of the trigger's definition and its SLO's when it fired: an edited trigger fires anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub definition: Option<String>,
    /// Payload digest of the release that it fired for.
    #[schemars(length(max = 64))]
    pub payload: String,
    /// Time at which it fired.
    pub since: Timestamp,
}
