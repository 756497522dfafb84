//! The status of a Pilot as a projection of what was decided.
//!
//! Except for the incident and the latches everything in it can be rebuilt. Two projections that differ only
//! in figures are [`differ_only_in_figures`]: those are written at most once a minute.

use jiff::Timestamp;

use super::surroundings::Surroundings;
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
        latches: decided.latches.clone(),
        last_changes: last_changes(case),
    }
}

fn last_changes(case: &Case<'_>) -> Vec<ChangeReference> {
    let newest_first = case.seen.changes.iter().rev().take(CHANGES_SHOWN);
    newest_first.map(|change| ChangeReference { name: change.name.clone(), outcome: change.outcome }).collect()
}

/// Whether two statuses say the same but for figures that move all the time.
pub fn differ_only_in_figures(one: &PilotStatus, other: &PilotStatus) -> bool {
    without_figures(one) == without_figures(other)
}

fn without_figures(status: &PilotStatus) -> PilotStatus {
    let mut status = status.clone();
    for slo in &mut status.slos {
        slo.error_ratio = None;
        slo.budget_remaining = None;
        slo.burn.clear();
    }
    if let Some(release) = &mut status.release {
        release.bake_until = None;
    }
    status
}
