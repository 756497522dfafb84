//! What is kept of a pilot's history answers as all of it would, however long it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pilotguard::api::change_record::{Approval, ApprovalOwed, ChangeClass, Outcome};
use pilotguard::api::decision::{DecisionPhase, DecisionType, Requester};
use pilotguard::api::incident::IncidentOrigin;
use pilotguard::api::workload::{PartKind, PartReference, ReleasePart};
use pilotguard::decide::history::{
    DECIDED_CHANGES, JUDGED_DECISIONS, NEWEST_CHANGES, RECORDS, relevant_changes, relevant_decisions, with_unjudged,
};
use pilotguard::decide::judge::rolled_back_before;
use pilotguard::decide::{Case, Ledger};
use pilotguard::declaration::Declaration;
use pilotguard::observation::{Change, Observation, PilotDecision};
use pilotguard::release::vector::release_payload;
use proptest::prelude::*;
use serde_json::json;

use crate::pilots::{pilot, source, zero};
use crate::world::{images_of, payload_of, template_of};

/// What the operator keeps of what is seen.
pub fn bounded(seen: &Observation) -> Observation {
    Observation {
        changes: Arc::new(relevant_changes(seen.changes.to_vec())),
        decisions: Arc::new(relevant_decisions(seen.decisions.to_vec())),
        ..seen.clone()
    }
}

/// What an act rests on: what is seen of the past, and the Decisions that nobody has judged now.
pub fn live_decisions(seen: &Observation, live: &Observation) -> Arc<Vec<PilotDecision>> {
    let unjudged = live.decisions.iter().filter(|decision| decision.is_unjudged()).cloned().collect();
    Arc::new(with_unjudged(&seen.decisions, unjudged))
}

/// Chance that repeats itself.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// When the change or Decision of this number was made: they end half a day before the timelines begin.
fn at(number: i64, length: i64) -> Timestamp {
    zero() - SignedDuration::from_hours(12 * (length - number))
}

fn part(workload: &PartReference, release: &str) -> ReleasePart {
    let (PartReference { kind, name }, images) = (workload.clone(), images_of(workload, release));
    ReleasePart { kind, name, template: template_of(release), payload: payload_of(release), images }
}

fn change(number: i64, started_at: Timestamp, parts: &[ReleasePart], outcome: Outcome) -> Change {
    Change {
        name: format!("past-{number:05}"),
        class: ChangeClass::Normal,
        payload: release_payload(parts),
        parts: parts.to_vec(),
        started_at,
        completed_at: (outcome != Outcome::Aborted).then(|| started_at + SignedDuration::from_mins(1)),
        outcome,
        approval_owed: None,
        approval: None,
    }
}

/// Changes of this number: all are over, and some still owe an approval.
pub fn past_changes(workloads: &[PartReference], length: i64, seed: u64) -> Vec<Change> {
    let mut dice = Chance(seed);
    let mut parts: Vec<ReleasePart> = workloads.iter().map(|workload| part(workload, "v1")).collect();
    let outcomes = [Outcome::Succeeded, Outcome::Failed, Outcome::Superseded, Outcome::Aborted];
    let draw = |number| {
        let moved = workloads.len().min(usize::try_from(dice.below(20) / 10).unwrap());
        if let Some(workload) = workloads.get(moved) {
            let release = format!("v{}", dice.below(6));
            parts[moved] = part(workload, &release);
        }
        let mut change = change(number, at(number, length), &parts, dice.one_of(&outcomes));
        change.class = dice.one_of(&[ChangeClass::Normal, ChangeClass::Rollback, ChangeClass::Unauthorized]);
        if dice.below(20) == 0 {
            change.class = ChangeClass::Emergency;
            change.approval_owed = Some(ApprovalOwed { from: Vec::new(), not_from: Some("dev".to_owned()) });
        } else if dice.below(10) == 0 {
            let decision = format!("approve-{number}");
            change.approval = Some(Approval { by: "ada".to_owned(), at: change.started_at, decision });
        }
        change
    };
    (0..length).map(draw).collect()
}

fn decision(number: i64, created_at: Timestamp, type_: DecisionType, phase: Option<DecisionPhase>) -> PilotDecision {
    PilotDecision {
        name: format!("past-{number:05}"),
        type_,
        incident: Some(format!("incident-{number}")),
        payload: None,
        change: None,
        until: None,
        fix: false,
        reason: "the shop is down".to_owned(),
        by: Some(Requester { user: "ada".to_owned(), groups: Vec::new() }),
        is_record: false,
        origin: None,
        created_at,
        received_at: None,
        follows: None,
        quarantined: Vec::new(),
        phase,
    }
}

fn record(number: i64, created_at: Timestamp, origin: IncidentOrigin, quarantined: &[&str]) -> PilotDecision {
    let decision = decision(number, created_at, DecisionType::Rollback, None);
    let quarantined = quarantined.iter().map(|release| payload_of(release)).collect();
    PilotDecision { is_record: true, origin: Some(origin), quarantined, ..decision }
}

/// Decisions of this number: records of incidents, and those of people, all judged.
pub fn past_decisions(length: i64, seed: u64) -> Vec<PilotDecision> {
    let mut chance = Chance(seed);
    let origins = [IncidentOrigin::Trigger, IncidentOrigin::Person, IncidentOrigin::Unauthorized];
    let types = [DecisionType::Readmit, DecisionType::Readmit, DecisionType::Override, DecisionType::HoldChanges];
    let draw = |number| {
        let created_at = at(number, length);
        let release = format!("v{}", 2 + chance.below(40));
        if chance.below(2) == 0 {
            let quarantined = if chance.below(2) == 0 { vec![release.as_str()] } else { Vec::new() };
            return record(number, created_at, chance.one_of(&origins), &quarantined);
        }
        let phase = chance.one_of(&[DecisionPhase::Accepted, DecisionPhase::Accepted, DecisionPhase::Refused]);
        let decision = decision(number, created_at, chance.one_of(&types), Some(phase));
        let until = Some(created_at + SignedDuration::from_hours(4));
        PilotDecision { payload: Some(payload_of(&release)), until, ..decision }
    };
    (0..length).map(draw).collect()
}

fn workloads() -> Vec<PartReference> {
    ["checkout", "worker"].map(|name| PartReference { kind: PartKind::Deployment, name: name.to_owned() }).to_vec()
}

fn names(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.name.as_str()).collect()
}

proptest! {
    #![proptest_config(crate::properties::bounded(40))]

    /// An index takes up some events after others, and begins anew with each restart: both come to the same.
    #[test]
    fn what_is_kept_does_not_depend_on_how_it_arrived(seed in any::<u64>(), length in 1..700_i64, some in 10..100_usize) {
        let (changes, decisions) = (past_changes(&workloads(), length, seed), past_decisions(length, seed));
        let at_once = relevant_changes(changes.clone());
        let mut little_by_little = Vec::new();
        for some in changes.chunks(some) {
            little_by_little = relevant_changes([little_by_little, some.to_vec()].concat());
        }
        prop_assert_eq!(names(&little_by_little), names(&at_once));
        prop_assert!(at_once.is_sorted_by_key(|change| change.started_at));
        let at_once = relevant_decisions(decisions.clone());
        let mut little_by_little = Vec::new();
        for some in decisions.chunks(some) {
            little_by_little = relevant_decisions([little_by_little, some.to_vec()].concat());
        }
        prop_assert_eq!(little_by_little, at_once);
    }

    #[test]
    fn whatever_was_rolled_back_is_kept_out_however_long_ago(seed in any::<u64>(), length in 1..700_i64) {
        let declaration = Declaration::parse(&pilot(&json!({})), &jiff::tz::TimeZoneDatabase::bundled()).unwrap();
        let ledger = Ledger::default();
        let rolled_back = |seen: &Observation| {
            let case = Case { declaration: &declaration, source: source(15, 0), seen, ledger: &ledger, now: zero() };
            rolled_back_before(&case)
        };
        let decisions = Arc::new(past_decisions(length, seed));
        let seen = Observation { decisions, ..Observation::default() };
        prop_assert_eq!(rolled_back(&bounded(&seen)), rolled_back(&seen));
    }
}

#[test]
fn ten_years_of_changes_and_decisions_are_bounded() {
    let changes = relevant_changes(past_changes(&workloads(), 10_000, 1));
    let settled = changes.iter().filter(|change| change.approval_owed.is_none()).count();
    // Of two parts: their last moves, and the last successes of six releases each.
    assert!(settled <= DECIDED_CHANGES + 3 * NEWEST_CHANGES + 2 * (2 + 6), "{settled} changes are kept");
    let decisions = relevant_decisions(past_decisions(10_000, 1)).len();
    // Of forty releases: the last record and the last Readmit.
    assert!(decisions <= 3 * RECORDS + 2 * JUDGED_DECISIONS + 2 * 40, "{decisions} Decisions are kept");
}

/// Whatever is still to be done is kept, however old it is and however much of it there is.
#[test]
fn what_is_open_is_kept_however_old_it_is() {
    let parts = [part(&workloads()[0], "v1")];
    let mut changes: Vec<Change> =
        (0..2_000).map(|number| change(number, at(number, 2_000), &parts, Outcome::Succeeded)).collect();
    changes[3].outcome = Outcome::Pending;
    changes[4].approval_owed = Some(ApprovalOwed { from: Vec::new(), not_from: None });
    // Approved a moment ago by a Decision that is judged once this is seen.
    changes[5].approval = Some(Approval { by: "ada".to_owned(), at: zero(), decision: "approve".to_owned() });
    let kept = relevant_changes(changes);
    for name in ["past-00003", "past-00004", "past-00005"] {
        assert!(names(&kept).contains(&name), "{name}");
    }
    let decisions = (0..2_000).map(|number| decision(number, at(number, 2_000), DecisionType::HoldChanges, None));
    assert_eq!(relevant_decisions(decisions.collect()).len(), 2_000, "nobody has answered them yet");
}

/// A hundred failures in a row fire a trigger, whatever lay between them and whatever is seen of them.
#[test]
fn rollbacks_and_withdrawn_changes_crowd_out_no_failures() {
    let parts = [part(&workloads()[0], "v1")];
    let changes: Vec<Change> = (0..1_200)
        .map(|number| match number % 6 {
            0 => change(number, at(number, 1_200), &parts, Outcome::Failed),
            1 => {
                Change { class: ChangeClass::Rollback, ..change(number, at(number, 1_200), &parts, Outcome::Succeeded) }
            }
            2 => change(number, at(number, 1_200), &parts, Outcome::Superseded),
            _ => change(number, at(number, 1_200), &parts, Outcome::Aborted),
        })
        .collect();
    let kept = relevant_changes(changes.clone());
    let failed = kept.iter().filter(|change| change.outcome == Outcome::Failed).count();
    assert!(failed > 100, "{failed} of 200 failures are kept");
    assert_eq!(names(&kept)[kept.len() - 10..], names(&changes)[1_190..], "the status shows the newest ten");
}

/// The change of a part that moved years ago, and the successes from which its snapshots recover a lost note.
#[test]
fn what_a_part_ran_last_is_kept_however_often_others_moved() {
    let [checkout, worker] = &workloads()[..] else { panic!("two workloads") };
    let changes: Vec<Change> = (0..2_000)
        .map(|number| {
            let of_worker = if number < 10 { "w1" } else { "w2" };
            let mut parts = [part(checkout, &format!("v{number}")), part(worker, of_worker)];
            if number < 1_000 {
                // By an operator of an older version.
                parts[1].images.clear();
            }
            let outcome = if number == 10 { Outcome::Superseded } else { Outcome::Succeeded };
            change(number, at(number, 2_000), &parts, outcome)
        })
        .collect();
    let kept = relevant_changes(changes);
    let kept: BTreeSet<&str> = names(&kept).into_iter().collect();
    assert!(kept.contains("past-00010"), "it moved worker to what runs");
    assert!(kept.contains("past-00009"), "the last success of w1");
}

/// The record that keeps a policy from undoing the same change again is not crowded out by triggers.
#[test]
fn records_of_one_origin_crowd_out_no_others() {
    let mut decisions = vec![record(0, at(0, 1_000), IncidentOrigin::Unauthorized, &[])];
    decisions.extend((1..1_000).map(|number| record(number, at(number, 1_000), IncidentOrigin::Trigger, &["v2"])));
    let kept = relevant_decisions(decisions);
    assert_eq!((kept.len(), kept[0].origin), (1 + RECORDS, Some(IncidentOrigin::Unauthorized)));
}

/// However many Overrides are accepted in an hour, each counts until it ends.
#[test]
fn overrides_count_until_they_end() {
    let accepted = Some(DecisionPhase::Accepted);
    let minute = |number| zero() - SignedDuration::from_mins(600 - number);
    let decisions: Vec<PilotDecision> =
        (0..600).map(|number| decision(number, minute(number), DecisionType::Override, accepted)).collect();
    let kept = relevant_decisions(decisions);
    let in_time = kept.iter().filter(|decision| decision.created_at > zero() - SignedDuration::from_hours(4)).count();
    assert_eq!(in_time, 239);
}

/// What was judged or deleted since the watch last reported is not followed; what is new is.
#[test]
fn an_act_rests_on_the_decisions_that_are_not_judged_now() {
    let seen = [
        decision(1, at(1, 4), DecisionType::HoldChanges, Some(DecisionPhase::Accepted)),
        decision(2, at(2, 4), DecisionType::Rollback, None),
        record(3, at(3, 4), IncidentOrigin::Trigger, &[]),
    ];
    let new = decision(4, at(4, 4), DecisionType::ScaleDown, None);
    let live = with_unjudged(&seen, vec![new.clone()]);
    assert_eq!(live, [seen[0].clone(), seen[2].clone(), new]);
}
