//! Refusals as people read them, and the commands in them as a shell runs them.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use pilotguard::admit::wire::Answer;
use pilotguard::release::digest::payload_digest;
use pilotguard::release::marks::{BREAK_GLASS_GROUP, BREAK_GLASS_REASON, QUARANTINED};
use serde_json::{Value, json};

use crate::fixtures::*;

fn refused(pilot: &Value, now: &str, review: &Value) -> String {
    denial(judge(&guarded(std::slice::from_ref(pilot)), now, review)).message
}

fn quarantined() -> Value {
    let payload = payload_digest(&template("web:2"));
    let old =
        with(deployment("web:1"), &json!({"metadata": {"annotations": {QUARANTINED: json!([payload]).to_string()}}}));
    let new = with(old.clone(), &json!({"spec": {"template": template("web:2")}}));
    review("UPDATE", "grace", &old, &new)
}

fn contained() -> Value {
    let intent = json!({"action": "ScaleDown", "decidedBy": "Person", "at": "2026-11-18T09:56:00Z"});
    with(in_incident("Standing", "ScaleDown"), &json!({"status": {"incident": {"intent": intent}}}))
}

fn in_incident(stage: &str, action: &str) -> Value {
    with(pilot(), &json!({"status": {"incident": incident(stage, action)}}))
}

#[test]
fn a_closed_window_names_the_next_opening_in_its_own_zone() {
    insta::assert_snapshot!(refused(&pilot(), CLOSED, &update("grace", &with_image("web:2"))), @r#"
    Refused: updating Deployment checkout from web:1 (8612dfb8064e) to web:2 (89dd472676be), guarded by pilot checkout.
    - outside the change windows; the next is weekday-mornings
    Allowed from Mon 2026-11-23 09:00 Europe/Berlin (08:00 UTC, in 2d 14h)
    Owner: Ada Lovelace (service owner), ada@example.com
    To let this release through now (an emergency change), an owner other than grace can run, with a reason of their own:
      echo '{"apiVersion":"pilotguard.dev/v1alpha1","kind":"Decision","metadata":{"generateName":"checkout-override-"},"spec":{"payload":"89dd472676be19f2614a96c39c9b8fdbe541b4e82b63951e9799b6e7f92dfc6e","pilot":"checkout","reason":"<why it cannot wait>","type":"Override","until":"2026-11-20T18:48:00Z"}}' | kubectl create -n shop -f -
    "#);
}

#[test]
fn one_line_names_the_release_too() {
    let old = with(deployment("web:1"), &json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "tool"}}}));
    let tool = "system:serviceaccount:ci:deployer";
    let mut pinning = pilot();
    pinning["spec"]["changes"]["outsideWindow"] = json!("Pin");
    let new = with(old.clone(), &json!({"spec": {"template": template("web:2")}}));
    let answer = judge(&guarded(&[pinning]), CLOSED, &review("UPDATE", tool, &old, &new));
    let Answer::PutOff { warning, note, .. } = answer else { panic!("{answer:?}") };
    let begins = "pilotguard kept the stored release instead of: updating Deployment checkout to web:2 (89dd472676be) \
                  (pilot checkout): outside the change windows";
    assert!(warning.starts_with(begins), "{warning}");
    assert!(
        warning.len() <= 250 && note.len() <= 512 && note.starts_with(&warning.replace('…', "")),
        "{warning}: {note}"
    );
    assert!(warning.ends_with("…") && note.ends_with("owner: Ada Lovelace (service owner), ada@example.com"), "{note}");
    let last = warning.trim_end_matches('…').rsplit(' ').next().unwrap();
    assert!(
        note.split(' ').any(|word| word.trim_end_matches([',', ';', ':', '(']) == last),
        "cut within a word: {warning}"
    );
}

#[test]
fn a_freeze_names_its_reason() {
    let mut frozen = pilot();
    frozen["spec"]["changes"]["windows"].as_array_mut().unwrap().push(json!({
        "name": "year-end", "kind": "Deny", "reason": "Year-end freeze,\nno exceptions", "timeZone": "UTC",
        "once": {"from": "2026-11-18T00:00:00", "to": "2026-11-19T09:30:15"}}));
    insta::assert_snapshot!(refused(&frozen, OPEN, &review("DELETE", "grace", &deployment("web:1"), &Value::Null)), @r#"
    Refused: deleting Deployment checkout, guarded by pilot checkout.
    - in a freeze: year-end (Year-end freeze, no exceptions)
    Allowed from Thu 2026-11-19 09:30:15 UTC (in 23h 30m)
    No exception covers a deletion. Scaling it to 0 replicas is allowed now.
    Owner: Ada Lovelace (service owner), ada@example.com
    "#);
}

#[test]
fn a_quarantined_release_comes_with_the_command_that_readmits_it() {
    insta::assert_snapshot!(refused(&pilot(), CLOSED, &quarantined()), @r#"
    Refused: updating Deployment checkout from web:1 (8612dfb8064e) to web:2 (89dd472676be), guarded by pilot checkout.
    - this release was rolled back by an incident and stays blocked; allowed after an owner readmits it
    - outside the change windows; the next is weekday-mornings
    In any case not before Mon 2026-11-23 09:00 Europe/Berlin (08:00 UTC, in 2d 14h)
    Owner: Ada Lovelace (service owner), ada@example.com
    Before that time it takes both of these exceptions; from then on the first is enough.
    To let this release be tried again, an owner can run, with a reason of their own:
      echo '{"apiVersion":"pilotguard.dev/v1alpha1","kind":"Decision","metadata":{"generateName":"checkout-readmit-"},"spec":{"payload":"89dd472676be19f2614a96c39c9b8fdbe541b4e82b63951e9799b6e7f92dfc6e","pilot":"checkout","reason":"<why it is safe now>","type":"Readmit"}}' | kubectl create -n shop -f -
    To let this release through now (an emergency change), an owner other than grace can run, with a reason of their own:
      echo '{"apiVersion":"pilotguard.dev/v1alpha1","kind":"Decision","metadata":{"generateName":"checkout-override-"},"spec":{"payload":"89dd472676be19f2614a96c39c9b8fdbe541b4e82b63951e9799b6e7f92dfc6e","pilot":"checkout","reason":"<why it cannot wait>","type":"Override","until":"2026-11-20T18:48:00Z"}}' | kubectl create -n shop -f -
    "#);
}

#[test]
fn an_incident_comes_with_the_command_that_rolls_a_fix_forward() {
    let change = update("grace", &with_image("web:2"));
    insta::assert_snapshot!(refused(&in_incident("DecisionWindow", "Rollback"), OPEN, &change), @r#"
    Refused: updating Deployment checkout from web:1 (8612dfb8064e) to web:2 (89dd472676be), guarded by pilot checkout.
    - incident fast-burn-3f9c2a71 is open; a rollback follows at 2026-11-18T10:05:00Z unless an owner decides otherwise; allowed after the incident has closed
    Owner: Ada Lovelace (service owner), ada@example.com
    To let this release through as the fix (an emergency change), an owner can run, with a reason of their own:
      echo '{"apiVersion":"pilotguard.dev/v1alpha1","kind":"Decision","metadata":{"generateName":"checkout-override-"},"spec":{"fix":true,"payload":"89dd472676be19f2614a96c39c9b8fdbe541b4e82b63951e9799b6e7f92dfc6e","pilot":"checkout","reason":"<why it cannot wait>","type":"Override","until":"2026-11-18T11:00:00Z"}}' | kubectl create -n shop -f -
    "#);
    insta::assert_snapshot!(refused(&in_incident("Standing", "HoldChanges"), OPEN, &change), @r#"
    Refused: updating Deployment checkout from web:1 (8612dfb8064e) to web:2 (89dd472676be), guarded by pilot checkout.
    - incident fast-burn-3f9c2a71 holds changes; allowed after its triggers are clear, or an owner resumes
    Owner: Ada Lovelace (service owner), ada@example.com
    To let this release through as the fix (an emergency change), an owner can run, with a reason of their own:
      echo '{"apiVersion":"pilotguard.dev/v1alpha1","kind":"Decision","metadata":{"generateName":"checkout-override-"},"spec":{"fix":true,"payload":"89dd472676be19f2614a96c39c9b8fdbe541b4e82b63951e9799b6e7f92dfc6e","pilot":"checkout","reason":"<why it cannot wait>","type":"Override","until":"2026-11-18T11:00:00Z"}}' | kubectl create -n shop -f -
    To end the incident, an owner can run, with a reason of their own:
      echo '{"apiVersion":"pilotguard.dev/v1alpha1","kind":"Decision","metadata":{"generateName":"checkout-resume-"},"spec":{"incident":"fast-burn-3f9c2a71","pilot":"checkout","reason":"<why it is safe>","type":"Resume"}}' | kubectl create -n shop -f -
    "#);
    insta::assert_snapshot!(refused(&in_incident("Acting", "Rollback"), OPEN, &change), @r#"
    Refused: updating Deployment checkout from web:1 (8612dfb8064e) to web:2 (89dd472676be), guarded by pilot checkout.
    - incident fast-burn-3f9c2a71 is open; a rollback is in progress; allowed after the incident has closed
    Owner: Ada Lovelace (service owner), ada@example.com
    "#);
}

#[test]
fn what_a_person_holds_names_who_and_why_and_the_command_that_ends_it() {
    let change = update("grace", &with_image("web:2"));
    let held = json!({"status": {"incident": {
        "id": "person-77aa01bc", "trigger": "person", "evidence": null, "because": "wrong totals\nin the basket",
        "intent": {"action": "HoldChanges", "decidedBy": "Person", "decision": "checkout-x7k2p", "at": "2026-11-18T09:56:00Z"},
    }}});
    let held = with(in_incident("Standing", "HoldChanges"), &held);
    let word = json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
        "metadata": {"name": "checkout-x7k2p", "namespace": "shop", "creationTimestamp": "2026-11-18T09:56:00Z"},
        "spec": {"pilot": "checkout", "type": "HoldChanges", "reason": "wrong totals", "by": {"user": "mallory"}},
        "status": {"phase": "Accepted"},
    });
    let cluster = records(&[], &[serde_json::from_value(word).unwrap()]);
    let answer = judge_beside(&cluster, &guarded(std::slice::from_ref(&held)), OPEN, &change);
    insta::assert_snapshot!(denial(answer).message, @r#"
    Refused: updating Deployment checkout from web:1 (8612dfb8064e) to web:2 (89dd472676be), guarded by pilot checkout.
    - incident person-77aa01bc holds changes, decided by mallory: wrong totals in the basket; allowed after an owner resumes
    Owner: Ada Lovelace (service owner), ada@example.com
    To let this release through as the fix (an emergency change), an owner can run, with a reason of their own:
      echo '{"apiVersion":"pilotguard.dev/v1alpha1","kind":"Decision","metadata":{"generateName":"checkout-override-"},"spec":{"fix":true,"payload":"89dd472676be19f2614a96c39c9b8fdbe541b4e82b63951e9799b6e7f92dfc6e","pilot":"checkout","reason":"<why it cannot wait>","type":"Override","until":"2026-11-18T11:00:00Z"}}' | kubectl create -n shop -f -
    To end the incident, an owner can run, with a reason of their own:
      echo '{"apiVersion":"pilotguard.dev/v1alpha1","kind":"Decision","metadata":{"generateName":"checkout-resume-"},"spec":{"incident":"person-77aa01bc","pilot":"checkout","reason":"<why it is safe>","type":"Resume"}}' | kubectl create -n shop -f -
    "#);
    // The Decision may have been removed since.
    let told = refused(&held, OPEN, &change);
    assert!(told.contains("\n- incident person-77aa01bc holds changes: wrong totals in the basket; "), "{told}");
}

#[test]
fn a_resume_is_suggested_only_where_it_lets_the_change_through() {
    let standing = in_incident("Standing", "HoldChanges");
    let change = update("grace", &with_image("web:2"));
    assert!(refused(&standing, OPEN, &change).contains("Resume"));
    assert!(!refused(&standing, CLOSED, &change).contains("Resume"), "the window stays closed");
    let readmission = refused(&standing, OPEN, &quarantined());
    assert!(!readmission.contains("Resume"), "the release stays quarantined: {readmission}");
}

#[test]
fn who_meant_to_break_the_glass_is_told_what_was_missing() {
    let old = with(deployment("web:1"), &json!({"metadata": {"annotations": {BREAK_GLASS_REASON: "outage 42"}}}));
    let new = with(old.clone(), &json!({"spec": {"template": template("web:2")}}));
    let asked = |mut review: Value| {
        review["request"]["userInfo"]["groups"] = json!([BREAK_GLASS_GROUP]);
        let text = refused(&in_incident("Acting", "Rollback"), OPEN, &review);
        text.lines().last().unwrap_or_default().to_owned()
    };
    insta::assert_snapshot!(asked(review("UPDATE", "carol", &old, &new)), @"Break-glass needs a new reason in the annotation pilotguard.dev/break-glass-reason: write a new one in the same request.");
    insta::assert_snapshot!(asked(review("DELETE", "carol", &old, &Value::Null)), @r#"Break-glass needs a new reason in the annotation pilotguard.dev/break-glass-reason: before deleting, write one that begins with "delete: "."#);
    insta::assert_snapshot!(asked(scale(2, 9)), @"Break-glass needs a new reason in the annotation pilotguard.dev/break-glass-reason: patch spec.replicas and write one in the same request.");
}

#[test]
fn too_many_replicas_name_the_limit() {
    insta::assert_snapshot!(refused(&pilot(), OPEN, &scale(2, 9)), @r#"
    Refused: scaling Deployment checkout from 2 to 9 replicas, guarded by pilot checkout.
    - 9 replicas exceed blastRadius.maxReplicas (4); allowed after the owners raise blastRadius.maxReplicas
    Owner: Ada Lovelace (service owner), ada@example.com
    "#);
}

#[test]
fn a_past_decision_date_names_who_has_to_decide() {
    let resumed = with(deployment("web:1"), &json!({"spec": {"paused": true}}));
    let review = review("UPDATE", "grace", &resumed, &deployment("web:1"));
    insta::assert_snapshot!(refused(&pilot(), "2027-01-05T10:00:00Z", &review), @r#"
    Refused: resuming the rollout of Deployment checkout to web:1 (8612dfb8064e), guarded by pilot checkout.
    - the pilot's decision date 2026-12-31T00:00:00Z has passed; allowed after the owners decide to scale, iterate or stop, and move intent.decisionDate
    Owner: Ada Lovelace (service owner), ada@example.com
    To let this release through now (an emergency change), an owner other than grace can run, with a reason of their own:
      echo '{"apiVersion":"pilotguard.dev/v1alpha1","kind":"Decision","metadata":{"generateName":"checkout-override-"},"spec":{"payload":"8612dfb8064e0b1be4003032843e5ca79d3c630135e7eb675ec5e32fc2b9fcb2","pilot":"checkout","reason":"<why it cannot wait>","type":"Override","until":"2027-01-05T11:00:00Z"}}' | kubectl create -n shop -f -
    "#);
}

#[test]
fn only_what_binds_is_given_as_a_reason() {
    let observing =
        with(in_incident("Standing", "HoldChanges"), &json!({"spec": {"enforcement": {"actions": "Observe"}}}));
    let text = refused(&observing, CLOSED, &update("grace", &with_image("web:2")));
    assert!(!text.contains("incident"), "{text}");
}

#[test]
fn suggested_commands_reach_kubectl_unharmed_from_sh_and_bash() {
    let folder = tempfile::tempdir().unwrap();
    let kubectl = folder.path().join("kubectl");
    std::fs::write(&kubectl, "#!/bin/sh\necho \"$@\"\ncat\n").unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let change = update("grace", &with_image("web:2"));
    let texts = [
        ("Readmit", OPEN, refused(&pilot(), OPEN, &quarantined())),
        ("Override", OPEN, refused(&in_incident("DecisionWindow", "Rollback"), OPEN, &change)),
        ("Override", CLOSED, refused(&pilot(), CLOSED, &change)),
        ("Resume", OPEN, refused(&contained(), OPEN, &scale(0, 3))),
    ];
    for (kind, now, text) in texts {
        let command = text.lines().find(|line| line.contains("| kubectl")).unwrap().trim();
        for shell in ["sh", "bash"] {
            let output = Command::new(shell).args(["-c", command]).env("PATH", &path).output().unwrap();
            let output = String::from_utf8(output.stdout).unwrap();
            let (arguments, decision) = output.split_once('\n').unwrap();
            assert_eq!(arguments, "create -n shop -f -");
            let decision: pilotguard::api::decision::Decision = serde_json::from_str(decision).unwrap();
            assert_eq!(format!("{:?}", decision.spec.type_), kind);
            // It passes admission too, once a reason is filled in.
            let object = with(json!(decision), &json!({"metadata": {"namespace": "shop"}}));
            let create =
                |object: &Value| judge(&guarded(&[pilot()]), now, &review("CREATE", "ada", &Value::Null, object));
            assert!(denial(create(&object)).message.contains("spec.reason: is empty or a placeholder"), "{kind}");
            let answer = create(&with(object, &json!({"spec": {"reason": "wrong prices"}})));
            assert!(warnings(answer).is_empty(), "{kind}");
        }
    }
}

#[test]
fn a_restart_is_called_one() {
    let restarted =
        json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": CLOSED}}}}});
    let change = update("grace", &with(deployment("web:1"), &restarted));
    insta::assert_snapshot!(refused(&pilot(), CLOSED, &change).lines().take(4).collect::<Vec<_>>().join("\n"), @r#"
    Refused: restarting Deployment checkout to web:1 (8612dfb8064e), guarded by pilot checkout.
    - outside the change windows; the next is weekday-mornings
    Allowed from Mon 2026-11-23 09:00 Europe/Berlin (08:00 UTC, in 2d 14h)
    A restart is a change while an image is named by tag, which may point to another image by now; with every image named by digest it is always allowed.
    "#);
}

#[test]
fn what_is_possible_at_once_is_said() {
    let target = json!({"payload": "a".repeat(64), "knownGoodAt": "2026-11-10T10:00:00Z", "images": ["web:0"], "workloads": [
        {"kind": "Deployment", "name": "checkout", "payload": payload_digest(&template("web:0")), "revision": "web-0"}]});
    let held = with(in_incident("Standing", "HoldChanges"), &json!({"status": {"rollbackTarget": target}}));
    let text = refused(&held, OPEN, &update("grace", &with_image("web:2")));
    assert!(text.contains("\nGoing back to web:0 (aaaaaaaaaaaa) is allowed now.\n"), "{text}");
    let blocked = refused(&pilot(), OPEN, &quarantined());
    assert!(blocked.contains("\nAny other release is allowed now.\n"), "{blocked}");
    assert!(!refused(&pilot(), CLOSED, &quarantined()).contains("allowed now"), "nothing is, outside the windows");
}

#[test]
fn commands_that_nobody_can_use_are_not_printed_and_owners_who_agreed_are_not_asked_again() {
    let owned = |users: Value| {
        let identities = json!({"users": users, "groups": null});
        with(pilot(), &json!({"spec": {"owners": {"serviceOwner": {"identities": identities}}}}))
    };
    let asked = |pilot: &Value, user: &str| refused(pilot, CLOSED, &update(user, &with_image("web:2")));
    let ci = "system:serviceaccount:ci:deployer";
    for (users, user, note) in [
        (json!(["ada"]), "ada", "it takes an owner other than ada, and spec.owners identifies only ada."),
        (json!(["ada"]), ci, "it takes two owners, and spec.owners identifies only ada."),
        (json!([]), "grace", "it takes an owner other than grace, and spec.owners identifies nobody."),
    ] {
        let text = asked(&owned(users), user);
        assert!(text.contains(&format!("\nNo exception is possible: {note}")) && !text.contains("kubectl"), "{text}");
    }
    let both = owned(json!(["ada", "grace"]));
    assert!(asked(&both, ci).contains("each of two owners can run"));
    let agreed = json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
        "metadata": {"name": "one", "namespace": "shop", "creationTimestamp": CLOSED},
        "spec": {"pilot": "checkout", "type": "Override", "reason": "outage", "by": {"user": "ada"},
            "until": "2026-11-20T18:48:00Z", "payload": payload_digest(&template("web:2"))},
    });
    let cluster = records(&[], &[serde_json::from_value(agreed).unwrap()]);
    let change = update(ci, &with_image("web:2"));
    let text = denial(judge_beside(&cluster, &guarded(&[both]), CLOSED, &change)).message;
    assert!(text.contains("one more owner besides ada can run"), "{text}");
}

#[test]
fn a_machine_needs_two_owners_and_what_no_word_mends_comes_without_a_command() {
    let ci = refused(&pilot(), CLOSED, &update("system:serviceaccount:ci:deployer", &with_image("web:2")));
    assert!(ci.contains("To let this release through now (an emergency change), each of two owners can run"), "{ci}");
    let deletion = refused(&pilot(), CLOSED, &review("DELETE", "grace", &deployment("web:1"), &Value::Null));
    assert!(!deletion.contains("kubectl"), "{deletion}");
    // A fix would not bring it in, and Readmit counts only once the incident has closed.
    let quarantined = refused(&in_incident("Standing", "Rollback"), OPEN, &quarantined());
    assert!(!quarantined.contains("kubectl"), "{quarantined}");
    let mut too_many = with_image("web:2");
    too_many["spec"]["replicas"] = json!(9);
    let grown = refused(&pilot(), CLOSED, &update("grace", &too_many));
    assert!(grown.contains("outside the change windows") && !grown.contains("kubectl"), "{grown}");
}
