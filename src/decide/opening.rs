//! How an incident begins: a trigger opens it, joins it, or a person's word opens it; and what is chosen then.

use super::incident::action_of;
use super::triggers::Firing;
use super::turn::Turn;
use crate::api::decimal::Decimal;
use crate::api::decision::DecisionType;
use crate::api::incident::{DecidedBy, FreshReading, Incident, IncidentStage, Intent, RollbackTarget, Suspect};
use crate::api::trigger::TriggerAction;
use crate::declaration::Trigger;
use crate::observation::PilotDecision;
use crate::release::digest;
use serde_json::json;

/// The trigger name of an incident that a person opened.
pub const OPENED_BY_PERSON: &str = "person";

/// Evidence beyond this is not kept.
const MOST_EVIDENCE: usize = 16;

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
            id: self.incident_id(&trigger.name),
            trigger: trigger.name.clone(),
            opened_at: now,
            stage: IncidentStage::DecisionWindow,
            deadline: now + trigger.decision_window,
            declared: trigger.action,
            action: choice.action,
            scale_down_to: trigger.scale_down_to,
            because: choice.because,
            evidence: vec![firing.evidence.clone()],
            suspect: choice.suspect,
            target: choice.target,
            burn_at_trip: self.burn_of(trigger).and_then(|burn| Decimal::rounded(burn, 4)),
            // The condition was fresh and held; only a fresh answer to the contrary says that it is over.
            last_fresh: Some(FreshReading { since: now, burning: suffers.fresh().unwrap_or(true) }),
            continued: None,
            intent: None,
            paged: None,
            closing: None,
        }
    }

    pub(super) fn open_by_word(&mut self, word: &PilotDecision) -> Option<Incident> {
        if word.type_ == DecisionType::Resume {
            return self.reopen_contained(word);
        }
        let action = action_of(word.type_)?;
        Some(self.begin(self.incident_id(OPENED_BY_PERSON), OPENED_BY_PERSON, action, word.reason.clone()))
    }

    /// An incident that a rule of the declaration opens about a change, to go back; `None` where that was decided about
    /// this very change before.
    pub(super) fn open_by_policy(&self, rule: &str, change: &str, because: &str) -> Option<Incident> {
        let mut hash = digest::digest(&json!([self.case.declaration.pilot.uid, rule, change]));
        hash.truncate(8);
        let id = format!("{rule}-{hash}");
        let is_decided = |record: &PilotDecision| record.is_record && record.incident.as_ref() == Some(&id);
        if self.case.seen.decisions.iter().any(is_decided) {
            return None;
        }
        Some(self.begin(id, rule, TriggerAction::Rollback, because.to_owned()))
    }

    /// An incident that no trigger opened: what is to be done is known at once.
    fn begin(&self, id: String, trigger: &str, action: TriggerAction, because: String) -> Incident {
        Incident {
            id,
            trigger: trigger.to_owned(),
            opened_at: self.case.now,
            stage: IncidentStage::DecisionWindow,
            deadline: self.case.now,
            declared: action,
            action,
            scale_down_to: 0,
            because,
            evidence: Vec::new(),
            suspect: None,
            target: self.ledger.rollback_target.clone(),
            burn_at_trip: None,
            last_fresh: None,
            continued: None,
            intent: None,
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
        incident.scale_down_to = contained.replicas;
        incident.intent = Some(Intent {
            action: TriggerAction::ScaleDown,
            decided_by: DecidedBy::Person,
            decision: Some(word.name.clone()),
            at: self.case.now,
            done_at: Some(self.case.now),
            workloads: Vec::new(),
        });
        self.close(&mut incident, DecidedBy::Person, Some(&word.name), format!("resumed: {}", word.reason));
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
        if incident.evidence.len() < MOST_EVIDENCE {
            incident.evidence.push(firing.evidence.clone());
        }
        let deadline = self.case.now + trigger.decision_window;
        if incident.stage == IncidentStage::DecisionWindow {
            incident.deadline = incident.deadline.min(deadline);
        }
        incident.declared = incident.declared.max(trigger.action);
        let choice = self.choose(trigger);
        if choice.action > incident.action {
            if incident.stage == IncidentStage::Standing {
                incident.stage = IncidentStage::DecisionWindow;
                incident.deadline = deadline;
            }
            incident.action = choice.action;
            incident.because = choice.because;
            incident.suspect = choice.suspect.or(incident.suspect);
            incident.target = choice.target.or(incident.target);
            incident.scale_down_to = trigger.scale_down_to;
        }
        incident
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
            return instead("there is no known-good release to go back to".to_owned());
        };
        if let Some(why) = self.cannot_roll_back(&target) {
            return instead(why);
        }
        if let Some(reason) = self.unsafe_to_cross(&target) {
            return instead(format!("going back is declared unsafe ({reason})"));
        }
        match self.find_suspect(trigger, &target) {
            Ok(suspect) => Choice {
                action: TriggerAction::Rollback,
                because: format!("change {} is blamed", suspect.change),
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

    fn incident_id(&self, trigger: &str) -> String {
        let seed = json!([self.case.declaration.pilot.uid, trigger, self.case.now.to_string()]);
        let mut hash = digest::digest(&seed);
        hash.truncate(8);
        format!("{trigger}-{hash}")
    }
}
