//! Decisions when they are created: whoever writes one learns at once why it would have no effect.

use kube::runtime::watcher::Event;
use pilotguard::admit::context::Context;
use pilotguard::admit::wire::Answer;
use pilotguard::api::change_record::ChangeRecord;
use pilotguard::api::decision::Decision;
use pilotguard::api::workload::PartKind;
use pilotguard::observe::cluster::{Cluster, reduce_snapshot, reduce_workload};
use serde_json::{Value, json};

use crate::fixtures::*;

const LONGEST_METADATA: usize = 16_384;

const DIGEST: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

fn decision(spec: &Value) -> Value {
    let spec = with(json!({"pilot": "checkout", "reason": "wrong prices since 13:10"}), spec);
    json!({"apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
        "metadata": {"name": "now", "namespace": "shop"}, "spec": spec})
}

/// A pilot of Ada with an open incident, and one of nobody with another.
fn pilots() -> Vec<Value> {
    let owners = json!({"owners": {"serviceOwner": {"name": "Ada Lovelace", "identities": {"users": ["ada"]}}}});
    let checkout = with(pilot(), &json!({"spec": owners, "status": {"incident": incident("Standing", "HoldChanges")}}));
    let other = with(incident("Standing", "HoldChanges"), &json!({"id": "slow-11111111"}));
    let search = json!({"metadata": {"name": "search", "uid": "p-2"}, "spec": {"workloads": [{"name": "search"}]},
        "status": {"incident": other}});
    vec![checkout, with(pilot(), &search)]
}

/// A cluster that has seen everything there is: no workload, this change and this Decision.
fn known(changes: &[Value], decisions: &[Value]) -> Cluster {
    let changes: Vec<ChangeRecord> = changes.iter().map(|it| serde_json::from_value(it.clone()).unwrap()).collect();
    let decisions: Vec<Decision> = decisions.iter().map(|it| serde_json::from_value(it.clone()).unwrap()).collect();
    let cluster = records(&changes, &decisions);
    for kind in PartKind::WITH_PODS {
        for event in [Event::Init, Event::InitDone] {
            cluster.workloads.of(kind).see(&event, |workload| reduce_workload(kind, workload));
        }
    }
    for event in [Event::Init, Event::InitDone] {
        cluster.snapshots.see(&event, reduce_snapshot);
    }
    cluster
}

fn emergency() -> Value {
    json!({"apiVersion": "pilotguard.dev/v1alpha1", "kind": "ChangeRecord",
        "metadata": {"name": "checkout-1", "namespace": "shop", "creationTimestamp": OPEN},
        "spec": {"pilot": "checkout", "class": "Emergency", "release": DIGEST, "payload": DIGEST,
            "requestedBy": {"user": "grace"},
            "workloads": [{"kind": "Deployment", "name": "checkout", "template": DIGEST, "payload": DIGEST}]},
        "status": {"outcome": "Pending", "approvalOwed": {"from": ["Ada Lovelace (service owner)"], "notFrom": "grace"}}})
}

fn answer(user: &str, spec: &Value) -> Answer {
    let cluster = known(&[emergency()], &[]);
    judge_beside(&cluster, &guarded(&pilots()), OPEN, &review("CREATE", user, &Value::Null, &decision(spec)))
}

#[test]
fn a_decision_that_would_have_no_effect_is_refused_with_the_reason() {
    let open = "fast-burn-3f9c2a71";
    let until = "2026-11-18T11:00:00Z";
    for (user, spec, problem) in [
        (
            "grace",
            json!({"type": "Resume", "incident": open}),
            Some("grace has no role that may relax guards; ask Ada Lovelace"),
        ),
        ("ada", json!({"type": "Resume", "incident": open}), None),
        (
            "ada",
            json!({"type": "Resume", "incident": "fast-burn-00000000"}),
            Some("the open one is fast-burn-3f9c2a71"),
        ),
        (
            "ada",
            json!({"type": "Resume", "incident": "slow-11111111"}),
            Some("is open for pilot search; name that one"),
        ),
        (
            "ada",
            json!({"type": "Resume", "incident": "slow-11111111", "pilot": "chekout"}),
            Some("is open for pilot search"),
        ),
        ("grace", json!({"type": "Override", "payload": DIGEST, "until": until}), Some("has no role")),
        ("ada", json!({"type": "Override", "payload": DIGEST, "until": until}), None),
        ("ada", json!({"type": "Readmit", "payload": DIGEST}), Some("an incident is open; readmit once it has closed")),
        ("ada", json!({"type": "Readmit", "payload": DIGEST, "pilot": "search"}), Some("ada has no role")),
        ("grace", json!({"type": "Rollback"}), Some("there is no known-good release to roll back to")),
        (
            "grace",
            json!({"type": "HoldChanges"}),
            Some("incident fast-burn-3f9c2a71 has held changes since 2026-11-18T09:55:00Z"),
        ),
        ("ada", json!({"type": "Approve", "change": "checkout-2"}), Some("change checkout-2 owes no approval")),
        ("grace", json!({"type": "Approve", "change": "checkout-1"}), Some("grace has no role")),
        ("ada", json!({"type": "Approve", "change": "checkout-1"}), None),
    ] {
        match (answer(user, &spec), problem) {
            (Answer::Allowed { warnings, .. }, None) => assert_eq!(warnings, Vec::<String>::new(), "{user}: {spec}"),
            (Answer::Denied(denial), Some(problem)) => {
                assert_eq!(denial.code, 403);
                assert!(denial.message.contains(problem), "{user}: {spec}: {}", denial.message);
            }
            (answer, _) => panic!("{user}: {spec}: {answer:?}"),
        }
    }
}

#[test]
fn a_reason_that_a_printed_command_left_open_is_no_reason() {
    for reason in ["<why it is safe now>", "…", " ", "TODO"] {
        let refused = denial(answer("ada", &json!({"type": "HoldChanges", "reason": reason})));
        assert_eq!(refused.code, 422);
        assert!(
            refused.message.contains("spec.reason: is empty or a placeholder; write why in your own words"),
            "{}",
            refused.message
        );
    }
}

/// Before an act all unjudged Decisions are read.
#[test]
fn a_decision_with_much_metadata_is_refused() {
    let owner = |name: usize| json!([{"apiVersion": "v1", "kind": "Pod", "name": "x".repeat(name), "uid": "u"}]);
    let long = "ä".repeat(LONGEST_METADATA - "note".len());
    for (metadata, is_allowed) in [
        (json!({"annotations": {"note": long}}), true),
        (json!({"annotations": {"note": long}, "labels": {"a": ""}}), false),
        (json!({"annotations": {"note": long}, "finalizers": ["a"]}), false),
        (json!({"ownerReferences": owner(LONGEST_METADATA)}), false),
        (json!({"ownerReferences": owner(100), "managedFields": [{"manager": "x".repeat(20_000)}]}), true),
    ] {
        let create = with(
            decision(&json!({"type": "Resume", "incident": "fast-burn-3f9c2a71"})),
            &json!({"metadata": metadata}),
        );
        let answer = judge(&guarded(&pilots()), OPEN, &review("CREATE", "ada", &Value::Null, &create));
        if is_allowed {
            assert!(matches!(answer, Answer::Allowed { .. }), "{answer:?}");
            continue;
        }
        let refused = denial(answer);
        assert_eq!(refused.code, 422);
        assert!(refused.message.contains("characters; shorten them to 16384 in total"), "{}", refused.message);
    }
}

#[test]
fn what_a_machine_applies_is_stored_with_a_warning() {
    for user in ["system:serviceaccount:ci:deployer", "argo"] {
        let cluster = known(&[], &[]);
        let guarded = guarded(&pilots());
        let context = Context {
            guarded: &guarded,
            cluster: &cluster,
            own_account: OPERATOR,
            gitops_users: &["argo".to_owned()],
            may_refuse_unknown: false,
            now: at(OPEN),
        };
        let readmit = decision(&json!({"type": "Readmit", "payload": DIGEST}));
        let said = warnings(judge_in(&context, &review("CREATE", user, &Value::Null, &readmit)));
        assert!(said.len() == 1 && said[0].contains("will be refused in its status"), "{user}: {said:?}");
    }
}

/// What is not known yet may still come, as a Pilot that the same apply creates.
#[test]
fn what_memory_does_not_know_is_judged_later() {
    let unknown = json!({"type": "Readmit", "payload": DIGEST, "pilot": "new"});
    let said = warnings(answer("grace", &unknown));
    assert!(
        said[0].contains("Pilot new does not exist in namespace shop (existing Pilots: checkout, search)"),
        "{said:?}"
    );
    let create = review("CREATE", "grace", &Value::Null, &decision(&json!({"type": "Readmit", "payload": DIGEST})));
    assert!(warnings(judge(&guarded(&pilots()), OPEN, &create)).is_empty(), "workloads have not been read");
    let starting = pilotguard::admit::pilots::Guarded::new(jiff::tz::TimeZoneDatabase::bundled());
    assert!(warnings(judge_beside(&known(&[], &[]), &starting, OPEN, &create)).is_empty(), "Pilots have not been read");
    // Applied again: the API server says that it exists.
    let stored = decision(&json!({"type": "Readmit", "payload": DIGEST}));
    assert!(warnings(judge_beside(&known(&[], &[stored]), &guarded(&pilots()), OPEN, &create)).is_empty());
}
