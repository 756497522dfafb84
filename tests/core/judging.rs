//! The guards one by one, and what holds for all of them: rules only ever add up.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use pilotguard::api::change_record::{ChangeClass, Outcome};
use pilotguard::api::decision::Requester;
use pilotguard::api::incident::{Incident, IncidentStage, RollbackTarget, TargetPart};
use pilotguard::api::pilot::Mode;
use pilotguard::api::status::{BudgetFreezeStatus, BudgetVerdict, ReleaseState, ReleaseStatus};
use pilotguard::api::trigger::TriggerAction;
use pilotguard::api::workload::{PartKind, PartReference};
use pilotguard::decide::judge::judge;
use pilotguard::decide::proposal::{GitOps, Judgement, Operation, Proposal, Verdict};
use pilotguard::decide::{Case, Ledger};
use pilotguard::declaration::Declaration;
use pilotguard::observation::{Change, Observation, Workload};
use pilotguard::release::marks::{Contained, Marks};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::pilots::{pilot, source, zero};
use crate::story::{Event, Expectation, Story, play};

/// What a proposal is judged in.
#[derive(Clone, Debug)]
pub struct Place {
    pub over: Value,
    pub incident: Option<(IncidentStage, TriggerAction)>,
    pub quarantined: Vec<&'static str>,
    pub contained: Option<i32>,
    pub target: Option<&'static str>,
    /// How the budget stands that may hold changes, and whether it was found for another declaration.
    pub budget: Option<(BudgetVerdict, bool)>,
}

impl Place {
    pub fn plain() -> Self {
        Self { over: json!({}), incident: None, quarantined: Vec::new(), contained: None, target: None, budget: None }
    }

    pub fn judge(&self, proposal: &Proposal) -> Judgement {
        let zones = jiff::tz::TimeZoneDatabase::bundled();
        let declaration = Declaration::parse(&pilot(&self.over), &zones).unwrap();
        let marks = Marks {
            admitted: None,
            held: None,
            quarantined: self.quarantined.iter().map(|payload| (*payload).to_owned()).collect(),
            contained: self.contained.map(|replicas| Contained { incident: "burn-1".to_owned(), replicas }),
            parked_replicas: None,
        };
        let seen = Observation { workloads: vec![workload(marks)], ..Observation::default() };
        let ledger = Ledger {
            incident: self.incident.map(|(stage, action)| incident(stage, action)),
            rollback_target: self.target.map(|payload| RollbackTarget {
                images: Vec::new(),
                payload: payload.to_owned(),
                known_good_at: zero(),
                workloads: vec![TargetPart {
                    kind: PartKind::Deployment,
                    name: "checkout".to_owned(),
                    payload: payload.to_owned(),
                    revision: "checkout-1".to_owned(),
                }],
            }),
            release: self.budget.map(|_| ReleaseStatus {
                payload: "p1".to_owned(),
                admitted_at: zero(),
                state: ReleaseState::KnownGood,
                bake_until: None,
                bake_remaining: None,
                bake_paused_by: None,
            }),
            budget_freeze: self.budget.zip(declaration.budget_freeze.as_ref()).map(|((budget, is_old), freeze)| {
                let definition = if is_old { "another".to_owned() } else { freeze.definition.clone() };
                BudgetFreezeStatus { definition, budget, reason: None, since: zero() }
            }),
            ..Ledger::default()
        };
        let case = Case { declaration: &declaration, source: source(15, 0), seen: &seen, ledger: &ledger, now: zero() };
        judge(&case, proposal)
    }
}

fn checkout() -> PartReference {
    PartReference { kind: PartKind::Deployment, name: "checkout".to_owned() }
}

fn workload(marks: Marks) -> Workload {
    Workload {
        resource_version: "1".to_owned(),
        reference: checkout(),
        uid: "uid".to_owned(),
        generation: 1,
        template: "t1".to_owned(),
        payload: "p1".to_owned(),
        replicas: 3,
        is_complete: true,
        progress_deadline_exceeded: false,
        rollback_unsafe: None,
        owes_fields: false,
        waiting: None,
        break_glass: None,
        change_label: None,
        generated: BTreeSet::new(),
        foreign: None,
        marks,
        snapshots: Vec::new(),
        unreadable_snapshots: Vec::new(),
        annotations: 0,
        images: Vec::new(),
    }
}

fn incident(stage: IncidentStage, action: TriggerAction) -> Incident {
    Incident {
        id: "burn-1".to_owned(),
        origin: None,
        trigger: "burn".to_owned(),
        opened_at: zero(),
        stage,
        deadline: zero() + SignedDuration::from_mins(5),
        declared: action,
        action,
        scale_down_to: None,
        because: String::new(),
        evidence: Vec::new(),
        suspect: None,
        target: None,
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

pub fn moves_to(payload: &str) -> Proposal {
    Proposal {
        workload: checkout(),
        operation: Operation::Update,
        requester: Requester { user: "dev".to_owned(), groups: Vec::new() },
        moves_release: true,
        gains_owner: false,
        template: format!("t-{payload}"),
        payload: payload.to_owned(),
        gitops: GitOps::default(),
        one_live_release: true,
        annotations: 0,
        images: Vec::new(),
        replicas_before: Some(3),
        replicas_after: Some(3),
    }
}

fn scales(before: Option<i32>, after: i32) -> Proposal {
    Proposal {
        operation: Operation::Scale,
        moves_release: false,
        replicas_before: before,
        replicas_after: Some(after),
        ..moves_to("p1")
    }
}

fn deletes() -> Proposal {
    Proposal { operation: Operation::Delete, payload: "p1".to_owned(), replicas_after: None, ..moves_to("p1") }
}

fn found(judgement: &Judgement) -> Vec<&'static str> {
    judgement.findings.iter().map(|finding| finding.guard.as_str()).collect()
}

/// Zero of every timeline is a Monday, 09:00 UTC.
pub fn windows(windows: &Value) -> Value {
    json!({"changes": {"windows": windows}})
}

#[test]
fn each_guard_finds_what_it_is_for() {
    use IncidentStage::{Acting, Closing, Continued, DecisionWindow, Standing, Verifying};
    use TriggerAction::{HoldChanges, Notify, Rollback};
    let plain = Place::plain;
    let with = |over: Value| Place { over, ..plain() };
    let during = |stage, action| Place { incident: Some((stage, action)), ..plain() };
    let quarantined = || Place { quarantined: vec!["p2"], ..plain() };
    let tuesdays = json!([{"name": "tuesdays", "weekly": {"days": ["Tue"], "from": "09:00", "to": "16:00"}}]);
    let opens_now = json!([{"name": "now", "weekly": {"days": ["Mon"], "from": "09:00", "to": "10:00"}}]);
    let closes_now = json!([{"name": "now", "weekly": {"days": ["Mon"], "from": "08:00", "to": "09:00"}}]);
    let frozen = json!([{"name": "always", "always": true}, {"name": "freeze", "kind": "Deny", "always": true}]);
    let over = json!({"intent": {"decisionDate": "2026-03-02T09:00:00Z"}});
    let rows: Vec<(Place, Proposal, Vec<&str>)> = vec![
        (plain(), moves_to("p2"), vec![]),
        (with(over.clone()), moves_to("p2"), vec!["DecisionDatePassed"]),
        (with(over), scales(Some(3), 4), vec![]),
        (quarantined(), moves_to("p2"), vec!["ReleaseQuarantined"]),
        (quarantined(), moves_to("p3"), vec![]),
        (plain(), Proposal { annotations: 247_809, ..moves_to("p2") }, vec!["AnnotationsTooLarge"]),
        (plain(), Proposal { annotations: 247_808, ..moves_to("p2") }, vec![]),
        (plain(), Proposal { annotations: 247_809, ..scales(Some(3), 4) }, vec![]),
        (plain(), Proposal { annotations: 247_809, ..deletes() }, vec![]),
        (quarantined(), Proposal { payload: "p2".to_owned(), ..deletes() }, vec![]),
        (during(DecisionWindow, Rollback), moves_to("p2"), vec!["IncidentOpen"]),
        (during(DecisionWindow, Notify), moves_to("p2"), vec![]),
        (during(Continued, Rollback), moves_to("p2"), vec!["IncidentOpen"]),
        (during(Acting, Rollback), moves_to("p2"), vec!["IncidentOpen"]),
        (during(Verifying, Rollback), moves_to("p2"), vec!["IncidentOpen"]),
        (during(Standing, HoldChanges), moves_to("p2"), vec!["IncidentOpen"]),
        (during(Standing, HoldChanges), deletes(), vec!["IncidentOpen"]),
        (during(Standing, HoldChanges), scales(Some(3), 5), vec![]),
        (during(Closing, Rollback), moves_to("p2"), vec![]),
        (with(windows(&tuesdays)), moves_to("p2"), vec!["OutsideWindow"]),
        (with(windows(&tuesdays)), deletes(), vec!["OutsideWindow"]),
        (with(windows(&opens_now)), moves_to("p2"), vec![]),
        (with(windows(&closes_now)), moves_to("p2"), vec!["OutsideWindow"]),
        (with(windows(&frozen)), moves_to("p2"), vec!["OutsideWindow"]),
        (with(windows(&frozen)), scales(Some(3), 5), vec![]),
        (
            Place {
                contained: Some(1),
                quarantined: vec!["p2"],
                over: windows(&frozen),
                ..during(Standing, HoldChanges)
            },
            Proposal { replicas_after: Some(5), ..moves_to("p2") },
            vec!["ReleaseQuarantined", "IncidentOpen", "OutsideWindow", "Contained"],
        ),
        (
            Place {
                target: Some("p2"),
                quarantined: vec!["p3"],
                over: windows(&frozen),
                ..during(Standing, HoldChanges)
            },
            moves_to("p2"),
            vec![],
        ),
    ];
    check(rows);
}

fn check(rows: Vec<(Place, Proposal, Vec<&str>)>) {
    for (place, proposal, expected) in rows {
        let judgement = place.judge(&proposal);
        assert_eq!(found(&judgement), expected, "{place:?} {proposal:?}");
        let verdict = if expected.is_empty() { Verdict::Allow } else { Verdict::Deny };
        assert_eq!(judgement.verdict, verdict, "{place:?} {proposal:?}");
    }
}

#[test]
fn a_spent_budget_holds_what_changes_and_nothing_else() {
    use BudgetVerdict::{Enough, Spent, Unknown};
    let over = |no_data: &str| {
        let ratio = json!({"ratio": {"bad": "requests_total{code=\"500\"}", "total": "requests_total"}});
        let slo = json!({"name": "availability", "target": "99", "window": {"rolling": "7d"}, "indicator": ratio,
                         "noData": {"changes": no_data}});
        let freeze = json!({"slo": "availability", "remainingBelow": "10"});
        json!({"slos": [slo], "changes": {"budgetFreeze": freeze}})
    };
    let with = |no_data, budget| Place { over: over(no_data), budget: Some(budget), ..Place::plain() };
    let held = vec!["BudgetSpent"];
    let target = Place { target: Some("p2"), ..with("Hold", (Spent, false)) };
    check(vec![
        (with("Allow", (Enough, false)), moves_to("p2"), vec![]),
        (with("Allow", (Spent, false)), moves_to("p2"), held.clone()),
        (with("Allow", (Spent, false)), deletes(), held.clone()),
        (with("Allow", (Spent, false)), scales(Some(3), 4), vec![]),
        (with("Allow", (Unknown, false)), moves_to("p2"), vec![]),
        (with("Hold", (Unknown, false)), moves_to("p2"), held.clone()),
        (with("Hold", (Enough, false)), moves_to("p2"), vec![]),
        // What was found for another declaration is unknown for this one.
        (with("Allow", (Spent, true)), moves_to("p2"), vec![]),
        (with("Hold", (Enough, true)), moves_to("p2"), held),
        // Never the first release, and never the way back.
        (Place { budget: None, ..with("Hold", (Spent, false)) }, moves_to("p2"), vec![]),
        (target, moves_to("p2"), vec![]),
    ]);
    let mut observed = over("Hold");
    observed["enforcement"] = json!({"changes": "Observe"});
    let judgement = Place { over: observed, budget: Some((Spent, false)), ..Place::plain() }.judge(&moves_to("p2"));
    assert_eq!((judgement.verdict, judgement.enforced_verdict), (Verdict::Allow, Verdict::Deny));
}

#[test]
fn replicas_have_guards_of_their_own() {
    let with = |over: Value| Place { over, ..Place::plain() };
    let contained = || Place { contained: Some(1), ..Place::plain() };
    let small = json!({"blastRadius": {"maxReplicas": 4}});
    check(vec![
        (with(small.clone()), scales(Some(3), 4), vec![]),
        (with(small.clone()), scales(Some(3), 5), vec!["BlastRadiusExceeded"]),
        (with(small.clone()), scales(Some(9), 5), vec![]),
        (with(small), scales(None, 5), vec!["BlastRadiusExceeded"]),
        (contained(), scales(Some(1), 2), vec!["Contained"]),
        (contained(), scales(Some(1), 0), vec![]),
        (contained(), scales(Some(3), 2), vec![]),
    ]);
}

/// Whoever writes the whole object brings a count along: it is put back, and nothing is refused for it.
#[test]
fn a_write_to_what_is_contained_keeps_its_replicas() {
    let judge = |over: Value, before: Option<i32>, after: i32| {
        let place = Place { over, contained: Some(1), ..Place::plain() };
        let proposal = Proposal { operation: Operation::Update, ..scales(before, after) };
        let judgement = place.judge(&proposal);
        assert_eq!((judgement.verdict, judgement.enforced_verdict), (Verdict::Allow, Verdict::Allow));
        (judgement.kept_replicas, judgement.enforced_replicas)
    };
    assert_eq!(judge(json!({}), Some(1), 3), (Some(1), Some(1)));
    assert_eq!(judge(json!({}), Some(0), 3), (Some(0), Some(0)), "never more than is stored");
    assert_eq!(judge(json!({}), Some(1), 0), (None, None), "fewer is towards safety");
    assert_eq!(judge(json!({"enforcement": {"actions": "Observe"}}), Some(1), 3), (None, Some(1)));
}

#[test]
fn a_refusal_says_when_it_ends_by_itself() {
    let tuesdays = json!([{"name": "tuesdays", "weekly": {"days": ["Tue"], "from": "09:00", "to": "16:00"}}]);
    let outside = Place { over: windows(&tuesdays), ..Place::plain() };
    let opens: Timestamp = "2026-03-03T09:00:00Z".parse().unwrap();
    assert_eq!(outside.judge(&moves_to("p2")).allowed_from(), Some(opens));
    let quarantined_too = Place { quarantined: vec!["p2"], ..outside };
    assert_eq!(quarantined_too.judge(&moves_to("p2")).allowed_from(), None);
}

#[test]
fn each_mode_covers_its_own_guards() {
    let frozen = json!([{"name": "always", "always": true}, {"name": "freeze", "kind": "Deny", "always": true}]);
    for (changes, actions, binding) in [
        ("Enforce", "Enforce", vec!["ReleaseQuarantined", "IncidentOpen", "OutsideWindow", "Contained"]),
        ("Observe", "Enforce", vec!["ReleaseQuarantined", "IncidentOpen", "Contained"]),
        ("Enforce", "Observe", vec!["OutsideWindow"]),
        ("Observe", "Observe", vec![]),
    ] {
        let mut over = windows(&frozen);
        over["enforcement"] = json!({"changes": changes, "actions": actions});
        let incident = Some((IncidentStage::Standing, TriggerAction::HoldChanges));
        let place = Place { over, incident, quarantined: vec!["p2"], contained: Some(1), target: None, budget: None };
        let judgement = place.judge(&Proposal { replicas_after: Some(5), ..moves_to("p2") });
        let bound: Vec<&str> = judgement
            .findings
            .iter()
            .filter(|finding| finding.mode == Mode::Enforce)
            .map(|finding| finding.guard.as_str())
            .collect();
        assert_eq!(bound, binding);
        assert_eq!(judgement.verdict == Verdict::Deny, !binding.is_empty());
        assert_eq!(judgement.enforced_verdict, Verdict::Deny);
    }
}

fn stage() -> impl Strategy<Value = IncidentStage> {
    use IncidentStage::{Acting, Closing, Continued, DecisionWindow, Resuming, Standing, Verifying};
    prop::sample::select(vec![DecisionWindow, Continued, Acting, Verifying, Standing, Resuming, Closing])
}

fn place() -> impl Strategy<Value = Place> {
    let action = prop::sample::select(vec![TriggerAction::Notify, TriggerAction::HoldChanges, TriggerAction::Rollback]);
    let mode = || prop::sample::select(vec!["Enforce", "Observe"]);
    (
        prop::option::of((stage(), action)),
        prop::sample::subsequence(vec!["p2", "p3"], 0..=2),
        prop::option::of(0..3_i32),
        prop::option::of(prop::sample::select(vec!["p4"])),
        (any::<bool>(), prop::option::of(1..6_i32), mode(), mode()),
    )
        .prop_map(|(incident, quarantined, contained, target, (freezes, most, changes, actions))| {
            let mut list = vec![json!({"name": "always", "always": true})];
            if freezes {
                list.push(json!({"name": "freeze", "kind": "Deny", "always": true}));
            }
            let mut over = windows(&json!(list));
            over["enforcement"] = json!({"changes": changes, "actions": actions});
            if let Some(most) = most {
                over["blastRadius"] = json!({"maxReplicas": most});
            }
            Place { over, incident, quarantined, contained, target, budget: None }
        })
}

fn proposal() -> impl Strategy<Value = Proposal> {
    let operation =
        prop::sample::select(vec![Operation::Create, Operation::Update, Operation::Delete, Operation::Scale]);
    let payload = prop::sample::select(vec!["p1", "p2", "p3", "p4"]);
    (operation, payload, any::<bool>(), prop::option::of(0..7_i32), prop::option::of(0..7_i32)).prop_map(
        |(operation, payload, moves_release, replicas_before, replicas_after)| Proposal {
            operation,
            moves_release,
            replicas_before,
            replicas_after,
            ..moves_to(payload)
        },
    )
}

proptest! {
    #![proptest_config(crate::properties::bounded(400))]

    /// A freeze, an incident, a quarantine or a containment more never turns a refusal into a permission.
    #[test]
    fn one_rule_more_never_loosens(place in place(), proposal in proposal()) {
        let before = place.judge(&proposal).verdict;
        let mut frozen = place.clone();
        let list = frozen.over["changes"]["windows"].as_array_mut().unwrap();
        list.push(json!({"name": "another-freeze", "kind": "Deny", "always": true}));
        let held = Place { incident: Some((IncidentStage::Standing, TriggerAction::HoldChanges)), ..place.clone() };
        let quarantined = Place { quarantined: vec!["p2", "p3"], ..place.clone() };
        let contained = Place { contained: Some(0), ..place.clone() };
        for stricter in [frozen, held, quarantined, contained] {
            let after = stricter.judge(&proposal).verdict;
            prop_assert!(after >= before, "{:?} became {:?} in {:?}", before, after, stricter);
        }
    }

    /// Going back to the known-good release is never a question of dates, freezes, incidents or quarantine.
    #[test]
    fn the_target_is_always_allowed(place in place(), operation in prop::sample::select(
        vec![Operation::Create, Operation::Update])) {
        let place = Place { target: Some("p4"), ..place };
        let judgement = place.judge(&Proposal { operation, ..moves_to("p4") });
        let of_replicas = ["BlastRadiusExceeded", "Contained"];
        prop_assert!(found(&judgement).iter().all(|guard| of_replicas.contains(guard)), "{:?}", judgement);
    }

    /// Deleting is never going back.
    #[test]
    fn deleting_the_target_is_no_way_round(place in place()) {
        let with_target = Place { target: Some("p1"), ..place.clone() };
        prop_assert_eq!(with_target.judge(&deletes()), Place { target: None, ..place }.judge(&deletes()));
    }

    /// What is only observed refuses nothing, and says the same.
    #[test]
    fn observing_never_refuses(place in place(), proposal in proposal()) {
        let mut observed = place.clone();
        observed.over["enforcement"] = json!({"changes": "Observe", "actions": "Observe"});
        let mut enforced = place;
        enforced.over["enforcement"] = json!({"changes": "Enforce", "actions": "Enforce"});
        let (observed, enforced) = (observed.judge(&proposal), enforced.judge(&proposal));
        prop_assert_eq!(observed.verdict, Verdict::Allow);
        prop_assert_eq!(observed.enforced_verdict, enforced.verdict);
        prop_assert_eq!((observed.kept_replicas, observed.enforced_replicas), (None, enforced.kept_replicas));
        prop_assert_eq!(found(&observed), found(&enforced));
    }
}

/// The worked example of the change figures: two weeks in March, fourteen events. Two failures in a row are
/// reached with C8 and never before, and the late verdict on C1 makes no streak of the past.
#[test]
fn failures_in_a_row_peak_at_the_eighth_change() {
    use ChangeClass::{Normal, Rollback, Unauthorized};
    use Outcome::{Failed, Pending, Succeeded, Superseded};
    // Name, class, completed (day and time), outcome.
    let history = [
        ("c1", Normal, "03T10:06", Succeeded),
        ("c2", Normal, "04T14:05", Failed),
        ("c3", Rollback, "04T14:33", Succeeded),
        ("c4", Normal, "05T10:05", Succeeded),
        ("c5", Normal, "06T11:35", Succeeded),
        // Ten minutes before this one C1 was found to have failed.
        ("c6", Unauthorized, "10T01:44", Succeeded),
        ("c7", Normal, "11T15:05", Failed),
        ("c8", Normal, "11T15:34", Failed),
        ("c9", Rollback, "11T15:53", Succeeded),
        ("c10", Normal, "12T13:04", Succeeded),
        ("c12", Normal, "13T09:03", Superseded),
        ("c13", Normal, "13T09:08", Succeeded),
        ("c14", Normal, "15T23:05", Pending),
    ];
    let mut changes: Vec<Change> = Vec::new();
    let mut fired = BTreeMap::new();
    for (name, class, completed, outcome) in history {
        if name == "c6" {
            changes[0].outcome = Failed;
            fired.insert("c1 blamed late", fires_after(&changes));
        }
        let completed: Timestamp = format!("2026-03-{completed}:00Z").parse().unwrap();
        changes.push(Change {
            name: name.to_owned(),
            class,
            payload: name.to_owned(),
            parts: Vec::new(),
            started_at: completed - SignedDuration::from_mins(5),
            completed_at: Some(completed),
            outcome,
            approval_owed: None,
            approval: None,
        });
        fired.insert(name, fires_after(&changes));
    }
    let streaks: Vec<&str> = fired.into_iter().filter(|(_, fires)| *fires).map(|(name, _)| name).collect();
    assert_eq!(streaks, ["c8", "c9"], "C9 is a rollback and ends no streak; C10 succeeds and does");
}

/// What was superseded, aborted, rolled back or is still pending stands between two failures and parts them not.
#[test]
fn undecided_changes_neither_count_nor_end_a_streak() {
    let at = |minute: i64| zero() + SignedDuration::from_mins(minute);
    let change = |minute: i64, class, outcome| Change {
        name: format!("c{minute}"),
        class,
        payload: String::new(),
        parts: Vec::new(),
        started_at: at(minute),
        completed_at: Some(at(minute + 1)),
        outcome,
        approval_owed: None,
        approval: None,
    };
    let between = |class, outcome| {
        let failed = |minute| change(minute, ChangeClass::Normal, Outcome::Failed);
        fires_after(&[failed(0), change(10, class, outcome), failed(20)])
    };
    for outcome in [Outcome::Superseded, Outcome::Aborted, Outcome::Pending] {
        assert!(between(ChangeClass::Normal, outcome), "{outcome:?}");
    }
    assert!(between(ChangeClass::Rollback, Outcome::Succeeded));
    assert!(!between(ChangeClass::Normal, Outcome::Succeeded));
    assert!(!between(ChangeClass::Unauthorized, Outcome::Succeeded));
}

/// Whether a trigger for two failed changes in a row opens an incident upon this history.
fn fires_after(changes: &[Change]) -> bool {
    let over = json!({"triggers": [{"name": "two", "when": {"consecutiveFailedChanges": {"count": 2}},
        "for": "0s", "decisionWindow": "1h", "action": "HoldChanges"}]});
    let zones = jiff::tz::TimeZoneDatabase::bundled();
    let declaration = Declaration::parse(&pilot(&over), &zones).unwrap();
    let seen = Observation {
        workloads: vec![workload(Marks::default())],
        changes: std::sync::Arc::new(changes.to_vec()),
        ..Observation::default()
    };
    let ledger = Ledger::default();
    let now = "2026-03-16T00:00:00Z".parse().unwrap();
    let case = Case { declaration: &declaration, source: source(15, 0), seen: &seen, ledger: &ledger, now };
    pilotguard::decide::pilot::decide(&case).ledger.incident.is_some()
}

/// A pilot without metrics and triggers is looked at rarely, and nothing is asked.
#[test]
fn a_pilot_that_measures_nothing_asks_nothing() {
    let story = Story {
        title: String::new(),
        telling: String::new(),
        pilot: json!({"slos": [], "triggers": []}),
        history: "1d".to_owned(),
        evaluation_interval: 15,
        query_offset: 0,
        faults: Vec::new(),
        timeline: vec![Event { at: "1h".to_owned(), deploy: Some("v2".to_owned()), ..Event::default() }],
        until: "2h".to_owned(),
        expect: Expectation::default(),
    };
    let outturn = play(&story);
    assert_eq!(outturn.world.traffic.asked, 0);
    assert_eq!(outturn.world.status.release.unwrap().payload, crate::world::payload_of("v2"));
}
