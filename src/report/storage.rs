//! The condition that says whether releases are stored, so that a rollback can return to them.

use super::conditions::{Finding, Reason, Truth, finding};
use crate::decide::storage::{Storage, storage};
use crate::decide::{Case, Ledger};
use crate::observation::Workload;
use crate::release::marks::lacking_room;

const TYPE: &str = "ReleasesStored";

/// Whether each release that runs is stored and all snapshots can be used.
pub(super) fn releases_stored(case: &Case<'_>, decided: &Ledger) -> Finding {
    match storage(case.seen, &decided.memory) {
        Storage::Complete => finding(TYPE, Truth::True, Reason::Stored, ""),
        Storage::Pending(workload) => {
            let message = format!("the release of {workload} is about to be stored");
            finding(TYPE, Truth::Unknown, Reason::NotYetStored, message)
        }
        problem => {
            let (reason, message) = describe(&problem);
            finding(TYPE, Truth::False, reason, message)
        }
    }
}

/// The first workload whose annotations leave too little room for those that a rollback writes.
pub(super) fn lacks_room(case: &Case<'_>) -> Option<String> {
    let describe = |workload: &Workload| {
        let problem = lacking_room(workload.annotations)?;
        Some(format!("the annotations of {} are {problem}; remove or shorten some", workload.reference))
    };
    case.seen.workloads.iter().find_map(describe)
}

/// Why the pilot cannot promise a rollback, where releases that it would return to are not stored.
pub(super) fn rollback_is_endangered(case: &Case<'_>, decided: &Ledger) -> Option<(Reason, String)> {
    match storage(case.seen, &decided.memory) {
        Storage::Complete | Storage::Pending(_) => None,
        Storage::Unreadable(_) if decided.rollback_target.is_some() => None,
        problem => Some(describe(&problem)),
    }
}

fn describe(problem: &Storage<'_>) -> (Reason, String) {
    match problem {
        Storage::Refused(workload, problem) => {
            let cause = &problem.cause;
            let message = format!(
                "the release of {workload} cannot be stored, so no rollback can return to it: {cause}. Make the release \
                 smaller where it is too large; keep big data out of governed ConfigMaps"
            );
            (Reason::SnapshotRefused, message)
        }
        Storage::Unmarked(snapshot, problem) => {
            let cause = &problem.cause;
            let message = format!(
                "ControllerRevision {snapshot} cannot be marked, so no rollback may return to its release: {cause}"
            );
            (Reason::SnapshotRefused, message)
        }
        Storage::Unreadable(snapshot) => {
            let message = format!(
                "ControllerRevision {snapshot} holds no release that can be read, and no rollback can return to it; \
                 delete it: a release that runs is then stored anew"
            );
            (Reason::SnapshotUnreadable, message)
        }
        Storage::Complete | Storage::Pending(_) => (Reason::Stored, String::new()),
    }
}
