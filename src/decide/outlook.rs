//! What an open incident does next and what is possible meanwhile, in words. Decides nothing.

use super::Ledger;
use super::closing_window::is_blameless;
use super::ending::is_held_by_a_person;
use super::naming::to_release;
use crate::api::incident::{Incident, IncidentStage, RollbackTarget};
use crate::api::trigger::TriggerAction;
use crate::observation::{Observation, Workload};

/// What happens next, as a clause. Example: `a rollback to shop/checkout:1.0 (0123456789ab) follows at
/// 2026-11-23T09:05:00Z unless an owner decides otherwise`.
pub fn outlook(incident: &Incident) -> String {
    let act = action_with_target(incident, incident.action);
    match incident.stage {
        IncidentStage::DecisionWindow => follows(incident),
        IncidentStage::Continued => {
            let end = incident.continued.as_ref().map(|it| format!(" until {:.0}", it.until)).unwrap_or_default();
            format!("an owner's Continue keeps the release running{end}")
        }
        IncidentStage::Acting => format!("{act} is in progress"),
        IncidentStage::Verifying => format!("{act} is done and being verified"),
        IncidentStage::Standing => format!("changes stay held until {}", end_of_hold(incident)),
        IncidentStage::Resuming => "the replicas are being restored".to_owned(),
        IncidentStage::Closing => "its record is being written".to_owned(),
    }
}

/// What the end of the decision window brings.
pub fn follows(incident: &Incident) -> String {
    let act = action_with_target(incident, incident.action);
    format!("{act} follows at {:.0} unless an owner decides otherwise", incident.deadline)
}

/// What ends an incident that acts no further.
pub fn end_of_hold(incident: &Incident) -> &'static str {
    // Where no trigger has a part in it nothing can be measured that would say that it is over.
    let is_unmeasured = incident.evidence.is_empty() && !is_blameless(incident);
    if incident.scales_down() || is_held_by_a_person(incident) || is_unmeasured {
        "an owner resumes"
    } else if is_blameless(incident) {
        "the release is available, or an owner resumes"
    } else {
        "its triggers are clear, or an owner resumes"
    }
}

/// The release that may be restored at any time, where something else runs.
pub fn way_back(seen: &Observation, ledger: &Ledger) -> Option<String> {
    let target = ledger.rollback_target.as_ref()?;
    let is_back = |workload: &Workload| {
        target
            .part_of(workload)
            .is_none_or(|part| part.payload == workload.payload || workload.variant_of() == Some(part.payload.as_str()))
    };
    if seen.workloads.iter().all(is_back) { None } else { target.name() }
}

fn action_with_target(incident: &Incident, action: TriggerAction) -> String {
    let target = incident.target.as_ref().filter(|_| action == TriggerAction::Rollback);
    let noun = match action {
        TriggerAction::Notify => "a notification",
        TriggerAction::HoldChanges => "a hold on changes",
        TriggerAction::Rollback => "a rollback",
        TriggerAction::ScaleDown => "a scale-down",
    };
    format!("{noun}{}", to_release(target.and_then(RollbackTarget::name)))
}
