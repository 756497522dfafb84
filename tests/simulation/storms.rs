//! Nothing wakes a pilot but what concerns it.

use std::time::Duration;

use crate::manifests::trigger;
use crate::metrics::Manner;
use crate::operator::Simulation;

const MINUTE: Duration = Duration::from_mins(1);

/// Twenty pilots that are evaluated every ten minutes, and one on a source that comes and goes.
#[tokio::test(start_paused = true)]
async fn the_status_of_a_source_wakes_nobody_else() {
    let simulation = Simulation::new();
    let quiet = simulation.source("quiet", "10m", Manner::Answers);
    let restless = simulation.source("restless", "5s", Manner::Answers);
    for number in 0..20 {
        simulation.pilot(("shop", &format!("quiet-{number}")), "quiet", &[trigger("errors", "errors", "2m")]);
    }
    simulation.pilot(("shop", "restless"), "restless", &[trigger("errors", "errors", "2m")]);
    simulation.start();
    // Adopted, known-good and settled.
    simulation.run_for(45 * MINUTE).await;
    let (asked, written) = (quiet.count(), simulation.api.requests("PATCH", "pilotguard.dev/metricssources"));
    let begun = quiet.arrivals("errors").len();
    for _ in 0..10 {
        restless.behave(Manner::Drops);
        simulation.run_for(MINUTE).await;
        restless.behave(Manner::Answers);
        simulation.run_for(MINUTE).await;
    }
    let written = simulation.api.requests("PATCH", "pilotguard.dev/metricssources") - written;
    assert!(written >= 10, "the restless source's status was written {written} times");
    // Twenty minutes hold two evaluations of each, or three at the edges.
    let evaluations = quiet.arrivals("errors").len() - begun;
    assert!(evaluations <= 60, "twenty quiet pilots were evaluated {evaluations} times in 20 min: {asked}");

    // An edit of its specification wakes the pilots of a source, and only those.
    let (quiet_before, restless_before) = (quiet.arrivals("errors").len(), restless.arrivals("errors").len());
    simulation.api.apply("pilotguard.dev/metricssources", crate::manifests::source("quiet", "9m"));
    simulation.run_for(Duration::from_secs(2)).await;
    assert_eq!(quiet.arrivals("errors").len() - quiet_before, 20);
    assert!(restless.arrivals("errors").len() - restless_before <= 1);
}
