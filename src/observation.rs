//! What was seen: plain data, gathered by `observe`, judged by `decide`, fetched by nobody here.
//!
//! A figure that could not be read is [`Reading::Unknown`] with its reason. Nothing here turns a
//! missing figure into a number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::change_record::{Approval, ApprovalOwed, ChangeClass, Outcome};
use crate::api::decision::{DecisionPhase, DecisionType, Requester};
use crate::api::incident::IncidentOrigin;
use crate::api::workload::{PartReference, ReleasePart};
use crate::release::foreign::Foreign;
use crate::release::marks::{Admitted, Held, Marks};

/// Something that was asked for: a value, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading<T> {
    /// A value that may be relied on.
    Fresh(T),
    /// No value that may be relied on.
    Unknown(Unknown),
}

impl<T> Reading<T> {
    /// The value, if it is fresh.
    pub fn fresh(self) -> Option<T> {
        match self {
            Self::Fresh(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// Applies `f` to a fresh value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Fresh(value) => Reading::Fresh(f(value)),
            Self::Unknown(why) => Reading::Unknown(why),
        }
    }

    /// Applies `f`, which may itself not know, to a fresh value.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Reading<U>) -> Reading<U> {
        match self {
            Self::Fresh(value) => f(value),
            Self::Unknown(why) => Reading::Unknown(why),
        }
    }
}

/// Why there is no value that may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unknown {
    /// No series matches the selector.
    NoSeries,
    /// The newest sample is too old.
    Stale,
    /// The answer is NaN or infinite.
    NotFinite,
    /// The source says that its answer is incomplete.
    Partial,
    /// One value was expected and there are several.
    Ambiguous,
    /// More bad events than events.
    Inconsistent,
    /// The source did not answer in time, or not in its own language.
    SourceUnavailable,
    /// The source refused the query.
    QueryRefused,
    /// Too few events to conclude anything.
    LowTraffic,
    /// The pilot has only just started.
    WarmingUp,
}

impl Unknown {
    /// The name that appears in status, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSeries => "NoSeries",
            Self::Stale => "Stale",
            Self::NotFinite => "NotFinite",
            Self::Partial => "Partial",
            Self::Ambiguous => "Ambiguous",
            Self::Inconsistent => "Inconsistent",
            Self::SourceUnavailable => "SourceUnavailable",
            Self::QueryRefused => "QueryRefused",
            Self::LowTraffic => "LowTraffic",
            Self::WarmingUp => "WarmingUp",
        }
    }

    /// Whether this is the ordinary quiet of a small or young pilot and not a failure to measure.
    pub const fn is_benign(self) -> bool {
        matches!(self, Self::LowTraffic | Self::WarmingUp)
    }
}

/// One question to the metrics source. `decide` names what it needs; `observe` asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Bad and total events of an SLO over the `span` that ends at `until`.
    Counts {
        /// The SLO's name.
        slo: String,
        /// How far back from `until`.
        span: SignedDuration,
        /// The end of the span; samples are not asked to be fresh where it lies in the past.
        until: Timestamp,
        /// Asked by itself and exactly, before something destructive is decided. Otherwise what is asked at the instant of
        /// the evaluation may be answered as of a moment before, so that many pilots can be answered at once.
        confirm: bool,
    },
    /// The first sample of an SLO's total within its window.
    FirstSample {
        /// The SLO's name.
        slo: String,
    },
    /// The one value of a PromQL expression at an instant.
    Value {
        /// The expression.
        query: String,
        /// When.
        at: Timestamp,
        /// Asked a second time, before something destructive is decided.
        confirm: bool,
    },
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Question::Counts`].
    Counts(Reading<Counts>),
    /// To [`Question::FirstSample`].
    FirstSample(Reading<Timestamp>),
    /// To [`Question::Value`].
    Value(Reading<f64>),
}

/// Bad and total events over a span. Counts are never turned into a ratio before they are summed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    /// Bad events, finite and not negative.
    pub bad: f64,
    /// All events, finite, at least `bad`.
    pub total: f64,
}

/// A question to the API server, asked by a dry-run: what would it store if a stored release were restored?
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rehearsal {
    /// The workload.
    pub workload: PartReference,
    /// The workload's uid.
    pub uid: String,
    /// The snapshot of the release.
    pub snapshot: String,
}

/// A release as the API server would store it, after all other admission.
#[derive(Clone, Debug, PartialEq)]
pub struct Landing {
    /// The pod template, or the content of a ConfigMap.
    pub content: Value,
    /// The digest of the template.
    pub template: String,
    /// The payload digest.
    pub payload: String,
    /// The fields in which it differs from the stored release.
    pub changed: Vec<String>,
}

/// Everything that was seen of one Pilot at one time.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Those of the pilot's workloads that exist, in the order in which they are declared.
    pub workloads: Vec<Workload>,
    /// A workload that belongs to another, older Pilot.
    pub claimed: Option<Claimed>,
    /// The pilot's changes on which decisions can depend, oldest first by their start. Shared until one changes.
    pub changes: Arc<Vec<Change>>,
    /// The pilot's Decisions on which decisions can depend, oldest first by their creation. Shared until one changes.
    pub decisions: Arc<Vec<PilotDecision>>,
    /// What the metrics source answered so far.
    pub answers: BTreeMap<Question, Answer>,
    /// What the API server answered to dry-runs of restoring a release so far; `None` where it refused.
    pub landings: BTreeMap<Rehearsal, Option<Landing>>,
}

impl Observation {
    /// One of the pilot's workloads, if it exists.
    pub fn workload(&self, reference: &PartReference) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.reference == *reference)
    }
}

/// A workload that belongs to another Pilot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The workload.
    pub workload: PartReference,
    /// The name of the Pilot that it belongs to.
    pub by: String,
    /// Who created that Pilot, where admission saw it.
    pub created_by: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// It is no older, but takes over from this one.
    pub takes_over: bool,
}

/// A workload as it stands in the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Which one.
    pub reference: PartReference,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion: moves with every write. Never compared, only handed back as a precondition.
    pub resource_version: String,
    /// `metadata.generation`: moves with every change of the spec or of an annotation.
    pub generation: i64,
    /// The digest of the template that runs or rolls out: the stored one, unless that waits.
    pub template: String,
    /// Its payload digest.
    pub payload: String,
    /// Images of the stored template.
    pub images: Vec<String>,
    /// The release that is stored while the rollout is paused by us, and waits to be rolled out.
    pub waiting: Option<Held>,
    /// How many pods it shall have: `spec.replicas`, or as many as there are nodes for a DaemonSet's.
    pub replicas: i32,
    /// The controller has seen the spec, and updated = available = desired.
    pub is_complete: bool,
    /// The rollout made no progress in time, for the current generation.
    pub progress_deadline_exceeded: bool,
    /// The reason behind `unsafe:` in the rollback annotation.
    pub rollback_unsafe: Option<String>,
    /// The reason of the last break-glass request, as it stands on the workload.
    pub break_glass: Option<String>,
    /// The value of the annotation by which people say that changes belong together.
    pub change_label: Option<String>,
    /// Another controller that decides what it runs, or how much of it.
    pub foreign: Option<Foreign>,
    /// pilotguard owns fields of it that belong to others, as it does after an act.
    pub owes_fields: bool,
    /// The generated ConfigMaps that its pod template names.
    pub generated: BTreeSet<String>,
    /// Our annotations on it.
    pub marks: Marks,
    /// Bytes of all other annotations on it.
    pub annotations: usize,
    /// Its release snapshots, newest first by `revision`.
    pub snapshots: Vec<Snapshot>,
    /// ControllerRevisions that are labelled as snapshots of it and hold nothing that can be read.
    pub unreadable_snapshots: Vec<String>,
}

impl Workload {
    /// The snapshot of a release of this workload.
    pub fn snapshot_of(&self, payload: &str) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.payload == payload)
    }

    /// The images of a release of this workload, as far as they are known.
    pub fn images_of(&self, payload: &str) -> Vec<String> {
        let of_template = self.waiting.as_ref().map_or(&self.payload, |held| &held.payload);
        if of_template == payload {
            return self.images.clone();
        }
        let snapshot = self.snapshot_of(payload).map(|snapshot| &snapshot.images);
        let put_off = self.marks.held.as_ref().filter(|held| held.payload == payload).map(|held| &held.images);
        snapshot.or(put_off).cloned().unwrap_or_default()
    }

    /// Whether what it runs has survived a bake before.
    pub fn runs_what_was_good(&self) -> bool {
        self.snapshot_of(&self.payload).is_some_and(|snapshot| snapshot.known_good_at.is_some())
    }

    /// The mark of the template that runs, if that template was admitted.
    pub fn admitted(&self) -> Option<&Admitted> {
        self.marks.admitted.as_ref().filter(|admitted| admitted.template == self.template)
    }

    /// The payload digest of the release that was meant, where what runs is what other admission made of it.
    pub fn variant_of(&self) -> Option<&str> {
        self.admitted()?.variant_of.as_deref()
    }

    /// The reason of a break-glass request that no stamp tells of yet.
    pub fn broken_glass(&self) -> Option<&str> {
        let known = self.marks.known_break_glass();
        self.break_glass.as_deref().filter(|reason| Some(*reason) != known.as_deref())
    }
}

/// A stored release of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The ControllerRevision's name.
    pub name: String,
    /// Its `revision`: rises with every release that is seen for the first time.
    pub revision: i64,
    /// The payload digest.
    pub payload: String,
    /// The digest of the template as stored.
    pub template: String,
    /// Its images.
    pub images: Vec<String>,
    /// When it survived its bake, the last time.
    pub known_good_at: Option<Timestamp>,
    /// The payload digests of the pilot's releases of which it was a part when it did.
    pub known_good_in: Vec<String>,
    /// When it stopped running; absent while it runs, or where it never did.
    pub last_running_at: Option<Timestamp>,
    /// Stored by an older version, in a form on which the API server may refuse to note anything.
    pub is_legacy: bool,
    /// No automatic rollback may go back across it.
    pub rollback_unsafe: Option<String>,
}

/// A change as its ChangeRecord tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The ChangeRecord's name.
    pub name: String,
    /// Its class.
    pub class: ChangeClass,
    /// The payload digest of its release.
    pub payload: String,
    /// What each workload ran.
    pub parts: Vec<ReleasePart>,
    /// When it was admitted.
    pub started_at: Timestamp,
    /// When it was completely available.
    pub completed_at: Option<Timestamp>,
    /// Its outcome so far.
    pub outcome: Outcome,
    /// The approval that it still owes.
    pub approval_owed: Option<ApprovalOwed>,
    /// The approval that it was given.
    pub approval: Option<Approval>,
}

impl Change {
    /// Whether this payload was its release, or what one of the workloads ran in it.
    pub fn ran(&self, payload: &str) -> bool {
        self.payload == payload || self.parts.iter().any(|part| part.payload == payload)
    }
}

/// A Decision that names the pilot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PilotDecision {
    /// The Decision's name.
    pub name: String,
    /// What is decided.
    pub type_: DecisionType,
    /// The incident that it names.
    pub incident: Option<String>,
    /// The payload digest that it names.
    pub payload: Option<String>,
    /// The ChangeRecord that an Approve names.
    pub change: Option<String>,
    /// When a Continue or an Override ends.
    pub until: Option<Timestamp>,
    /// Whether an Override lets a fix through while an incident is open.
    pub fix: bool,
    /// Why.
    pub reason: String,
    /// Who, as stamped at admission.
    pub by: Option<Requester>,
    /// Written by the operator itself.
    pub is_record: bool,
    /// What opened the recorded incident, where this is a record that says so.
    pub origin: Option<IncidentOrigin>,
    /// When it was created, by the API server's clock.
    pub created_at: Timestamp,
    /// When admission received it, by the operator's clock.
    pub received_at: Option<Timestamp>,
    /// The Decision that the recorded incident followed, where this is a record.
    pub follows: Option<String>,
    /// Payload digests that the recorded incident put away, where this is a record.
    pub quarantined: Vec<String>,
    /// Whether it has been judged before.
    pub phase: Option<DecisionPhase>,
}

impl PilotDecision {
    /// Whether a person wrote it and nobody has answered yet.
    pub const fn is_unjudged(&self) -> bool {
        !self.is_record && self.phase.is_none()
    }
}
