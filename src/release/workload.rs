//! A part of a release as raw JSON, read as far as judging needs it: a Deployment, a StatefulSet, a DaemonSet, or a
//! ConfigMap that governs them. What differs between the kinds stands side by side.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api::workload::{PartKind, PartReference};
use crate::observation::Workload;
use crate::release::configuration;
use crate::release::digest::{digest, payload_digest, template_digest};
use crate::release::foreign::foreign;
use crate::release::images::images;
use crate::release::marks::{CHANGE, Held, HeldVerdict, Marks, break_glass, bytes_of_others, rollback_unsafe};
use crate::release::ownership::owes_fields;

/// The part of a release that an object of this kind is; `None` where it has no pod template and so is none.
pub fn read(kind: PartKind, object: &Value) -> Option<Workload> {
    let stored = template(kind, object)?;
    let annotations = annotations(object);
    let is_observed = is_observed(object);
    let marks = Marks::read(&annotations);
    let waiting = waiting(object, &stored, &marks);
    let is_complete = !kind.has_pods() || (is_observed && is_rolled_out(kind, object, waiting.is_some()));
    // What waits has no pods: those that run are of the release that was admitted before it.
    let (template, payload) = match (&waiting, &marks.admitted) {
        (Some(_), Some(admitted)) => (admitted.template.clone(), admitted.payload.clone()),
        (Some(_), None) => (String::new(), String::new()),
        (None, _) => (template_digest(&stored), payload(kind, &stored)),
    };
    Some(Workload {
        reference: PartReference { kind, name: text(object, "/metadata/name") },
        uid: text(object, "/metadata/uid"),
        resource_version: text(object, "/metadata/resourceVersion"),
        generation: number(object, "/metadata/generation").unwrap_or_default(),
        images: images(&stored),
        template,
        payload,
        replicas: wanted(kind, object),
        is_complete,
        progress_deadline_exceeded: is_observed && progress_deadline_exceeded(object),
        rollback_unsafe: rollback_unsafe(&annotations),
        break_glass: break_glass(&annotations),
        change_label: annotations.get(CHANGE).filter(|label| !label.is_empty()).cloned(),
        foreign: foreign(object),
        owes_fields: owes_fields(object),
        waiting,
        generated: if kind.has_pods() { configuration::generated(&stored) } else { BTreeSet::new() },
        annotations: bytes_of_others(&annotations),
        marks,
        snapshots: Vec::new(),
        unreadable_snapshots: Vec::new(),
    })
}

/// Whether the controller has seen the newest spec.
fn is_observed(object: &Value) -> bool {
    number(object, "/status/observedGeneration") == Some(number(object, "/metadata/generation").unwrap_or_default())
}

/// How many pods there shall be: as many as are asked for, or as there are nodes for.
fn wanted(kind: PartKind, object: &Value) -> i32 {
    let scheduled = || number(object, "/status/desiredNumberScheduled").and_then(|number| i32::try_from(number).ok());
    replicas(kind, object).or_else(scheduled).unwrap_or_default()
}

/// Whether all pods that there shall be exist, run the stored template and are available, and no others exist. Of a
/// template that waits no pod is made.
fn is_rolled_out(kind: PartKind, object: &Value, is_waiting: bool) -> bool {
    let (existing, updated, available) = match kind {
        // The pods that a partition keeps back are not updated.
        PartKind::Deployment | PartKind::StatefulSet | PartKind::ConfigMap => {
            ("/status/replicas", "/status/updatedReplicas", "/status/availableReplicas")
        }
        PartKind::DaemonSet => {
            ("/status/currentNumberScheduled", "/status/updatedNumberScheduled", "/status/numberAvailable")
        }
    };
    let wanted = i64::from(wanted(kind, object));
    // The API server leaves out a count of 0.
    let counts = |pointer: &str| number(object, pointer).unwrap_or_default() == wanted;
    (is_waiting || counts(updated)) && counts(available) && counts(existing)
}

/// The release that waits: its template is stored, its rollout paused, and the mark says that we did that.
fn waiting(object: &Value, template: &Value, marks: &Marks) -> Option<Held> {
    let held = marks.held.as_ref().filter(|held| held.verdict == HeldVerdict::Hold && is_paused(object))?;
    (held.template == template_digest(template)).then(|| held.clone())
}

/// Whether a rollout of it can be paused: only a Deployment's, and not where another controller rolls out, which heeds
/// no pause.
pub fn is_pausable(kind: PartKind, object: &Value) -> bool {
    kind == PartKind::Deployment && foreign(object).is_none()
}

/// Whether it can be paused, and all pods that there are belong to one ReplicaSet, so that this keeps exactly what runs.
pub fn has_one_live_release(kind: PartKind, object: &Value) -> bool {
    let count = |pointer: &str| number(object, pointer).unwrap_or_default();
    let is_observed = number(object, "/status/observedGeneration") >= number(object, "/metadata/generation");
    let is_waiting = || read(kind, object).is_some_and(|workload| workload.waiting.is_some());
    let is_one = is_observed && count("/status/updatedReplicas") == count("/status/replicas");
    is_pausable(kind, object) && (is_one || is_waiting())
}

/// Whether Argo CD or Flux says on the object that it applies it.
pub fn is_managed_by_gitops(object: &Value) -> bool {
    let has = |pointer: &str, key: &str| object.pointer(pointer).is_some_and(|entries| entries.get(key).is_some());
    has("/metadata/annotations", "argocd.argoproj.io/tracking-id")
        || has("/metadata/labels", "kustomize.toolkit.fluxcd.io/name")
}

/// What is released: the pod template, and of a ConfigMap its content.
pub fn template(kind: PartKind, object: &Value) -> Option<Cow<'_, Value>> {
    if !kind.has_pods() {
        return object.is_object().then(|| Cow::Owned(configuration::content(object)));
    }
    object.pointer("/spec/template").filter(|template| template.is_object()).map(Cow::Borrowed)
}

/// The payload digest of what is released.
pub fn payload(kind: PartKind, template: &Value) -> String {
    if kind.has_pods() { payload_digest(template) } else { digest(template) }
}

/// The annotations of the object itself.
pub fn annotations(object: &Value) -> BTreeMap<String, String> {
    let found = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let texts = found.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    texts.collect()
}

/// `spec.replicas`; 1 where it is not set, as the API server has it. `None` for a kind that has none.
pub fn replicas(kind: PartKind, object: &Value) -> Option<i32> {
    kind.has_replicas().then(|| replicas_or(object, 1))
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

/// The field of the spec that says whether a stored template reaches the pods.
pub const fn brake(kind: PartKind) -> Option<&'static str> {
    match kind {
        PartKind::Deployment => Some("paused"),
        PartKind::StatefulSet | PartKind::DaemonSet => Some("updateStrategy"),
        PartKind::ConfigMap => None,
    }
}

/// Whether an update lets the stored template reach pods that were kept from it.
pub fn is_resumed(kind: PartKind, old: &Value, new: &Value) -> bool {
    kept_back(kind, new) < kept_back(kind, old)
}

/// How many pods the stored template is kept from.
fn kept_back(kind: PartKind, object: &Value) -> i64 {
    let is_braked = match kind {
        PartKind::Deployment => is_paused(object),
        PartKind::StatefulSet | PartKind::DaemonSet => text(object, "/spec/updateStrategy/type") == "OnDelete",
        PartKind::ConfigMap => false,
    };
    let partition = || number(object, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or_default();
    match kind {
        _ if is_braked => i64::MAX,
        PartKind::StatefulSet => partition(),
        PartKind::Deployment | PartKind::DaemonSet | PartKind::ConfigMap => 0,
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use PartKind::{DaemonSet, Deployment, StatefulSet};

    /// A workload of generation 2 of which the controller says this.
    fn object(spec: &Value, status: &Value) -> Value {
        let mut object = json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
            "status": {"observedGeneration": 2},
        });
        json_patch::merge(&mut object["spec"], spec);
        json_patch::merge(&mut object["status"], status);
        object
    }

    /// The pods that it shall have, and whether it is complete.
    fn state(kind: PartKind, spec: &Value, status: &Value) -> (i32, bool) {
        let workload = read(kind, &object(spec, status)).unwrap();
        assert_eq!(workload.reference.to_string(), format!("{} web", kind.as_str()));
        (workload.replicas, workload.is_complete)
    }

    #[test]
    fn a_rollout_is_complete_when_all_pods_run_it_and_are_available() {
        let counts = |updated: i32, available: i32, existing: i32| json!({"updatedReplicas": updated, "availableReplicas": available, "replicas": existing});
        for kind in [Deployment, StatefulSet] {
            for (replicas, status, is_complete) in [
                (json!(3), counts(3, 3, 3), true),
                (json!(3), counts(1, 3, 3), false),
                (json!(3), counts(3, 2, 3), false),
                (json!(3), counts(3, 3, 4), false),
                (json!(0), json!({}), true),
                (json!(null), counts(1, 1, 1), true),
                (
                    json!(3),
                    json!({"observedGeneration": 1, "updatedReplicas": 3, "availableReplicas": 3, "replicas": 3}),
                    false,
                ),
            ] {
                let expected = (replicas.as_i64().unwrap_or(1).try_into().unwrap(), is_complete);
                assert_eq!(state(kind, &json!({"replicas": replicas}), &status), expected, "{kind:?} {status}");
            }
        }
    }

    #[test]
    fn a_daemon_set_is_complete_when_each_node_that_it_is_meant_for_runs_it() {
        let counts = |desired: i32, updated: i32, available: i32, current: i32| {
            json!({"desiredNumberScheduled": desired, "updatedNumberScheduled": updated, "numberAvailable": available,
                "currentNumberScheduled": current})
        };
        for (status, expected) in [
            (counts(3, 3, 3, 3), (3, true)),
            (counts(3, 2, 3, 3), (3, false)),
            (counts(3, 3, 2, 3), (3, false)),
            (counts(3, 2, 2, 2), (3, false)),
            (json!({"desiredNumberScheduled": 0}), (0, true)),
            (json!({"observedGeneration": 1, "desiredNumberScheduled": 0}), (0, false)),
        ] {
            assert_eq!(state(DaemonSet, &json!({}), &status), expected, "{status}");
        }
        assert_eq!(replicas(DaemonSet, &object(&json!({}), &counts(3, 3, 3, 3))), None, "nobody asks for a number");
    }

    #[test]
    fn what_was_kept_from_the_stored_template_is_let_go() {
        let strategy = |type_: &str, partition: Option<i64>| {
            let mut spec = json!({"updateStrategy": {"type": type_}});
            if let Some(partition) = partition {
                spec["updateStrategy"]["rollingUpdate"] = json!({"partition": partition});
            }
            object(&spec, &json!({}))
        };
        let paused = |paused: bool| object(&json!({"paused": paused}), &json!({}));
        let rolling = || strategy("RollingUpdate", None);
        let on_delete = || strategy("OnDelete", None);
        let partition = |number| strategy("RollingUpdate", Some(number));
        for (kind, from, to, expected) in [
            (Deployment, paused(true), paused(false), true),
            (Deployment, paused(false), paused(true), false),
            (StatefulSet, partition(3), partition(2), true),
            (StatefulSet, partition(2), partition(3), false),
            (StatefulSet, on_delete(), partition(3), true),
            (StatefulSet, partition(0), rolling(), false),
            (DaemonSet, on_delete(), rolling(), true),
            (DaemonSet, rolling(), on_delete(), false),
        ] {
            assert_eq!(is_resumed(kind, &from, &to), expected, "{kind:?} {} -> {}", from["spec"], to["spec"]);
        }
    }

    #[test]
    fn only_a_deployment_that_nobody_else_drives_can_be_held() {
        let status = json!({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3});
        let plain = object(&json!({"replicas": 3}), &status);
        assert!(has_one_live_release(Deployment, &plain));
        assert!(!has_one_live_release(StatefulSet, &plain));
        assert!(!has_one_live_release(DaemonSet, &plain));
        let mut driven = plain.clone();
        driven["metadata"]["ownerReferences"] = json!([{"apiVersion": "flagger.app/v1beta1", "kind": "Canary"}]);
        assert!(!has_one_live_release(Deployment, &driven));
        let moving = object(&json!({"replicas": 3}), &json!({"updatedReplicas": 1, "replicas": 4}));
        assert!(!has_one_live_release(Deployment, &moving));
    }
}
