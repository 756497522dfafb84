//! What may be done to a workload at all, whatever was declared: by its kind, and by who else drives it.
//!
//! Changes are guarded for every kind; only acts of our own are kept away here.

use super::turn::Turn;
use crate::api::incident::RollbackTarget;
use crate::observation::Workload;

impl Turn<'_> {
    /// Why the pilot cannot be rolled back to a target, if it cannot. What runs its part of the target already need not
    /// move.
    pub(super) fn cannot_roll_back(&self, target: &RollbackTarget) -> Option<String> {
        let moves = |workload: &&Workload| target.part_of(workload).is_none_or(|part| part.payload != workload.payload);
        self.running().filter(moves).find_map(keeps_its_release)
    }

    /// Why the pilot cannot be scaled down, if it cannot.
    pub(super) fn cannot_scale_down(&self) -> Option<String> {
        let mut with_pods = self.workloads().iter().filter(|workload| workload.reference.kind.has_pods());
        with_pods.find_map(|workload| {
            let has_none = || format!("{} has no replicas to scale down", workload.reference);
            driven(workload).or_else(|| (!workload.reference.kind.has_replicas()).then(has_none))
        })
    }
}

/// Why a workload is never moved to another release by us, if it is not.
pub(super) fn keeps_its_release(workload: &Workload) -> Option<String> {
    let reference = &workload.reference;
    // What its pods wrote to volumes and nodes stays, and nobody but its team knows whether an older release can read it.
    let keeps =
        || format!("{reference} is never rolled back automatically; apply the older release by hand if that is safe");
    driven(workload).or_else(|| (!reference.kind.is_rolled_back()).then(keeps))
}

fn driven(workload: &Workload) -> Option<String> {
    let foreign = workload.foreign?.as_str();
    Some(format!(
        "{} is driven by {foreign}, and pilotguard does not act against another controller",
        workload.reference
    ))
}
