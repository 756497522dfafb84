//! Owners' exceptions as the webhook applies them, from what the watches have seen.

use pilotguard::admit::context::Context;
use pilotguard::admit::wire::Answer;
use pilotguard::api::decision::Decision;
use pilotguard::release::digest::payload_digest;
use pilotguard::release::marks::{ADMITTED, AdmittedVerdict, BREAK_GLASS_REASON};
use serde_json::{Value, json};

use crate::fixtures::*;

const CI: &str = "system:serviceaccount:ci:deployer";

/// The pilot, with a second owner and identities for both.
fn owned() -> Value {
    with(
        pilot(),
        &json!({"spec": {"owners": {
            "serviceOwner": {"name": "Ada Lovelace", "identities": {"users": ["ada"]}},
            "techLead": {"name": "Tim Lee", "identities": {"users": ["tim"]}},
        }}}),
    )
}

fn override_by(user: &str, change: &Value) -> Decision {
    let payload = payload_digest(&template("web:2"));
    let decision = json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
        "metadata": {"name": format!("d-{user}"), "namespace": "shop", "creationTimestamp": "2026-11-20T17:40:00Z"},
        "spec": {"pilot": "checkout", "type": "Override", "payload": payload, "until": "2026-11-20T18:40:00Z",
            "reason": "a wrong price", "by": {"user": user}},
    });
    serde_json::from_value(with(decision, change)).unwrap()
}

/// What becomes of web:2 on a Friday evening.
fn answer(user: &str, decisions: &[Decision]) -> Answer {
    let cluster = records(&[], decisions);
    let context = Context {
        guarded: &guarded(&[owned()]),
        cluster: &cluster,
        own_account: OPERATOR,
        gitops_users: &[],
        may_refuse_unknown: true,
        now: at(CLOSED),
    };
    judge_in(&context, &update(user, &with_image("web:2")))
}

fn passes(user: &str, decisions: &[Decision]) -> bool {
    matches!(answer(user, decisions), Answer::Allowed { .. })
}

#[test]
fn an_update_passes_by_the_word_of_owners_who_did_not_ask_for_it() {
    let [ada, tim] = ["ada", "tim"].map(|user| override_by(user, &json!({})));
    let judged = override_by("ada", &json!({"status": {"phase": "Accepted"}}));
    let rows: Vec<(&str, Vec<Decision>, bool)> = vec![
        ("grace", vec![], false),
        ("grace", vec![ada.clone()], true),
        ("grace", vec![judged], true),
        ("ada", vec![ada.clone()], false),
        ("ada", vec![ada.clone(), tim.clone()], true),
        (CI, vec![ada.clone()], false),
        (CI, vec![ada.clone(), tim], true),
        ("grace", vec![override_by("mallory", &json!({}))], false),
        ("grace", vec![override_by("ada", &json!({"status": {"phase": "Refused"}}))], false),
        ("grace", vec![override_by("ada", &json!({"spec": {"payload": "0".repeat(64)}}))], false),
        ("grace", vec![override_by("ada", &json!({"spec": {"until": "2026-11-20T17:48:00Z"}}))], false),
        ("grace", vec![override_by("ada", &json!({"spec": {"until": "2026-11-20T21:40:01Z"}}))], false),
        ("grace", vec![override_by("ada", &json!({"spec": {"until": "2026-11-20T21:40:00Z"}}))], true),
        ("grace", vec![override_by("ada", &json!({"spec": {"pilot": "another"}}))], false),
        ("grace", vec![override_by("ada", &json!({"spec": {"by": null}}))], false),
    ];
    for (row, (user, decisions, expected)) in rows.into_iter().enumerate() {
        assert_eq!(passes(user, &decisions), expected, "row {row}: {user}, {decisions:?}");
    }
    let new = with_image("web:2");
    let stamp = admitted(&stored(answer("grace", std::slice::from_ref(&ada)), &new));
    assert_eq!(stamp.verdict, AdmittedVerdict::Override);
    assert_eq!(
        stamp.reasons,
        [
            "OutsideWindow: outside the change windows; the next is weekday-mornings; lifted by Override d-ada of ada (a wrong price)"
        ]
    );
}

#[test]
fn a_break_glass_reason_comes_in_by_no_request_that_is_judged() {
    let forged = json!({"metadata": {"annotations": {BREAK_GLASS_REASON: "outage"}}});
    let reason = |answer: Answer, new: &Value| {
        stored(answer, new)["metadata"]["annotations"].get(BREAK_GLASS_REASON).cloned().unwrap_or_default()
    };
    let judged = |review: &Value| judge(&guarded(&[pilot()]), OPEN, review);
    let new = with(deployment("web:1"), &forged);
    assert_eq!(reason(judged(&update("grace", &new)), &new), Value::Null, "added");
    let created = with(with_image("web:2"), &json!({"metadata": {"annotations": {ADMITTED: null}}}));
    let created = with(created, &forged);
    assert_eq!(
        reason(judged(&review("CREATE", "grace", &Value::Null, &created)), &created),
        Value::Null,
        "created with"
    );
    let old = with(deployment("web:1"), &json!({"metadata": {"annotations": {BREAK_GLASS_REASON: "fire"}}}));
    assert_eq!(reason(judged(&review("UPDATE", "grace", &old, &new)), &new), json!("fire"), "changed");
}
