//! What is proposed and what is found about it: the words that guards, exceptions and the judgement share.
//!
//! Data only; nothing here judges.

use jiff::Timestamp;

use crate::api::decision::Requester;
use crate::api::pilot::Mode;
use crate::api::workload::PartReference;

/// What someone wants to do to a guarded workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The workload.
    pub workload: PartReference,
    /// What is asked.
    pub operation: Operation,
    /// Who asks.
    pub requester: Requester,
    /// Whether the release would move: another payload, a restart of unpinned images, or an un-pause.
    pub moves_release: bool,
    /// Whether an owner is added, with whose end the garbage collector deletes the workload.
    pub gains_owner: bool,
    /// The digest of the template that would be stored.
    pub template: String,
    /// The payload digest that would run.
    pub payload: String,
    /// What is known of a GitOps tool behind it.
    pub gitops: GitOps,
    /// Whether the rollout can be paused, and all pods that there are belong to one release, so that a pause keeps
    /// exactly what runs.
    pub one_live_release: bool,
    /// The images that would run.
    pub images: Vec<String>,
    /// Bytes of all annotations that the workload would carry, but for our marks.
    pub annotations: usize,
    /// The replicas before, where there were any.
    pub replicas_before: Option<i32>,
    /// The replicas after.
    pub replicas_after: Option<i32>,
}

impl Proposal {
    /// Whether the release would move or end, which all guards of a release are asked about.
    pub fn concerns_release(&self) -> bool {
        self.moves_release || self.ends_workload()
    }

    /// Whether the workload is deleted, or may be by the garbage collector.
    pub fn ends_workload(&self) -> bool {
        self.operation == Operation::Delete || self.gains_owner
    }
}

/// What is known of a GitOps tool behind a proposal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GitOps {
    /// The workload says that such a tool applies it.
    pub manages_workload: bool,
    /// The platform's admins named the requester as one.
    pub is_named: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create the workload.
    Create,
    /// Update the workload.
    Update,
    /// Delete the workload.
    Delete,
    /// Set the replicas through the scale subresource.
    Scale,
}

/// What may be done with a proposal, from mild to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It may happen.
    Allow,
    /// Not yet: it is stored while its rollout is paused, and rolled out once all guards allow.
    Hold,
    /// Not yet, or not this: it is accepted with the template that is stored put back.
    Pin,
    /// It is refused.
    Deny,
}

impl Verdict {
    /// The name that appears in marks, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Hold => "Hold",
            Self::Pin => "Pin",
            Self::Deny => "Deny",
        }
    }
}

/// What became of a proposal, and why.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What happens.
    pub verdict: Verdict,
    /// What would happen if everything were enforced.
    pub enforced_verdict: Verdict,
    /// The replicas that are put back into the write, which happens otherwise as the verdict says.
    pub kept_replicas: Option<i32>,
    /// The replicas that would be put back if everything were enforced.
    pub enforced_replicas: Option<i32>,
    /// What every guard found, but for what owners lifted; empty where nothing is wrong.
    pub findings: Vec<Finding>,
    /// What guards found and owners lifted for this release.
    pub lifted: Vec<Lifted>,
}

impl Judgement {
    /// The first instant at which all time guards allow; `None` where a person has to do something first.
    pub fn allowed_from(&self) -> Option<Timestamp> {
        self.findings
            .iter()
            .map(|finding| match finding.until {
                Until::Instant(instant) => Some(instant),
                Until::Someone(_) => None,
            })
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .max()
    }
}

/// What one guard found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which guard.
    pub guard: GuardName,
    /// Whether it binds or is only observed.
    pub mode: Mode,
    /// What is wrong, in one clause, for people.
    pub problem: String,
    /// When it ends by itself.
    pub until: Until,
}

/// When a finding ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// At this instant, by itself.
    Instant(Timestamp),
    /// Not by itself; someone has to do something, said in words.
    Someone(String),
}

/// The guards, by the name that appears in metrics and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuardName {
    /// The decision date has passed.
    DecisionDate,
    /// The release was rolled back and has not been readmitted.
    Quarantine,
    /// An incident holds changes.
    Incident,
    /// What runs was never admitted.
    Unauthorized,
    /// Too little of an error budget remains.
    Budget,
    /// Outside the change windows.
    Window,
    /// More replicas than the pilot may have.
    BlastRadius,
    /// An incident scaled the workload down.
    Containment,
    /// Its annotations leave no room for what a rollback has to write.
    Room,
}

impl GuardName {
    /// The name that appears in metrics, reasons and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DecisionDate => "DecisionDatePassed",
            Self::Quarantine => "ReleaseQuarantined",
            Self::Incident => "IncidentOpen",
            Self::Unauthorized => "UnauthorizedChange",
            Self::Budget => "BudgetSpent",
            Self::Window => "OutsideWindow",
            Self::BlastRadius => "BlastRadiusExceeded",
            Self::Containment => "Contained",
            Self::Room => "AnnotationsTooLarge",
        }
    }
}

/// A recorded reason without the name of its guard, which programs read: the sentence says the same.
pub fn without_guard(reason: &str) -> &str {
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
    reason.split_once(": ").filter(|(guard, _)| is_name(guard)).map_or(reason, |(_, problem)| problem)
}

/// A finding that owners lifted.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifted {
    /// What was found.
    pub finding: Finding,
    /// The Overrides that lifted it, in words.
    pub by: String,
}
