//! The API server's clock and the operator's are never compared with each other.

use jiff::SignedDuration;
use pilotguard::api::decision::{DecisionPhase, DecisionType};
use pilotguard::decide::plan::Effect;
use serde_json::json;

use crate::operator::Operator;
use crate::pilots::{pilot, source, zero};
use crate::world::World;

/// What becomes of a Decision to hold changes that was written so many seconds after a release.
fn answer(written_after: i64, slow_by: i64) -> (DecisionPhase, String) {
    let mut world = World::new(&pilot(&json!(null)), source(15, 0), zero(), zero() - SignedDuration::from_hours(240));
    world.api_server_is_slow_by = SignedDuration::from_secs(slow_by);
    world.create_deployment("checkout", "v1", 3);
    world.per_second = 10.0;
    let mut operator = Operator::default();
    operator.look(&mut world);
    let between = SignedDuration::from_secs(written_after.abs());
    world.pass_to(world.now + SignedDuration::from_mins(1));
    for is_release in if written_after >= 0 { [true, false] } else { [false, true] } {
        if is_release {
            world.apply("checkout", "v2", "dev").unwrap();
        } else {
            world.decide(DecisionType::HoldChanges, "dev", (None, None, false));
        }
        world.pass_to(world.now + between);
    }
    let plan = operator.look(&mut world).plan;
    let judged = plan.effects.into_iter().find_map(|effect| match effect {
        Effect::JudgeDecision { phase, message, .. } => Some((phase, message)),
        _ => None,
    });
    judged.expect("the Decision is judged")
}

#[test]
fn a_decision_speaks_of_what_ran_when_it_was_written_whatever_the_api_server_takes_for_the_time() {
    for slow_by in [-600, -5, 0, 5, 600] {
        let (phase, message) = answer(2, slow_by);
        assert_eq!(phase, DecisionPhase::Accepted, "written 2 s after the release, clock {slow_by} s slow: {message}");
        let (phase, message) = answer(-2, slow_by);
        assert_eq!(phase, DecisionPhase::Refused, "written 2 s before it, clock {slow_by} s slow");
        assert!(message.starts_with("another release was rolled out after this Decision"), "{message}");
    }
}
