//! A governed ConfigMap as raw JSON, read as far as judging needs it, and the generated ones that a pod template names.
//!
//! What counts is the content: labels and annotations configure nothing.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::api::workload::PartReference;
use crate::release::digest::digest;

/// kustomize appends ten of these characters to the name of a ConfigMap that it generates (its hasher replaces the
/// digits and letters that could form words).
const KUSTOMIZE_HASH: (&str, usize) = ("2456789bcdfghkmt", 10);

/// Where a pod template names a ConfigMap: as a variable, as all variables, as a volume or as a part of one.
const REFERENCES: [&str; 3] = ["configMapKeyRef", "configMapRef", "configMap"];

/// What a ConfigMap configures: its data, text and binary.
pub fn content(config_map: &Value) -> Value {
    let fields = ["data", "binaryData"].into_iter().filter_map(|field| {
        let entries = config_map.get(field)?.as_object().filter(|entries| !entries.is_empty())?;
        Some((field.to_owned(), Value::Object(entries.clone())))
    });
    Value::Object(fields.collect::<Map<String, Value>>())
}

/// The digest of what a ConfigMap configures: both its template digest and its payload digest.
pub fn content_digest(config_map: &Value) -> String {
    digest(&content(config_map))
}

/// The generated ConfigMaps that a pod template names: `flags-7f8c9dk2m4`, whose content never changes because its
/// name would.
pub fn generated(template: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    collect_references(template, &mut names);
    names.retain(|name| name.rsplit_once('-').is_some_and(|(_, end)| is_hash(end)));
    names
}

/// Whether a generated ConfigMap of this name belongs to a release of these parts.
pub fn governs(parts: &[PartReference], generated: &str) -> bool {
    let mut config_maps = parts.iter().filter(|part| !part.kind.has_pods());
    config_maps.any(|governed| is_generated_from(generated, &governed.name))
}

/// Whether a name is a governed one with a hash behind it.
pub fn is_generated_from(name: &str, governed: &str) -> bool {
    name.strip_prefix(governed).and_then(|rest| rest.strip_prefix('-')).is_some_and(is_hash)
}

fn is_hash(text: &str) -> bool {
    let (characters, length) = KUSTOMIZE_HASH;
    text.len() == length && text.chars().all(|character| characters.contains(character))
}

fn collect_references(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                if REFERENCES.contains(&key.as_str())
                    && let Some(name) = field.get("name").and_then(Value::as_str)
                {
                    names.insert(name.to_owned());
                }
                collect_references(field, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_content_counts() {
        let flags = json!({"metadata": {"name": "flags", "labels": {"a": "b"}}, "data": {"on": "true"}});
        let mut relabelled = flags.clone();
        relabelled["metadata"]["labels"]["a"] = json!("c");
        relabelled["binaryData"] = json!({});
        assert_eq!(content_digest(&flags), content_digest(&relabelled));
        let mut other = flags.clone();
        other["data"]["on"] = json!("false");
        assert_ne!(content_digest(&flags), content_digest(&other));
        // printf '{"data":{"on":"true"}}' | sha256sum
        assert_eq!(content_digest(&flags), "7251c734dff639f64849b888edad55737d202791cd36cdf015109cc78d11fba5");
    }

    #[test]
    fn generated_names_are_found_wherever_a_template_uses_them() {
        let template = json!({"spec": {
            "containers": [{
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "flags-7f8c9dk2m4", "key": "a"}}}],
                "envFrom": [{"configMapRef": {"name": "limits-bh8ff59hkd"}}, {"secretRef": {"name": "flags-bh8ff59hkd"}}],
            }],
            "volumes": [
                {"name": "plain", "configMap": {"name": "flags"}},
                {"name": "all", "projected": {"sources": [{"configMap": {"name": "flags-tt2k4mf6g9"}}]}},
                {"name": "foreign", "configMap": {"name": "flags-of-others"}},
            ],
        }});
        let names: Vec<_> = generated(&template).into_iter().collect();
        assert_eq!(names, ["flags-7f8c9dk2m4", "flags-tt2k4mf6g9", "limits-bh8ff59hkd"]);
        assert!(is_generated_from("flags-7f8c9dk2m4", "flags"));
        assert!(!is_generated_from("flags-7f8c9dk2m4", "flag"), "a name is not a prefix of another");
        assert!(!is_generated_from("flags-of-others", "flags"));
    }
}
