//! Evaluations that fail are told of, and tried again ever less often.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use crate::manifests::trigger;
use crate::metrics::Manner;
use crate::operator::Simulation;

const MINUTE: Duration = Duration::from_mins(1);
const PILOT: (&str, &str) = ("shop", "checkout");

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_told_and_tried_ever_less_often() {
    let simulation = Simulation::new();
    simulation.source("default", "15s", Manner::Answers);
    let flags = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "flags"}});
    simulation.api.apply("core/configmaps", flags);
    simulation.pilot(PILOT, "default", &[trigger("errors", "errors", "2m")]);
    simulation.pilot(("shop", "other"), "default", &[trigger("errors", "errors", "2m")]);
    let governed = json!({
        "metadata": {"namespace": "shop", "name": "checkout"},
        "spec": {"configuration": [{"kind": "ConfigMap", "name": "flags"}]},
    });
    simulation.api.apply("pilotguard.dev/pilots", governed);
    simulation.api.refuse(|verb, path, _| {
        (verb == "GET" && path.ends_with("/configmaps/flags")).then_some(StatusCode::FORBIDDEN)
    });
    simulation.start();
    simulation.run_for(10 * MINUTE).await;
    let failed = simulation.own_metric("pilotguard_failed_evaluations_total");
    assert!((5.0..=20.0).contains(&failed), "{failed} attempts in 10 min");
    assert!((simulation.own_metric("pilotguard_failing_pilots") - 1.0).abs() < 0.1);
    for type_ in ["Ready", "EvaluatedOnTime"] {
        let (status, reason, message) = simulation.condition(PILOT, type_);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "EvaluationFailing"), "{type_}: {message}");
        assert!(message.contains("the simulation refuses this"), "{message}");
    }
    assert_eq!(simulation.condition(("shop", "other"), "Ready").0, "True", "it is one pilot's trouble");

    simulation.api.accept();
    simulation.run_for(2 * MINUTE).await;
    assert_eq!(simulation.condition(PILOT, "Ready").0, "True", "{:?}", simulation.condition(PILOT, "Ready"));
    assert!(simulation.own_metric("pilotguard_failing_pilots") < 0.1);
}

/// Nothing can be written on the Pilot, so the operator's metrics tell.
#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_written_shows_in_the_metrics() {
    let simulation = Simulation::new();
    simulation.source("default", "15s", Manner::Answers);
    simulation.pilot(PILOT, "default", &[trigger("errors", "errors", "2m")]);
    simulation.api.refuse(|verb, path, _| {
        (verb == "PUT" && path.ends_with("/pilots/checkout/status")).then_some(StatusCode::INTERNAL_SERVER_ERROR)
    });
    simulation.start();
    simulation.run_for(10 * MINUTE).await;
    let failed = simulation.own_metric("pilotguard_failed_evaluations_total");
    assert!((5.0..=20.0).contains(&failed), "{failed} attempts in 10 min");
    assert!((simulation.own_metric("pilotguard_failing_pilots") - 1.0).abs() < 0.1);
}
