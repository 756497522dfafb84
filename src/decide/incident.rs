//! The life of an incident: tripped, decided, acted on, verified, closed.
//!
//! The whole machine is [`Turn::advance_incident`]; what each stage may lead to stands in its own function.
//! Everything it does in the world is written into the incident first, and every effect is due until it is
//! seen to be done, so that a crash at any point loses and repeats nothing.

use jiff::{SignedDuration, Timestamp};

use super::bounds::bound;
use super::closing_window::is_blameless;
use super::ending::is_held_by_a_person;
use super::reach::keeps_its_release;
use super::slo::Span;
use super::target::releases_to_quarantine;
use super::triggers::Firing;
use super::turn::Turn;
use crate::api::decision::DecisionType;
use crate::api::incident::{
    Continued, DecidedBy, FreshReading, Incident, IncidentOrigin, IncidentStage, Intent, RollbackTarget, WorkloadIntent,
};
use crate::api::pilot::Mode;
use crate::api::trigger::TriggerAction;
use crate::declaration::{Condition, Trigger};
use crate::observation::{PilotDecision, Reading, Workload};

/// Maximum number of releases of a workload that one incident quarantines, the newest.
const MOST_QUARANTINED: usize = 10;

impl<'a> Turn<'a> {
    /// Opens, joins and moves on the pilot's incident.
    pub(super) fn advance_incident(&mut self, firing: &[Firing<'a>], word: Option<&'a PilotDecision>) {
        for firing in firing {
            match self.ledger.incident.take() {
                None => self.ledger.incident = Some(self.open(firing)),
                Some(incident) => self.ledger.incident = Some(self.join(incident, firing)),
            }
        }
        if self.ledger.incident.is_none()
            && let Some(word) = word
        {
            self.ledger.incident = self.open_by_word(word);
        }
        let Some(mut incident) = self.ledger.incident.take() else {
            self.ledger.memory.well_since = None;
            self.ledger.memory.clear_since = None;
            return;
        };
        self.note_wellness(&mut incident);
        match incident.stage {
            IncidentStage::DecisionWindow => self.in_decision_window(&mut incident, word),
            IncidentStage::Continued => self.while_continued(&mut incident, word),
            IncidentStage::Standing => {
                self.fail_what_was_rolled_back(&incident);
                self.while_standing(&mut incident, word);
            }
            IncidentStage::Acting | IncidentStage::Verifying | IncidentStage::Resuming | IncidentStage::Closing => {}
        }
        // One evaluation may carry an incident through several stages, each written down with the next.
        if incident.stage == IncidentStage::Acting {
            self.act(&mut incident);
        }
        if incident.stage == IncidentStage::Verifying {
            self.verify(&mut incident);
            self.hold_on_for_milder_triggers(&mut incident, firing);
        }
        if incident.stage == IncidentStage::Resuming {
            self.resume(&mut incident);
        }
        bound(&mut incident);
        let is_over = incident.stage == IncidentStage::Closing && self.record_incident(&incident);
        self.ledger.incident = (!is_over).then_some(incident);
    }

    fn in_decision_window(&mut self, incident: &mut Incident, word: Option<&PilotDecision>) {
        if let Some(word) = word {
            return self.follow(incident, word);
        }
        let now = self.case.now;
        if let Some(recovered_at) = self.recovers_at(incident) {
            if now >= recovered_at {
                return self.recover(incident, "the service recovered within the decision window");
            }
            self.evaluate_again_at(recovered_at);
        }
        if now < incident.deadline {
            let half = incident.opened_at + half_of(incident.deadline.duration_since(incident.opened_at));
            self.evaluate_again_at(half);
            self.evaluate_again_at(incident.deadline);
            return;
        }
        match (self.incident_suffers(incident), incident.last_fresh.as_ref()) {
            (Some(true), _) => self.start(incident, incident.action, DecidedBy::Deadline, None),
            // Well on fresh data, only not for long enough yet: the next evaluation decides.
            (Some(false), _) => {}
            (None, Some(FreshReading { burning: true, .. })) => {
                self.start(incident, incident.action, DecidedBy::Deadline, None);
            }
            (None, _) => {
                self.stand(incident, "the decision window ended without fresh data; the last reading was healthy");
            }
        }
    }

    fn while_continued(&mut self, incident: &mut Incident, word: Option<&PilotDecision>) {
        if let Some(word) = word {
            return self.follow(incident, word);
        }
        let Some(continued) = incident.continued.clone() else {
            return self.reopen_window(incident);
        };
        self.evaluate_again_at(continued.until);
        if self.burn_has_doubled_since_trip(incident) {
            self.reopen_window(incident);
        } else if self.case.now >= continued.until {
            if self.incident_suffers(incident) == Some(false) {
                self.recover(incident, "the service was healthy when the owner's Continue ended");
            } else {
                self.reopen_window(incident);
            }
        }
    }

    /// Burn rates of two definitions, or on two sources' data, cannot be compared.
    fn burn_has_doubled_since_trip(&self, incident: &Incident) -> bool {
        let is_edited = |trigger: &&Trigger| {
            let tripped = incident.evidence.first().and_then(|evidence| evidence.definition.as_ref());
            tripped.is_some_and(|definition| *definition != trigger.definition)
        };
        let sources = incident.source_at_trip.as_ref().zip(self.source_digest());
        if sources.is_some_and(|(then, now)| *then != now) {
            return false;
        }
        let trigger = self.trigger_of(incident).filter(|trigger| !is_edited(trigger));
        match (incident.burn_at_trip.as_ref(), trigger.and_then(|trigger| self.burn_of(trigger))) {
            (Some(then), Some(now)) => then.value() > 0.0 && now >= 2.0 * then.value(),
            _ => false,
        }
    }

    fn while_standing(&mut self, incident: &mut Incident, word: Option<&PilotDecision>) {
        let is_contained = self.is_contained();
        if let Some(word) = word {
            if word.type_ != DecisionType::Resume {
                return self.follow(incident, word);
            }
            self.close(incident, DecidedBy::Person, Some(&word.name), &resumed(word));
            if is_contained {
                incident.stage = IncidentStage::Resuming;
            }
            return;
        }
        if is_contained || is_held_by_a_person(incident) {
            return;
        }
        if is_blameless(incident) && self.is_complete() {
            return self.close(incident, DecidedBy::Recovery, None, "the release is available");
        }
        let Some(since) = self.ledger.memory.clear_since else { return };
        let clear_at = since + self.clear_after(incident);
        if self.case.now >= clear_at {
            self.close(incident, DecidedBy::Recovery, None, "its triggers are clear");
        } else {
            self.evaluate_again_at(clear_at);
        }
    }

    fn follow(&mut self, incident: &mut Incident, word: &PilotDecision) {
        if word.type_ == DecisionType::Continue
            && let Some(until) = word.until
        {
            incident.stage = IncidentStage::Continued;
            incident.continued = Some(Continued { until, decision: word.name.clone() });
            self.evaluate_again_at(until);
        } else if let Some(action) = action_of(word.type_) {
            if action == TriggerAction::Rollback {
                // The word speaks of what runs and of the target that it was told, whatever was chosen at the trip.
                incident.target.clone_from(&self.ledger.rollback_target);
                incident.suspect = self.change_that_runs().or(incident.suspect.take());
            }
            self.start(incident, action, DecidedBy::Person, Some(word.name.clone()));
        }
    }

    /// Begins to do something about it; with `enforcement.actions: Observe` writes down what would have been.
    pub(super) fn start(
        &mut self,
        incident: &mut Incident,
        action: TriggerAction,
        decided_by: DecidedBy,
        decision: Option<String>,
    ) {
        incident.action = action;
        incident.verified = None;
        let done = incident.intent.take().filter(|intent| intent.done_at.is_some());
        let before: Vec<WorkloadIntent> = done.map(|intent| intent.workloads).unwrap_or_default();
        incident.intent =
            Some(Intent { action, decided_by, decision, at: self.case.now, done_at: None, workloads: Vec::new() });
        if self.case.declaration.enforcement.actions == Mode::Observe {
            let summary = format!("would have done {action:?}: {}", incident.because);
            let decision = incident.intent.as_ref().and_then(|intent| intent.decision.clone());
            return self.close(incident, decided_by, decision.as_deref(), &summary);
        }
        match action {
            TriggerAction::Notify | TriggerAction::HoldChanges => {
                if let Some(intent) = &mut incident.intent {
                    intent.done_at = Some(self.case.now);
                }
                incident.stage = IncidentStage::Standing;
            }
            TriggerAction::Rollback => match self.rollback_intent(incident, decided_by) {
                Ok(workloads) => intend(incident, workloads, &before),
                Err(why) => self.stand(incident, &why),
            },
            TriggerAction::ScaleDown => match self.scale_down_intent(incident) {
                Ok(workloads) => intend(incident, workloads, &before),
                Err(why) => self.stand(incident, &why),
            },
        }
    }

    fn rollback_intent(&self, incident: &Incident, decided_by: DecidedBy) -> Result<Vec<WorkloadIntent>, String> {
        if self.running().next().is_none() {
            return Err("the workload no longer exists".to_owned());
        }
        let target = incident.target.as_ref().ok_or("there is no known-good release to roll back to")?;
        if let Some(why) = self.cannot_roll_back(target) {
            return Err(why);
        }
        if decided_by != DecidedBy::Person
            && let Some(reason) = self.unsafe_to_cross(target)
        {
            return Err(format!("rolling back is declared unsafe ({reason})"));
        }
        let is_blamed = incident.suspect.as_ref().is_some_and(|suspect| suspect.payload == self.payload());
        let blamed_since = incident.suspect.as_ref().map(|suspect| suspect.admitted_at);
        let mut intents: Vec<WorkloadIntent> =
            self.running().map(|workload| part_intent(workload, target, blamed_since)).collect::<Result<_, _>>()?;
        if is_blameless(incident) {
            for intent in &mut intents {
                intent.quarantine.clear();
            }
        }
        let moves = intents.iter().any(|intent| intent.to.as_ref() != Some(&intent.from));
        if decided_by == DecidedBy::Deadline && !is_blamed && moves {
            return Err("another release than the blamed one was rolled out before the deadline".to_owned());
        }
        Ok(intents)
    }

    fn scale_down_intent(&self, incident: &Incident) -> Result<Vec<WorkloadIntent>, String> {
        if self.workloads().is_empty() {
            return Err("the workload no longer exists".to_owned());
        }
        if let Some(why) = self.cannot_scale_down() {
            return Err(why);
        }
        let intent = |workload: &Workload| WorkloadIntent {
            workload: workload.reference.clone(),
            uid: workload.uid.clone(),
            from: workload.payload.clone(),
            revision: None,
            to: None,
            lands_as: None,
            replicas: Some(incident.scale_down_to.unwrap_or(0).min(workload.replicas)),
            quarantine: Vec::new(),
        };
        Ok(self.workloads().iter().filter(|workload| workload.reference.kind.has_pods()).map(intent).collect())
    }

    /// Nothing more happens by itself; people are paged.
    pub(super) fn stand(&mut self, incident: &mut Incident, why: &str) {
        if self.case.declaration.enforcement.actions == Mode::Observe {
            let intent = incident.intent.get_or_insert_with(|| Intent {
                action: TriggerAction::HoldChanges,
                decided_by: DecidedBy::Deadline,
                decision: None,
                at: self.case.now,
                done_at: None,
                workloads: Vec::new(),
            });
            let decided_by = intent.decided_by;
            let ended = format!("would have held changes and paged people: {why}");
            return self.close(incident, decided_by, None, &ended);
        }
        incident.stage = IncidentStage::Standing;
        incident.paged = Some(why.to_owned());
        self.ledger.memory.clear_since = None;
    }

    fn reopen_window(&mut self, incident: &mut Incident) {
        let window = self.trigger_of(incident).map_or(SignedDuration::ZERO, |trigger| trigger.decision_window);
        incident.stage = IncidentStage::DecisionWindow;
        end_continue(incident, self.case.now);
        incident.deadline = self.case.now + window;
        self.ledger.memory.well_since = None;
        self.evaluate_again_at(incident.deadline);
    }

    /// When, if the service stays well, the decision window is cancelled: after `clearAfter`, at most half the
    /// window.
    fn recovers_at(&self, incident: &Incident) -> Option<Timestamp> {
        let trigger = self.trigger_of(incident)?;
        let since = self.ledger.memory.well_since?;
        Some(since + trigger.clear_after.min(half_of(trigger.decision_window)))
    }

    /// Notes since when the service has been well and the triggers clear, on fresh data without a gap.
    fn note_wellness(&mut self, incident: &mut Incident) {
        let now = self.case.now;
        let suffers = self.incident_suffers(incident);
        let memory = &mut self.ledger.memory;
        memory.well_since = (suffers == Some(false)).then(|| memory.well_since.unwrap_or(now));
        // Asked for only at the deadline; while an incident stands nobody acts on it.
        let may_come_to_a_deadline = matches!(incident.stage, IncidentStage::DecisionWindow | IncidentStage::Continued);
        if let Some(burning) = suffers.filter(|_| may_come_to_a_deadline)
            && incident.last_fresh.as_ref().is_none_or(|last| last.burning != burning)
        {
            incident.last_fresh = Some(FreshReading { since: now, burning });
        }
        let is_clear = incident.stage == IncidentStage::Standing && self.triggers_are_clear(incident);
        let memory = &mut self.ledger.memory;
        memory.clear_since = is_clear.then(|| memory.clear_since.unwrap_or(now));
    }

    /// Whether the service suffers from any of what the incident's triggers watch; `None` where that is unknown.
    fn incident_suffers(&self, incident: &Incident) -> Option<bool> {
        let mut answer = Some(false);
        for trigger in self.triggers_of(incident) {
            match self.suffers(trigger) {
                Reading::Fresh(true) => return Some(true),
                Reading::Fresh(false) => {}
                Reading::Unknown(_) => answer = None,
            }
        }
        answer.filter(|_| self.triggers_of(incident).next().is_some())
    }

    pub(super) fn triggers_of(&self, incident: &Incident) -> impl Iterator<Item = &'a Trigger> + use<'a> {
        let names: Vec<String> = incident.evidence.iter().map(|evidence| evidence.trigger.clone()).collect();
        self.case.declaration.triggers.iter().filter(move |trigger| names.contains(&trigger.name))
    }

    /// The trigger whose times count, as it is declared now: the one that opened it or, where none did, the first that
    /// joined.
    fn trigger_of(&self, incident: &Incident) -> Option<&'a Trigger> {
        let is_triggered = incident.origin() == IncidentOrigin::Trigger;
        let opener = self.case.declaration.trigger(&incident.trigger).filter(|_| is_triggered);
        let joined = || incident.evidence.iter().find_map(|it| self.case.declaration.trigger(&it.trigger));
        opener.or_else(joined)
    }

    pub(super) fn burn_of(&self, trigger: &Trigger) -> Option<f64> {
        match &trigger.when {
            Condition::ErrorBudget { slo, .. } | Condition::BurnRate { slo, .. } => {
                self.short_burn(slo, Span::of(trigger.short_window, self.case.now), 1.0).fresh()
            }
            _ => None,
        }
    }
}

/// A Continue is over. Its Decision stays named, so that it is not followed once more.
pub(super) fn end_continue(incident: &mut Incident, now: Timestamp) {
    if let Some(continued) = &mut incident.continued {
        continued.until = continued.until.min(now);
    }
}

/// Who ended it, and why.
pub(super) fn resumed(word: &PilotDecision) -> String {
    let by = word.by.as_ref().map(|by| format!(" by {}", by.user)).unwrap_or_default();
    format!("resumed{by}: {}", word.reason)
}

pub(super) const fn action_of(type_: DecisionType) -> Option<TriggerAction> {
    match type_ {
        DecisionType::Rollback => Some(TriggerAction::Rollback),
        DecisionType::ScaleDown => Some(TriggerAction::ScaleDown),
        DecisionType::HoldChanges => Some(TriggerAction::HoldChanges),
        DecisionType::Continue
        | DecisionType::Resume
        | DecisionType::Readmit
        | DecisionType::Override
        | DecisionType::Approve => None,
    }
}

/// What an earlier act of the incident put away stays so, and is remembered.
fn intend(incident: &mut Incident, mut workloads: Vec<WorkloadIntent>, before: &[WorkloadIntent]) {
    for part in &mut workloads {
        let earlier = before.iter().filter(|earlier| earlier.uid == part.uid).flat_map(|earlier| &earlier.quarantine);
        let kept = earlier.filter(|payload| Some(*payload) != part.to.as_ref() && !part.quarantine.contains(payload));
        let kept: Vec<String> = kept.take(MOST_QUARANTINED.saturating_sub(part.quarantine.len())).cloned().collect();
        part.quarantine.extend(kept);
    }
    if let Some(intent) = &mut incident.intent {
        intent.workloads = workloads;
    }
    incident.stage = IncidentStage::Acting;
}

/// What a rollback does to one workload.
fn part_intent(
    workload: &Workload,
    target: &RollbackTarget,
    blamed_since: Option<Timestamp>,
) -> Result<WorkloadIntent, String> {
    let part =
        target.part_of(workload).ok_or_else(|| format!("{} is not part of the rollback target", workload.reference))?;
    if !workload.snapshots.iter().any(|snapshot| snapshot.name == part.revision) {
        return Err("the snapshot of the rollback target is gone".to_owned());
    }
    // What stays as it is, is not marked either.
    let quarantine = match keeps_its_release(workload) {
        Some(_) => Vec::new(),
        None => releases_to_quarantine(workload, part, blamed_since).into_iter().take(MOST_QUARANTINED).collect(),
    };
    Ok(WorkloadIntent {
        workload: workload.reference.clone(),
        uid: workload.uid.clone(),
        from: workload.payload.clone(),
        revision: Some(part.revision.clone()),
        to: Some(part.payload.clone()),
        lands_as: None,
        replicas: None,
        quarantine,
    })
}

fn half_of(duration: SignedDuration) -> SignedDuration {
    duration / 2
}
