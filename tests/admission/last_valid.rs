//! A Pilot whose newest spec cannot be used is judged by the last valid one.

use jiff::tz::TimeZoneDatabase;
use pilotguard::admit::pilots::WorkloadKey;
use pilotguard::api::workload::{PartKind, PartReference};
use pilotguard::record::declared::in_force;
use serde_json::json;

use crate::fixtures::*;

/// Also right after a restart: the last valid spec is kept in the status. What the invalid one would loosen, or no longer
/// names, is not in force.
#[test]
fn an_invalid_edit_is_judged_by_the_last_valid_spec() {
    let zones = TimeZoneDatabase::bundled();
    let stored = in_force(&read(&pilot()), None, &zones).unwrap().stored;
    let odd = json!({"name": "odd", "action": "Notify",
                     "when": {"promql": {"query": "sum(rate(x[5m])", "operator": "GT", "threshold": "1"}}});
    let edited = with(
        pilot(),
        &json!({
            "metadata": {"generation": 2},
            "spec": {"triggers": [odd], "workloads": [{"kind": "Deployment", "name": "other"}],
                     "changes": {"windows": [{"name": "always", "always": true}]},
                     "enforcement": {"changes": "Observe", "actions": "Observe"}},
        }),
    );
    let change = update("grace", &with_image("web:2"));
    let kept = with(edited.clone(), &json!({"status": {"declaration": stored}}));
    let refused = denial(judge(&guarded(&[kept]), CLOSED, &change)).message;
    assert!(refused.contains("outside the change windows; the next is weekday-mornings"), "{refused}");
    // Without one nothing of it is known, and the workload that it named before is nobody's.
    assert!(guarded(&[edited]).guardian(&WorkloadKey::new("shop", &reference("checkout"))).is_none());
}

fn reference(name: &str) -> PartReference {
    PartReference { kind: PartKind::Deployment, name: name.to_owned() }
}
