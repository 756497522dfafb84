//! What is said of a Pilot whose newest spec cannot be used.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::{Reason, Truth, finding, stamped};
use super::surroundings::Rejected;
use crate::violation::Violation;

/// The conditions of a Pilot that was never valid: nothing is judged, and changes of its workloads are refused.
pub fn conditions(
    violations: &[Violation],
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let message = violations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" · ");
    let findings = vec![
        finding("Ready", Truth::False, Reason::InvalidDeclaration, message.clone()),
        finding("Reconciling", Truth::False, Reason::InvalidDeclaration, ""),
        finding("Stalled", Truth::True, Reason::InvalidDeclaration, message),
    ];
    stamped(findings, before, generation, now)
}

/// Which spec is judged, and what is wrong with the newer one.
pub(super) fn not_in_force(rejected: &Rejected, generation: Option<i64>) -> String {
    let newest = generation.map(|generation| format!(" (generation {generation})")).unwrap_or_default();
    let violations = rejected.violations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" · ");
    format!("the spec{newest} is invalid; the one of generation {} stays in force: {violations}", rejected.in_force)
}
