//! StatefulSets and DaemonSets are guarded as Deployments are, and never held; what another controller drives neither.

use pilotguard::admit::wire::Answer;
use pilotguard::release::marks::HeldVerdict;
use serde_json::{Value, json};

use crate::fixtures::*;

fn pilot_of(kind: &str) -> Value {
    with(pilot(), &json!({"spec": {"workloads": [{"kind": kind, "name": "checkout"}]}}))
}

/// An admitted workload of this kind that Argo CD applies, as the API server has it.
fn argo(kind: &str) -> Value {
    let rolling = json!({"type": "RollingUpdate"});
    let change = match kind {
        "DaemonSet" => json!({"spec": {"replicas": null, "updateStrategy": rolling},
            "status": {"desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}}),
        "StatefulSet" => json!({"spec": {"updateStrategy": rolling}}),
        _ => json!({}),
    };
    let tracked = json!({"kind": kind, "metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "shop"}}});
    with(with(deployment("web:1"), &tracked), &change)
}

fn denied(answer: Answer) -> String {
    denial(answer).message
}

fn moved(kind: &str) -> Value {
    with(argo(kind), &json!({"spec": {"template": template("web:2")}}))
}

#[test]
fn people_are_refused_tools_are_pinned_and_windows_let_both_pass() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let guarded = guarded(&[pilot_of(kind)]);
        let refused = denied(judge(&guarded, CLOSED, &review("UPDATE", "grace", &argo(kind), &moved(kind))));
        let begins =
            format!("Refused: updating {kind} checkout from web:1 (8612dfb8064e) to web:2 (89dd472676be), guarded");
        assert!(refused.starts_with(&begins) && refused.contains("\n- outside the change windows"), "{refused}");
        let deleted = denied(judge(&guarded, CLOSED, &review("DELETE", "grace", &argo(kind), &Value::Null)));
        assert!(deleted.starts_with(&format!("Refused: deleting {kind} checkout")), "{deleted}");

        let pinned = judge(&guarded, CLOSED, &review("UPDATE", TOOL, &argo(kind), &moved(kind)));
        assert!(matches!(pinned, Answer::PutOff { verdict: HeldVerdict::Pin, .. }), "{kind}: {pinned:?}");
        let kept = stored(pinned, &moved(kind));
        assert_eq!(kept["spec"], argo(kind)["spec"], "nothing of it moved, and no pause was written");

        for user in ["grace", TOOL] {
            let allowed = judge(&guarded, OPEN, &review("UPDATE", user, &argo(kind), &moved(kind)));
            assert_eq!(admitted(&stored(allowed, &moved(kind))).by, user);
        }
        let created = denied(judge(&guarded, CLOSED, &review("CREATE", TOOL, &Value::Null, &moved(kind))));
        assert!(
            created.starts_with(&format!("Refused: creating {kind} checkout with web:2 (89dd472676be), guarded")),
            "there is nothing to keep: {created}"
        );
    }
}

#[test]
fn a_namesake_of_another_kind_is_none_of_our_business() {
    let guarded = guarded(&[pilot_of("StatefulSet")]);
    for kind in ["Deployment", "DaemonSet"] {
        let answer = judge(&guarded, CLOSED, &review("UPDATE", "grace", &argo(kind), &moved(kind)));
        assert_eq!(answer, Answer::untouched(), "{kind}");
    }
}

#[test]
fn what_a_strategy_keeps_from_the_pods_is_let_go_only_when_changes_may_happen() {
    let partition = |number: i32| json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": number}}}});
    let on_delete = json!({"spec": {"updateStrategy": {"type": "OnDelete"}}});
    for (kind, before, after) in [
        ("StatefulSet", partition(2), partition(0)),
        ("StatefulSet", on_delete.clone(), json!({})),
        ("DaemonSet", on_delete, json!({})),
    ] {
        let guarded = guarded(&[pilot_of(kind)]);
        let (braked, released) = (with(argo(kind), &before), with(argo(kind), &after));
        let resumed = |user: &str| review("UPDATE", user, &braked, &released);
        let refused = denied(judge(&guarded, CLOSED, &resumed("grace")));
        assert!(refused.starts_with(&format!("Refused: resuming the rollout of {kind} checkout")), "{refused}");
        let pinned = stored(judge(&guarded, CLOSED, &resumed(TOOL)), &released);
        assert_eq!(pinned["spec"], braked["spec"], "the tool is answered with what is stored");
        assert!(matches!(judge(&guarded, OPEN, &resumed("grace")), Answer::Allowed { .. }));
        let tightened = judge(&guarded, CLOSED, &review("UPDATE", "grace", &released, &braked));
        assert!(matches!(tightened, Answer::Allowed { .. }), "{tightened:?}");
    }
}

#[test]
fn replicas_are_bounded_where_there_are_any() {
    let of = |kind: &str, replicas: i32| {
        let mut review = scale(2, replicas);
        let resource = if kind == "StatefulSet" { "statefulsets" } else { "daemonsets" };
        review["request"]["resource"]["resource"] = json!(resource);
        judge(&guarded(&[pilot_of(kind)]), OPEN, &review)
    };
    let refused = denied(of("StatefulSet", 5));
    assert!(refused.starts_with("Refused: scaling StatefulSet checkout from 2 to 5 replicas"), "{refused}");
    assert!(matches!(of("StatefulSet", 4), Answer::Allowed { .. }));
    assert!(denied(of("DaemonSet", 1)).contains("is not reviewed here"), "a DaemonSet has no such subresource");
}

#[test]
fn what_another_controller_drives_is_pinned_and_not_held() {
    let driven = json!({"metadata": {"managedFields": [
        {"manager": "rollouts-controller", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]}});
    let guarded = guarded(&[pilot()]);
    let verdict = |change: &Value| {
        let [old, new] = [argo("Deployment"), moved("Deployment")].map(|object| with(object, change));
        match judge(&guarded, CLOSED, &review("UPDATE", TOOL, &old, &new)) {
            Answer::PutOff { verdict, .. } => Some(verdict),
            _ => None,
        }
    };
    assert_eq!(verdict(&json!({})), Some(HeldVerdict::Hold));
    assert_eq!(verdict(&driven), Some(HeldVerdict::Pin), "nobody would heed the pause");
}

#[test]
fn a_rollback_that_will_not_happen_is_told_when_it_is_declared() {
    let trigger = json!({"name": "stuck", "when": {"promql": {"query": "up", "operator": "LT", "threshold": "1"}}, "action": "Rollback"});
    let with_trigger = |kind: &str| with(pilot_of(kind), &json!({"spec": {"triggers": [trigger]}}));
    let declare = |pilot: &Value| judge(&guarded(&[]), OPEN, &review("CREATE", "grace", &Value::Null, pilot));
    let warned = |kind: &str| warnings(declare(&with_trigger(kind)));
    assert!(warned("Deployment").is_empty());
    let expected = "spec.triggers[name=stuck]: HoldChanges happens instead of Rollback, because StatefulSet checkout is never \
                    rolled back automatically";
    assert_eq!(warned("StatefulSet"), [expected]);
    let never = json!({"spec": {"triggers": [{"name": "stuck", "when": {"workload": {"condition": "ProgressDeadlineExceeded"}},
        "action": "Notify"}]}});
    let refused = denied(declare(&with(pilot_of("StatefulSet"), &never)));
    assert!(refused.contains("spec.triggers[name=stuck].when.workload: would never fire"), "{refused}");
}
