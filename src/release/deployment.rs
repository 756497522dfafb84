//! A Deployment as raw JSON, read as far as judging needs it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::workload::{WorkloadKind, WorkloadReference};
use crate::observation::Workload;
use crate::release::digest::{payload_digest, template_digest};
use crate::release::marks::{Marks, rollback_unsafe};

/// The workload that a Deployment is; `None` where it has no pod template and so is none.
pub fn read(object: &Value) -> Option<Workload> {
    let template = template(object)?;
    let annotations = annotations(object);
    let generation = number(object, "/metadata/generation").unwrap_or_default();
    let replicas = replicas(object);
    // The API server leaves out a count of 0.
    let counts = |field: &str| number(object, field).unwrap_or_default() == i64::from(replicas);
    let is_observed = number(object, "/status/observedGeneration") == Some(generation);
    Some(Workload {
        reference: WorkloadReference { kind: WorkloadKind::Deployment, name: text(object, "/metadata/name") },
        uid: text(object, "/metadata/uid"),
        resource_version: text(object, "/metadata/resourceVersion"),
        generation,
        template: template_digest(template),
        payload: payload_digest(template),
        replicas,
        is_complete: is_observed
            && counts("/status/updatedReplicas")
            && counts("/status/availableReplicas")
            && counts("/status/replicas"),
        progress_deadline_exceeded: is_observed && progress_deadline_exceeded(object),
        rollback_unsafe: rollback_unsafe(&annotations),
        marks: Marks::read(&annotations),
    })
}

/// The pod template.
pub fn template(object: &Value) -> Option<&Value> {
    object.pointer("/spec/template").filter(|template| template.is_object())
}

/// The annotations of the Deployment itself.
pub fn annotations(object: &Value) -> BTreeMap<String, String> {
    let found = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let texts = found.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    texts.collect()
}

/// `spec.replicas` of a Deployment; 1 where it is not set, as the API server has it.
pub fn replicas(deployment: &Value) -> i32 {
    replicas_or(deployment, 1)
}

/// `spec.replicas` of a Scale; 0 where it is not set, because the API server leaves a count of 0 out.
pub fn scale_replicas(scale: &Value) -> i32 {
    replicas_or(scale, 0)
}

fn replicas_or(object: &Value, unset: i32) -> i32 {
    number(object, "/spec/replicas").and_then(|number| i32::try_from(number).ok()).unwrap_or(unset)
}

/// Whether its rollout is paused.
pub fn is_paused(object: &Value) -> bool {
    object.pointer("/spec/paused").and_then(Value::as_bool).unwrap_or_default()
}

fn progress_deadline_exceeded(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        let is = |field: &str, expected: &str| condition.get(field).and_then(Value::as_str) == Some(expected);
        is("type", "Progressing") && is("status", "False") && is("reason", "ProgressDeadlineExceeded")
    })
}

fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}
