//! Which Decisions count, and which of those that do is followed.
//!
//! Towards safety (Rollback, ScaleDown, HoldChanges) anyone decides whom RBAC lets create a Decision.
//! Loosening (Continue, Resume, Readmit, Override, Approve) needs a person who holds a role of the pilot; service accounts are
//! not people. Where several count at once, the strictest wins.

use jiff::{SignedDuration, Timestamp};

use super::Case;
use super::exceptions::end_of;
use super::history::next_to_judge;
use super::incident::action_of;
use super::judge::rolled_back_before;
use super::naming::{name_of, to_release};
use super::people::may_loosen;
use super::plan::{ApproveChange, Effect, Readmit};
use super::reasons::{WANTED, says_nothing};
use super::turn::Turn;
use crate::api::decision::{DecisionPhase, DecisionType};
use crate::api::incident::{Incident, IncidentStage};
use crate::api::trigger::TriggerAction;
use crate::observation::{Change, PilotDecision, Workload};
use crate::release::marks::{Admitted, HeldVerdict, quarantine_of};

/// A Decision that names a Pilot which does not exist is refused at this age: both may come in one apply, in any order.
const WITHOUT_PILOT: SignedDuration = SignedDuration::from_mins(1);

/// Judges one Decision as the next evaluation of its Pilot would: what it does, or why it has no effect.
pub fn judge_decision(case: &Case<'_>, decision: &PilotDecision) -> Result<String, String> {
    Turn::new(*case).weigh(decision)
}

/// Why a Decision has no effect whose Pilot does not exist; `None` while that Pilot may still be on its way.
pub fn refuse_without_pilot(decision: &PilotDecision, pilot: &str, now: Timestamp) -> Option<String> {
    let is_due = decision.is_unjudged();
    let is_late = now.duration_since(decision.created_at) >= WITHOUT_PILOT;
    (is_due && is_late).then(|| {
        format!("no Pilot in this namespace is named {pilot}; create another Decision with one of `kubectl get pilots`")
    })
}

impl<'a> Turn<'a> {
    /// Judges the Decisions whose turn it is, and returns the strictest one that moves the incident. Where more wait, the
    /// watch reports those that were judged, and the next evaluation follows at once.
    pub(super) fn weigh_decisions(&mut self) -> Option<&'a PilotDecision> {
        let mut word: Option<&PilotDecision> = None;
        for decision in next_to_judge(&self.case.seen.decisions, &self.case.declaration.owners) {
            let (phase, message) = match self.weigh(decision) {
                Ok(message) => (DecisionPhase::Accepted, message),
                Err(message) => (DecisionPhase::Refused, message),
            };
            let counts = phase == DecisionPhase::Accepted;
            if counts && self.lifts_quarantine(decision) {
                // Judged once it is seen to be lifted; else a lost write would lose the word.
                self.readmit(decision);
                continue;
            }
            if counts && self.approve(decision) {
                // Likewise: judged once the change is seen to be approved.
                continue;
            }
            self.effects.push(Effect::JudgeDecision { name: decision.name.clone(), phase, message });
            let moves_nothing = matches!(decision.type_, DecisionType::Override | DecisionType::Approve);
            if !counts || self.was_followed(decision) || moves_nothing {
                continue;
            }
            if word.is_none_or(|word| strictness(decision.type_) > strictness(word.type_)) {
                word = Some(decision);
            }
        }
        word
    }

    fn weigh(&self, decision: &PilotDecision) -> Result<String, String> {
        if self.was_followed(decision) {
            return Ok("followed".to_owned());
        }
        if says_nothing(&decision.reason) {
            return Err(format!("its reason is empty or a placeholder; {WANTED}"));
        }
        let incident = self.ledger.incident.as_ref();
        if let Some(named) = &decision.incident
            && incident.is_none_or(|incident| incident.id != *named)
            && !(incident.is_none() && self.is_left_contained(decision))
        {
            return Err(match incident {
                Some(open) => format!("incident {named} is not open; the open one is {}", open.id),
                None => format!("incident {named} is not open"),
            });
        }
        let loosens = matches!(
            decision.type_,
            DecisionType::Continue
                | DecisionType::Resume
                | DecisionType::Readmit
                | DecisionType::Override
                | DecisionType::Approve
        );
        if loosens || incident.is_some_and(|incident| is_milder_than_due(decision.type_, incident)) {
            may_loosen(&self.case.declaration.owners, decision.by.as_ref())?;
        }
        match decision.type_ {
            DecisionType::Continue => self.weigh_continue(decision, incident),
            DecisionType::Resume if self.is_left_contained(decision) => Ok("the replicas are restored".to_owned()),
            DecisionType::Resume => weigh_resume(incident),
            DecisionType::Readmit => self.weigh_readmit(decision, incident),
            DecisionType::Override => self.weigh_override(decision),
            DecisionType::Approve => self.weigh_approval(decision),
            DecisionType::HoldChanges => self.weigh_hold(decision, incident),
            DecisionType::ScaleDown => {
                self.weigh_act(decision, incident)?;
                if self.workloads().is_empty() {
                    return Err("the workload does not exist".to_owned());
                }
                if let Some(why) = self.cannot_scale_down() {
                    return Err(format!("{why}; HoldChanges remains"));
                }
                Ok("scaling down".to_owned())
            }
            DecisionType::Rollback => {
                self.weigh_act(decision, incident)?;
                let Some(target) = &self.ledger.rollback_target else {
                    let why = "there is no known-good release to roll back to; ScaleDown or HoldChanges remain";
                    return Err(why.to_owned());
                };
                match self.cannot_roll_back(target) {
                    Some(why) => Err(why),
                    None => Ok(format!("rolling back{}", to_release(target.name()))),
                }
            }
        }
    }

    fn weigh_hold(&self, decision: &PilotDecision, incident: Option<&Incident>) -> Result<String, String> {
        let Some(holding) = incident.filter(|incident| holds_already(incident)) else {
            return self.weigh_act(decision, incident).map(|()| "changes are held".to_owned());
        };
        let since = holding.intent.as_ref().and_then(|intent| intent.done_at).unwrap_or(holding.opened_at);
        Err(format!(
            "incident {} has held changes since {since:.0}; to hold them longer, create another Decision once it has ended",
            holding.id
        ))
    }

    /// A word that names no incident speaks of what ran when it was written.
    fn weigh_act(&self, decision: &PilotDecision, incident: Option<&Incident>) -> Result<(), String> {
        let mut stamps = self.workloads().iter().filter_map(|workload| workload.marks.admitted.as_ref());
        // Both by the operator's own clock. The API server's time of creation says nothing about ours.
        let is_newer = |admitted: &Admitted| decision.received_at.is_some_and(|received| admitted.at > received);
        if decision.incident.is_none() && stamps.any(is_newer) {
            return Err(
                "another release was rolled out after this Decision; create it again if it still applies".to_owned()
            );
        }
        weigh_act(incident)
    }

    /// Whether it resumes a workload that is still scaled down by an incident of which the status knows no more.
    fn is_left_contained(&self, decision: &PilotDecision) -> bool {
        let mut contained = self.workloads().iter().filter_map(|workload| workload.marks.contained.as_ref());
        decision.type_ == DecisionType::Resume
            && self.ledger.incident.is_none()
            && contained.any(|contained| decision.incident.as_ref() == Some(&contained.incident))
    }

    /// Whether the ledger already carries this Decision: a restarted operator must not refuse what it followed.
    fn was_followed(&self, decision: &PilotDecision) -> bool {
        if self.followed.contains(decision.name.as_str()) {
            return true;
        }
        let Some(incident) = &self.ledger.incident else { return false };
        let named = [
            incident.intent.as_ref().and_then(|intent| intent.decision.as_ref()),
            incident.continued.as_ref().map(|continued| &continued.decision),
            incident.closing.as_ref().and_then(|closing| closing.decision.as_ref()),
        ];
        named.into_iter().flatten().any(|name| *name == decision.name)
    }

    fn weigh_continue(&self, decision: &PilotDecision, incident: Option<&Incident>) -> Result<String, String> {
        let until = end_of(decision, self.case.now)?;
        match incident.map(|incident| incident.stage) {
            Some(IncidentStage::DecisionWindow | IncidentStage::Continued) => {
                Ok(format!("the release keeps running until {until}; changes stay held"))
            }
            Some(_) => Err("the incident's decision window is over".to_owned()),
            None => Err("no incident is open".to_owned()),
        }
    }

    fn weigh_readmit(&self, decision: &PilotDecision, incident: Option<&Incident>) -> Result<String, String> {
        if incident.is_some() {
            return Err("an incident is open; readmit once it has closed".to_owned());
        }
        let payload = decision.payload.as_deref().unwrap_or_default();
        let release = || name_of(&self.case, payload).unwrap_or_else(|| "the release".to_owned());
        let applicable = || format!("{} may be applied again", release());
        let knows = |w: &Workload| w.marks.quarantined.contains(payload) || w.snapshot_of(payload).is_some();
        if self.workloads().iter().any(knows) {
            return Ok(applicable());
        }
        // Its mark is gone or does not list it: it is judged by the records, which this Decision joins.
        let is_gone = self.workloads().len() < self.case.declaration.workloads.len();
        let is_unlisted = is_gone || self.workloads().iter().any(|workload| workload.marks.quarantine_is_full());
        if is_unlisted && rolled_back_before(&self.case).iter().any(|it| it == payload) {
            return Ok(applicable());
        }
        Err("that release is not quarantined; copy its digest from the refusal".to_owned())
    }

    /// Whether it approves a change that still owes an approval; then the approval is due.
    fn approve(&mut self, decision: &PilotDecision) -> bool {
        let named = |change: &&Change| Some(&change.name) == decision.change.as_ref() && change.approval_owed.is_some();
        let Some(change) = self.case.seen.changes.iter().find(named) else { return false };
        if decision.type_ != DecisionType::Approve {
            return false;
        }
        let is_due = |effect: &Effect| matches!(effect, Effect::ApproveChange(it) if it.change == change.name);
        if !self.effects.iter().any(is_due) {
            self.effects.push(Effect::ApproveChange(ApproveChange {
                change: change.name.clone(),
                decision: decision.name.clone(),
                by: decision.by.as_ref().map(|by| by.user.clone()).unwrap_or_default(),
                at: decision.created_at,
            }));
        }
        true
    }

    fn lifts_quarantine(&self, decision: &PilotDecision) -> bool {
        let lifts = |payload: &String| self.workloads().iter().any(|w| w.marks.quarantined.contains(payload));
        decision.type_ == DecisionType::Readmit && decision.payload.as_ref().is_some_and(lifts)
    }

    fn readmit(&mut self, decision: &PilotDecision) {
        let Some(payload) = &decision.payload else { return };
        for workload in self.workloads() {
            let mut quarantined = workload.marks.quarantined.clone();
            if !quarantined.remove(payload) {
                continue;
            }
            if workload.marks.quarantine_is_full() {
                // There is room for one that only the records know.
                let others = rolled_back_before(&self.case).into_iter().filter(|other| other != payload);
                quarantined = quarantine_of(quarantined.iter().chain(&others.collect::<Vec<_>>()));
            }
            self.effects.push(Effect::Readmit(Readmit {
                workload: workload.reference.clone(),
                uid: workload.uid.clone(),
                resource_version: workload.resource_version.clone(),
                quarantined,
                forgets_pin: workload
                    .marks
                    .held
                    .as_ref()
                    .is_some_and(|held| held.verdict == HeldVerdict::Pin && held.payload == *payload),
            }));
        }
    }
}

/// How strict a Decision is beside others that count at the same time.
pub(super) const fn strictness(type_: DecisionType) -> u8 {
    match type_ {
        DecisionType::ScaleDown => 5,
        DecisionType::Rollback => 4,
        DecisionType::HoldChanges => 3,
        DecisionType::Resume => 2,
        DecisionType::Continue => 1,
        DecisionType::Readmit | DecisionType::Override | DecisionType::Approve => 0,
    }
}

/// Whether a word would put something milder in the place of what happens at the deadline.
fn is_milder_than_due(type_: DecisionType, incident: &Incident) -> bool {
    matches!(incident.stage, IncidentStage::DecisionWindow | IncidentStage::Continued)
        && action_of(type_).is_some_and(|action| action < incident.action)
}

/// Whether all that is left to do by itself is to hold changes.
fn holds_already(incident: &Incident) -> bool {
    incident.stage == IncidentStage::Standing && incident.action >= TriggerAction::HoldChanges
}

fn weigh_act(incident: Option<&Incident>) -> Result<(), String> {
    match incident.map(|incident| incident.stage) {
        None | Some(IncidentStage::DecisionWindow | IncidentStage::Continued | IncidentStage::Standing) => Ok(()),
        Some(_) => Err("the incident is already being acted on".to_owned()),
    }
}

fn weigh_resume(incident: Option<&Incident>) -> Result<String, String> {
    match incident.map(|incident| incident.stage) {
        Some(IncidentStage::Standing) => Ok("the incident ends".to_owned()),
        Some(IncidentStage::DecisionWindow) => {
            Err("the decision window is open; a Continue keeps the release running".to_owned())
        }
        Some(_) => Err("the action is still being carried out; resume when it has ended".to_owned()),
        None => Err("no incident is open".to_owned()),
    }
}
