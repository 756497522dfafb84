//! Objects as people write them.

use serde_json::{Value, json};

/// A Deployment that runs one image.
pub fn deployment(namespace: &str, name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": image}]}}},
    })
}

/// A source by this name; its address is what the simulation finds it by.
pub fn source(name: &str, interval: &str) -> Value {
    json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "MetricsSource", "metadata": {"name": name},
        "spec": {"url": format!("http://{name}"), "evaluationInterval": interval},
    })
}

/// A trigger on an expression above 0.
pub fn trigger(name: &str, query: &str, holds: &str) -> Value {
    json!({
        "name": name, "for": holds, "decisionWindow": "5m", "action": "HoldChanges",
        "when": {"promql": {"query": query, "operator": "GT", "threshold": "0"}},
    })
}

/// An SLO over the requests of one app, as every team writes it for its own.
pub fn slo(app: &str) -> Value {
    let selector = |more: &str| format!(r#"requests_total{{app="{app}"{more}}}"#);
    json!({
        "name": "availability", "target": "99", "window": {"rolling": "1h"}, "minEvents": 1,
        "indicator": {"ratio": {"bad": selector(r#",code=~"5..""#), "total": selector("")}},
    })
}

/// A trigger on the burn rate of that SLO.
pub fn burn(name: &str) -> Value {
    json!({
        "name": name, "for": "0s", "decisionWindow": "5m", "action": "HoldChanges",
        "when": {"burnRate": {"slo": "availability", "long": "5m", "short": "1m", "factor": "2"}},
    })
}

/// A pilot that guards the Deployment of its own name.
pub fn pilot(namespace: &str, name: &str, source: &str, triggers: &[Value]) -> Value {
    json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Pilot",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "intent": {"summary": "s", "decisionDate": "2030-01-01T00:00:00Z"},
            "owners": {"serviceOwner": {"name": "Ada", "identities": {"users": ["ada"]}},
                "productManager": {"name": "Grace", "identities": {"users": ["grace"]}}},
            "workloads": [{"kind": "Deployment", "name": name}],
            "changes": {"windows": [{"name": "always", "kind": "Allow", "always": true}]},
            "metricsSource": source,
            "triggers": triggers,
        },
    })
}
