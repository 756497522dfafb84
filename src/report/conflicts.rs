//! What is said of a Pilot that names what another Pilot guards: whose it is, who created that, and how it is settled.

use super::conditions::{Finding, Reason, Truth, finding};
use super::invalid::not_in_force;
use super::surroundings::Surroundings;
use crate::api::pilot::TAKES_OVER;
use crate::decide::Case;
use crate::observation::Claimed;

pub(super) fn stalled(case: &Case<'_>, surroundings: &Surroundings) -> Finding {
    let stuck = |reason, message| finding("Stalled", Truth::True, reason, message);
    match (&case.seen.claimed, &surroundings.rejected) {
        (Some(claimed), _) => stuck(Reason::ConflictingPilot, conflict(claimed)),
        (None, Some(rejected)) => stuck(Reason::InvalidDeclaration, not_in_force(rejected, surroundings.generation)),
        (None, None) => finding("Stalled", Truth::False, Reason::Settled, ""),
    }
}

pub(super) fn conflict(claimed: &Claimed) -> String {
    let Claimed { workload, by, created_by, created_at, takes_over } = claimed;
    if *takes_over {
        return format!(
            "{workload} belongs to Pilot {by}, which takes over from this one; remove it from spec.workloads here"
        );
    }
    let creator = created_by.as_ref().map(|user| format!(" by {user}")).unwrap_or_default();
    format!(
        "{workload} belongs to the older Pilot {by}, created{creator} at {created_at:.0}; remove it from spec.workloads here or \
         there, or let an owner of both Pilots annotate this one with {TAKES_OVER}={by}"
    )
}
