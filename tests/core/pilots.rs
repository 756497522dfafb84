//! The small pilot that every timeline starts from, as a team would write it.

use jiff::{SignedDuration, Timestamp};
use pilotguard::api::duration::Duration;
use pilotguard::api::pilot::Pilot;
use pilotguard::decide::SourceFacts;
use serde_json::{Value, json};

/// Monday 2 March 2026, 09:00 UTC: zero of every timeline.
pub fn zero() -> Timestamp {
    "2026-03-02T09:00:00Z".parse().unwrap()
}

pub fn duration(text: &str) -> SignedDuration {
    Duration::parse(text).unwrap().as_signed()
}

pub fn source(interval: i64, offset: i64) -> SourceFacts {
    SourceFacts {
        evaluation_interval: SignedDuration::from_secs(interval),
        query_offset: SignedDuration::from_secs(offset),
        data: Some(1),
    }
}

const SMALL: &str = r#"
apiVersion: pilotguard.dev/v1alpha1
kind: Pilot
metadata: {name: checkout, namespace: shop, uid: pilot-uid, creationTimestamp: "2026-02-20T09:00:00Z"}
spec:
  intent: {summary: A faster checkout, decisionDate: "2026-06-01T00:00:00Z"}
  owners:
    serviceOwner: {name: Ada Lovelace, identities: {users: [ada]}}
    productManager: {name: Grace Hopper, identities: {users: [grace]}}
  workloads: [{name: checkout}]
  changes: {windows: [{name: always, always: true}]}
  slos:
  - name: availability
    target: "99"
    window: {rolling: 7d}
    indicator: {ratio: {bad: 'requests_total{code="500"}', total: requests_total}}
  triggers:
  - {name: fast-burn, when: {burnRate: {slo: availability, long: 1h, short: 5m, factor: "13.4"}}, action: Rollback}
"#;

/// The small pilot with a merge patch (RFC 7386) laid over its spec.
pub fn pilot(over: &Value) -> Pilot {
    let mut pilot: Value = serde_yaml::from_str(SMALL).unwrap();
    let over = if over.is_null() { &json!({}) } else { over };
    json_patch::merge(&mut pilot, &json!({"spec": over}));
    serde_json::from_value(pilot).expect("the overrides fit a Pilot")
}
