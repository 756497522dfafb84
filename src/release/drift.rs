//! Which fields of a release two objects differ in: what other admission makes of a write of ours.

use serde_json::Value;

use super::workload;
use crate::api::workload::PartKind;

/// Maximum number of fields named; more of them help nobody.
const MOST_FIELDS: usize = 5;

/// The paths of fields in which what two objects of a kind release differs, the first few. Empty where it is the same.
pub fn differences(kind: PartKind, one: &Value, other: &Value) -> Vec<String> {
    let [one, other] = [one, other].map(|object| workload::template(kind, object).unwrap_or_default());
    changed_fields(kind, &one, &other)
}

/// The paths of fields in which two pod templates, or two contents of a ConfigMap, differ, the first few.
pub fn changed_fields(kind: PartKind, one: &Value, other: &Value) -> Vec<String> {
    let prefix = if kind.has_pods() { "spec.template" } else { "" };
    let mut found = Vec::new();
    compare(prefix, Some(one), Some(other), &mut found);
    found
}

fn compare(path: &str, one: Option<&Value>, other: Option<&Value>, found: &mut Vec<String>) {
    if one == other || found.len() == MOST_FIELDS {
        return;
    }
    match (one, other) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let added = other.keys().filter(|key| !one.contains_key(*key));
            for key in one.keys().chain(added) {
                let dot = if path.is_empty() { "" } else { "." };
                compare(&format!("{path}{dot}{key}"), one.get(key), other.get(key), found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            for index in 0..one.len().max(other.len()) {
                compare(&format!("{path}[{index}]"), one.get(index), other.get(index), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_fields_that_differ_are_named_by_their_paths() {
        let of = |spec: Value| json!({"spec": {"replicas": 3, "template": {"spec": spec}}});
        let stored = of(json!({"terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "c:1"}]}));
        let answer = of(json!({"terminationGracePeriodSeconds": 32, "hostname": "a",
            "containers": [{"name": "c", "image": "mirror/c:1"}, {"name": "agent"}]}));
        let changed = differences(PartKind::Deployment, &stored, &answer);
        assert_eq!(
            changed,
            [
                "spec.template.spec.containers[0].image",
                "spec.template.spec.containers[1]",
                "spec.template.spec.terminationGracePeriodSeconds",
                "spec.template.spec.hostname",
            ]
        );
        let scaled = json!({"spec": {"replicas": 0, "template": stored["spec"]["template"]}});
        assert!(differences(PartKind::Deployment, &stored, &scaled).is_empty(), "no part of the release");
        let [old, new] = ["1", "2"].map(|value| json!({"data": {"a": value}}));
        assert_eq!(differences(PartKind::ConfigMap, &old, &new), ["data.a"]);
    }
}
