//! What is to be done: the value that `decide` returns. Nothing is left to choose when it is carried out.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Ledger;
use crate::api::change_record::{ApprovalOwed, ChangeClass, Outcome, ReplacedRelease};
use crate::api::decision::{DecisionPhase, DecisionSpec, Requester};
use crate::api::workload::{PartReference, ReleasePart};
use crate::observation::{Question, Rehearsal};
use crate::release::marks::{Admitted, Held};

/// What is to be done about a pilot, and what has to be known first.
#[must_use]
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Questions that have to be answered before this plan may be used. Where it is not empty the case is
    /// decided again with the answers.
    pub ask: BTreeSet<Question>,
    /// Releases of which has to be known what would come of restoring them before this plan may be used, as above.
    pub rehearse: BTreeSet<Rehearsal>,
    /// What is decided now; its durable part is stored before any effect is carried out.
    pub ledger: Ledger,
    /// How each SLO stands exactly, for the metrics; the ledger has bands.
    pub figures: Vec<SloFigures>,
    /// What is to be done in the world. Each is due until it is seen to be done.
    pub effects: Vec<Effect>,
    /// The changes that are stored and may not be rolled out yet.
    pub waiting: Vec<Waiting>,
    /// How long to wait before the next evaluation where nothing is seen to change.
    pub evaluate_again: SignedDuration,
}

/// The exact figures of an SLO, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SloFigures {
    /// The SLO's name.
    pub slo: String,
    /// Bad events as a share of all events over the window.
    pub error_ratio: Option<f64>,
    /// The share of the error budget that remains; below 0 it is overspent.
    pub budget_remaining: Option<f64>,
    /// The burn rate over each window that a trigger names.
    pub burn: Vec<(String, f64)>,
}

/// A change that is stored and may not be rolled out yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The name that its ChangeRecord will have.
    pub change: String,
    /// The name of the release, if any of its images is known.
    pub release: Option<String>,
    /// Who asked for it.
    pub by: String,
    /// What the guards found.
    pub problems: Vec<String>,
    /// From when on it is allowed; `None` where a person has to do something first.
    pub allowed_from: Option<Timestamp>,
}

impl Plan {
    /// Whether it does something that users feel. Such a plan must rest on a live reading of the workload and
    /// of the Decisions, not on a cache.
    pub fn is_destructive(&self) -> bool {
        self.effects.iter().any(Effect::is_destructive)
    }

    /// What may be carried out of a plan whose live reading failed, without storing its ledger: the refusals of Decisions.
    /// Each changes nothing but the status of its own Decision, and rests, as in every evaluation that acts on nothing, on
    /// what the watches saw and what is stored. Else nobody would ever answer the Decisions whose number keeps the live
    /// reading from succeeding. An accepted one waits: once it is judged, no later plan follows it.
    pub fn without_live_reading(mut self) -> Self {
        self.effects.retain(|effect| matches!(effect, Effect::JudgeDecision { phase: DecisionPhase::Refused, .. }));
        self
    }
}

impl Effect {
    /// Whether users feel it.
    pub const fn is_destructive(&self) -> bool {
        matches!(self, Self::RollBack(_) | Self::ScaleDown(_))
    }
}

/// One thing to be done, armed with what must still be true when it is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Stamp the template that runs as admitted: adopted, or seen without having been admitted.
    Stamp(Stamp),
    /// Store the release that runs.
    TakeSnapshot {
        /// The workload.
        workload: PartReference,
        /// The payload digest of what it runs.
        payload: String,
    },
    /// Note on a snapshot that a release of which it holds a part survived its bake.
    MarkKnownGood {
        /// The snapshot.
        snapshot: String,
        /// When.
        at: Timestamp,
        /// The payload digests of all releases in which the part was good, this one last.
        releases: Vec<String>,
    },
    /// Note on a snapshot when its release stopped running, or that it runs again.
    MarkRunning {
        /// The snapshot.
        snapshot: String,
        /// When it stopped; `None` where it runs.
        stopped_at: Option<Timestamp>,
    },
    /// Store a legacy snapshot in today's form, on which everything can be noted.
    RepackSnapshot {
        /// The snapshot.
        snapshot: String,
    },
    /// Delete snapshots that nothing can need any more.
    Prune {
        /// The snapshots.
        snapshots: Vec<String>,
    },
    /// Write a ChangeRecord.
    OpenChange(OpenChange),
    /// Complete a ChangeRecord.
    UpdateChange(UpdateChange),
    /// Say on a ChangeRecord that the change was an emergency.
    DeclareEmergency(DeclareEmergency),
    /// Note on a ChangeRecord that the approval it owed was given.
    ApproveChange(ApproveChange),
    /// Roll out a release that was held.
    Release(Release),
    /// Go back to a stored release.
    RollBack(RollBack),
    /// Scale down, and park the replicas.
    ScaleDown(ScaleDown),
    /// Restore the parked replicas.
    RestoreReplicas(RestoreReplicas),
    /// Give the fields that an act put back to those who owned them.
    GiveBack(GiveBack),
    /// Let a quarantined release be tried again.
    Readmit(Readmit),
    /// Say on a Decision whether it counts.
    JudgeDecision {
        /// The Decision.
        name: String,
        /// Whether it counts.
        phase: DecisionPhase,
        /// Why.
        message: String,
    },
    /// Write the Decision that records an incident.
    RecordDecision {
        /// Its name, the same at every attempt.
        name: String,
        /// What it says.
        spec: Box<DecisionSpec>,
    },
}

/// Stamp a template as admitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamp {
    /// The workload.
    pub workload: PartReference,
    /// The workload's uid.
    pub uid: String,
    /// The resourceVersion that was seen; the stamp is refused where it has moved.
    pub resource_version: String,
    /// The mark.
    pub admitted: Admitted,
}

/// A ChangeRecord to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenChange {
    /// Its name, the same at every attempt.
    pub name: String,
    /// Its class.
    pub class: ChangeClass,
    /// The release: what each workload runs.
    pub release: Vec<ReleasePart>,
    /// What ran before, as far as it is known.
    pub replaced: Option<ReplacedRelease>,
    /// Who asked.
    pub requested_by: Requester,
    /// When it was admitted.
    pub started_at: Timestamp,
    /// What the guards found.
    pub findings: Vec<String>,
    /// The approval that it owes, where it is an emergency.
    pub approval_owed: Option<ApprovalOwed>,
}

/// A change that was recorded as normal while it was held and came in by an exception.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclareEmergency {
    /// The ChangeRecord.
    pub change: String,
    /// The approval that it owes.
    pub approval_owed: ApprovalOwed,
}

/// The approval that an emergency change owed.
#[derive(Clone, Debug, PartialEq)]
pub struct ApproveChange {
    /// The ChangeRecord.
    pub change: String,
    /// The Decision that approves it.
    pub decision: String,
    /// The user who approved.
    pub by: String,
    /// When the Decision was created.
    pub at: Timestamp,
}

/// What a ChangeRecord is to say.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateChange {
    /// The ChangeRecord.
    pub name: String,
    /// The release that it ended as, where a grouped change moved it on.
    pub release: Option<Vec<ReleasePart>>,
    /// When it was admitted, where it was recorded while it was held.
    pub started_at: Option<Timestamp>,
    /// When it was completely available; `None` where it is not, or not any more because it was moved on.
    pub completed_at: Option<Timestamp>,
    /// Its outcome.
    pub outcome: Outcome,
    /// Why it failed.
    pub cause: Option<String>,
}

/// Roll out a release that was held, in one patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The workload.
    pub workload: PartReference,
    /// The workload's uid.
    pub uid: String,
    /// The generation that was seen.
    pub generation: i64,
    /// Whether the rollout is un-paused: only where we paused it.
    pub unpauses: bool,
    /// The mark of the release, now that it is admitted.
    pub admitted: Admitted,
}

/// Go back to a stored release, in one patch.
#[derive(Clone, Debug, PartialEq)]
pub struct RollBack {
    /// The incident.
    pub incident: String,
    /// The workload.
    pub workload: PartReference,
    /// The workload's uid.
    pub uid: String,
    /// The generation that was seen.
    pub generation: i64,
    /// The snapshot whose template is restored.
    pub snapshot: String,
    /// What is restored, where other admission makes something else of the stored release.
    pub variant: Option<Value>,
    /// The mark of the restored template.
    pub admitted: Admitted,
    /// Payload digests that may not come back, those of before included.
    pub quarantined: BTreeSet<String>,
    /// A note on the release that is put away: whoever applied it still asks for it, until another one is admitted.
    pub put_away: Option<Box<Held>>,
}

/// Scale down, in one patch.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleDown {
    /// The incident.
    pub incident: String,
    /// The workload.
    pub workload: PartReference,
    /// The workload's uid.
    pub uid: String,
    /// The generation that was seen.
    pub generation: i64,
    /// The replicas that it shall have.
    pub replicas: i32,
    /// The replicas to park.
    pub parked: i32,
}

/// Restore the parked replicas, in one patch.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoreReplicas {
    /// The workload.
    pub workload: PartReference,
    /// The workload's uid.
    pub uid: String,
    /// The generation that was seen.
    pub generation: i64,
    /// The replicas that it shall have.
    pub replicas: i32,
}

/// Give fields back, in one patch that changes nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct GiveBack {
    /// The workload.
    pub workload: PartReference,
    /// The workload's uid.
    pub uid: String,
    /// The digest of the template that was seen; where another is stored by now, its owners are left alone.
    pub template: String,
    /// The snapshot that says who owned what; `None` where none is known, and the fields become nobody's.
    pub snapshot: Option<String>,
}

/// Let a quarantined release be tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Readmit {
    /// The workload.
    pub workload: PartReference,
    /// The workload's uid.
    pub uid: String,
    /// The resourceVersion that was seen.
    pub resource_version: String,
    /// The payload digests that stay quarantined.
    pub quarantined: BTreeSet<String>,
    /// The workload notes that the release is kept out, which it no longer is.
    pub forgets_pin: bool,
}
