//! What an incident scaled down stays so until an owner resumes: replicas that grew while nobody could refuse
//! it, as during an outage of the webhook, are set back.
//!
//! The mark on the workload says what was decided; no new decision is made here, and nothing else is touched.

use super::plan::{Effect, ScaleDown};
use super::turn::Turn;
use crate::api::incident::IncidentStage;
use crate::api::pilot::Mode;
use crate::observation::Workload;

impl Turn<'_> {
    /// Sets back what grew.
    pub(super) fn keep_contained(&mut self) {
        // In these stages an act on the replicas is due or was just undone.
        let stage = self.ledger.incident.as_ref().map(|incident| incident.stage);
        let is_moving = matches!(stage, Some(IncidentStage::Acting | IncidentStage::Resuming | IncidentStage::Closing));
        let binds = self.case.declaration.enforcement.actions == Mode::Enforce;
        if is_moving || !binds {
            return;
        }
        self.effects.extend(self.workloads().iter().filter_map(set_back));
    }
}

fn set_back(workload: &Workload) -> Option<Effect> {
    let contained = workload.marks.contained.as_ref().filter(|contained| workload.replicas > contained.replicas)?;
    Some(Effect::ScaleDown(ScaleDown {
        incident: contained.incident.clone(),
        workload: workload.reference.clone(),
        uid: workload.uid.clone(),
        generation: workload.generation,
        replicas: contained.replicas,
        parked: workload.marks.parked_replicas.unwrap_or(workload.replicas),
    }))
}
