//! What the operator keeps in memory of a Pilot goes with it.

use std::time::Duration;

use pilotguard::api::workload::PartKind;
use serde_json::json;

use crate::manifests::trigger;
use crate::metrics::Manner;
use crate::operator::Simulation;

/// Five pilots, each deleted at another point of its evaluation; then everything that is recorded of them.
#[tokio::test(start_paused = true)]
async fn of_a_deleted_pilot_nothing_stays_in_memory() {
    let simulation = Simulation::new();
    simulation.source("default", "10s", Manner::Dawdles(Duration::from_secs(4)));
    let names: Vec<String> = (0..5).map(|number| format!("pilot-{number}")).collect();
    for name in &names {
        let flags = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": name}});
        simulation.api.apply("core/configmaps", flags);
        simulation.pilot(("shop", name), "default", &[trigger("errors", "errors", "2m")]);
        let governed = json!({
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"configuration": [{"kind": "ConfigMap", "name": name}]},
        });
        simulation.api.apply("pilotguard.dev/pilots", governed);
    }
    let decision = json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
        "metadata": {"namespace": "shop", "name": "hold"},
        "spec": {"pilot": "pilot-0", "type": "HoldChanges", "reason": "we looked at it", "by": {"user": "ada"}},
        "status": {"phase": "Refused"},
    });
    simulation.api.apply("pilotguard.dev/decisions", decision);
    simulation.start();
    simulation.run_for(Duration::from_mins(5)).await;
    let context = simulation.context();
    let contents = context.cluster.workloads.of(PartKind::ConfigMap);
    let kept = || context.kept.lock().unwrap().len();
    assert_eq!((kept(), contents.owners(|_| true).len()), (5, 5));
    for name in &names {
        simulation.api.delete("pilotguard.dev/pilots", "shop", name);
        simulation.run_for(Duration::from_secs(3)).await;
    }
    simulation.run_for(Duration::from_mins(5)).await;
    assert_eq!((kept(), contents.owners(|_| true).len()), (0, 0));
    assert!(simulation.own_metric("pilotguard_failing_pilots") < 0.1);
    let shown = simulation.own_metrics.text();
    assert!(!shown.contains("pilot-"), "{shown}");

    // Records outlive their Pilot, and its history would go on with a new one.
    let (cluster, of_all) = (&context.cluster, |_: &_| true);
    assert_eq!((cluster.decisions.owners(of_all).len(), cluster.snapshots.owners(of_all).len()), (1, 5));
    for resource in [
        "apps/deployments",
        "core/configmaps",
        "apps/controllerrevisions",
        "pilotguard.dev/changerecords",
        "pilotguard.dev/decisions",
    ] {
        for name in simulation.api.names(resource) {
            simulation.api.delete(resource, "shop", &name);
        }
    }
    simulation.run_for(Duration::from_mins(1)).await;
    let left = [
        cluster.workloads.of(PartKind::Deployment).owners(of_all),
        cluster.versions.owners(of_all),
        cluster.snapshots.owners(of_all),
        cluster.changes.owners(of_all),
        cluster.decisions.owners(of_all),
    ];
    assert_eq!(left.concat(), []);
}
