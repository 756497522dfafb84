//! What is said of other mutating admission: whether what an act will store is known before.

use super::conditions::{Finding, Reason, Truth, finding};
use super::surroundings::OtherAdmission;
use crate::api::pilot::Mode;
use crate::api::trigger::TriggerAction;
use crate::decide::Case;

/// Why a rollback that is declared would not restore a release exactly, or nobody knows whether it would.
pub(super) fn in_the_way_of_a_rollback(case: &Case<'_>, other: &OtherAdmission) -> Option<Finding> {
    let binds = case.declaration.enforcement.actions == Mode::Enforce;
    let mut triggers = case.declaration.triggers.iter();
    let is_declared = binds && triggers.any(|trigger| trigger.action == TriggerAction::Rollback);
    Some(writes_predictable(other)).filter(|finding| is_declared && finding.status == Truth::False)
}

/// Whether what an act will store is known before.
pub(super) fn writes_predictable(other: &OtherAdmission) -> Finding {
    let found = |status, reason, message: String| finding("WritesPredictable", status, reason, message);
    match other {
        OtherAdmission::Unknown => found(Truth::Unknown, Reason::NotYetRehearsed, String::new()),
        OtherAdmission::Unaltered => found(Truth::True, Reason::AsWritten, String::new()),
        OtherAdmission::Altered(what) => found(
            Truth::True,
            Reason::AlteredByAdmission,
            format!("{what} in every update; pilotguard restores releases with that change"),
        ),
        OtherAdmission::Unstable(what) => found(
            Truth::False,
            Reason::NotIdempotent,
            format!(
                "{what}, differently in each update, so no release is restored exactly; make that admission idempotent or exempt pilotguard's account"
            ),
        ),
        OtherAdmission::Refused(why) => found(
            Truth::False,
            Reason::DryRunRefused,
            format!(
                "a dry-run of a write by pilotguard was refused: {why}; let that admission answer dry-runs or exempt pilotguard's account"
            ),
        ),
    }
}
