//! How an incident ends: what was done is told, and what milder triggers still ask for goes on.
//!
//! A rollback ends what its own triggers asked for. A trigger that holds changes is not silenced by it: the incident
//! stands until that trigger is clear, or an owner resumes. Nothing here acts.

use jiff::SignedDuration;

use super::closing_window::is_blameless;
use super::condition::{Form, State};
use super::naming::to_release;
use super::triggers::Firing;
use super::turn::Turn;
use crate::api::decision::{DecisionPhase, DecisionType};
use crate::api::incident::{Closing, DecidedBy, Incident, IncidentOrigin, IncidentStage, Intent, Verification};
use crate::api::trigger::TriggerAction;
use crate::declaration::Trigger;
use crate::observation::PilotDecision;

impl<'a> Turn<'a> {
    /// Begins to write the record. What was done so far is told first, then why it ended.
    pub(super) fn close(
        &mut self,
        incident: &mut Incident,
        decided_by: DecidedBy,
        decision: Option<&str>,
        ended: &str,
    ) {
        let (action, carried_out) = match (&incident.intent, &incident.paged) {
            (Some(intent), _) => (intent.action, intent.done_at.is_some()),
            // Held because nobody knew what else to do.
            (None, Some(_)) => (TriggerAction::HoldChanges, true),
            (None, None) => (TriggerAction::Notify, true),
        };
        let fix = self.fix_that_runs(incident).filter(|_| decided_by == DecidedBy::Recovery);
        let after = fix.as_ref().map(|fix| format!("after the fix: {}", fix.text));
        let ended = [Some(ended), after.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let told = [incident.account.as_str(), &ended].into_iter().filter(|text| !text.is_empty());
        let summary = told.collect::<Vec<_>>().join("; ");
        incident.closing = Some(Closing {
            action,
            carried_out,
            decided_by,
            decision: decision.map(str::to_owned).or_else(|| fix.map(|fix| fix.decision)),
            at: self.case.now,
            summary,
        });
        incident.stage = IncidentStage::Closing;
    }

    /// The service recovered; what had been rolled back before may still have to be waited for.
    pub(super) fn recover(&mut self, incident: &mut Incident, ended: &str) {
        if is_held_by_a_person(incident) {
            incident.stage = IncidentStage::Standing;
            incident.action = TriggerAction::HoldChanges;
            incident.because = format!("{ended}; changes stay held until an owner resumes");
        } else if was_rolled_back(incident) && !self.triggers_are_clear(incident) {
            incident.stage = IncidentStage::Standing;
        } else {
            self.close(incident, DecidedBy::Recovery, None, ended);
        }
    }

    /// A rollback that helped is done; its incident stands for as long as a trigger that holds changes is not clear. One
    /// that became true between the act and the end of its verification joins now.
    pub(super) fn hold_on_for_milder_triggers(&mut self, incident: &mut Incident, firing: &[Firing<'a>]) {
        if incident.stage != IncidentStage::Closing || !was_rolled_back(incident) || is_blameless(incident) {
            return;
        }
        for firing in firing.iter().filter(|firing| holds_only(firing.trigger)) {
            self.latch(firing.trigger);
            self.note_evidence(incident, firing);
        }
        let waits_for = |trigger: &&Trigger| !self.is_clear(trigger);
        let names: Vec<&str> =
            self.triggers_to_wait_for(incident).filter(waits_for).map(|trigger| trigger.name.as_str()).collect();
        if names.is_empty() {
            return;
        }
        let held = format!("changes stay held for {}", names.join(", "));
        give_account(incident, &held);
        incident.closing = None;
        incident.stage = IncidentStage::Standing;
        self.ledger.memory.clear_since = None;
    }

    /// What was rolled back has failed, however long changes stay held after that.
    pub(super) fn fail_what_was_rolled_back(&mut self, incident: &Incident) {
        if was_rolled_back(incident) {
            self.blame_suspect(incident, &incident.account);
        }
    }

    pub(super) fn triggers_are_clear(&self, incident: &Incident) -> bool {
        let mut triggers = self.triggers_to_wait_for(incident).peekable();
        triggers.peek().is_some() && triggers.all(|trigger| self.is_clear(trigger))
    }

    /// For how long its triggers have to be clear.
    pub(super) fn clear_after(&self, incident: &Incident) -> SignedDuration {
        let triggers = self.triggers_to_wait_for(incident);
        triggers.map(|trigger| trigger.clear_after).max().unwrap_or(SignedDuration::ZERO)
    }

    /// All that joined; after a rollback that helped only those that hold changes: a long budget remembers the incident.
    fn triggers_to_wait_for(&self, incident: &Incident) -> impl Iterator<Item = &'a Trigger> + use<'a> {
        let is_done = was_rolled_back(incident);
        self.triggers_of(incident).filter(move |trigger| !is_done || holds_only(trigger))
    }

    fn is_clear(&self, trigger: &Trigger) -> bool {
        self.condition(trigger, Form::at(self.case.now)) == State::Clear
    }
}

impl Turn<'_> {
    /// The release that an owner let through as the fix of this incident, if that is what runs and nobody blames it.
    fn fix_that_runs(&self, incident: &Incident) -> Option<Fix> {
        let change = self.change_that_runs().filter(|change| change.admitted_at >= incident.opened_at)?;
        if incident.suspect.as_ref().is_some_and(|suspect| suspect.change == change.change) {
            return None;
        }
        let runs = |payload: &String| self.workloads().iter().any(|workload| workload.payload == *payload);
        let lets_it_through = |it: &&PilotDecision| {
            it.type_ == DecisionType::Override
                && it.fix
                && it.phase == Some(DecisionPhase::Accepted)
                && it.payload.as_ref().is_some_and(runs)
        };
        let decision = self.case.seen.decisions.iter().rev().find(lets_it_through)?;
        let by = decision.by.as_ref().map(|by| format!(" of {}", by.user)).unwrap_or_default();
        let text = format!(
            "change {}{}, let through by Override {}{by}",
            change.change,
            to_release(change.name()),
            decision.name
        );
        Some(Fix { decision: decision.name.clone(), text })
    }
}

/// A release that an owner let through during an incident.
struct Fix {
    /// The Override.
    decision: String,
    /// In words.
    text: String,
}

/// Whether the service recovered with a release that an owner let through as the fix.
pub(super) fn was_fixed(closing: &Closing) -> bool {
    closing.decided_by == DecidedBy::Recovery && closing.decision.is_some()
}

/// Adds to the account of what was done.
pub(super) fn give_account(incident: &mut Incident, text: &str) {
    if !incident.account.is_empty() {
        incident.account.push_str("; ");
    }
    incident.account.push_str(text);
}

/// Whether the last act was a rollback, and helped.
pub(super) fn was_rolled_back(incident: &Incident) -> bool {
    let done = incident.intent.as_ref().filter(|intent| intent.done_at.is_some());
    incident.verified == Some(Verification::Healthy)
        && done.is_some_and(|intent| intent.action == TriggerAction::Rollback)
}

/// Whether an incident began as a person's hold on changes, which no trigger that came and went ends. What a person rolled
/// back ends as any other rollback.
pub(super) fn is_held_by_a_person(incident: &Incident) -> bool {
    let holds = |intent: &Intent| intent.decided_by == DecidedBy::Person && intent.action == TriggerAction::HoldChanges;
    incident.origin() == IncidentOrigin::Person && incident.intent.as_ref().is_some_and(holds)
}

/// What an incident still does: once its rollback has helped it only holds changes, and whatever fails next is another
/// release.
pub(super) fn still_due(incident: &Incident) -> TriggerAction {
    let only_holds = incident.stage == IncidentStage::Standing && was_rolled_back(incident);
    if only_holds { TriggerAction::HoldChanges } else { incident.action }
}

fn holds_only(trigger: &Trigger) -> bool {
    trigger.action == TriggerAction::HoldChanges
}
