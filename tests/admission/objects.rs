//! Requests on our own objects.

use pilotguard::admit::wire::Answer;
use serde_json::{Value, json};

use crate::fixtures::*;

fn create(object: &Value) -> Value {
    review("CREATE", "grace", &Value::Null, object)
}

fn decision(spec: &Value) -> Value {
    let spec = with(json!({"pilot": "checkout", "type": "Rollback", "reason": "errors"}), spec);
    json!({"apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
        "metadata": {"name": "now", "namespace": "shop"}, "spec": spec})
}

#[test]
fn every_violation_of_a_pilot_is_named_with_its_field() {
    let broken = with(
        pilot(),
        &json!({"spec": {
            "changes": {"windows": [{"name": "w", "timeZone": "Mars/Olympus", "always": true}]},
            "slos": [{"name": "s", "target": "100", "window": {"rolling": "7d"}, "indicator": {"ratio": {"bad": "rate(x", "total": "t"}}}],
        }}),
    );
    let refused = denial(judge(&guarded(&[]), OPEN, &create(&broken)));
    assert_eq!((refused.code, refused.reason), (422, "Invalid"));
    let fields: Vec<_> = refused.causes.iter().map(|cause| cause.path.as_str()).collect();
    assert_eq!(
        fields,
        ["spec.changes.windows[name=w].timeZone", "spec.slos[name=s].target", "spec.slos[name=s].indicator.ratio.bad"]
    );
    let answer = Answer::Denied(refused).into_review("u");
    let causes = answer["response"]["status"]["details"]["causes"].as_array().unwrap().clone();
    assert_eq!((causes.len(), &causes[0]["reason"]), (3, &json!("FieldValueInvalid")));

    // What is stored already can still be labelled and finalized.
    let labelled = with(broken.clone(), &json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(judge(&guarded(&[]), OPEN, &review("UPDATE", "grace", &broken, &labelled)), Answer::untouched());
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_field() {
    for (spec, told) in [
        (
            json!({"constraints": {"dependencies": ["x"]}}),
            "spec.constraints.dependencies[0]: invalid type: string \"x\", expected an object",
        ),
        (
            json!({"triggers": [{"name": "a", "action": "Notify", "when": {"promql": "up"}}]}),
            "spec.triggers[0].when.promql: invalid type: string \"up\", expected an object",
        ),
        (
            json!({"blastRadius": {"maxReplicas": "four"}}),
            "spec.blastRadius.maxReplicas: invalid type: string \"four\", expected i32",
        ),
    ] {
        let refused = denial(judge(&guarded(&[]), OPEN, &create(&with(pilot(), &json!({"spec": spec})))));
        assert_eq!(refused.message, format!("not a valid Pilot: {told}"));
    }
}

#[test]
fn a_pilot_is_warned_about_what_will_never_work() {
    let mut late = with(
        pilot(),
        &json!({"metadata": {"name": "late", "uid": "p-2", "creationTimestamp": "2026-11-02T00:00:00Z"}}),
    );
    late["spec"]["changes"]["windows"].as_array_mut().unwrap().push(json!({
        "name": "old-freeze", "kind": "Deny", "once": {"from": "2026-01-01T00:00:00", "to": "2026-01-02T00:00:00"}}));
    let said = warnings(judge(&guarded(&[pilot()]), OPEN, &create(&late)));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("old-freeze") && said[1].contains("older pilot checkout"), "{said:?}");
    assert!(warnings(judge(&guarded(&[pilot()]), OPEN, &review("UPDATE", "grace", &pilot(), &pilot()))).is_empty());
}

#[test]
fn a_pilot_is_warned_where_nothing_can_be_rolled_back() {
    for (namespace, is_warned) in [("kube-system", true), ("pilotguard", true), ("shop", false)] {
        let elsewhere = with(pilot(), &json!({"metadata": {"namespace": namespace}}));
        let said = warnings(judge(&guarded(&[]), OPEN, &create(&elsewhere)));
        let text = format!(
            "a Pilot has no effect in {namespace}: pilotguard's own policies do not let it roll back anything there"
        );
        assert_eq!(said.contains(&text), is_warned, "{said:?}");
    }
}

#[test]
fn a_pilot_can_be_deleted_except_while_an_incident_is_under_way() {
    let delete = |user: &str, pilot: &Value| judge(&guarded(&[]), OPEN, &review("DELETE", user, pilot, &Value::Null));
    for (stage, is_refused) in [
        ("DecisionWindow", true),
        ("Continued", true),
        ("Acting", true),
        ("Verifying", true),
        ("Resuming", true),
        ("Standing", false),
        ("Closing", false),
    ] {
        let pilot = with(pilot(), &json!({"status": {"incident": incident(stage, "Rollback")}}));
        assert_eq!(matches!(delete("grace", &pilot), Answer::Denied(_)), is_refused, "{stage}");
        let owned = with(pilot.clone(), &json!({"metadata": {"ownerReferences": [{"uid": "gone"}]}}));
        let given_away = judge(&guarded(&[]), OPEN, &review("UPDATE", "grace", &pilot, &owned));
        assert_eq!(matches!(given_away, Answer::Denied(_)), is_refused, "{stage}, given to an owner");
        assert!(
            is_refused || warnings(given_away)[0].starts_with("pilot checkout is now deleted together with its owners")
        );
        let kept = judge(&guarded(&[]), OPEN, &review("UPDATE", "grace", &owned, &owned));
        assert!(matches!(kept, Answer::Allowed { .. }), "{stage}, of an owner");
        let ending = delete("system:serviceaccount:kube-system:namespace-controller", &pilot);
        assert!(matches!(ending, Answer::Allowed { .. }), "{stage} in a namespace that ends");
        let observing = with(pilot, &json!({"spec": {"enforcement": {"actions": "Observe"}}}));
        assert!(matches!(delete("grace", &observing), Answer::Allowed { .. }), "{stage}, observed");
    }
    assert_eq!(
        warnings(delete("grace", &pilot())),
        [
            "pilot checkout is deleted: Deployment checkout is no longer guarded; marks of a scale-down and of the quarantine stay",
        ]
    );
}

#[test]
fn a_decision_carries_who_really_sent_it() {
    let forged = decision(&json!({"by": {"user": "ada", "groups": ["owners"]}}));
    let after = stored(judge(&guarded(&[]), OPEN, &create(&forged)), &forged);
    assert_eq!(after["spec"]["by"], json!({"user": "grace", "groups": ["shop-team", "system:authenticated"]}));
    assert_eq!(
        after["metadata"]["annotations"]["pilotguard.dev/received-at"], OPEN,
        "by the clock that stamps releases"
    );
    let own = review("CREATE", OPERATOR, &Value::Null, &forged);
    assert_eq!(judge(&guarded(&[]), OPEN, &own), Answer::untouched());

    let mut crowded = create(&forged);
    let groups: Vec<String> = (0..200).map(|n| format!("g{n}")).chain(["x".repeat(300)]).collect();
    crowded["request"]["userInfo"]["groups"] = json!(groups);
    let after = stored(judge(&guarded(&[]), OPEN, &crowded), &forged);
    assert_eq!(after["spec"]["by"]["groups"].as_array().unwrap().len(), 64);
}

#[test]
fn an_exception_lasts_four_hours_at_most() {
    let until = |time: &str| decision(&json!({"type": "Continue", "incident": "i", "until": time}));
    for (time, problem) in [
        ("2026-11-18T14:00:00Z", None),
        ("2026-11-18T14:00:01Z", Some("too far ahead")),
        ("2026-11-18T10:00:00Z", Some("has passed")),
    ] {
        match (judge(&guarded(&[]), OPEN, &create(&until(time))), problem) {
            (Answer::Allowed { .. }, None) => {}
            (Answer::Denied(denial), Some(problem)) => {
                assert_eq!(denial.code, 422);
                assert!(
                    denial.message.contains(problem) && denial.message.contains("2026-11-18T14:00:00Z"),
                    "{}",
                    denial.message
                );
            }
            (answer, _) => panic!("{time}: {answer:?}"),
        }
    }
    let record = json!({"record": {"trigger": "t", "openedAt": OPEN, "closedAt": OPEN, "decidedBy": "Person", "carriedOut": true}});
    assert_eq!(denial(judge(&guarded(&[]), OPEN, &create(&decision(&record)))).code, 422);
}

#[test]
fn a_metrics_source_is_an_address_without_secrets() {
    for (url, is_fine) in [
        ("https://prometheus.monitoring.svc:9090", true),
        ("http://10.0.0.1/prefix/", true),
        ("https://user:secret@prometheus", false),
        ("https://token@prometheus", false),
        ("https://prometheus?tenant=a", false),
        ("https://prometheus#a", false),
        ("ftp://prometheus", false),
        ("prometheus:9090", false),
        ("https://", false),
    ] {
        let source = json!({"apiVersion": "pilotguard.dev/v1alpha1", "kind": "MetricsSource",
            "metadata": {"name": "default"}, "spec": {"url": url}});
        match judge(&guarded(&[]), OPEN, &create(&source)) {
            Answer::Allowed { .. } => assert!(is_fine, "{url}"),
            Answer::PutOff { warning, .. } => panic!("{url}: {warning}"),
            Answer::Denied(denial) => {
                assert!(!is_fine && denial.code == 422, "{url}: {}", denial.message);
                assert!(!denial.message.contains("secret@"), "{}", denial.message);
            }
        }
    }
}

#[test]
fn who_created_a_pilot_stands_on_it() {
    let by = |pilot: &Value| pilot["metadata"]["annotations"]["pilotguard.dev/created-by"].clone();
    let forged = with(pilot(), &json!({"metadata": {"annotations": {"pilotguard.dev/created-by": "ada"}}}));
    for new in [pilot(), forged.clone()] {
        assert_eq!(by(&stored(judge(&guarded(&[]), OPEN, &create(&new)), &new)), "grace");
    }
    let update =
        |old: &Value, new: &Value| by(&stored(judge(&guarded(&[]), OPEN, &review("UPDATE", "mallory", old, new)), new));
    let graces = with(pilot(), &json!({"metadata": {"annotations": {"pilotguard.dev/created-by": "grace"}}}));
    assert_eq!(update(&graces, &forged), "grace");
    assert_eq!(update(&graces, &pilot()), "grace");
    assert_eq!(update(&pilot(), &forged), Value::Null, "nobody saw who created it");
}

#[test]
fn only_an_owner_of_both_lets_a_pilot_take_over_from_another() {
    let owned = |name: &str, users: &[&str]| {
        with(
            pilot(),
            &json!({"metadata": {"name": name, "uid": name},
                "spec": {"owners": {"serviceOwner": {"name": "Ada Lovelace", "identities": {"users": users}}}}}),
        )
    };
    let taking_over = |pilot: &Value, from: &str| {
        with(pilot.clone(), &json!({"metadata": {"annotations": {"pilotguard.dev/takes-over": from}}}))
    };
    let (old, young) = (owned("old", &["ada", "grace"]), owned("young", &["ada"]));
    let guarded = guarded(&[old.clone(), young.clone()]);
    let asked =
        |user: &str, from: &str| judge(&guarded, OPEN, &review("UPDATE", user, &young, &taking_over(&young, from)));
    assert!(matches!(asked("ada", "old"), Answer::Allowed { .. }));
    for (user, from, why) in [
        ("grace", "old", "grace has no role that may relax guards; ask Ada Lovelace"),
        ("mallory", "old", "mallory has no role"),
        ("ada", "elsewhere", "Pilot elsewhere does not exist"),
    ] {
        let refused = denial(asked(user, from));
        assert!(refused.message.contains(why), "{}", refused.message);
    }
    // What is settled is not asked about again, whoever edits the Pilot.
    let settled = taking_over(&young, "old");
    let labelled = with(settled.clone(), &json!({"metadata": {"labels": {"a": "b"}}}));
    assert!(matches!(judge(&guarded, OPEN, &review("UPDATE", "grace", &settled, &labelled)), Answer::Allowed { .. }));
    let burning = with(old, &json!({"status": {"incident": incident("DecisionWindow", "Rollback")}}));
    let refused = denial(judge(
        &crate::fixtures::guarded(&[burning, young.clone()]),
        OPEN,
        &review("UPDATE", "ada", &young, &taking_over(&young, "old")),
    ));
    assert!(refused.message.contains("an incident of Pilot old is open"), "{}", refused.message);
}

#[test]
fn the_operator_asks_by_a_dry_run_whether_it_is_reached() {
    let probe = with(decision(&json!({"reason": "4711"})), &json!({"metadata": {"name": "pilotguard-probe"}}));
    let asked = |user: &str| review("CREATE", user, &Value::Null, &probe);
    let answer = denial(judge(&guarded(&[]), OPEN, &dry_run(asked(OPERATOR))));
    assert_eq!(answer.message, "pilotguard probe 4711 answered");
    assert_eq!(judge(&guarded(&[]), OPEN, &asked(OPERATOR)), Answer::untouched());
    assert!(matches!(judge(&guarded(&[]), OPEN, &dry_run(asked("grace"))), Answer::Allowed { .. }));
}
