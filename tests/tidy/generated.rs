//! What is generated is what the types say, and the types say it well.

use std::fs;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use pilotguard::api;
use pilotguard::cli::crds;
use serde_json::Value;

use crate::code::{read, root};

/// Set to write the files instead of comparing them.
const WRITE: &str = "WRITE_GENERATED";

#[test]
fn the_definitions_in_the_repository_are_those_of_the_types() {
    let definitions = api::custom_resource_definitions();
    for folder in ["crds", "charts/pilotguard/crds"] {
        let mut names: Vec<String> = Vec::new();
        for definition in &definitions {
            let path = Path::new(folder).join(crds::file_name(definition));
            let wanted = crds::document(definition).unwrap();
            if std::env::var_os(WRITE).is_some() {
                fs::write(root().join(&path), &wanted).unwrap();
            }
            assert!(read(&path) == wanted, "{} is out of date: run `{WRITE}=1 cargo test --test tidy`", path.display());
            names.push(crds::file_name(definition));
        }
        let there = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let strangers: Vec<_> = there.filter(|name| !names.iter().any(|known| name == known.as_str())).collect();
        assert!(strangers.is_empty(), "{folder} holds what no type defines: {strangers:?}");
    }
}

/// A property somewhere in a schema.
struct Property<'a> {
    path: String,
    schema: &'a Value,
}

impl Property<'_> {
    fn description(&self) -> &str {
        self.schema["description"].as_str().unwrap_or_default()
    }
}

/// All properties of all definitions. Conditions are Kubernetes' own and described there.
fn properties(definitions: &[Value]) -> Vec<Property<'_>> {
    let mut found = Vec::new();
    for definition in definitions {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        collect(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind, &mut found);
    }
    found
}

fn collect<'a>(schema: &'a Value, path: &str, found: &mut Vec<Property<'a>>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        found.push(Property { path: path.clone(), schema });
        if name != "conditions" {
            collect(schema, &path, found);
        }
    }
    if schema["items"].is_object() {
        collect(&schema["items"], &format!("{path}[]"), found);
    }
}

fn definitions() -> Vec<Value> {
    let definitions: Vec<CustomResourceDefinition> = api::custom_resource_definitions();
    definitions.iter().map(|definition| serde_json::to_value(definition).unwrap()).collect()
}

/// The properties that break a rule; proves on the way that the rule met enough of them.
fn breaking(rule: impl Fn(&Property<'_>) -> Option<bool>, at_least: usize) -> Vec<String> {
    let definitions = definitions();
    let judged: Vec<_> =
        properties(&definitions).into_iter().filter_map(|property| Some((rule(&property)?, property.path))).collect();
    assert!(judged.len() >= at_least, "only {} properties were judged", judged.len());
    judged.into_iter().filter(|(keeps, _)| !keeps).map(|(_, path)| path).collect()
}

#[test]
fn every_property_is_described() {
    let silent = breaking(|property| Some(property.description().len() > 3), 150);
    assert!(silent.is_empty(), "without a description: {silent:#?}");
}

#[test]
fn every_value_of_an_enumeration_is_named_where_it_can_be_written() {
    let rule = |property: &Property<'_>| {
        let own = property.schema["enum"].as_array().or(property.schema["items"]["enum"].as_array())?;
        let mut values = own.iter().filter_map(Value::as_str);
        Some(values.all(|value| property.description().contains(value)))
    };
    let silent = breaking(rule, 15);
    assert!(silent.is_empty(), "values are not explained in the description: {silent:#?}");
}

#[test]
fn every_default_is_told() {
    let rule = |property: &Property<'_>| {
        let default = property.schema.get("default").filter(|default| !default.is_object())?;
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        let told = property.description().rsplit_once("Default").map(|(_, told)| told.trim_end_matches('.'));
        Some(told.is_some_and(|told| told.contains(&default)))
    };
    let silent = breaking(rule, 15);
    assert!(silent.is_empty(), "the default is not in the description: {silent:#?}");
}

#[test]
fn numbers_have_formats_that_kubernetes_knows() {
    let rule = |property: &Property<'_>| {
        let format = property.schema["format"].as_str()?;
        Some(["int32", "int64", "date-time"].contains(&format))
    };
    let odd = breaking(rule, 10);
    assert!(odd.is_empty(), "unsigned numbers and floats are no portable formats: {odd:#?}");
    let floats = breaking(|property| Some(property.schema["type"] != "number"), 150);
    assert!(floats.is_empty(), "write decimals as text: {floats:#?}");
}

#[test]
fn what_can_grow_is_bounded() {
    let rule = |property: &Property<'_>| {
        let schema = property.schema;
        let is_list = schema["type"] == "array" && !property.path.ends_with("conditions");
        let is_free_text = |schema: &Value| {
            schema["type"] == "string"
                && schema["enum"].is_null()
                && schema["format"].is_null()
                && !schema["pattern"].as_str().is_some_and(|pattern| pattern.ends_with("{64}$"))
        };
        match () {
            () if is_list => Some(
                schema["maxItems"].is_u64()
                    && (!is_free_text(&schema["items"]) || schema["items"]["maxLength"].is_u64()),
            ),
            () if is_free_text(schema) => Some(schema["maxLength"].is_u64()),
            () => None,
        }
    };
    let endless = breaking(rule, 60);
    assert!(endless.is_empty(), "without an upper bound: {endless:#?}");
}

#[test]
fn lists_of_named_things_are_maps() {
    let rule = |property: &Property<'_>| {
        let schema = property.schema;
        let has_name = schema["items"]["properties"].get("name").is_some() && property.path.contains(".spec.");
        has_name.then(|| schema["x-kubernetes-list-type"] == "map")
    };
    let loose = breaking(rule, 5);
    assert!(loose.is_empty(), "not `listType: map`: {loose:#?}");
}
