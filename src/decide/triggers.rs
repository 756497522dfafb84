//! Which triggers fire now: edges, latches and timers.
//!
//! A trigger fires on the edge: once its condition has held for its `for`, on fresh data (`lateness.rs` says what
//! becomes of gaps), and was asked a second time where users would feel the act. It is then latched for the release until
//! it has been clear for `clearAfter`. For a new release a latched SLO trigger is judged as if all had been well until
//! that release; other latched triggers wait until they are clear.

use jiff::Timestamp;

use super::Timer;
use super::condition::{Form, State};
use super::lateness::is_forgotten;
use super::turn::Turn;
use crate::api::incident::{Evidence, Latch};
use crate::api::trigger::TriggerAction;
use crate::declaration::{Condition, Trigger};

/// A trigger that fires now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Firing<'a> {
    pub(super) trigger: &'a Trigger,
    pub(super) evidence: Evidence,
}

impl<'a> Turn<'a> {
    /// Reads all triggers, moves their timers and latches on, and returns those that would fire.
    pub(super) fn read_triggers(&mut self) -> Vec<Firing<'a>> {
        let mut firing = Vec::new();
        for trigger in &self.case.declaration.triggers {
            if let Some(evidence) = self.read_trigger(trigger) {
                firing.push(Firing { trigger, evidence });
            }
        }
        firing
    }

    /// Latches a trigger that fired.
    pub(super) fn latch(&mut self, trigger: &Trigger) {
        self.latch_for(trigger, self.payload().to_owned());
    }

    fn latch_for(&mut self, trigger: &Trigger, payload: String) {
        self.ledger.latches.retain(|latch| latch.trigger != trigger.name);
        let (trigger, definition) = (trigger.name.clone(), Some(trigger.definition.clone()));
        self.ledger.latches.push(Latch { trigger, definition, payload, since: self.case.now });
    }

    /// Latches for the release that was rolled back what still holds because of it, so that the one that was put
    /// back is judged by what it does itself. A trigger that holds changes goes on asking for that until it is clear.
    pub(super) fn latch_what_remains_of(&mut self, payload: &str) {
        for trigger in &self.case.declaration.triggers {
            if !has_own_release_form(trigger) {
                continue;
            }
            let form = Form::at(self.case.now);
            let is_latched = self.ledger.latches.iter().any(|latch| latch.trigger == trigger.name);
            let acts = trigger.action != TriggerAction::HoldChanges;
            if is_latched || (acts && matches!(self.condition(trigger, form), State::Holds(_))) {
                self.latch_for(trigger, payload.to_owned());
            }
        }
    }

    fn read_trigger(&mut self, trigger: &Trigger) -> Option<Evidence> {
        let now = self.case.now;
        self.release_latch_when_clear(trigger);
        let since = match self.form_of(trigger) {
            Watch::Silent => return None,
            Watch::Plain => None,
            Watch::Since(instant) => Some(instant),
        };
        let form = Form { at: now, since, confirm: false };
        let state = self.condition(trigger, form);
        let held_since = self.note_hold(trigger, &state);
        let State::Holds(text) = state else { return None };
        let fires_at = held_since? + trigger.hold_for;
        if now < fires_at {
            self.evaluate_again_at(fires_at);
            return None;
        }
        if is_destructive(trigger)
            && !matches!(self.condition(trigger, Form { confirm: true, ..form }), State::Holds(_))
        {
            return None;
        }
        let (trigger, definition) = (trigger.name.clone(), Some(trigger.definition.clone()));
        Some(Evidence { trigger, definition, at: now, last_at: None, count: 1, text })
    }

    /// How a trigger is to be read for the release that runs.
    fn form_of(&self, trigger: &Trigger) -> Watch {
        let Some(latch) = self.ledger.latches.iter().find(|latch| latch.trigger == trigger.name) else {
            return Watch::Plain;
        };
        match &self.whole.admitted {
            // A later change to the same release is a new one; what a rolled-back release did until its latch is not
            // the restored one's.
            Some(admitted)
                if has_own_release_form(trigger)
                    && (admitted.payload != latch.payload || admitted.at > latch.since) =>
            {
                Watch::Since(admitted.at.max(latch.since))
            }
            _ => Watch::Silent,
        }
    }

    fn release_latch_when_clear(&mut self, trigger: &Trigger) {
        let is_latched = self.ledger.latches.iter().any(|latch| latch.trigger == trigger.name);
        if !is_latched {
            return;
        }
        let is_clear = self.condition(trigger, Form::at(self.case.now)) == State::Clear;
        let now = self.case.now;
        let timer = self.timer(trigger);
        timer.clear_since = is_clear.then(|| timer.clear_since.unwrap_or(now));
        if timer.clear_since.is_some_and(|since| now >= since + trigger.clear_after) {
            timer.clear_since = None;
            self.ledger.latches.retain(|latch| latch.trigger != trigger.name);
        }
    }

    /// Moves the timer of `for` on and says since when the condition has held. While it is Unknown the timer rests: it
    /// neither counts that time nor forgets what was seen before.
    fn note_hold(&mut self, trigger: &Trigger, state: &State) -> Option<Timestamp> {
        let (now, payload) = (self.case.now, self.payload().to_owned());
        let timer = self.timer(trigger);
        if timer.payload != payload {
            *timer = Timer { payload, clear_since: timer.clear_since, ..Timer::default() };
        }
        match state {
            State::Holds(_) => {
                let before = timer.clone();
                let since = Some(self.held_since(&before));
                let timer = self.timer(trigger);
                (timer.holds_since, timer.held_at) = (since, Some(now));
                since
            }
            State::Clear => {
                (timer.holds_since, timer.held_at) = (None, None);
                None
            }
            State::Unknown(_) => {
                if timer.held_at.is_some_and(|at| is_forgotten(at, now)) {
                    (timer.holds_since, timer.held_at) = (None, None);
                }
                None
            }
        }
    }

    fn timer(&mut self, trigger: &Trigger) -> &mut Timer {
        self.ledger.memory.timers.entry(trigger.definition.clone()).or_default()
    }
}

enum Watch {
    /// As declared.
    Plain,
    /// In its own-release form.
    Since(Timestamp),
    /// Not at all: it has fired and not been clear since.
    Silent,
}

const fn has_own_release_form(trigger: &Trigger) -> bool {
    matches!(trigger.when, Condition::ErrorBudget { .. } | Condition::BurnRate { .. })
}

fn is_destructive(trigger: &Trigger) -> bool {
    trigger.action >= TriggerAction::Rollback || trigger.otherwise >= TriggerAction::Rollback
}
