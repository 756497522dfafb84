//! One sick source, or one expensive pilot, is nobody else's problem.

use std::time::Duration;

use tokio::time::Instant;

use crate::manifests::trigger;
use crate::metrics::{Manner, Metrics};
use crate::operator::Simulation;

const HEALTHY: (&str, &str) = ("shop", "healthy");

const MINUTE: Duration = Duration::from_mins(1);

/// The longest time between two evaluations, by the queries of the healthy pilot.
fn longest_gap(metrics: &Metrics, since: Instant) -> Duration {
    let asked = metrics.arrivals("errors");
    let times = std::iter::once(since).chain(asked.into_iter().filter(|at| *at >= since)).chain([Instant::now()]);
    let times: Vec<Instant> = times.collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

/// Many pilots on a sick source beside a healthy one that is evaluated every second.
async fn healthy_beside(sick: Manner, pilots: usize) {
    let name = format!("{pilots} pilots on a source that {sick:?}");
    let simulation = Simulation::new();
    let healthy = simulation.source("healthy", "1s", Manner::Answers);
    simulation.source("sick", "15s", sick);
    simulation.pilot(HEALTHY, "healthy", &[trigger("errors", "errors", "5s")]);
    for number in 0..pilots {
        let triggers = [trigger("first", "a", "2m"), trigger("second", "b", "2m")];
        simulation.pilot(("shop", &format!("sick-{number}")), "sick", &triggers);
    }
    simulation.start();
    simulation.run_for(Duration::from_secs(10)).await;
    let since = Instant::now();
    let before = healthy.arrivals("errors").len();
    simulation.run_for(2 * MINUTE).await;
    let evaluations = healthy.arrivals("errors").len() - before;
    assert!(evaluations >= 110, "{name}: the healthy pilot was evaluated {evaluations} times in 120 s");
    let gap = longest_gap(&healthy, since);
    assert!(gap <= Duration::from_secs(2), "{name}: the healthy pilot was not evaluated for {gap:?}");

    healthy.set("errors", 1.0);
    simulation.run_for(Duration::from_secs(10)).await;
    let incident = simulation.status(HEALTHY)["incident"].clone();
    assert_eq!(incident["trigger"], "errors", "{name}: a breach did not trip within 10 s: {incident}");
    assert_eq!(simulation.condition(HEALTHY, "EvaluatedOnTime").0, "True", "{name}");
    if !matches!(sick, Manner::Dawdles(_)) {
        let (status, reason, message) = simulation.condition(("shop", "sick-0"), "MetricsAvailable");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "SourceUnavailable"), "{name}: {message}");
    }
}

macro_rules! beside {
    ($($test:ident: $manner:expr, $pilots:expr;)*) => {
        $(#[tokio::test(start_paused = true)]
        async fn $test() {
            healthy_beside($manner, $pilots).await;
        })*
    };
}

const SLOW: Manner = Manner::Dawdles(Duration::from_millis(4900));

beside! {
    twelve_pilots_on_a_source_that_hangs: Manner::Hangs, 12;
    twenty_pilots_on_a_source_that_hangs: Manner::Hangs, 20;
    forty_pilots_on_a_source_that_hangs: Manner::Hangs, 40;
    twelve_pilots_on_a_source_that_drops: Manner::Drops, 12;
    forty_pilots_on_a_source_that_drops: Manner::Drops, 40;
    twelve_pilots_on_a_source_that_is_slow: SLOW, 12;
    twenty_pilots_on_a_source_that_is_slow: SLOW, 20;
    forty_pilots_on_a_source_that_is_slow: SLOW, 40;
    forty_pilots_on_a_source_that_lies: Manner::Lies, 40;
}

/// Both pilots ask the same source; one of them has sixteen triggers whose queries take 4.5 s each.
#[tokio::test(start_paused = true)]
async fn one_pilot_with_sixteen_expensive_queries_delays_only_itself() {
    let simulation = Simulation::new();
    let shared = simulation.source("shared", "1s", Manner::Answers);
    shared.except("expensive", Manner::Dawdles(Duration::from_millis(4500)));
    let triggers: Vec<_> =
        (0..16).map(|number| trigger(&format!("costly-{number}"), &format!("expensive_{number}"), "2m")).collect();
    simulation.pilot(("other", "greedy"), "shared", &triggers);
    simulation.pilot(HEALTHY, "shared", &[trigger("errors", "errors", "5s")]);
    simulation.start();
    simulation.run_for(Duration::from_secs(10)).await;
    let since = Instant::now();
    simulation.run_for(5 * MINUTE).await;
    let gap = longest_gap(&shared, since);
    assert!(gap <= Duration::from_secs(2), "the modest pilot was not evaluated for {gap:?}");
    for number in 0..16 {
        let asked = shared.arrivals(&format!("expensive_{number}")).len();
        assert!(asked >= 2, "trigger {number} of the greedy pilot was asked {asked} times in 5 min");
    }
    assert!(shared.most_in_flight() <= 4, "{}", shared.most_in_flight());
    let (status, _, message) = simulation.condition(("other", "greedy"), "MetricsAvailable");
    assert_eq!(status, "False", "not all of its queries are answered within one evaluation");
    assert!(message.contains("a query of trigger costly-") && message.contains("more than 2s"), "{message}");
    assert_eq!(simulation.condition(HEALTHY, "MetricsAvailable").1, "Answering");

    shared.set("errors", 1.0);
    simulation.run_for(Duration::from_secs(10)).await;
    assert_eq!(simulation.status(HEALTHY)["incident"]["trigger"], "errors", "a breach did not trip within 10 s");
    // A source that answers is not out.
    assert!(simulation.own_metric("pilotguard_evaluation_lag_seconds_count") > 300.0);
    let source = simulation.api.get("pilotguard.dev/metricssources", "", "shared").unwrap();
    assert_eq!(source["status"]["conditions"][0]["status"], "True", "{source}");
}

/// A query that is never answered leaves the pilot's other triggers alone, and names itself.
#[tokio::test(start_paused = true)]
async fn a_query_that_is_never_answered_disarms_no_other_trigger() {
    let simulation = Simulation::new();
    let shared = simulation.source("shared", "1s", Manner::Answers);
    shared.except("endless", Manner::Hangs);
    let triggers = [trigger("a-hopeless", "endless", "2m"), trigger("errors", "errors", "5s")];
    simulation.pilot(HEALTHY, "shared", &triggers);
    simulation.start();
    simulation.run_for(MINUTE).await;
    shared.set("errors", 1.0);
    simulation.run_for(MINUTE).await;
    assert_eq!(simulation.status(HEALTHY)["incident"]["trigger"], "errors");
    let (status, _, message) = simulation.condition(HEALTHY, "MetricsAvailable");
    assert_eq!(status, "False");
    assert!(message.contains("no answer within 5s") && message.contains("(of trigger a-hopeless)"), "{message}");
}

/// Once a source answers again, its pilots are evaluated again, and the operator's metrics tell both.
#[tokio::test(start_paused = true)]
async fn a_source_that_recovers_is_asked_again() {
    let simulation = Simulation::new();
    let source = simulation.source("shared", "5s", Manner::Hangs);
    simulation.pilot(HEALTHY, "shared", &[trigger("errors", "errors", "5s")]);
    simulation.start();
    simulation.run_for(5 * MINUTE).await;
    assert!(source.count() < 40, "a source that hangs got {} queries in 5 min", source.count());
    assert!(simulation.own_metric("pilotguard_source_breaker") >= 1.0);
    assert_eq!(simulation.condition(HEALTHY, "MetricsAvailable").0, "False");
    source.behave(Manner::Answers);
    source.set("errors", 1.0);
    simulation.run_for(MINUTE).await;
    assert!(simulation.own_metric("pilotguard_source_breaker") < 1.0);
    assert_eq!(simulation.condition(HEALTHY, "MetricsAvailable").0, "True");
    assert_eq!(simulation.status(HEALTHY)["incident"]["trigger"], "errors");
}

/// A slow query that is answered is no outage, and is named where its owner looks; nothing is written while that stays so.
#[tokio::test(start_paused = true)]
async fn a_slow_query_is_named_to_its_owner() {
    let simulation = Simulation::new();
    let shared = simulation.source("shared", "5s", Manner::Answers);
    for query in ["slow_a", "slow_b"] {
        shared.except(query, Manner::Dawdles(Duration::from_millis(2200)));
    }
    simulation.pilot(HEALTHY, "shared", &[trigger("costly-a", "slow_a", "2m"), trigger("costly-b", "slow_b", "2m")]);
    simulation.start();
    simulation.run_for(45 * MINUTE).await;
    let (status, reason, message) = simulation.condition(HEALTHY, "MetricsAvailable");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "SlowQuery"), "{message}");
    assert!(message.contains("a query of trigger costly-") && message.contains("more than 2s"), "{message}");
    let written = simulation.api.requests("PUT", "pilotguard.dev/pilots");
    simulation.run_for(10 * MINUTE).await;
    assert_eq!(simulation.api.requests("PUT", "pilotguard.dev/pilots"), written, "{}", simulation.status(HEALTHY));
}
