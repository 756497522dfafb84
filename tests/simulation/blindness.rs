//! A guard that measures nothing says so.

use std::time::Duration;

use serde_json::json;

use crate::manifests::trigger;
use crate::metrics::Manner;
use crate::operator::Simulation;

const MINUTE: Duration = Duration::from_mins(1);
const PILOT: (&str, &str) = ("shop", "checkout");

/// A trigger and a dependency on metrics that do not exist, beside a trigger that is measured.
#[tokio::test(start_paused = true)]
async fn what_is_never_measured_is_named_with_what_follows() {
    let simulation = Simulation::new();
    let source = simulation.source("default", "15s", Manner::Answers);
    source.except("misspelt", Manner::Lacks);
    simulation.pilot(PILOT, "default", &[trigger("p95", "misspelt_p95", "2m"), trigger("errors", "errors", "2m")]);
    let dependency = json!({
        "metadata": {"namespace": "shop", "name": "checkout"},
        "spec": {"constraints": {"dependencies": [{"name": "payments", "query": "misspelt_payments"}]}},
    });
    simulation.api.apply("pilotguard.dev/pilots", dependency);
    simulation.start();
    simulation.run_for(MINUTE).await;
    assert_eq!(simulation.condition(PILOT, "Measured").1, "EverythingMeasured", "not for long enough yet");
    let ready = simulation.condition(PILOT, "Ready");
    assert_eq!(ready.0, "True", "{ready:?}");
    simulation.run_for(2 * MINUTE).await;
    let (status, reason, message) = simulation.condition(PILOT, "Measured");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NotMeasured"));
    assert_eq!(
        simulation.condition(PILOT, "Ready"),
        (status, reason, message.clone()),
        "it promises what cannot be done"
    );
    assert!(message.contains("trigger p95 cannot fire, because its condition is unknown (NoSeries)"), "{message}");
    assert!(message.contains("while dependency payments is unknown (NoSeries)"), "{message}");
    assert!(!message.contains("errors"), "{message}");
    assert!((simulation.own_metric("pilotguard_unmeasured") - 2.0).abs() < 0.1);

    source.forgive();
    simulation.run_for(MINUTE).await;
    assert_eq!(simulation.condition(PILOT, "Measured").0, "True");
    assert_eq!(simulation.condition(PILOT, "Ready").0, "True");
    assert!(simulation.own_metric("pilotguard_unmeasured") < 0.1);
}
