//! What becomes of a change that may not happen now: held, pinned or refused, by who asks and what was declared.

use pilotguard::api::decision::Requester;
use pilotguard::api::incident::IncidentStage;
use pilotguard::api::trigger::TriggerAction;
use pilotguard::decide::proposal::{GitOps, Operation, Proposal, Verdict};
use serde_json::{Value, json};

use crate::judging::{Place, moves_to, windows};
use Verdict::{Allow, Deny, Hold, Pin};

const CI: &str = "system:serviceaccount:ci:deployer";

fn person() -> Proposal {
    moves_to("p2")
}

fn ci() -> Proposal {
    Proposal { requester: Requester { user: CI.to_owned(), groups: Vec::new() }, ..person() }
}

fn gitops() -> Proposal {
    Proposal { gitops: GitOps { manages_workload: true, is_named: false }, ..ci() }
}

/// Zero of every timeline is a Monday, 09:00 UTC.
fn closed() -> Value {
    windows(&json!([{"name": "tuesdays", "weekly": {"days": ["Tue"], "from": "09:00", "to": "16:00"}}]))
}

fn place(outside: &str, mut over: Value) -> Place {
    if over["changes"].is_null() {
        over = windows(&json!([{"name": "always", "always": true}]));
    }
    over["changes"]["outsideWindow"] = json!(outside);
    Place { over, ..Place::plain() }
}

/// Rows: `outsideWindow`; columns: a person, CI with kubectl, a GitOps tool. From the design's definition of `Auto`.
#[test]
fn who_asks_and_what_is_declared_decide_between_hold_pin_and_deny() {
    let rows = [
        ("Auto", [Deny, Deny, Hold], [Deny, Deny, Pin]),
        ("Hold", [Hold, Hold, Hold], [Deny, Deny, Pin]),
        ("Pin", [Deny, Pin, Pin], [Deny, Pin, Pin]),
        ("Deny", [Deny, Deny, Deny], [Deny, Deny, Deny]),
    ];
    for (outside, not_yet, not_this) in rows {
        let quarantined = Place { quarantined: vec!["p2"], ..place(outside, json!({})) };
        let incident = Some((IncidentStage::Standing, TriggerAction::HoldChanges));
        let during = Place { incident, ..place(outside, json!({})) };
        let both = Place { quarantined: vec!["p2"], ..place(outside, closed()) };
        for (who, (not_yet, not_this)) in [person(), ci(), gitops()].iter().zip(not_yet.into_iter().zip(not_this)) {
            assert_eq!(place(outside, closed()).judge(who).verdict, not_yet, "closed, {outside}, {who:?}");
            assert_eq!(quarantined.judge(who).verdict, not_this, "quarantined, {outside}, {who:?}");
            assert_eq!(during.judge(who).verdict, not_this, "incident, {outside}, {who:?}");
            assert_eq!(both.judge(who).verdict, not_this, "the strictest wins, {outside}, {who:?}");
            assert_eq!(place(outside, json!({})).judge(who).verdict, Allow, "open, {outside}, {who:?}");
        }
    }
}

#[test]
fn a_rollout_under_way_cannot_be_held() {
    let moving = |proposal: Proposal| Proposal { one_live_release: false, ..proposal };
    for (outside, who, expected) in
        [("Auto", gitops(), Pin), ("Hold", gitops(), Pin), ("Hold", ci(), Pin), ("Hold", person(), Deny)]
    {
        assert_eq!(place(outside, closed()).judge(&moving(who.clone())).verdict, expected, "{outside} {who:?}");
    }
}

#[test]
fn what_does_not_exist_yet_is_created_held_and_nothing_is_deleted_later() {
    let creates = |proposal: Proposal| Proposal { operation: Operation::Create, replicas_before: None, ..proposal };
    assert_eq!(place("Auto", closed()).judge(&creates(gitops())).verdict, Hold);
    assert_eq!(place("Auto", closed()).judge(&creates(person())).verdict, Deny);
    assert_eq!(place("Pin", closed()).judge(&creates(gitops())).verdict, Deny, "there is nothing to put back");
    let no_pause = |who: Proposal| Proposal { one_live_release: false, ..creates(who) };
    assert_eq!(place("Hold", closed()).judge(&no_pause(gitops())).verdict, Deny, "a kind that knows no pause");
    let deletes = Proposal { operation: Operation::Delete, replicas_after: None, ..gitops() };
    assert_eq!(place("Hold", closed()).judge(&deletes).verdict, Deny);
}

#[test]
fn a_gitops_tool_that_is_no_service_account_has_to_be_named() {
    let verdict = |manages_workload, is_named| {
        let gitops = GitOps { manages_workload, is_named };
        place("Auto", closed()).judge(&Proposal { gitops, ..person() }).verdict
    };
    assert_eq!(verdict(true, false), Deny);
    assert_eq!(verdict(true, true), Hold);
    assert_eq!(verdict(false, true), Deny, "the workload does not say so");
}

#[test]
fn a_window_that_closes_too_soon_is_as_good_as_closed() {
    let until = |to: &str, runway: &str| {
        let mut over = windows(&json!([
            {"name": "now", "weekly": {"days": ["Mon"], "from": "08:00", "to": to}},
            {"name": "short", "weekly": {"days": ["Tue"], "from": "09:00", "to": "09:10"}},
            {"name": "long", "weekly": {"days": ["Wed"], "from": "09:00", "to": "16:00"}},
        ]));
        over["changes"]["runway"] = json!(runway);
        Place { over, ..Place::plain() }.judge(&person())
    };
    assert_eq!(until("09:30", "30m").verdict, Allow);
    let refused = until("09:29", "30m");
    assert_eq!(refused.verdict, Deny);
    assert_eq!(refused.allowed_from(), Some("2026-03-04T09:00:00Z".parse().unwrap()), "Tuesday's is too short");
    assert_eq!(until("09:29", "0s").verdict, Allow);
    assert_eq!(until("09:00", "30m").allowed_from(), Some("2026-03-04T09:00:00Z".parse().unwrap()));
}
