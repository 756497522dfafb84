//! However long a pilot's history is, an act neither reads it anew nor misses what is new in it.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::clock;
use crate::manifests::trigger;
use crate::metrics::{Manner, Metrics};
use crate::operator::Simulation;

const MINUTE: Duration = Duration::from_mins(1);
const PILOT: (&str, &str) = ("shop", "checkout");
const DECISIONS: &str = "pilotguard.dev/decisions";
const CHANGES: &str = "pilotguard.dev/changerecords";

fn decision(name: &str, spec: &Value) -> Value {
    let mut decision = json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"pilot": "checkout", "reason": "we looked at it", "by": {"user": "ada"}},
    });
    json_patch::merge(&mut decision["spec"], spec);
    decision
}

/// A pilot with years of history, whose trigger scales down five minutes after it fired.
async fn with_history() -> (Simulation, Metrics) {
    let simulation = Simulation::new();
    let source = simulation.source("default", "15s", Manner::Answers);
    for number in 0..1_000 {
        let mut judged = decision(&format!("judged-{number}"), &json!({"type": "HoldChanges"}));
        judged["status"] = json!({"phase": "Accepted"});
        simulation.api.apply(DECISIONS, judged);
        let part = json!({"kind": "Deployment", "name": "checkout", "template": "t", "payload": format!("p{number}")});
        let change = json!({
            "apiVersion": "pilotguard.dev/v1alpha1", "kind": "ChangeRecord",
            "metadata": {"namespace": "shop", "name": format!("change-{number:04}")},
            "spec": {"pilot": "checkout", "class": "Normal", "release": "r", "payload": format!("p{number}"),
                "workloads": [part], "requestedBy": {"user": "dev"}},
            "status": {"startedAt": "2025-01-01T00:00:00Z", "completedAt": "2025-01-01T00:00:00Z", "outcome": "Succeeded"},
        });
        simulation.api.apply(CHANGES, change);
    }
    let mut errors = trigger("errors", "errors", "0s");
    errors["action"] = json!("ScaleDown");
    simulation.pilot(PILOT, "default", &[errors]);
    simulation.start();
    simulation.run_for(MINUTE).await;
    source.set("errors", 1.0);
    simulation.run_for(MINUTE).await;
    assert_eq!(simulation.status(PILOT)["incident"]["stage"], "DecisionWindow", "{:#}", simulation.status(PILOT));
    (simulation, source)
}

fn replicas(simulation: &Simulation) -> Value {
    simulation.api.get("apps/deployments", "shop", "checkout").unwrap()["spec"]["replicas"].clone()
}

#[tokio::test(start_paused = true)]
async fn an_act_lists_nothing_that_was_judged_before() {
    let (simulation, _) = with_history().await;
    simulation.run_for(5 * MINUTE).await;
    assert_eq!(replicas(&simulation), 0, "it was acted on at the deadline");
    assert_eq!((simulation.api.listed(DECISIONS), simulation.api.listed(CHANGES)), (0, 0));
}

/// While the watches of the records are refused, only the live reading before the act can know of a Decision.
#[tokio::test(start_paused = true)]
async fn an_act_sees_a_decision_that_no_watch_has_reported() {
    let (simulation, _) = with_history().await;
    simulation.api.refuse(|_, path, _| {
        path.ends_with("/pilotguard.dev/v1alpha1/decisions").then_some(StatusCode::SERVICE_UNAVAILABLE)
    });
    // The watch that is open ends by then.
    simulation.run_for(MINUTE).await;
    let incident = simulation.status(PILOT)["incident"]["id"].clone();
    let until = (clock::now() + jiff::SignedDuration::from_hours(1)).to_string();
    let go_on = decision("go-on", &json!({"type": "Continue", "incident": incident, "until": until}));
    simulation.api.apply(DECISIONS, go_on);
    simulation.run_for(10 * MINUTE).await;
    assert_eq!(simulation.status(PILOT)["incident"]["stage"], "Continued", "{:#}", simulation.status(PILOT));
    assert_eq!(replicas(&simulation), 3, "an owner let it run on");
    let (listed, requests) = (simulation.api.listed(DECISIONS), simulation.api.requests("GET", DECISIONS));
    assert_eq!(listed, 1, "in {requests} requests");
}

/// Nobody's Decisions wait for a live reading that fails, which they may themselves make slow; but nothing is done without it.
#[tokio::test(start_paused = true)]
async fn without_a_live_reading_decisions_are_refused_and_nothing_is_done() {
    let (simulation, _) = with_history().await;
    simulation.api.refuse(|verb, path, query| {
        let is_list = verb == "GET" && path.ends_with("/decisions") && !query.contains("watch=true");
        is_list.then_some(StatusCode::GATEWAY_TIMEOUT)
    });
    let by_hand = decision("scale-down", &json!({"type": "ScaleDown", "by": {"user": "mallory"}}));
    simulation.api.apply(DECISIONS, by_hand);
    for number in 0..200 {
        let resume = json!({"type": "Resume", "incident": "errors-00000000", "by": {"user": "mallory"}});
        simulation.api.apply(DECISIONS, decision(&format!("flood-{number}"), &resume));
    }
    simulation.run_for(10 * MINUTE).await;
    let phase = |name: &str| simulation.api.get(DECISIONS, "shop", name).unwrap()["status"]["phase"].clone();
    let waiting: Vec<_> = (0..200).map(|it| format!("flood-{it}")).filter(|name| phase(name) != "Refused").collect();
    assert!(waiting.is_empty(), "{waiting:?} wait");
    assert_eq!(phase("scale-down"), Value::Null, "what nobody has done yet is not called accepted");
    assert_eq!(replicas(&simulation), 3, "an act rests on a live reading");
    assert_eq!(simulation.status(PILOT)["incident"]["stage"], "DecisionWindow", "{:#}", simulation.status(PILOT));
    let (status, reason, message) = simulation.condition(PILOT, "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "EvaluationFailing"), "{message}");
    assert!(simulation.own_metric("pilotguard_failed_evaluations_total") >= 5.0);

    simulation.api.accept();
    simulation.run_for(2 * MINUTE).await;
    assert_eq!((phase("scale-down"), replicas(&simulation)), (json!("Accepted"), json!(0)));
}
