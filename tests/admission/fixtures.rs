//! A pilot of one Deployment, `shop/checkout`, and reviews of requests on it.

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use json_patch::Patch;
use kube::runtime::watcher::Event;
use pilotguard::admit::context::Context;
use pilotguard::admit::pilots::Guarded;
use pilotguard::admit::wire::{Answer, Denial, Request};
use pilotguard::admit::{objects, review};
use pilotguard::api::change_record::ChangeRecord;
use pilotguard::api::decision::Decision;
use pilotguard::api::pilot::Pilot;
use pilotguard::observe::cluster::{Cluster, reduce_change, reduce_decision};
use pilotguard::release::digest::{payload_digest, template_digest};
use pilotguard::release::marks::{ADMITTED, Admitted, AdmittedVerdict};
use serde_json::{Value, json};

/// A GitOps tool.
pub const TOOL: &str = "system:serviceaccount:argocd:argocd-application-controller";
pub const OPERATOR: &str = "system:serviceaccount:pilotguard:pilotguard";
/// A Wednesday morning in Berlin, inside the windows.
pub const OPEN: &str = "2026-11-18T10:00:00Z";
/// A Friday evening in Berlin, outside of them.
pub const CLOSED: &str = "2026-11-20T17:48:00Z";

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Applies a JSON merge patch.
pub fn with(mut object: Value, change: &Value) -> Value {
    json_patch::merge(&mut object, change);
    object
}

pub fn pilot() -> Value {
    json!({
        "apiVersion": "pilotguard.dev/v1alpha1",
        "kind": "Pilot",
        "metadata": {"name": "checkout", "namespace": "shop", "uid": "p-1", "generation": 1,
            "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": {
            "intent": {"summary": "One-click checkout", "decisionDate": "2026-12-31T00:00:00Z"},
            "owners": {"serviceOwner": {"name": "Ada Lovelace", "contacts": ["ada@example.com", "#shop"],
                "identities": {"groups": ["shop-owners"]}}},
            "workloads": [{"kind": "Deployment", "name": "checkout"}],
            "blastRadius": {"maxReplicas": 4},
            "changes": {"groupWithin": "60s", "windows": [{
                "name": "weekday-mornings", "timeZone": "Europe/Berlin",
                "weekly": {"days": ["Mon", "Tue", "Wed", "Thu"], "from": "09:00", "to": "16:00"},
            }]},
        },
    })
}

pub fn incident(stage: &str, action: &str) -> Value {
    json!({
        "id": "fast-burn-3f9c2a71", "trigger": "fast-burn", "openedAt": "2026-11-18T09:55:00Z", "stage": stage,
        "deadline": "2026-11-18T10:05:00Z", "declared": action, "action": action, "because": "no suspect",
        "evidence": [{"trigger": "fast-burn", "at": "2026-11-18T09:55:00Z", "text": "burns 14 times as fast as it may"}],
    })
}

/// An index that has seen these Pilots and nothing else.
pub fn guarded(pilots: &[Value]) -> Guarded {
    let guarded = Guarded::new(TimeZoneDatabase::bundled());
    guarded.see(&Event::Init);
    for pilot in pilots {
        guarded.see(&Event::InitApply(read(pilot)));
    }
    guarded.see(&Event::InitDone);
    guarded
}

pub fn read(pilot: &Value) -> Pilot {
    serde_json::from_value(pilot.clone()).unwrap()
}

pub fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "checkout"}},
        "spec": {"containers": [{"name": "web", "image": image, "futureField": {"kept": true}}]},
    })
}

/// A Deployment whose template was admitted two hours before [`OPEN`].
pub fn deployment(image: &str) -> Value {
    let stamp = stamp(&template(image), AdmittedVerdict::Allow, "2026-11-18T08:00:00Z", "checkout-old");
    let plain = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "checkout", "namespace": "shop", "uid": "d-1", "generation": 3,
            "annotations": {"team": "shop"}},
        "spec": {"replicas": 2, "template": template(image)},
        "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
    });
    with(plain, &json!({"metadata": {"annotations": {ADMITTED: stamp}}}))
}

pub fn stamp(template: &Value, verdict: AdmittedVerdict, time: &str, change: &str) -> String {
    serde_json::to_string(&Admitted {
        template: template_digest(template),
        payload: payload_digest(template),
        variant_of: None,
        by: "grace".to_owned(),
        groups: vec![],
        at: at(time),
        change: change.to_owned(),
        verdict,
        reasons: vec![],
        break_glass: None,
    })
    .unwrap()
}

pub fn with_image(image: &str) -> Value {
    with(deployment("web:1"), &json!({"spec": {"template": template(image)}}))
}

/// An AdmissionReview as kube-apiserver 1.36 sends it.
pub fn review(operation: &str, user: &str, old: &Value, new: &Value) -> Value {
    let any = if new.is_null() { old } else { new };
    let (group, resource) = match any["kind"].as_str().unwrap() {
        "Deployment" | "Scale" => ("apps", "deployments"),
        "StatefulSet" => ("apps", "statefulsets"),
        "DaemonSet" => ("apps", "daemonsets"),
        "Pilot" => ("pilotguard.dev", "pilots"),
        "Decision" => ("pilotguard.dev", "decisions"),
        "ChangeCalendar" => ("pilotguard.dev", "changecalendars"),
        _ => ("pilotguard.dev", "metricssources"),
    };
    let mut request = json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": "v1", "kind": any["kind"]},
        "resource": {"group": group, "version": "v1", "resource": resource},
        "requestResource": {"group": group, "version": "v1", "resource": resource},
        "name": any["metadata"]["name"], "namespace": any["metadata"]["namespace"],
        "operation": operation,
        "userInfo": {"username": user, "groups": ["shop-team", "system:authenticated"]},
        "object": new, "oldObject": old,
        "dryRun": false, "options": {"apiVersion": "meta.k8s.io/v1", "kind": "UpdateOptions"},
    });
    if any["kind"] == "Scale" {
        request["subResource"] = json!("scale");
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

pub fn dry_run(mut review: Value) -> Value {
    review["request"]["dryRun"] = json!(true);
    review
}

pub fn update(user: &str, new: &Value) -> Value {
    review("UPDATE", user, &deployment("web:1"), new)
}

pub fn scale(before: i32, after: i32) -> Value {
    let of = |replicas: i32| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "checkout", "namespace": "shop", "uid": "d-1"}, "spec": {"replicas": replicas}})
    };
    review("UPDATE", "grace", &of(before), &of(after))
}

/// A cluster whose records have been read and are empty.
pub fn no_records() -> Cluster {
    records(&[], &[])
}

/// A cluster whose records have been read, and in which no ChangeCalendar exists.
pub fn records(changes: &[ChangeRecord], decisions: &[Decision]) -> Cluster {
    let cluster = Cluster::default();
    list_calendars(&cluster, &[]);
    let reduce = |change: &ChangeRecord| Some(reduce_change(change));
    cluster.changes.see(&Event::Init, reduce);
    for change in changes {
        cluster.changes.see(&Event::InitApply(change.clone()), reduce);
    }
    cluster.changes.see(&Event::InitDone, reduce);
    let reduce = |decision: &Decision| Some(reduce_decision(decision));
    cluster.decisions.see(&Event::Init, reduce);
    for decision in decisions {
        cluster.decisions.see(&Event::InitApply(decision.clone()), reduce);
    }
    cluster.decisions.see(&Event::InitDone, reduce);
    cluster
}

/// Lists these ChangeCalendars, and namespace `shop`, whose label says that it is in production.
pub fn list_calendars(cluster: &Cluster, calendars: &[Value]) {
    let zones = TimeZoneDatabase::bundled();
    let read = |calendar: &Value| Event::InitApply(serde_json::from_value(calendar.clone()).unwrap());
    let listed = calendars.iter().map(read);
    for event in [Event::Init].into_iter().chain(listed).chain([Event::InitDone]) {
        cluster.calendars.see_calendar(&event, &zones);
    }
    let shop = json!({"metadata": {"name": "shop", "labels": {"stage": "production"}}});
    for event in [Event::Init, Event::InitApply(serde_json::from_value(shop).unwrap()), Event::InitDone] {
        cluster.calendars.see_namespace(&event);
    }
}

/// A ChangeCalendar that selects by this selector.
pub fn calendar(name: &str, selector: &Value, windows: &Value) -> Value {
    json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "ChangeCalendar",
        "metadata": {"name": name, "uid": name, "generation": 1},
        "spec": {"namespaceSelector": selector, "windows": windows},
    })
}

/// What the endpoint for this review answers.
pub fn judge(guarded: &Guarded, now: &str, review: &Value) -> Answer {
    judge_beside(&no_records(), guarded, now, review)
}

/// What the endpoint for this review answers, in this cluster.
pub fn judge_beside(cluster: &Cluster, guarded: &Guarded, now: &str, review: &Value) -> Answer {
    let context =
        Context { guarded, cluster, own_account: OPERATOR, gitops_users: &[], may_refuse_unknown: true, now: at(now) };
    judge_in(&context, review)
}

pub fn judge_in(context: &Context<'_>, review: &Value) -> Answer {
    let request = Request::read(review.to_string().as_bytes()).unwrap();
    match request.target.as_str() {
        target if target.ends_with("/scale") => review::of_scale(&request, context),
        target if target.starts_with("apps/") => review::of_workload(&request, context),
        _ => objects::of_own(&request, context),
    }
}

pub fn denial(answer: Answer) -> Denial {
    match answer {
        Answer::Denied(denial) => denial,
        Answer::Allowed { warnings, .. } => panic!("allowed, with {warnings:?}"),
        Answer::PutOff { warning, .. } => panic!("put off: {warning}"),
    }
}

pub fn warnings(answer: Answer) -> Vec<String> {
    match answer {
        Answer::Allowed { warnings, .. } => warnings,
        Answer::PutOff { warning, .. } => vec![warning],
        Answer::Denied(denial) => panic!("denied: {}", denial.message),
    }
}

/// The object as it is stored after the answer's patch.
pub fn stored(answer: Answer, object: &Value) -> Value {
    match answer {
        Answer::Allowed { patch, .. } | Answer::PutOff { patch, .. } => {
            let mut object = object.clone();
            json_patch::patch(&mut object, &Patch(patch)).unwrap();
            object
        }
        Answer::Denied(denial) => panic!("denied: {}", denial.message),
    }
}

pub fn admitted(object: &Value) -> Admitted {
    serde_json::from_str(object["metadata"]["annotations"][ADMITTED].as_str().unwrap()).unwrap()
}
