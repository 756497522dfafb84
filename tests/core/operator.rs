//! The shell around the core, simulated: it gathers, asks, decides, stores, carries out, and may fail at every
//! seam between them.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use pilotguard::api::status::PilotStatus;
use pilotguard::decide::pilot::decide;
use pilotguard::decide::plan::{Effect, Plan};
use pilotguard::decide::{Case, Ledger, Memory};
use pilotguard::observation::Observation;
use serde::Deserialize;

use crate::history::{bounded, live_decisions};
use crate::world::World;

/// No look may need more round trips to the metrics source.
const MOST_ROUNDS: usize = 4;

/// What goes wrong in one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    CrashBeforeWrite,
    CrashAfterWrite,
    /// The process dies after this number of effects.
    CrashAfterEffects(usize),
    /// The effect of this index never arrives; the rest of the look is given up.
    EffectLost(usize),
    /// The effect of this index arrives and its answer does not; the rest of the look is given up.
    AnswerLost(usize),
    /// Every effect is carried out twice.
    Twice,
    /// The effects are carried out in reverse order.
    Reversed,
    /// What is seen of the cluster is so many seconds old.
    Stale(i64),
}

#[derive(Default)]
pub struct Operator {
    /// What this process carries from look to look; none after a crash.
    ledger: Option<Ledger>,
    pub next_evaluation: Option<Timestamp>,
    views: VecDeque<(Timestamp, Observation)>,
    /// The seam at which the next evaluation fails.
    pub fault: Option<Fault>,
    /// What goes wrong later: after so many more looks each.
    pub faults: VecDeque<(usize, Fault)>,
    /// Looks come at least so far apart.
    pub apart: SignedDuration,
    pub rounds: usize,
    pub looks: usize,
}

/// What one evaluation did: the plan, and which of its effects arrived.
pub struct Look {
    pub plan: Plan,
    pub arrived: Vec<Effect>,
    /// Nothing failed, nothing was planned and nothing was written.
    pub is_settled: bool,
}

impl Operator {
    pub fn crash(&mut self) {
        self.ledger = None;
    }

    pub fn look(&mut self, world: &mut World) -> Look {
        self.looks += 1;
        let fault = self.fault.take().or_else(|| self.next_fault());
        let ledger = self.ledger.take().unwrap_or_else(|| Ledger::read(&world.status));
        let live = world.observe();
        self.remember(world.now, &live);
        let mut seen = match fault {
            Some(Fault::Stale(seconds)) => self.view_of(world.now - SignedDuration::from_secs(seconds)),
            _ => live.clone(),
        };
        let mut plan = self.ask_and_decide(world, &ledger, &mut seen);
        if plan.is_destructive() {
            // Such a plan must rest on a live reading of all that others write.
            let (changes, decisions) = (seen.changes.clone(), live_decisions(&seen, &live));
            seen = Observation { answers: seen.answers, changes, decisions, ..live };
            plan = self.ask_and_decide(world, &ledger, &mut seen);
        }
        self.next_evaluation = Some(world.now + plan.evaluate_again.max(self.apart));
        if fault == Some(Fault::CrashBeforeWrite) {
            return self.die(world, plan, Vec::new());
        }
        let before = std::mem::replace(&mut world.status, store(&plan.ledger));
        if fault == Some(Fault::CrashAfterWrite) {
            return self.die(world, plan, Vec::new());
        }
        let arrived = carry_out(world, &plan.effects, &seen, fault);
        if let Some(Fault::CrashAfterEffects(_)) = fault {
            return self.die(world, plan, arrived);
        }
        if !plan.effects.is_empty() {
            // A watch reports what was written.
            self.look_at(world.now + SignedDuration::from_secs(1));
        }
        let mut ledger = plan.ledger.clone();
        for effect in &plan.effects {
            let Some(key) = effect.storage_key().filter(|_| world.refuses_snapshots || fault.is_none()) else {
                continue;
            };
            let outcome = if world.refuses_snapshots { Err("request is too large".to_owned()) } else { Ok(()) };
            ledger.memory.note_storage(&key, outcome, world.now);
        }
        self.ledger = Some(ledger);
        let is_settled = fault.is_none() && plan.effects.is_empty() && before == world.status;
        Look { plan, arrived, is_settled }
    }

    fn next_fault(&mut self) -> Option<Fault> {
        let (wait, _) = self.faults.front_mut()?;
        if *wait > 0 {
            *wait -= 1;
            return None;
        }
        self.faults.pop_front().map(|(_, fault)| fault)
    }

    /// Looks no later than then.
    pub fn look_at(&mut self, instant: Timestamp) {
        if self.apart.is_zero() {
            self.next_evaluation = Some(self.next_evaluation.map_or(instant, |next| next.min(instant)));
        }
    }

    /// What would be planned now, without any of it being done.
    pub fn plan_again(&mut self, world: &mut World) -> (Ledger, Plan) {
        let ledger = self.ledger.clone().unwrap_or_else(|| Ledger::read(&world.status));
        let mut seen = world.observe();
        let plan = self.ask_and_decide(world, &ledger, &mut seen);
        (ledger, plan)
    }

    fn ask_and_decide(&mut self, world: &mut World, ledger: &Ledger, seen: &mut Observation) -> Plan {
        for round in 1..=MOST_ROUNDS + 1 {
            let case = Case { declaration: &world.declaration, source: world.source, seen, ledger, now: world.now };
            let plan = decide(&case);
            // Of a long history only a part is kept; it has to answer alike.
            let is_last = plan.ask.is_empty() && plan.rehearse.is_empty();
            let again = if is_last && seen.changes.len() > 100 {
                decide(&Case { seen: &bounded(seen), ..case })
            } else {
                decide(&case)
            };
            let is_same = plan.ask == again.ask
                && plan.rehearse == again.rehearse
                && plan.ledger == again.ledger
                && plan.effects == again.effects
                && plan.evaluate_again == again.evaluate_again;
            assert!(is_same, "the same case was decided differently");
            if is_last {
                self.rounds = self.rounds.max(round - 1);
                return plan;
            }
            for rehearsal in plan.rehearse {
                let landing = world.landing(&rehearsal);
                assert!(seen.landings.insert(rehearsal, landing).is_none(), "a rehearsal was asked for again");
            }
            for question in plan.ask {
                let answer = world.answer(&question);
                assert!(seen.answers.insert(question, answer).is_none(), "an answered question was asked again");
            }
        }
        panic!("more than {MOST_ROUNDS} rounds of questions");
    }

    fn die(&mut self, world: &World, plan: Plan, arrived: Vec<Effect>) -> Look {
        self.crash();
        self.look_at(world.now + SignedDuration::from_secs(2));
        Look { plan, arrived, is_settled: false }
    }

    fn remember(&mut self, now: Timestamp, live: &Observation) {
        self.views.push_back((now, live.clone()));
        while self.views.len() > 20 {
            self.views.pop_front();
        }
    }

    fn view_of(&self, instant: Timestamp) -> Observation {
        let (_, view) = self.views.iter().rfind(|(at, _)| *at <= instant).unwrap_or(&self.views[0]);
        view.clone()
    }
}

/// The durable part of a ledger as it comes back from the API server.
pub fn store(ledger: &Ledger) -> PilotStatus {
    let status = PilotStatus {
        incident: ledger.incident.clone(),
        latches: ledger.latches.clone(),
        release: ledger.release.clone(),
        rollback_target: ledger.rollback_target.clone(),
        budget_freeze: ledger.budget_freeze.clone(),
        slos: ledger.slos.clone(),
        ..PilotStatus::default()
    };
    let wire = serde_json::to_value(&status).expect("a status can be written");
    let back: PilotStatus = serde_json::from_value(wire).expect("and read");
    let read = Ledger::read(&back);
    assert_eq!(read, Ledger { memory: Memory::default(), ..ledger.clone() }, "storing a ledger changes it");
    back
}

fn carry_out(world: &mut World, effects: &[Effect], seen: &Observation, fault: Option<Fault>) -> Vec<Effect> {
    let mut arrived = Vec::new();
    let order: Vec<&Effect> =
        if fault == Some(Fault::Reversed) { effects.iter().rev().collect() } else { effects.iter().collect() };
    for (index, effect) in order.into_iter().enumerate() {
        if fault == Some(Fault::EffectLost(index)) || fault == Some(Fault::CrashAfterEffects(index)) {
            break;
        }
        if world.carry_out(effect, seen).is_ok() {
            arrived.push(effect.clone());
        }
        if fault == Some(Fault::Twice) {
            let _ = world.carry_out(effect, seen);
        }
        if fault == Some(Fault::AnswerLost(index)) {
            break;
        }
    }
    arrived
}
