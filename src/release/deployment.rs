//! A Deployment as raw JSON, read as far as judging needs it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::workload::{WorkloadKind, WorkloadReference};
use crate::observation::Workload;
use crate::release::digest::{payload_digest, template_digest};
use crate::release::marks::{CHANGE, Held, HeldVerdict, Marks, break_glass, rollback_unsafe};

/// The workload that a Deployment is; `None` where it has no pod template and so is none.
pub fn read(object: &Value) -> Option<Workload> {
    let template = template(object)?;
    let annotations = annotations(object);
    let generation = number(object, "/metadata/generation").unwrap_or_default();
    let replicas = replicas(object);
    // The API server leaves out a count of 0.
    let counts = |field: &str| number(object, field).unwrap_or_default() == i64::from(replicas);
    let is_observed = number(object, "/status/observedGeneration") == Some(generation);
    let marks = Marks::read(&annotations);
    let waiting = waiting(object, template, &marks);
    // What waits has no pods: those that run are of the release that was admitted before it.
    let (template, payload) = match (&waiting, &marks.admitted) {
        (Some(_), Some(admitted)) => (admitted.template.clone(), admitted.payload.clone()),
        (Some(_), None) => (String::new(), String::new()),
        (None, _) => (template_digest(template), payload_digest(template)),
    };
    Some(Workload {
        reference: WorkloadReference { kind: WorkloadKind::Deployment, name: text(object, "/metadata/name") },
        uid: text(object, "/metadata/uid"),
        resource_version: text(object, "/metadata/resourceVersion"),
        generation,
        template,
        payload,
        replicas,
        is_complete: is_observed
            && (waiting.is_some() || counts("/status/updatedReplicas"))
            && counts("/status/availableReplicas")
            && counts("/status/replicas"),
        progress_deadline_exceeded: is_observed && progress_deadline_exceeded(object),
        rollback_unsafe: rollback_unsafe(&annotations),
        break_glass: break_glass(&annotations),
        change_label: annotations.get(CHANGE).filter(|label| !label.is_empty()).cloned(),
        waiting,
        marks,
        snapshots: Vec::new(),
    })
}

/// The release that waits: its template is stored, its rollout paused, and the mark says that we did that.
fn waiting(object: &Value, template: &Value, marks: &Marks) -> Option<Held> {
    let held = marks.held.as_ref().filter(|held| held.verdict == HeldVerdict::Hold && is_paused(object))?;
    (held.template == template_digest(template)).then(|| held.clone())
}

/// Whether all pods that there are belong to one ReplicaSet, so that pausing the rollout keeps exactly what runs.
pub fn has_one_live_release(object: &Value) -> bool {
    let count = |pointer: &str| number(object, pointer).unwrap_or_default();
    let is_observed = number(object, "/status/observedGeneration") >= number(object, "/metadata/generation");
    let is_waiting = read(object).is_some_and(|workload| workload.waiting.is_some());
    is_waiting || (is_observed && count("/status/updatedReplicas") == count("/status/replicas"))
}

/// Whether Argo CD or Flux says on the object that it applies it.
pub fn is_managed_by_gitops(object: &Value) -> bool {
    let has = |pointer: &str, key: &str| object.pointer(pointer).is_some_and(|entries| entries.get(key).is_some());
    has("/metadata/annotations", "argocd.argoproj.io/tracking-id")
        || has("/metadata/labels", "kustomize.toolkit.fluxcd.io/name")
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
