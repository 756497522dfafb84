//! The only place that judges.
//!
//! Two functions over one gathered input, [`Case`]: [`judge::judge`] says whether a proposed change may
//! happen, [`pilot::decide`] says what becomes of a pilot now. Both are synchronous and total, know no
//! clock, client or logger, and return values that explain themselves. Admission, controller and command
//! line call the same functions; none of them may repeat a rule.

mod acts;
mod backstop;
mod bake;
mod bands;
mod bounds;
pub mod budget;
mod closing_window;
mod condition;
mod containment;
pub mod decisions;
mod ending;
pub mod exceptions;
mod held;
pub mod history;
mod incident;
mod inquiry;
pub mod judge;
pub mod lateness;
pub mod naming;
mod opening;
pub mod outlook;
mod ownership;
pub mod people;
pub mod pilot;
pub mod plan;
pub mod proposal;
mod reach;
pub mod reasons;
pub mod records;
mod slo;
pub mod storage;
mod suspect;
mod target;
mod triggers;
mod turn;
pub mod unmeasured;
mod whole;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::api::incident::{Incident, Latch, RollbackTarget};
use crate::api::status::{BudgetFreezeStatus, PilotStatus, ReleaseStatus, SloStatus};
use crate::declaration::Declaration;
use crate::observation::{Observation, Unknown};

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
    /// A digest of whose data it reads. What was learned from other data does not count. `None` while the source is not
    /// known.
    pub data: Option<u64>,
}

/// What was decided before: the durable part of a Pilot's status and what one process remembers of its own
/// last evaluations. Losing the second part delays, and never repeats, an act.
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
    /// Whether an error budget holds changes.
    pub budget_freeze: Option<BudgetFreezeStatus>,
    /// How each SLO stood at the last evaluation.
    pub slos: Vec<SloStatus>,
    /// What this process remembers of its own last evaluations.
    pub memory: Memory,
}

/// What one process remembers of its own last evaluations of a pilot. Never stored: without it timers start anew.
/// Whatever was learned of an SLO or a trigger belongs to its definition, and is forgotten when that is edited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// When the pilot was last looked at.
    pub last_evaluation: Option<Timestamp>,
    /// When the next evaluation is due.
    pub due: Option<Timestamp>,
    /// What is Unknown, other than for low traffic or warm-up.
    pub unknown: BTreeMap<unmeasured::Subject, UnknownSince>,
    /// The definitions of all SLOs and triggers at the last evaluation.
    pub definitions: BTreeSet<String>,
    /// Whose data all that was learned from, as in [`SourceFacts::data`].
    pub data: Option<u64>,
    /// The first sample of each SLO's total, by the SLO's definition.
    pub first_samples: BTreeMap<String, Timestamp>,
    /// For how long each trigger's condition has been so, by the trigger's definition.
    pub timers: BTreeMap<String, Timer>,
    /// Since when the open incident's service has been well, on fresh data; without what nobody watched.
    pub well_since: Option<Timestamp>,
    /// Since when the open incident's triggers have been clear, on fresh data; without what nobody watched.
    pub clear_since: Option<Timestamp>,
    /// Since when the release that waits might be rolled out.
    pub releasable_since: Option<Timestamp>,
    /// Since when the workload has been completely available after an act.
    pub available_since: Option<Timestamp>,
    /// When the bake is over, exactly; the status shows it while the bake is not paused.
    pub bake_until: Option<Timestamp>,
    /// Since when time has counted towards the bake without a pause.
    pub bake_counts_since: Option<Timestamp>,
    /// Writes of release snapshots that were refused the last time; see [`storage`].
    pub storage_problems: BTreeMap<String, StorageProblem>,
}

/// A write of a release snapshot that was refused the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageProblem {
    /// What the API server says.
    pub cause: String,
    /// How many times in a row it was refused.
    pub failures: u32,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// For how long a trigger's condition has held or been clear, on fresh data; time that nobody watched is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timer {
    /// The release that it was judged for.
    pub payload: String,
    /// It has held since then, and has not been clear since.
    pub holds_since: Option<Timestamp>,
    /// When it was last seen to hold.
    pub held_at: Option<Timestamp>,
    /// It has been clear since then.
    pub clear_since: Option<Timestamp>,
}

/// Since when something has been Unknown, and why now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSince {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub why: Unknown,
}

impl Ledger {
    /// Reads what was decided before from a Pilot's status.
    pub fn read(status: &PilotStatus) -> Self {
        Self {
            incident: status.incident.clone(),
            latches: status.latches.clone(),
            release: status.release.clone(),
            rollback_target: status.rollback_target.clone(),
            budget_freeze: status.budget_freeze.clone(),
            slos: status.slos.clone(),
            memory: Memory::default(),
        }
    }
}
