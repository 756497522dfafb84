//! Fields that an act made ours and that belong to others: they are given back once the act is seen to be done.
//!
//! Due for as long as the workload shows that we own them, whatever became of the incident in the meantime.

use super::plan::{Effect, GiveBack};
use super::turn::Turn;
use crate::api::incident::IncidentStage;

impl Turn<'_> {
    /// Gives back what is owed.
    pub(super) fn give_fields_back(&mut self) {
        // The act itself comes first: it would move the owners anew.
        if self.ledger.incident.as_ref().is_some_and(|incident| incident.stage == IncidentStage::Acting) {
            return;
        }
        // What waits is stored as its requester left it; of it nothing was put back.
        let owing = self.workloads().iter().filter(|workload| workload.owes_fields && workload.waiting.is_none());
        self.effects.extend(owing.map(|workload| {
            Effect::GiveBack(GiveBack {
                workload: workload.reference.clone(),
                uid: workload.uid.clone(),
                template: workload.template.clone(),
                // Of what other admission made of a release the release itself tells who owned what.
                snapshot: workload
                    .snapshot_of(workload.variant_of().unwrap_or(&workload.payload))
                    .map(|snapshot| snapshot.name.clone()),
            })
        }));
    }
}
