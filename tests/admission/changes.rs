//! Requests on a guarded Deployment: verdicts, stamps, marks.

use kube::runtime::watcher::Event;
use pilotguard::admit::context::Context;
use pilotguard::admit::pilots::Guarded;
use pilotguard::admit::wire::Answer;
use pilotguard::api::decision::Decision;
use pilotguard::api::workload::PartKind;
use pilotguard::observe::cluster::{Cluster, RawWorkload, reduce_workload};
use pilotguard::release::digest::{payload_digest, template_digest};
use pilotguard::release::marks::AdmittedVerdict::{
    self, Adopted, Allow, BreakGlass, Deny, Override, Rollback, Unauthorized,
};
use pilotguard::release::marks::{ADMITTED, CONTAINED, HELD, PARKED_REPLICAS, QUARANTINED};
use pilotguard::release::ownership::LAST_APPLIED;
use serde_json::{Value, json};

use crate::fixtures::*;

const PINNED: &str = "web@sha256:aaaa";

#[test]
fn each_kind_of_change_gets_its_verdict() {
    let guarded = guarded(&[pilot()]);
    let old = deployment("web:1");
    let gone = Value::Null;
    let edit = |change: Value| with(old.clone(), &change);
    let paused = edit(json!({"spec": {"paused": true}}));
    let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
    let namespaces = "system:serviceaccount:kube-system:namespace-controller";
    let restart =
        json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "x"}}}}});
    let cases = [
        ("another image", review("UPDATE", "grace", &old, &with_image("web:2")), false),
        ("a restart of a tag", review("UPDATE", "grace", &old, &edit(restart.clone())), false),
        (
            "a restart of a digest",
            review("UPDATE", "grace", &deployment(PINNED), &with(deployment(PINNED), &restart)),
            true,
        ),
        ("a label", review("UPDATE", "grace", &old, &edit(json!({"metadata": {"labels": {"a": "b"}}}))), true),
        ("a finalizer", review("UPDATE", "grace", &old, &edit(json!({"metadata": {"finalizers": ["a/b"]}}))), true),
        (
            "the last finalizer of what is being deleted",
            review(
                "UPDATE",
                "grace",
                &edit(json!({"metadata": {"finalizers": ["a/b"], "deletionTimestamp": CLOSED}})),
                &edit(json!({"metadata": {"deletionTimestamp": CLOSED}})),
            ),
            true,
        ),
        ("status", review("UPDATE", "grace", &old, &edit(json!({"status": {"availableReplicas": 0}}))), true),
        ("fewer replicas", review("UPDATE", "grace", &old, &edit(json!({"spec": {"replicas": 1}}))), true),
        ("replicas at the limit", review("UPDATE", "grace", &old, &edit(json!({"spec": {"replicas": 4}}))), true),
        ("too many replicas", review("UPDATE", "grace", &old, &edit(json!({"spec": {"replicas": 5}}))), false),
        ("pausing", review("UPDATE", "grace", &old, &paused), true),
        ("resuming", review("UPDATE", "grace", &paused, &old), false),
        ("creating", review("CREATE", "grace", &gone, &old), false),
        ("deleting", review("DELETE", "grace", &old, &gone), false),
        ("collecting garbage", review("DELETE", collector, &old, &gone), true),
        ("a namespace's end", review("DELETE", namespaces, &old, &gone), true),
        ("controllers of one account", review("DELETE", "system:kube-controller-manager", &old, &gone), true),
        ("a collector that changes", review("UPDATE", collector, &old, &with_image("web:2")), false),
        ("the operator", review("UPDATE", OPERATOR, &old, &with_image("web:2")), true),
        ("a dry-run of the operator", dry_run(review("UPDATE", OPERATOR, &old, &with_image("web:2"))), true),
        ("a dry-run of a person", dry_run(review("UPDATE", "grace", &old, &with_image("web:2"))), false),
        ("scaling up", scale(2, 4), true),
        ("scaling up too far", scale(2, 5), false),
        ("scaling down from too far", scale(9, 5), true),
    ];
    for (what, review, is_allowed) in cases {
        let answer = judge(&guarded, CLOSED, &review);
        assert_eq!(matches!(answer, Answer::Allowed { .. }), is_allowed, "{what}: {answer:?}");
        if let Answer::Denied(denial) = answer {
            assert_eq!((denial.code, denial.reason), (403, "Forbidden"), "{what}");
        }
    }
}

/// The garbage collector deletes what has lost its owners.
fn owned_by(uids: &[&str]) -> Value {
    let owner = |uid: &&str| {
        let (uid, name) = uid.split_once(' ').unwrap_or((uid, "owner"));
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid})
    };
    json!({"metadata": {"ownerReferences": uids.iter().map(owner).collect::<Vec<_>>()}})
}

#[test]
fn only_an_owner_more_is_judged() {
    let of = |uids: &[&str]| with(deployment("web:1"), &owned_by(uids));
    for (before, after, is_allowed) in [
        (vec![], vec!["u-1"], false),
        (vec!["u-1"], vec!["u-1", "u-2"], false),
        (vec!["u-1"], vec!["u-2"], false),
        (vec!["u-1"], vec!["u-1"], true),
        (vec!["u-1", "u-2"], vec!["u-2"], true),
        (vec!["u-1"], vec!["u-1 under another name"], false),
    ] {
        let answer = judge(&guarded(&[pilot()]), CLOSED, &review("UPDATE", "grace", &of(&before), &of(&after)));
        assert_eq!(matches!(answer, Answer::Allowed { .. }), is_allowed, "{before:?} to {after:?}: {answer:?}");
    }
}

#[test]
fn who_adds_an_owner_is_refused_as_who_deletes_even_where_the_release_might_move() {
    let owned = with(deployment("web:1"), &owned_by(&["gone"]));
    let told = denial(judge(&guarded(&[pilot()]), CLOSED, &update(TOOL, &owned))).message;
    let first = "Refused: adding an owner reference to Deployment checkout, guarded by pilot checkout.\n";
    assert!(told.starts_with(first) && !told.contains("kubectl create"), "{told}");
    // In a window both happen, and the release is stamped.
    let both = with(owned, &json!({"spec": {"template": template("web:2")}}));
    let allowed = judge(&guarded(&[pilot()]), OPEN, &update("grace", &both));
    assert_eq!(admitted(&stored(allowed, &both)).payload, payload_digest(&template("web:2")));
    let mut unreadable = pilot();
    unreadable["spec"]["changes"]["windows"][0]["timeZone"] = json!("Nowhere");
    let told =
        denial(judge(&guarded(&[unreadable]), OPEN, &update(TOOL, &with(deployment("web:1"), &owned_by(&["gone"])))));
    assert!(told.message.contains("is invalid"), "{}", told.message);
    // But never what was rolled back, nor, outside a window, what may always be gone back to.
    let put_away =
        json!({"metadata": {"annotations": {QUARANTINED: json!([payload_digest(&template("web:2"))]).to_string()}}});
    let quarantined = review("UPDATE", "grace", &with(deployment("web:1"), &put_away), &with(both.clone(), &put_away));
    assert!(denial(judge(&guarded(&[pilot()]), OPEN, &quarantined)).message.contains("was rolled back by"));
    let target = json!({"status": {"rollbackTarget": target_of(&template("web:2"))}});
    let answer = judge(&guarded(&[with(pilot(), &target)]), CLOSED, &update("grace", &both));
    assert!(denial(answer).message.starts_with(first));
}

#[test]
fn a_note_about_a_pin_survives_a_second_pass_over_the_same_request() {
    let tracked = json!({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "shop"}}});
    let [old, new] = ["web:1", "web:2"].map(|image| {
        with(
            with(deployment("web:1"), &tracked),
            &json!({"spec": {"template": template(image), "strategy": {"type": "Recreate"}}}),
        )
    });
    let pilot = with(pilot(), &json!({"spec": {"changes": {"outsideWindow": "Pin"}}}));
    let pass = |user: &str, object: &Value| {
        stored(judge(&guarded(std::slice::from_ref(&pilot)), CLOSED, &review("UPDATE", user, &old, object)), object)
    };
    let once = pass(TOOL, &new);
    let note = once["metadata"]["annotations"][HELD].clone();
    assert!(note.as_str().is_some_and(|note| note.contains(r#""verdict":"Pin""#)), "{note}");
    let labelled = with(once, &json!({"metadata": {"labels": {"other": "webhook"}}}));
    assert_eq!(pass(TOOL, &labelled), labelled);
    // In another's name it is no note of this request.
    assert_eq!(pass("grace", &labelled)["metadata"]["annotations"].get(HELD), None);
    // Nor is one that is old, or longer than ours are.
    let text = note.as_str().unwrap_or_default();
    let read: Value = serde_json::from_str(text).unwrap_or_default();
    let digest = read["template"].as_str().unwrap_or_default().to_owned();
    let others = [
        text.replace(CLOSED, "2026-11-20T17:40:00Z"),
        text.replace("OutsideWindow", &"x".repeat(600)),
        // As JSON each of these characters takes six bytes, more than the room for marks has.
        text.replace(&digest, &r"\u0001".repeat(500)).replace("web:2", &r"\u0001".repeat(500)),
    ];
    for other in others {
        assert_ne!(other, text);
        let forged = with(labelled.clone(), &json!({"metadata": {"annotations": {HELD: other}}}));
        assert_eq!(pass(TOOL, &forged)["metadata"]["annotations"].get(HELD), None);
    }
    // And a hold is never a note.
    let held = note.as_str().unwrap_or_default().replace("Pin", "Hold");
    let forged = with(labelled, &json!({"metadata": {"annotations": {HELD: held}}}));
    assert_eq!(pass(TOOL, &forged)["metadata"]["annotations"].get(HELD), None);
}

#[test]
fn a_workload_that_no_pilot_names_is_left_alone() {
    let guarded = guarded(&[pilot()]);
    let mut other = update("grace", &with_image("web:2"));
    other["request"]["name"] = json!("another");
    assert_eq!(judge(&guarded, CLOSED, &other), Answer::untouched());
    let mut elsewhere = update("grace", &with_image("web:2"));
    elsewhere["request"]["namespace"] = json!("warehouse");
    assert_eq!(judge(&guarded, CLOSED, &elsewhere), Answer::untouched());
}

#[test]
fn a_write_to_the_status_cannot_touch_marks_and_is_not_judged() {
    let old = deployment("web:1");
    let forged = json!({"metadata": {"annotations": {ADMITTED: null, QUARANTINED: "[]"}}, "status": {"replicas": 7},
        "spec": {"replicas": 9, "template": template("web:2")}});
    let new = with(old.clone(), &forged);
    let mut review = update("grace", &new);
    review["request"]["subResource"] = json!("status");
    let after = stored(judge(&guarded(&[pilot()]), CLOSED, &review), &new);
    assert_eq!(after["metadata"]["annotations"], old["metadata"]["annotations"]);
    assert_eq!(after["status"]["replicas"], 7, "the status itself is the controllers' own");
}

#[test]
fn each_deletion_in_a_collection_is_judged() {
    let mut review = review("DELETE", "grace", &deployment("web:1"), &Value::Null);
    review["request"].as_object_mut().unwrap().remove("name");
    let guarded = guarded(&[pilot()]);
    assert!(denial(judge(&guarded, CLOSED, &review)).message.contains("deleting Deployment checkout"));
    review["request"]["oldObject"]["metadata"]["name"] = json!("another");
    assert_eq!(judge(&guarded, CLOSED, &review), Answer::untouched());
}

#[test]
fn an_admitted_change_is_stamped() {
    let new = with_image("web:2");
    let stored = stored(judge(&guarded(&[pilot()]), OPEN, &update("ada", &new)), &new);
    let mark = admitted(&stored);
    let template = template("web:2");
    assert_eq!(mark.template, template_digest(&template));
    assert_eq!(mark.payload, payload_digest(&template));
    assert_eq!((mark.by.as_str(), mark.at, mark.verdict), ("ada", at(OPEN), AdmittedVerdict::Allow));
    assert_eq!(mark.groups, ["shop-team", "system:authenticated"]);
    assert!(mark.reasons.is_empty());
    assert!(mark.change.starts_with(&format!("checkout-{}-", &mark.payload[..8])), "{}", mark.change);
    let unstamped = with(stored, &json!({"metadata": {"annotations": {ADMITTED: null}}}));
    assert_eq!(unstamped, with(new, &json!({"metadata": {"annotations": {ADMITTED: null}}})), "only the stamp is new");
}

#[test]
fn marks_are_put_back_whatever_the_requester_did() {
    let guarded = guarded(&[pilot()]);
    let quarantine = json!(["f".repeat(64)]).to_string();
    let contained = r#"{"incident":"i","replicas":9}"#;
    let marks =
        json!({"metadata": {"annotations": {QUARANTINED: quarantine, CONTAINED: contained, PARKED_REPLICAS: "3"}}});
    let old = with(deployment("web:1"), &marks);
    // What `kubectl rollout undo` does: the annotations of an old ReplicaSet replace those of the Deployment.
    let mut undone = with(old.clone(), &json!({"spec": {"template": template("web:0")}}));
    undone["metadata"]["annotations"] = json!({
        "team": "old", ADMITTED: stamp(&template("web:0"), AdmittedVerdict::Allow, "2026-10-01T00:00:00Z", "ancient"),
        QUARANTINED: "[]", PARKED_REPLICAS: "300",
    });
    let after = stored(judge(&guarded, OPEN, &review("UPDATE", "grace", &old, &undone)), &undone);
    let annotation = |key: &str| after["metadata"]["annotations"][key].as_str().unwrap();
    assert_eq!((annotation(QUARANTINED), annotation(CONTAINED)), (quarantine.as_str(), contained));
    assert_eq!((annotation(PARKED_REPLICAS), annotation("team")), ("3", "old"));
    assert_eq!((admitted(&after).by.as_str(), admitted(&after).at), ("grace", at(OPEN)));

    // Without a new template there is no new stamp either.
    let mut forged = old.clone();
    forged["metadata"].as_object_mut().unwrap().remove("annotations");
    let after = stored(judge(&guarded, CLOSED, &review("UPDATE", "grace", &old, &forged)), &forged);
    let wanted = json!({ADMITTED: old["metadata"]["annotations"][ADMITTED], QUARANTINED: quarantine,
        CONTAINED: contained, PARKED_REPLICAS: "3"});
    assert_eq!(after["metadata"]["annotations"], wanted);

    // Our own account keeps what it writes.
    assert_eq!(judge(&guarded, OPEN, &review("UPDATE", OPERATOR, &old, &undone)), Answer::untouched());
}

#[test]
fn a_created_workload_brings_no_marks_of_its_own() {
    let forged = with(deployment("web:1"), &json!({"metadata": {"annotations": {PARKED_REPLICAS: "7"}}}));
    let answer = judge(&guarded(&[pilot()]), OPEN, &review("CREATE", "ada", &Value::Null, &forged));
    let after = stored(answer, &forged);
    assert_eq!(after["metadata"]["annotations"].get(PARKED_REPLICAS), None);
    assert_eq!((admitted(&after).by.as_str(), admitted(&after).at), ("ada", at(OPEN)));
}

/// The change that a second template belongs to, `None` where it is one of its own.
fn joined(pilot: &Value, verdict: AdmittedVerdict, stamped_at: &str, change: &Value) -> Option<String> {
    let stamp = stamp(&template("web:1"), verdict, stamped_at, "first");
    let stamped = |object: Value| with(object, &json!({"metadata": {"annotations": {ADMITTED: stamp}}}));
    let old = with(stamped(deployment("web:1")), &json!({"metadata": {"annotations": change}}));
    let new = with(old.clone(), &json!({"spec": {"template": template("web:2")}}));
    let after = stored(judge(&guarded(std::slice::from_ref(pilot)), OPEN, &review("UPDATE", "ada", &old, &new)), &new);
    let mark = admitted(&after);
    assert_eq!(mark.payload, payload_digest(&template("web:2")));
    let is_joined = mark.change == "first";
    assert_eq!(mark.at, if is_joined { at(stamped_at) } else { at(OPEN) }, "a change begins with its first template");
    is_joined.then_some(mark.change)
}

#[test]
fn changes_close_together_or_named_alike_are_one() {
    let (recent, at_limit, long_ago) = ("2026-11-18T09:59:30Z", "2026-11-18T09:59:00Z", "2026-11-18T09:58:59Z");
    let named = json!({"pilotguard.dev/change": "CHG-7"});
    let notifying = with(pilot(), &json!({"status": {"incident": incident("Standing", "Notify")}}));
    let observing = with(pilot(), &json!({"spec": {"enforcement": {"changes": "Observe"}}}));
    let payload = payload_digest(&template("web:1"));
    let proven = json!({"payload": payload, "admittedAt": recent, "state": "KnownGood"});
    let proven = with(pilot(), &json!({"status": {"release": proven}}));
    let whole = json!({"payload": "of several workloads", "admittedAt": recent, "state": "KnownGood"});
    let whole = with(pilot(), &json!({"status": {"release": whole}}));
    let cases = [
        ("within the time", pilot(), Allow, recent, json!({}), true),
        ("at its end", pilot(), Allow, at_limit, json!({}), true),
        ("after it", pilot(), Allow, long_ago, json!({}), false),
        ("named alike", pilot(), Allow, long_ago, named.clone(), true),
        ("observed", pilot(), Deny, recent, json!({}), true),
        ("after an adoption", pilot(), Adopted, recent, named.clone(), false),
        ("after a rollback", pilot(), Rollback, recent, named.clone(), false),
        ("after an unauthorized one", observing, Unauthorized, recent, named.clone(), false),
        ("after an exception", pilot(), Override, recent, named.clone(), false),
        ("after break-glass", pilot(), BreakGlass, recent, named.clone(), false),
        ("with an incident open", notifying, Allow, recent, named.clone(), false),
        ("after the bake", proven, Allow, recent, named.clone(), false),
        ("after the bake of several", whole, Allow, recent, named, false),
    ];
    for (what, pilot, verdict, stamped_at, change, is_one) in cases {
        assert_eq!(joined(&pilot, verdict, stamped_at, &change).is_some(), is_one, "{what}");
    }
}

#[test]
fn a_template_that_runs_the_same_keeps_its_change() {
    let guarded = guarded(&[pilot()]);
    let old = deployment(PINNED);
    let new = with(old.clone(), &json!({"spec": {"template": {"metadata": {"labels": {"sha": "abc"}}}}}));
    let after = stored(judge(&guarded, CLOSED, &review("UPDATE", "ada", &old, &new)), &new);
    let (before, after) = (admitted(&old), admitted(&after));
    assert_eq!(after.template, template_digest(&new["spec"]["template"]));
    assert_ne!(after.template, before.template);
    assert_eq!((after.change, after.at, after.by), (before.change, before.at, before.by));

    // A template that was never admitted is not made good in passing.
    let foreign = stamp(&template("other:1"), AdmittedVerdict::Allow, OPEN, "other");
    let foreign = json!({"metadata": {"annotations": {ADMITTED: foreign}}});
    let (old, new) = (with(old, &foreign), with(new, &foreign));
    assert_eq!(judge(&guarded, CLOSED, &review("UPDATE", "ada", &old, &new)), Answer::untouched());
}

#[test]
fn a_resumed_rollout_begins_when_it_is_resumed() {
    let paused = with(deployment("web:1"), &json!({"spec": {"paused": true}}));
    let resumed = deployment("web:1");
    let after = stored(judge(&guarded(&[pilot()]), OPEN, &review("UPDATE", "ada", &paused, &resumed)), &resumed);
    let mark = admitted(&after);
    assert_eq!((mark.change.as_str(), mark.at, mark.by.as_str()), ("checkout-old", at(OPEN), "ada"));

    let payload = payload_digest(&template("web:1"));
    let release = json!({"payload": payload, "admittedAt": "2026-11-18T08:00:00Z", "state": "KnownGood"});
    let proven = with(pilot(), &json!({"status": {"release": release}}));
    let answer = judge(&guarded(&[proven]), OPEN, &review("UPDATE", "ada", &paused, &resumed));
    assert_eq!(answer, Answer::untouched(), "pausing and resuming what is known-good is no new change");
}

fn target_of(template: &Value) -> Value {
    let payload = payload_digest(template);
    let part = json!({"kind": "Deployment", "name": "checkout", "payload": payload, "revision": "r"});
    json!({"payload": payload, "knownGoodAt": OPEN, "workloads": [part]})
}

#[test]
fn the_rollback_target_is_admitted_in_any_freeze() {
    let target = target_of(&template("web:2"));
    let pilot =
        with(pilot(), &json!({"status": {"rollbackTarget": target, "incident": incident("Standing", "HoldChanges")}}));
    let new = with_image("web:2");
    let after = stored(judge(&guarded(&[pilot]), CLOSED, &update("grace", &new)), &new);
    assert_eq!(admitted(&after).verdict, AdmittedVerdict::Allow);
}

#[test]
fn an_observing_pilot_warns_in_one_line_and_keeps_the_verdict() {
    let long = "a reason\nof two lines ".repeat(12);
    let freeze = json!({"name": "freeze", "kind": "Deny", "reason": long, "always": true});
    let mut observing = with(pilot(), &json!({"spec": {"enforcement": {"changes": "Observe", "actions": "Observe"}}}));
    observing["spec"]["changes"]["windows"].as_array_mut().unwrap().push(freeze);
    let new = with_image("web:2");
    let answer = judge(&guarded(&[observing.clone()]), OPEN, &update("grace", &new));
    let warnings = warnings(answer.clone());
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(
        warning.starts_with("pilotguard (observing): would have refused: updating Deployment checkout"),
        "{warning}"
    );
    assert!(warning.len() <= 250 && !warning.contains('\n'), "{warning:?}");
    let mark = admitted(&stored(answer, &new));
    assert_eq!(mark.verdict, AdmittedVerdict::Deny);
    assert!(mark.reasons[0].starts_with("OutsideWindow: in a freeze: freeze"), "{:?}", mark.reasons);

    let replicas = with(deployment("web:1"), &json!({"spec": {"replicas": 9}}));
    let answer = judge(&guarded(&[observing]), OPEN, &update("grace", &replicas));
    assert_eq!(stored(answer.clone(), &replicas), replicas);
    assert_eq!(crate::fixtures::warnings(answer).len(), 1);
}

#[test]
fn before_the_pilots_are_known_only_what_is_critical_is_refused() {
    let cold = Guarded::new(jiff::tz::TimeZoneDatabase::bundled());
    let new = with_image("web:2");
    let refused = denial(judge(&cold, OPEN, &update("grace", &new)));
    assert_eq!((refused.code, refused.reason), (503, "ServiceUnavailable"));
    assert!(refused.message.contains("try again in a few seconds"), "{}", refused.message);
    let untouched_marks = with(deployment("web:1"), &json!({"spec": {"replicas": 9}}));
    assert_eq!(warnings(judge(&cold, OPEN, &update("grace", &untouched_marks))).len(), 1);
    assert_eq!(warnings(judge(&cold, OPEN, &scale(1, 9))).len(), 1);
    let forged = with(deployment("web:1"), &json!({"metadata": {"annotations": {QUARANTINED: "[]"}}}));
    assert_eq!(denial(judge(&cold, OPEN, &update("grace", &forged))).code, 503);
    let cluster = no_records();
    let observed = Context {
        guarded: &cold,
        cluster: &cluster,
        own_account: OPERATOR,
        gitops_users: &[],
        may_refuse_unknown: false,
        now: at(OPEN),
    };
    assert_eq!(warnings(judge_in(&observed, &update("grace", &new))).len(), 1);
}

#[test]
fn a_pilot_that_cannot_be_used_as_written_refuses_and_says_why() {
    let broken = with(
        pilot(),
        &json!({"spec": {"changes": {"windows": [{"name": "w", "timeZone": "Europe/Atlantis",
        "weekly": {"days": ["Mon"], "from": "09:00", "to": "16:00"}}]}}}),
    );
    let refused = denial(judge(&guarded(std::slice::from_ref(&broken)), OPEN, &update("grace", &with_image("web:2"))));
    assert!(
        refused.message.contains("Europe/Atlantis") && refused.message.contains("Correct the Pilot"),
        "{}",
        refused.message
    );
    let label = with(deployment("web:1"), &json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(judge(&guarded(std::slice::from_ref(&broken)), OPEN, &update("grace", &label)), Answer::untouched());
    let observing = with(broken, &json!({"spec": {"enforcement": {"changes": "Observe", "actions": "Observe"}}}));
    assert_eq!(warnings(judge(&guarded(&[observing]), OPEN, &update("grace", &with_image("web:2")))).len(), 1);
}

#[test]
fn the_operators_probe_is_answered_and_nobody_elses() {
    let guarded = guarded(&[pilot()]);
    let probe = json!({"spec": {"template": {"metadata": {"annotations": {"pilotguard.dev/probe": "n0nce"}}}}});
    let new = with(deployment("web:1"), &probe);
    let answer = denial(judge(&guarded, OPEN, &dry_run(update(OPERATOR, &new))));
    assert_eq!(answer.message, "pilotguard probe n0nce answered");
    assert!(warnings(judge(&guarded, OPEN, &dry_run(update("grace", &new)))).is_empty());
}

#[test]
fn a_contained_workload_stays_small() {
    let mut incident = incident("Verifying", "ScaleDown");
    incident["intent"] = json!({"action": "ScaleDown", "decidedBy": "Deadline", "at": OPEN, "workloads": [
        {"workload": {"kind": "Deployment", "name": "checkout"}, "uid": "d-1", "from": "f", "replicas": 1}]});
    let scaled_down = with(pilot(), &json!({"status": {"incident": incident}}));
    let verdict = |pilot: &Value, review: &Value| {
        matches!(judge(&guarded(std::slice::from_ref(pilot)), OPEN, review), Answer::Allowed { .. })
    };
    assert!(!verdict(&scaled_down, &scale(1, 2)));
    assert!(verdict(&scaled_down, &scale(1, 0)));
    let resuming = with(scaled_down.clone(), &json!({"status": {"incident": {"stage": "Resuming"}}}));
    assert!(verdict(&resuming, &scale(1, 2)));
}

/// A manifest brings its ordinary count along: it is not refused for that, and does not undo the scale-down either.
#[test]
fn a_write_to_a_contained_workload_keeps_its_replicas() {
    let mark = json!({"metadata": {"annotations": {CONTAINED: r#"{"incident":"i","replicas":2}"#}}});
    let old = with(deployment("web:1"), &mark);
    let forget = json!({"spec": {"replicas": 3}, "metadata": {"annotations": {CONTAINED: null}}});
    let cases = [
        ("a count", forget.clone(), 2, Some("kept replicas at 2 until an owner resumes: scaling Deployment checkout")),
        (
            "a count and a label",
            with(forget, &json!({"metadata": {"labels": {"a": "b"}}})),
            2,
            Some("kept replicas at 2"),
        ),
        (
            "a template and a count",
            json!({"spec": {"template": template("web:2"), "replicas": 4}}),
            2,
            Some("at 2 until an owner resumes: updating"),
        ),
        ("fewer", json!({"spec": {"replicas": 1}}), 1, None),
    ];
    for (what, change, replicas, said) in cases {
        let new = with(old.clone(), &change);
        let answer = judge(&guarded(&[pilot()]), OPEN, &review("UPDATE", "grace", &old, &new));
        let told = warnings(answer.clone()).concat();
        assert!(said.map_or(told.is_empty(), |said| told.contains(said)), "{what}: {told}");
        let after = stored(answer, &new);
        assert_eq!(after["spec"]["replicas"], replicas, "{what}");
        assert_eq!(after["spec"]["template"], new["spec"]["template"], "{what}");
        assert_eq!(after["metadata"]["annotations"][CONTAINED], old["metadata"]["annotations"][CONTAINED], "{what}");
    }
    let observing = with(pilot(), &json!({"spec": {"enforcement": {"actions": "Observe"}}}));
    let new = with(old.clone(), &json!({"spec": {"replicas": 3}}));
    let answer = judge(&guarded(&[observing]), OPEN, &review("UPDATE", "grace", &old, &new));
    assert!(warnings(answer.clone())[0].starts_with("pilotguard (observing): would have kept replicas at 2: "));
    assert_eq!(stored(answer, &new)["spec"]["replicas"], 3);
}

/// A cluster in which the watch has seen this Deployment.
fn watching(deployment: Value) -> Cluster {
    let (cluster, kind) = (no_records(), PartKind::Deployment);
    let reduce = |workload: &RawWorkload| reduce_workload(kind, workload);
    let read = serde_json::from_value::<RawWorkload>(deployment).unwrap();
    for event in [Event::Init, Event::InitApply(read), Event::InitDone] {
        cluster.workloads.of(kind).see(&event, reduce);
    }
    cluster
}

#[test]
fn nothing_is_built_on_a_release_of_which_another_workload_came_in_past_the_guards() {
    let both = with(pilot(), &json!({"spec": {"workloads": [{"name": "checkout"}, {"name": "worker"}]}}));
    let beside = |name: &str, verdict: AdmittedVerdict, review: &Value| {
        let stamp = stamp(&template("web:1"), verdict, "2026-11-18T08:00:00Z", "checkout-seen");
        let other = json!({"metadata": {"name": name, "uid": "d-2", "annotations": {ADMITTED: stamp}}});
        let cluster = watching(with(deployment("web:1"), &other));
        judge_beside(&cluster, &guarded(std::slice::from_ref(&both)), OPEN, review)
    };
    let updated = update("grace", &with_image("web:2"));
    let created = review("CREATE", "grace", &Value::Null, &with_image("web:2"));
    for change in [updated, created] {
        let told = denial(beside("worker", Unauthorized, &change)).message;
        let problem = "the running release of Deployment worker bypassed admission (change checkout-seen)";
        assert!(told.contains(problem), "{told}");
        assert!(matches!(beside("worker", Allow, &change), Answer::Allowed { .. }));
        assert!(matches!(beside("stranger", Unauthorized, &change), Answer::Allowed { .. }));
        // Before the watch has seen all nobody knows.
        let guarded = guarded(std::slice::from_ref(&both));
        assert_eq!(denial(judge_beside(&no_records(), &guarded, OPEN, &change)).code, 503);
    }
    let scaled = with(deployment("web:1"), &json!({"spec": {"replicas": 3}}));
    let answer = judge_beside(&no_records(), &guarded(std::slice::from_ref(&both)), OPEN, &update("grace", &scaled));
    assert!(matches!(answer, Answer::Allowed { .. }), "of replicas nobody else is asked: {answer:?}");
}

/// The Pilot was created anew and knows of no incident; the mark on the workload remembers.
#[test]
fn scaling_what_the_watch_saw_contained_is_refused() {
    let mark = json!({"metadata": {"annotations": {CONTAINED: r#"{"incident":"i","replicas":1}"#}}});
    let scaled_by = |pilot: &Value, uid: &str| {
        let contained = with(with(deployment("web:1"), &mark), &json!({"metadata": {"uid": uid}}));
        judge_beside(&watching(contained), &guarded(std::slice::from_ref(pilot)), OPEN, &scale(1, 2))
    };
    let refused = denial(scaled_by(&pilot(), "d-1"));
    assert!(refused.message.contains("incident i scaled this workload down to 1"), "{}", refused.message);
    assert!(matches!(scaled_by(&pilot(), "d-0"), Answer::Allowed { .. }), "a namesake that is gone says nothing");
    // Of its own incident the Pilot knows more than a watch that lags.
    let mut own = incident("Closing", "ScaleDown");
    own["id"] = json!("i");
    let over = with(pilot(), &json!({"status": {"incident": own}}));
    assert!(matches!(scaled_by(&over, "d-1"), Answer::Allowed { .. }));
}

/// What a pinned write leaves behind, beside its note, is what was there: who owns the template, and what kubectl
/// believes to have applied of it.
#[test]
fn a_pinned_write_leaves_the_template_to_its_owners() {
    let owners = |container: &str| {
        let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {format!("k:{{\"name\":\"{container}\"}}"): {".": {}}}}}}});
        json!([{"manager": "argocd-controller", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": fields}])
    };
    let applied = |image: &str, team: &str| {
        json!({"metadata": {"labels": {"team": team}}, "spec": {"template": template(image)}}).to_string()
    };
    let held = |object: Value, image: &str, container: &str, team: &str| {
        with(
            object,
            &json!({"metadata": {"managedFields": owners(container), "labels": {"team": team}, "annotations": {
            "argocd.argoproj.io/tracking-id": "checkout", LAST_APPLIED: applied(image, team)}}}),
        )
    };
    let payload = payload_digest(&template("web:2"));
    let old = held(deployment("web:1"), "web:1", "side", "old");
    let old = with(old, &json!({"metadata": {"annotations": {QUARANTINED: json!([payload]).to_string()}}}));
    let new = held(with(old.clone(), &json!({"spec": {"template": template("web:2")}})), "web:2", "evil", "new");
    let tool = "system:serviceaccount:argocd:argocd-application-controller";
    let after = stored(judge(&guarded(&[pilot()]), OPEN, &review("UPDATE", tool, &old, &new)), &new);
    assert_eq!(after["spec"], old["spec"]);
    assert_eq!(after["metadata"]["managedFields"], owners("side"));
    let kept = after["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
    assert_eq!(kept.trim_end(), applied("web:1", "new"), "the label was taken, the template was not");
}

/// The record of an incident that rolled this release back.
fn record_of(payload: &str) -> Decision {
    serde_json::from_value(json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
        "metadata": {"name": "incident-i", "namespace": "shop", "creationTimestamp": "2026-11-20T10:00:00Z"},
        "spec": {"pilot": "checkout", "type": "Rollback", "incident": "i", "reason": "rolled back",
            "by": {"user": "system:pilotguard"},
            "record": {"trigger": "fast-burn", "openedAt": "2026-11-20T09:55:00Z", "closedAt": "2026-11-20T10:00:00Z",
                "decidedBy": "Deadline", "carriedOut": true, "quarantined": [payload]}},
    }))
    .unwrap()
}

/// The same, and a Readmit of that release.
fn readmitted(payload: &str, created: &str, phase: &str) -> Cluster {
    let readmit = json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
        "metadata": {"name": "d", "namespace": "shop", "creationTimestamp": created},
        "spec": {"pilot": "checkout", "type": "Readmit", "payload": payload, "reason": "a broken load balancer"},
        "status": {"phase": phase},
    });
    records(&[], &[record_of(payload), serde_json::from_value(readmit).unwrap()])
}

/// The answer to a request in an open window, with these records.
fn with_records(cluster: &Cluster, request: &Value) -> Answer {
    let context = Context {
        guarded: &guarded(&[pilot()]),
        cluster,
        own_account: OPERATOR,
        gitops_users: &[],
        may_refuse_unknown: true,
        now: at(OPEN),
    };
    judge_in(&context, request)
}

#[test]
fn a_workload_that_is_created_anew_does_not_bring_back_what_was_rolled_back() {
    let payload = payload_digest(&with_image("web:2")["spec"]["template"]);
    let recorded = records(&[], &[record_of(&payload)]);
    let create = |cluster: &Cluster, image: &str| {
        with_records(cluster, &review("CREATE", "grace", &Value::Null, &with_image(image)))
    };
    let refused = denial(create(&recorded, "web:2"));
    assert!(refused.message.contains("rolled back by"), "{}", refused.message);
    // It comes back neither at once nor with the next update.
    let created = stored(create(&recorded, "web:3"), &with_image("web:3"));
    assert_eq!(created["metadata"]["annotations"][QUARANTINED], json!([payload]).to_string());
    let updated = with(created.clone(), &json!({"spec": {"template": template("web:2")}}));
    denial(judge(&guarded(&[pilot()]), OPEN, &review("UPDATE", "grace", &created, &updated)));
    let created =
        stored(create(&readmitted(&payload, "2026-11-21T10:00:00Z", "Accepted"), "web:2"), &with_image("web:2"));
    assert_eq!(created["metadata"]["annotations"].get(QUARANTINED), None);
    for (at, phase) in [("2026-11-19T10:00:00Z", "Accepted"), ("2026-11-21T10:00:00Z", "Refused")] {
        denial(create(&readmitted(&payload, at, phase), "web:2"));
    }
    assert_eq!(denial(create(&Cluster::default(), "web:3")).code, 503, "records that were not read are unknown");
}

#[test]
fn records_know_what_a_full_mark_of_quarantined_releases_does_not_list() {
    let payload = payload_digest(&with_image("web:2")["spec"]["template"]);
    let recorded = records(&[], &[record_of(&payload)]);
    let update = |cluster: &Cluster, listed: usize, image: &str| {
        let others: Vec<String> = (0..listed).map(|number| format!("{number:064}")).collect();
        let marks = json!({"metadata": {"annotations": {QUARANTINED: json!(others).to_string()}}});
        let old = with(with_image("web:1"), &marks);
        with_records(cluster, &review("UPDATE", "grace", &old, &with(old.clone(), &with_image(image))))
    };
    assert!(denial(update(&recorded, 64, "web:2")).message.contains("rolled back by"));
    let is_allowed = |answer| matches!(answer, Answer::Allowed { .. });
    assert!(is_allowed(update(&recorded, 63, "web:2")), "the mark lists all");
    assert!(is_allowed(update(&recorded, 64, "web:3")));
    assert!(is_allowed(update(&readmitted(&payload, "2026-11-21T10:00:00Z", "Accepted"), 64, "web:2")));
}
