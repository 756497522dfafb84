//! What is registered for a set of workloads.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use pilotguard::admit::pilots::{GuardedSet, WorkloadKey};
use pilotguard::admit::registration::{Endpoint, LONGEST_LIST, Registration};
use pilotguard::api::workload::{PartKind, PartReference};
use serde_json::{Value, json};

use crate::fixtures::OPERATOR;

fn registration() -> Registration {
    Registration {
        instance: "pilotguard".to_owned(),
        endpoint: Endpoint::Service { namespace: "ops".to_owned(), name: "pilotguard".to_owned(), port: 8443 },
        ca_pem: "PEM".to_owned(),
        own_account: OPERATOR.to_owned(),
        namespaces: None,
        owner: None,
    }
}

/// The entries by name.
fn entries(
    (mutating, validating): &(MutatingWebhookConfiguration, ValidatingWebhookConfiguration),
) -> Vec<(String, Value)> {
    let (mutating, validating) = (json!(mutating), json!(validating));
    let all = [mutating, validating]
        .into_iter()
        .flat_map(|configuration| configuration["webhooks"].as_array().unwrap().clone());
    all.map(|entry| (entry["name"].as_str().unwrap().replace(".pilotguard.dev", ""), entry)).collect()
}

fn keys(names: &[(&str, &str)]) -> std::collections::BTreeSet<WorkloadKey> {
    names.iter().map(|(namespace, name)| key(PartKind::Deployment, namespace, name)).collect()
}

fn key(kind: PartKind, namespace: &str, name: &str) -> WorkloadKey {
    WorkloadKey::new(namespace, &PartReference { kind, name: name.to_owned() })
}

#[test]
fn only_enforcing_pilots_can_stop_anyone_and_only_in_their_namespaces() {
    let set = GuardedSet { enforcing: keys(&[("shop", "web"), ("shop", "api")]), observing: keys(&[("lab", "web")]) };
    let entries = entries(&registration().configurations(&set));
    let facts: Vec<_> = entries
        .iter()
        .map(|(name, entry)| {
            let namespaces = &entry["namespaceSelector"]["matchExpressions"][0]["values"];
            (name.as_str(), entry["failurePolicy"].as_str().unwrap(), namespaces.clone())
        })
        .collect();
    assert_eq!(
        facts,
        [
            ("workloads", "Fail", json!(["shop"])),
            ("observed-workloads", "Ignore", json!(["lab"])),
            ("replicas", "Ignore", json!(["lab", "shop"])),
            ("decisions", "Ignore", Value::Null),
            ("pilots", "Ignore", Value::Null),
            ("deletions", "Fail", json!(["shop"])),
            ("observed-deletions", "Ignore", json!(["lab"])),
            ("scale", "Ignore", json!(["lab", "shop"])),
            ("pilot-deletions", "Ignore", Value::Null),
            ("metrics-sources", "Ignore", Value::Null),
            ("change-calendars", "Ignore", Value::Null),
        ]
    );
    for (name, entry) in &entries {
        assert_eq!((&entry["timeoutSeconds"], &entry["sideEffects"]), (&json!(3), &json!("None")), "{name}");
        assert_eq!(entry["matchPolicy"], "Equivalent", "{name}");
        let conditions = entry["matchConditions"].as_array().unwrap();
        let ourselves = conditions.iter().find(|condition| condition["name"] == "not-ourselves").unwrap();
        // A dry-run of ours that is no probe must be answered while the webhook is down, as an act must.
        let asks_for_probes = ourselves["expression"].as_str().unwrap().contains("pilotguard.dev/probe");
        assert_eq!(asks_for_probes, entry["rules"][0]["apiGroups"] != json!(["pilotguard.dev"]), "{name}");
    }
    for (name, entry) in entries.iter().filter(|(_, entry)| entry["rules"][0]["apiGroups"] == json!(["apps"])) {
        let conditions = entry["matchConditions"].as_array().unwrap();
        assert!(conditions.iter().any(|condition| condition["name"] == "not-break-glass"), "{name}");
    }
    let guarded = &entries[0].1["matchConditions"][0]["expression"];
    let name = "(oldObject != null ? oldObject : object).metadata.?name.orValue('')";
    assert_eq!(
        guarded,
        &json!(format!(
            r#"(request.resource.resource + '/' + request.namespace + '/' + {name}) in ["deployments/shop/api","deployments/shop/web"]"#
        ))
    );
    let watching_status: Vec<_> = entries
        .iter()
        .filter(|(_, entry)| entry["rules"][0]["resources"] == json!(["deployments", "deployments/status"]))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(watching_status, ["workloads", "observed-workloads"]);
}

#[test]
fn each_kind_is_registered_where_it_is_guarded_and_scaled_where_it_has_replicas() {
    let kinds = [(PartKind::StatefulSet, "shop"), (PartKind::DaemonSet, "nodes")];
    let enforcing = kinds.map(|(kind, namespace)| key(kind, namespace, "db")).into();
    let entries = entries(&registration().configurations(&GuardedSet { enforcing, ..GuardedSet::default() }));
    let facts: Vec<_> = entries
        .iter()
        .filter(|(_, entry)| entry["rules"][0]["apiGroups"] == json!(["apps"]))
        .map(|(name, entry)| {
            let namespaces = &entry["namespaceSelector"]["matchExpressions"][0]["values"];
            (name.as_str(), entry["rules"][0]["resources"].clone(), namespaces.clone())
        })
        .collect();
    let both = json!(["nodes", "shop"]);
    assert_eq!(
        facts,
        [
            (
                "workloads",
                json!(["statefulsets", "daemonsets", "statefulsets/status", "daemonsets/status"]),
                both.clone()
            ),
            ("replicas", json!(["statefulsets"]), json!(["shop"])),
            ("deletions", json!(["statefulsets", "daemonsets"]), both),
            ("scale", json!(["statefulsets/scale"]), json!(["shop"])),
        ]
    );
    let guarded = entries[0].1["matchConditions"][0]["expression"].as_str().unwrap();
    assert!(guarded.ends_with(r#"in ["daemonsets/nodes/db","statefulsets/shop/db"]"#), "{guarded}");
}

#[test]
fn an_empty_set_registers_nothing_on_workloads() {
    let entries = entries(&registration().configurations(&GuardedSet::default()));
    let names: Vec<_> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["decisions", "pilots", "pilot-deletions", "metrics-sources", "change-calendars"]);
}

#[test]
fn a_long_list_gives_way_to_the_namespaces_alone() {
    let conditions = |count: usize| {
        let enforcing = (0..count).map(|n| key(PartKind::Deployment, "shop", &format!("web-{n:05}"))).collect();
        let set = GuardedSet { enforcing, ..GuardedSet::default() };
        let entries = entries(&registration().configurations(&set));
        assert!(json!(entries).to_string().len() < 6 * LONGEST_LIST, "stays far below what etcd takes");
        entries[0].1["matchConditions"].as_array().unwrap().len()
    };
    assert_eq!((conditions(1_000), conditions(20_000)), (4, 3));
}
