//! Decisions, where no timeline tells of them.

use jiff::SignedDuration;
use pilotguard::api::decision::{DecisionPhase, DecisionType};
use pilotguard::decide::decisions::refuse_without_pilot;
use pilotguard::observation::PilotDecision;

use crate::pilots::zero;

/// A Decision and its Pilot may come in one apply, in any order; later nobody else would judge it.
#[test]
fn a_decision_without_a_pilot_is_refused_after_a_minute() {
    let decision = |phase| PilotDecision {
        name: "d".to_owned(),
        type_: DecisionType::HoldChanges,
        incident: None,
        payload: None,
        change: None,
        until: None,
        fix: false,
        reason: "errors".to_owned(),
        by: None,
        is_record: false,
        origin: None,
        received_at: None,
        created_at: zero(),
        follows: None,
        quarantined: Vec::new(),
        phase,
    };
    let refused =
        |phase, seconds| refuse_without_pilot(&decision(phase), "chekout", zero() + SignedDuration::from_secs(seconds));
    assert_eq!(refused(None, 59), None);
    assert!(refused(None, 60).is_some_and(|why| why.contains("no Pilot in this namespace is named chekout")));
    assert_eq!(refused(Some(DecisionPhase::Accepted), 3_600), None);
}
