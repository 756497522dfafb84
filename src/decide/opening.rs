//! How an incident begins: a trigger opens it, joins it, or a person's word opens it; and what is chosen then.

use super::ending::still_due;
use super::incident::{action_of, end_continue, resumed};
use super::naming::to_release;
use super::triggers::Firing;
use super::turn::Turn;
use crate::api::decimal::Decimal;
use crate::api::decision::DecisionType;
use crate::api::incident::{
    DecidedBy, Evidence, FreshReading, Incident, IncidentOrigin, IncidentStage, Intent, RollbackTarget, Suspect,
};
use crate::api::trigger::TriggerAction;
use crate::declaration::Trigger;
use crate::observation::PilotDecision;
use crate::release::digest;
use serde_json::{Value, json};

/// Entries of evidence beyond this are not kept: one for each trigger that may be declared, and some of triggers that were
/// edited meanwhile.
const MOST_EVIDENCE: usize = 24;

/// What would happen at the deadline, and why.
struct Choice {
    action: TriggerAction,
    because: String,
    suspect: Option<Suspect>,
    target: Option<RollbackTarget>,
}

impl<'a> Turn<'a> {
    pub(super) fn open(&mut self, firing: &Firing<'a>) -> Incident {
        let trigger = firing.trigger;
        let now = self.case.now;
        self.latch(trigger);
        let choice = self.choose(trigger);
        let suffers = self.suffers(trigger);
        Incident {
            id: Self::incident_id(
                &json!([self.case.declaration.pilot.uid, trigger.name, now.to_string()]),
                &trigger.name,
            ),
            origin: Some(IncidentOrigin::Trigger),
            trigger: trigger.name.clone(),
            opened_at: now,
            stage: IncidentStage::DecisionWindow,
            deadline: now + trigger.decision_window,
            declared: trigger.action,
            action: choice.action,
            scale_down_to: some_left(trigger.scale_down_to),
            because: choice.because,
            evidence: vec![firing.evidence.clone()],
            suspect: choice.suspect,
            target: choice.target,
            burn_at_trip: self.burn_of(trigger).and_then(|burn| Decimal::rounded(burn, 4)),
            source_at_trip: self.source_digest(),
            // The condition was fresh and held; only a fresh answer to the contrary says that it is over.
            last_fresh: Some(FreshReading { since: now, burning: suffers.fresh().unwrap_or(true) }),
            continued: None,
            intent: None,
            account: String::new(),
            verified: None,
            paged: None,
            closing: None,
        }
    }

    pub(super) fn open_by_word(&mut self, word: &PilotDecision) -> Option<Incident> {
        if word.type_ == DecisionType::Resume {
            return self.reopen_contained(word);
        }
        let action = action_of(word.type_)?;
        let origin = IncidentOrigin::Person;
        // A trigger may have the same name, and fire at the same instant.
        let seed = json!([self.case.declaration.pilot.uid, origin, word.name, self.case.now.to_string()]);
        Some(self.begin(Self::incident_id(&seed, origin.as_str()), origin, action, word.reason.clone()))
    }

    /// An incident that a rule of the declaration opens about a change, to go back; `None` where that was decided about
    /// this very change before.
    pub(super) fn open_by_policy(&self, origin: IncidentOrigin, change: &str, because: &str) -> Option<Incident> {
        let rule = origin.as_str();
        let id = Self::incident_id(&json!([self.case.declaration.pilot.uid, rule, change]), rule);
        let is_decided = |record: &PilotDecision| record.is_record && record.incident.as_ref() == Some(&id);
        if self.case.seen.decisions.iter().any(is_decided) {
            return None;
        }
        Some(self.begin(id, origin, TriggerAction::Rollback, because.to_owned()))
    }

    /// An incident that no trigger opened: what is to be done is known at once.
    fn begin(&self, id: String, origin: IncidentOrigin, action: TriggerAction, because: String) -> Incident {
        Incident {
            id,
            origin: Some(origin),
            trigger: origin.as_str().to_owned(),
            opened_at: self.case.now,
            stage: IncidentStage::DecisionWindow,
            deadline: self.case.now,
            declared: action,
            action,
            scale_down_to: None,
            because,
            evidence: Vec::new(),
            suspect: None,
            target: self.ledger.rollback_target.clone(),
            burn_at_trip: None,
            source_at_trip: None,
            last_fresh: None,
            continued: None,
            intent: None,
            account: String::new(),
            verified: None,
            paged: None,
            closing: None,
        }
    }

    /// The incident behind a scale-down whose status was lost, as far as the mark tells of it, ready to be ended.
    fn reopen_contained(&mut self, word: &PilotDecision) -> Option<Incident> {
        let contained = self.workloads().iter().find_map(|workload| workload.marks.contained.clone())?;
        let hold = PilotDecision { type_: DecisionType::ScaleDown, ..word.clone() };
        let mut incident = self.open_by_word(&hold)?;
        incident.id = contained.incident;
        incident.scale_down_to = some_left(contained.replicas);
        incident.intent = Some(Intent {
            action: TriggerAction::ScaleDown,
            decided_by: DecidedBy::Person,
            decision: Some(word.name.clone()),
            at: self.case.now,
            done_at: Some(self.case.now),
            workloads: Vec::new(),
        });
        self.close(&mut incident, DecidedBy::Person, Some(&word.name), &resumed(word));
        incident.stage = IncidentStage::Resuming;
        Some(incident)
    }

    /// A trigger that fires while an incident is open joins it: it may shorten the deadline or raise the
    /// action, and never opens a second one. Nothing joins between an act and the end of its verification.
    pub(super) fn join(&mut self, mut incident: Incident, firing: &Firing<'a>) -> Incident {
        let open_to_joining = matches!(
            incident.stage,
            IncidentStage::DecisionWindow | IncidentStage::Continued | IncidentStage::Standing
        );
        if !open_to_joining {
            return incident;
        }
        let trigger = firing.trigger;
        self.latch(trigger);
        self.note_evidence(&mut incident, firing);
        let deadline = self.case.now + trigger.decision_window;
        if incident.stage == IncidentStage::DecisionWindow {
            incident.deadline = incident.deadline.min(deadline);
        }
        incident.declared = incident.declared.max(trigger.action);
        let choice = self.choose(trigger);
        if choice.action > still_due(&incident) {
            if incident.stage != IncidentStage::DecisionWindow {
                // Also while an owner's Continue runs: it was given for something milder.
                incident.stage = IncidentStage::DecisionWindow;
                incident.deadline = deadline;
                end_continue(&mut incident, self.case.now);
            }
            incident.action = choice.action;
            incident.because = choice.because;
            incident.suspect = choice.suspect.or(incident.suspect);
            incident.target = choice.target.or(incident.target);
            incident.scale_down_to = some_left(trigger.scale_down_to);
        }
        incident
    }

    /// One entry for each trigger: what it saw first stays, and how often it fired since is counted.
    pub(super) fn note_evidence(&self, incident: &mut Incident, firing: &Firing<'a>) {
        let (trigger, seen) = (firing.trigger, &firing.evidence);
        let is_same = |known: &Evidence| {
            known.trigger == trigger.name && known.definition.as_ref().is_none_or(|it| *it == trigger.definition)
        };
        if let Some(known) = incident.evidence.iter_mut().find(|known| is_same(known)) {
            known.last_at = Some(seen.at);
            known.count = known.count.saturating_add(1);
            return;
        }
        if incident.evidence.len() >= MOST_EVIDENCE {
            // What is declared is never dropped, nor what the incident began with.
            let declared = &self.case.declaration.triggers;
            let is_declared =
                |it: &Evidence| declared.iter().any(|trigger| Some(&trigger.definition) == it.definition.as_ref());
            let outdated = incident.evidence.iter().skip(1).position(|it| !is_declared(it));
            outdated.map(|index| incident.evidence.remove(index + 1));
        }
        incident.evidence.push(seen.clone());
    }

    /// What a trigger does now: its action, or `otherwise` where a rollback has no suspect or no target, or where the
    /// workload cannot be acted on so.
    fn choose(&self, trigger: &Trigger) -> Choice {
        let instead = |why: String| self.instead(trigger, &why);
        if trigger.action == TriggerAction::ScaleDown
            && let Some(why) = self.cannot_scale_down()
        {
            return instead(why);
        }
        if trigger.action != TriggerAction::Rollback {
            let because = format!("{:?} is declared by trigger {}", trigger.action, trigger.name);
            return Choice { action: trigger.action, because, suspect: None, target: None };
        }
        let Some(target) = self.ledger.rollback_target.clone() else {
            return instead("there is no known-good release to roll back to".to_owned());
        };
        if let Some(why) = self.cannot_roll_back(&target) {
            return instead(why);
        }
        if let Some(reason) = self.unsafe_to_cross(&target) {
            return instead(format!("rolling back is declared unsafe ({reason})"));
        }
        match self.find_suspect(trigger, &target) {
            Ok(suspect) => Choice {
                action: TriggerAction::Rollback,
                because: format!("change {}{} is blamed", suspect.change, to_release(suspect.name())),
                suspect: Some(suspect),
                target: Some(target),
            },
            Err(why) => instead(why),
        }
    }

    /// `otherwise`, or a hold on changes where that cannot be done either.
    fn instead(&self, trigger: &Trigger, why: &str) -> Choice {
        let hindrance = self.cannot_scale_down().filter(|_| trigger.otherwise == TriggerAction::ScaleDown);
        let action = if hindrance.is_some() { TriggerAction::HoldChanges } else { trigger.otherwise };
        let also = hindrance.filter(|also| also != why).map(|also| format!("; {also}")).unwrap_or_default();
        let because = format!("{action:?} instead of {:?}: {why}{also}", trigger.action);
        Choice { action, because, suspect: None, target: None }
    }

    /// The name of an incident: the seed tells it from all others of the pilot.
    fn incident_id(seed: &Value, name: &str) -> String {
        let mut hash = digest::digest(seed);
        hash.truncate(8);
        format!("{name}-{hash}")
    }
}

/// Replicas that remain after a scale-down; shown only where some do.
fn some_left(replicas: i32) -> Option<i32> {
    (replicas > 0).then_some(replicas)
}
