//! The conditions of a pilot of which another controller drives a workload.

use super::conditions::{Finding, Reason, Truth, finding};
use crate::api::pilot::Mode;
use crate::api::trigger::TriggerAction;
use crate::decide::Case;
use crate::observation::Workload;

/// Who else drives a workload, and what follows.
fn driven(workload: &Workload) -> Option<String> {
    let (reference, by) = (&workload.reference, workload.foreign?.as_str());
    Some(format!("{reference} is driven by {by}: its changes are guarded, and it is never rolled back or scaled down"))
}

/// Whether another controller drives a workload.
pub(super) fn conflicting_controller(case: &Case<'_>) -> Finding {
    match case.seen.workloads.iter().find_map(driven) {
        Some(message) => finding("ConflictingController", Truth::True, Reason::ConflictingController, message),
        None => finding("ConflictingController", Truth::False, Reason::NoOtherController, ""),
    }
}

/// A promise that cannot be kept must not look kept: an act is declared, and another controller is in its way.
pub(super) fn act_that_is_not_possible(case: &Case<'_>) -> Option<String> {
    let acts = |action: TriggerAction| matches!(action, TriggerAction::Rollback | TriggerAction::ScaleDown);
    let binds = case.declaration.enforcement.actions == Mode::Enforce;
    let trigger = case.declaration.triggers.iter().find(|trigger| binds && acts(trigger.action))?;
    let message = case.seen.workloads.iter().find_map(driven)?;
    Some(format!(
        "{message}; let trigger {} hold changes or notify, or leave the workload to one controller",
        trigger.name
    ))
}
