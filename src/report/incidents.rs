//! The conditions of a Pilot that speak of its open incident: what happens next and when, what is possible meanwhile, and
//! who may decide. Decides nothing.

use super::conditions::{Finding, Reason, Truth, finding};
use super::refusal::{shorten, upper_first};
use crate::api::incident::{Incident, IncidentStage};
use crate::decide::outlook::{end_of_hold, outlook, way_back};
use crate::decide::people::who_may_loosen;
use crate::decide::{Case, Ledger};

/// Maximum length of what an incident says of its cause, in bytes: what happens next has to fit as well.
const LONGEST_CAUSE: usize = 400;

/// Whether an incident is open, and how far it has come.
pub(super) fn incident_open(case: &Case<'_>, decided: &Ledger) -> Finding {
    let Some(incident) = &decided.incident else {
        return finding("IncidentOpen", Truth::False, Reason::NoIncident, "");
    };
    let reason = match incident.stage {
        IncidentStage::DecisionWindow => Reason::DecisionWindow,
        IncidentStage::Continued => Reason::Continued,
        IncidentStage::Acting => Reason::Acting,
        IncidentStage::Verifying => Reason::Verifying,
        IncidentStage::Standing => Reason::Standing,
        IncidentStage::Resuming => Reason::Resuming,
        IncidentStage::Closing => Reason::Closing,
    };
    let is_done = incident.stage == IncidentStage::Standing && !incident.account.is_empty();
    let why = match &incident.paged {
        Some(paged) => paged,
        None if is_done => &incident.account,
        None => &incident.because,
    };
    let message = format!("{}: {}", incident.id, sentences(&[shorten(why, LONGEST_CAUSE), outlook(incident)]));
    finding("IncidentOpen", Truth::True, reason, message + &choices(case, decided, incident))
}

/// What an incident that holds changes says to whom it keeps waiting.
pub(super) fn hold(case: &Case<'_>, decided: &Ledger, incident: &Incident) -> Finding {
    let held = match incident.stage {
        IncidentStage::Standing => format!("incident {} holds changes until {}", incident.id, end_of_hold(incident)),
        _ => format!("incident {} holds changes; {}", incident.id, outlook(incident)),
    };
    let message = sentences(&[held]) + &choices(case, decided, incident);
    finding("ChangesHeld", Truth::True, Reason::IncidentOpen, message)
}

/// Who may decide, and what anybody may do.
fn choices(case: &Case<'_>, decided: &Ledger, incident: &Incident) -> String {
    let may_decide =
        matches!(incident.stage, IncidentStage::DecisionWindow | IncidentStage::Continued | IncidentStage::Standing);
    let owners = may_decide.then(|| format!(" Owners who may decide: {}.", who_may_loosen(&case.declaration.owners)));
    let back = way_back(case.seen, decided).map(|release| format!(" Going back to {release} is allowed now."));
    [back, owners].into_iter().flatten().collect()
}

/// Clauses as sentences.
fn sentences(clauses: &[String]) -> String {
    let sentence = |clause: &String| format!("{}.", upper_first(clause.trim_end_matches('.')));
    clauses.iter().map(sentence).collect::<Vec<_>>().join(" ")
}
