//! The only place that judges.
//!
//! Two functions over one gathered input, [`Case`]: [`judge::judge`] says whether a proposed change may
//! happen, [`pilot::decide`] says what becomes of a pilot now. Both are synchronous and total, know no
//! clock, client or logger, and return values that explain themselves. Admission, controller and command
//! line call the same functions; none of them may repeat a rule.

pub mod judge;

use jiff::{SignedDuration, Timestamp};

use crate::api::incident::{Incident, Latch, RollbackTarget};
use crate::api::status::{PilotStatus, ReleaseStatus, SloStatus};
use crate::declaration::Declaration;
use crate::observation::Observation;

/// Everything that a judgement may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// What was declared.
    pub declaration: &'a Declaration,
    /// How its metrics source is read.
    pub source: SourceFacts,
    /// What was seen.
    pub seen: &'a Observation,
    /// What was decided before.
    pub ledger: &'a Ledger,
    /// The time.
    pub now: Timestamp,
}

/// How a metrics source is read, as far as judging depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    /// How often it is asked.
    pub evaluation_interval: SignedDuration,
    /// How far in the past it is asked.
    pub query_offset: SignedDuration,
}

/// What was decided before: the durable part of a Pilot's status and what one process remembers of its own
/// last looks. Losing the second part delays, and never repeats, an act.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// The open incident.
    pub incident: Option<Incident>,
    /// Triggers that fired and have not been clear since.
    pub latches: Vec<Latch>,
    /// The release that runs or rolls out, and how far it has come.
    pub release: Option<ReleaseStatus>,
    /// The release that a rollback would go back to.
    pub rollback_target: Option<RollbackTarget>,
    /// How each SLO stood at the last look.
    pub slos: Vec<SloStatus>,
}

impl Ledger {
    /// Reads what was decided before from a Pilot's status.
    pub fn read(status: &PilotStatus) -> Self {
        Self {
            incident: status.incident.clone(),
            latches: status.latches.clone(),
            release: status.release.clone(),
            rollback_target: status.rollback_target.clone(),
            slos: status.slos.clone(),
        }
    }
}
