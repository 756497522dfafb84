//! Which release a rollback would go back to, and whether it may.

use std::collections::BTreeSet;

use super::turn::Turn;
use crate::api::incident::RollbackTarget;
use crate::observation::Snapshot;

impl<'a> Turn<'a> {
    /// The newest known-good release, other than the one that runs, that ran within `rollback.maxAge` and is
    /// not quarantined.
    pub(super) fn choose_target(&mut self) {
        self.ledger.rollback_target = self.target().and_then(|snapshot| {
            Some(RollbackTarget {
                payload: snapshot.payload.clone(),
                revision: snapshot.name.clone(),
                known_good_at: snapshot.known_good_at?,
            })
        });
    }

    fn target(&self) -> Option<&'a Snapshot> {
        let workload = self.workload()?;
        let oldest = self.case.now - self.case.declaration.rollback_max_age;
        self.case
            .seen
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.payload != workload.payload)
            .filter(|snapshot| snapshot.known_good_at.is_some())
            .filter(|snapshot| !workload.marks.quarantined.contains(&snapshot.payload))
            .filter(|snapshot| snapshot.last_running_at.is_none_or(|stopped| stopped >= oldest))
            .max_by_key(|snapshot| (snapshot.last_running_at.is_none(), snapshot.last_running_at, snapshot.revision))
    }

    /// Why no automatic rollback may cross the releases between what runs and the target, if it may not.
    pub(super) fn unsafe_to_cross(&self, target: &RollbackTarget) -> Option<String> {
        let workload = self.workload()?;
        let floor = self.snapshot_of(&target.payload).map_or(0, |snapshot| snapshot.revision);
        let stored = self
            .case
            .seen
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.revision > floor || snapshot.payload == workload.payload)
            .find_map(|snapshot| snapshot.rollback_unsafe.clone());
        workload.rollback_unsafe.clone().or(stored)
    }

    /// The releases that a rollback to the target puts away: what runs, and whatever is newer than the target
    /// and was never baked.
    pub(super) fn releases_to_quarantine(&self, target: &RollbackTarget) -> Vec<String> {
        let floor = self.snapshot_of(&target.payload).map_or(0, |snapshot| snapshot.revision);
        let unbaked = self
            .case
            .seen
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.revision > floor && snapshot.known_good_at.is_none())
            .map(|snapshot| snapshot.payload.clone());
        let mut releases: Vec<String> = std::iter::once(self.payload().to_owned()).chain(unbaked).collect();
        // What runs comes first, then the newest: where there are too many for the intent, the oldest are left out.
        let mut seen = BTreeSet::new();
        releases.retain(|payload| *payload != target.payload && !payload.is_empty() && seen.insert(payload.clone()));
        releases
    }
}
