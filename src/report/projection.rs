//! The status of a Pilot as a projection of what was decided.
//!
//! Except for the incident and the latches everything in it can be rebuilt. Nothing in it moves while nobody would act
//! differently: figures are bands, and what moves with the clock is shown as the instant at which it is over.

use jiff::Timestamp;

use super::surroundings::Surroundings;
use crate::api::incident::{Incident, IncidentStage};
use crate::api::status::{ChangeReference, PilotStatus};
use crate::decide::{Case, Ledger};

/// The newest changes that the status refers to.
const CHANGES_SHOWN: usize = 10;

/// Projects a decided ledger onto the status.
pub fn project(case: &Case<'_>, decided: &Ledger, surroundings: &Surroundings) -> PilotStatus {
    let calendar = &case.declaration.calendar;
    let is_open = calendar.opening_at(case.now).open;
    let edge = |wanted: bool, instant: Option<Timestamp>| instant.filter(|_| wanted);
    PilotStatus {
        observed_generation: surroundings.generation,
        conditions: super::conditions::all(case, decided, surroundings),
        declaration: surroundings.declaration.clone(),
        next_open: edge(!is_open, calendar.next_open(case.now)),
        next_close: edge(is_open, calendar.next_close(case.now)),
        release: decided.release.clone(),
        rollback_target: decided.rollback_target.clone(),
        budget_freeze: decided.budget_freeze.clone(),
        slos: decided.slos.clone(),
        incident: decided.incident.clone(),
        deadline: decided.incident.as_ref().and_then(deadline),
        latches: decided.latches.clone(),
        last_changes: last_changes(case),
    }
}

/// When the incident goes on by itself.
fn deadline(incident: &Incident) -> Option<Timestamp> {
    match incident.stage {
        IncidentStage::DecisionWindow => Some(incident.deadline),
        IncidentStage::Continued => incident.continued.as_ref().map(|continued| continued.until),
        _ => None,
    }
}

fn last_changes(case: &Case<'_>) -> Vec<ChangeReference> {
    let newest_first = case.seen.changes.iter().rev().take(CHANGES_SHOWN);
    newest_first.map(|change| ChangeReference { name: change.name.clone(), outcome: change.outcome }).collect()
}
