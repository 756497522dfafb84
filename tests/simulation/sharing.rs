//! Pilots whose SLOs differ only in label values: what they cost their source does not grow with their number.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::manifests::{burn, slo};
use crate::metrics::{Manner, Metrics};
use crate::operator::Simulation;

const MINUTE: Duration = Duration::from_mins(1);

/// A simulation with this number of pilots, each with an SLO and a burn-rate trigger.
fn with_pilots(number: usize, interval: &str) -> (Simulation, Metrics) {
    let simulation = Simulation::new();
    let shared = simulation.source("shared", interval, Manner::Answers);
    for number in 0..number {
        let name = format!("app{number}");
        simulation.pilot(("shop", &name), "shared", &[burn("burn")]);
        let mut declared = simulation.api.get("pilotguard.dev/pilots", "shop", &name).unwrap();
        declared["spec"]["slos"] = json!([slo(&name)]);
        simulation.api.apply("pilotguard.dev/pilots", declared);
    }
    simulation.start();
    (simulation, shared)
}

/// Queries in four minutes, once everything is known.
async fn queries_of(pilots: usize) -> usize {
    let (simulation, shared) = with_pilots(pilots, "15s");
    simulation.run_for(2 * MINUTE).await;
    let (before, since) = (shared.count(), Instant::now());
    simulation.run_for(4 * MINUTE).await;
    let (status, reason, message) = simulation.condition(("shop", "app0"), "MetricsAvailable");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Answering"), "{message}");
    assert_eq!(simulation.status(("shop", "app0"))["slos"][0]["verdict"], "Ok");
    // Of the hour that the SLO's window has, nothing is read again.
    assert_eq!(shared.containing("[3600s", since), 0);
    shared.count() - before
}

#[tokio::test(start_paused = true)]
async fn thirty_pilots_ask_little_more_than_one() {
    let (one, thirty) = (queries_of(1).await, queries_of(30).await);
    assert!(thirty <= 2 * one, "{one} queries for one pilot, {thirty} for thirty");
}

#[tokio::test(start_paused = true)]
async fn each_of_many_is_judged_by_its_own_figures() {
    let (simulation, shared) = with_pilots(30, "5s");
    simulation.run_for(MINUTE).await;
    shared.fail("app7");
    simulation.run_for(MINUTE).await;
    for number in 0..30 {
        let status = simulation.status(("shop", &format!("app{number}")));
        let expected = if number == 7 { json!("burn") } else { json!(null) };
        assert_eq!(status["incident"]["trigger"], expected, "app{number}: {status}");
    }
}

/// One of them reads what the source never answers.
#[tokio::test(start_paused = true)]
async fn one_that_is_never_answered_delays_no_other() {
    let (simulation, shared) = with_pilots(30, "5s");
    simulation.run_for(MINUTE).await;
    shared.except("app7", Manner::Hangs);
    simulation.run_for(MINUTE).await;
    shared.fail("app8");
    simulation.run_for(MINUTE).await;
    assert_eq!(simulation.status(("shop", "app8"))["incident"]["trigger"], "burn");
    for (name, status) in [("app7", "False"), ("app8", "True")] {
        let found = simulation.condition(("shop", name), "MetricsAvailable");
        assert_eq!(found.0, status, "{name}: {found:?}");
        assert_eq!(simulation.condition(("shop", "app8"), "EvaluatedOnTime").0, "True");
    }
}
