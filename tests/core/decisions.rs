//! Decisions, where no timeline tells of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use pilotguard::api::decision::{DecisionPhase, DecisionType, Requester};
use pilotguard::decide::decisions::refuse_without_pilot;
use pilotguard::decide::history::JUDGED_AT_ONCE;
use pilotguard::decide::pilot::decide;
use pilotguard::decide::plan::Effect;
use pilotguard::decide::{Case, Ledger};
use pilotguard::observation::PilotDecision;
use serde_json::json;

use crate::operator::Operator;
use crate::pilots::{pilot, source, zero};
use crate::world::World;

fn decision(name: &str, type_: DecisionType, by: &str) -> PilotDecision {
    PilotDecision {
        name: name.to_owned(),
        type_,
        incident: None,
        payload: None,
        change: None,
        until: None,
        fix: false,
        reason: "errors".to_owned(),
        by: Some(Requester { user: by.to_owned(), groups: Vec::new() }),
        is_record: false,
        origin: None,
        received_at: None,
        created_at: zero(),
        follows: None,
        quarantined: Vec::new(),
        phase: None,
    }
}

/// A Decision and its Pilot may come in one apply, in any order; later nobody else would judge it.
#[test]
fn a_decision_without_a_pilot_is_refused_after_a_minute() {
    let decision = |phase| PilotDecision { phase, ..decision("d", DecisionType::HoldChanges, "mallory") };
    let refused =
        |phase, seconds| refuse_without_pilot(&decision(phase), "chekout", zero() + SignedDuration::from_secs(seconds));
    assert_eq!(refused(None, 59), None);
    assert!(refused(None, 60).is_some_and(|why| why.contains("no Pilot in this namespace is named chekout")));
    assert_eq!(refused(Some(DecisionPhase::Accepted), 3_600), None);
}

/// A healthy pilot, and so many Decisions that change nothing.
fn flooded(by: &str, type_: DecisionType, length: usize) -> (World, Operator) {
    let mut world = World::new(&pilot(&json!({})), source(15, 0), zero(), zero());
    world.create_deployment("checkout", "v1", 3);
    let flood = |number| PilotDecision {
        incident: Some("fast-burn-00000000".to_owned()),
        ..decision(&format!("flood-{number:05}"), type_, by)
    };
    world.decisions = (0..length).map(flood).collect();
    (world, Operator::default())
}

fn judgement(effect: &Effect) -> Option<(&str, DecisionPhase)> {
    match effect {
        Effect::JudgeDecision { name, phase, .. } => Some((name, *phase)),
        _ => None,
    }
}

/// Whatever floods in, a Decision that protects the service, or that an owner took, is heard at once.
#[test]
fn a_flood_of_decisions_delays_nobody_who_must_be_heard() {
    for (case, flood, (type_, by)) in [
        ("an owner's among milder ones", DecisionType::HoldChanges, (DecisionType::ScaleDown, "ada")),
        ("anybody's among milder ones", DecisionType::HoldChanges, (DecisionType::ScaleDown, "mallory")),
        ("an owner's among equals", DecisionType::ScaleDown, (DecisionType::ScaleDown, "ada")),
        ("an owner's among stricter ones", DecisionType::ScaleDown, (DecisionType::HoldChanges, "ada")),
    ] {
        let (mut world, mut operator) = flooded("grumpy", flood, 10_000);
        world.decisions.insert(5_000, decision("word", type_, by));
        let look = operator.look(&mut world);
        let judged: Vec<_> = look.arrived.iter().filter_map(judgement).collect();
        assert!(judged.contains(&("word", DecisionPhase::Accepted)), "{case}: {judged:?}");
        let intent = world.status.incident.as_ref().and_then(|incident| incident.intent.as_ref());
        assert_eq!(intent.and_then(|intent| intent.decision.as_deref()), Some("word"), "{case}");
    }
}

/// Each evaluation judges a few of them, the oldest in any case, and none waits for ever.
#[test]
fn ten_thousand_decisions_are_judged_in_bounded_steps() {
    let (world, _) = flooded("grumpy", DecisionType::Rollback, 10_000);
    let (mut seen, ledger) = (world.observe(), Ledger::default());
    for step in 0..10_000 / JUDGED_AT_ONCE {
        let now = zero() + SignedDuration::from_secs(step.try_into().unwrap());
        let case = Case { declaration: &world.declaration, source: world.source, seen: &seen, ledger: &ledger, now };
        let effects = decide(&case).effects;
        let judged: BTreeSet<&str> = effects.iter().filter_map(judgement).map(|(name, _)| name).collect();
        assert!(judged.len() <= 3 * JUDGED_AT_ONCE, "{} at once", judged.len());
        let oldest = seen.decisions.iter().filter(|it| it.is_unjudged()).take(JUDGED_AT_ONCE);
        assert!(oldest.map(|it| it.name.as_str()).all(|name| judged.contains(name)), "{judged:?}");
        for decision in Arc::make_mut(&mut seen.decisions) {
            if judged.contains(decision.name.as_str()) {
                decision.phase = Some(DecisionPhase::Refused);
            }
        }
        if !seen.decisions.iter().any(PilotDecision::is_unjudged) {
            return;
        }
    }
    panic!("some are never judged");
}
