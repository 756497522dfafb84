//! The only code that changes a workload. Each patch tests what must still be true; a patch that no longer
//! fits is refused by the API server, and the pilot is looked at again.

pub mod writer;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::workload::PartKind;
use crate::decide::plan::{GiveBack, Readmit, Release, RestoreReplicas, RollBack, ScaleDown, Stamp};
use crate::release::digest::template_digest;
use crate::release::marks::{
    ADMITTED, Admitted, CONTAINED, Contained, HELD, Marks, PARKED_REPLICAS, QUARANTINED, bytes_of_others, lacking_room,
};
use crate::release::ownership::{LAST_APPLIED, given_back, last_applied_with_release, owes_fields};
use crate::release::workload::{annotations, template};

/// How people tell what we created, and the static policy what we may create.
const MANAGED_BY_US: (&str, &str) = ("app.kubernetes.io/managed-by", "pilotguard");

/// Written only in dry-runs.
const REHEARSED: &str = "pilotguard.dev/rehearsed";

/// A release as a snapshot stores it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRelease {
    /// The pod template.
    pub template: Value,
    /// What kubectl applied last, if it was kubectl.
    pub last_applied: Option<String>,
    /// Who owned which field.
    pub managed_fields: Value,
}

/// A generated ConfigMap that a release uses, as a snapshot stores it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredConfiguration {
    /// Its name.
    pub name: String,
    /// Its content: `data` and `binaryData`.
    pub content: Value,
}

/// Puts a stored release back, un-paused, with its marks: one patch, tested on uid and generation. A ConfigMap has no
/// generation, so its patch is tested on the version that was just read.
pub fn roll_back(workload: &Value, effect: &RollBack, release: &StoredRelease) -> Patch {
    let restored = effect.variant.as_ref().unwrap_or(&release.template);
    let mut patch = if effect.workload.kind.has_pods() {
        let mut patch = guarded_by_generation(&effect.uid, effect.generation);
        patch.push(replace(&["spec", "template"], restored.clone()));
        patch
    } else {
        let version = workload.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
        let mut patch = guarded_by_version(&effect.uid, version);
        patch.extend(content(workload, restored));
        patch
    };
    if workload.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        patch.push(replace(&["spec", "paused"], json!(false)));
    }
    let mut marks = Annotations::of(workload);
    marks.set(ADMITTED, effect.admitted.to_annotation());
    marks.set(QUARANTINED, to_json(&effect.quarantined));
    match &effect.put_away {
        Some(note) => marks.set(HELD, note.to_annotation()),
        None => marks.remove(HELD),
    }
    if let Some(of_release) = &release.last_applied {
        let applied = marks.text(LAST_APPLIED).and_then(|applied| last_applied_with_release(applied, of_release));
        let applied = applied.unwrap_or_else(|| of_release.clone());
        // To go back matters more than what kubectl removes at the next apply.
        if has_room_for(workload, &applied) {
            marks.set(LAST_APPLIED, applied);
        }
    }
    patch.extend(marks.operations);
    Patch(patch)
}

/// What only restores a stored release, to be tried in a dry-run.
pub fn restore(kind: PartKind, workload: &Value, uid: &str, template: &Value) -> Patch {
    let mut patch = vec![test(&["metadata", "uid"], json!(uid))];
    if kind.has_pods() {
        patch.push(replace(&["spec", "template"], template.clone()));
    } else {
        patch.extend(content(workload, template));
    }
    Patch(patch)
}

/// A write of no more than a mark, to be tried in a dry-run.
pub fn rehearsal(workload: &Value, uid: &str) -> Patch {
    let mut patch = vec![test(&["metadata", "uid"], json!(uid))];
    let mut marks = Annotations::of(workload);
    marks.set(REHEARSED, "true".to_owned());
    patch.extend(marks.operations);
    Patch(patch)
}

/// The same patch where other admission makes another template of it: that template is sent, and its stamp with it.
pub fn with_variant(mut patch: Patch, template: &Value, admitted: Option<&Admitted>) -> Patch {
    patch.0.push(replace(&["spec", "template"], template.clone()));
    if let Some(admitted) = admitted {
        let stamp = Value::String(admitted.to_annotation());
        patch.0.push(add(&["metadata", "annotations", ADMITTED], stamp));
    }
    patch
}

/// Whether annotations with this record of what was applied leave room for our marks.
fn has_room_for(workload: &Value, applied: &str) -> bool {
    let mut annotations = annotations(workload);
    annotations.insert(LAST_APPLIED.to_owned(), applied.to_owned());
    lacking_room(bytes_of_others(&annotations)).is_none()
}

/// What gives a ConfigMap a stored content.
fn content(config_map: &Value, stored: &Value) -> Vec<PatchOperation> {
    let field = |name: &'static str| match (stored.get(name), config_map.get(name)) {
        (Some(entries), _) => Some(add(&[name], entries.clone())),
        (None, Some(_)) => Some(PatchOperation::Remove(RemoveOperation { path: PointerBuf::from_tokens([name]) })),
        (None, None) => None,
    };
    ["data", "binaryData"].into_iter().filter_map(field).collect()
}

/// A generated ConfigMap that a stored release uses, to be created where it is gone. It carries no label of who generated
/// it, who would remove it again.
pub fn generated(stored: &StoredConfiguration) -> ConfigMap {
    let mut config_map: ConfigMap = serde_json::from_value(stored.content.clone()).unwrap_or_default();
    config_map.metadata.name = Some(stored.name.clone());
    let (label, value) = MANAGED_BY_US;
    config_map.metadata.labels = Some([(label.to_owned(), value.to_owned())].into());
    config_map
}

/// Rolls out a release that was held.
pub fn release(workload: &Value, effect: &Release) -> Patch {
    let mut patch = guarded_by_generation(&effect.uid, effect.generation);
    if effect.unpauses {
        patch.push(add(&["spec", "paused"], json!(false)));
    }
    let mut marks = Annotations::of(workload);
    marks.set(ADMITTED, effect.admitted.to_annotation());
    marks.remove(HELD);
    patch.extend(marks.operations);
    Patch(patch)
}

/// Scales down and parks the replicas.
pub fn scale_down(workload: &Value, effect: &ScaleDown) -> Patch {
    let mut patch = guarded_by_generation(&effect.uid, effect.generation);
    patch.push(add(&["spec", "replicas"], json!(effect.replicas)));
    let mut marks = Annotations::of(workload);
    let contained = Contained { incident: effect.incident.clone(), replicas: effect.replicas };
    marks.set(CONTAINED, to_json(&contained));
    marks.set(PARKED_REPLICAS, effect.parked.to_string());
    patch.extend(marks.operations);
    Patch(patch)
}

/// Restores the parked replicas.
pub fn restore_replicas(workload: &Value, effect: &RestoreReplicas) -> Patch {
    let mut patch = guarded_by_generation(&effect.uid, effect.generation);
    patch.push(add(&["spec", "replicas"], json!(effect.replicas)));
    let mut marks = Annotations::of(workload);
    marks.remove(CONTAINED);
    marks.remove(PARKED_REPLICAS);
    patch.extend(marks.operations);
    Patch(patch)
}

/// Gives fields back to those who owned them in a stored release: a patch of metadata only, because whoever changes a
/// field in the same patch becomes its owner. `None` where another template is stored by now, or nothing is owed.
pub fn give_back(workload: &Value, effect: &GiveBack, release: Option<&StoredRelease>) -> Option<Patch> {
    let is_as_seen =
        template(effect.workload.kind, workload).is_some_and(|template| template_digest(&template) == effect.template);
    if !is_as_seen || !owes_fields(workload) {
        return None;
    }
    let version = workload.pointer("/metadata/resourceVersion")?.as_str()?;
    let mut patch = guarded_by_version(&effect.uid, version);
    let former = release.map_or(&Value::Null, |release| &release.managed_fields);
    patch.push(replace(&["metadata", "managedFields"], given_back(workload, former)));
    Some(Patch(patch))
}

/// Stamps the template that is stored.
pub fn stamp(workload: &Value, effect: &Stamp) -> Patch {
    let mut patch = guarded_by_version(&effect.uid, &effect.resource_version);
    let mut marks = Annotations::of(workload);
    marks.set(ADMITTED, effect.admitted.to_annotation());
    let held = Marks::read(&annotations(workload)).held;
    if held.is_some_and(|held| held.template == effect.admitted.template) {
        // What waited runs.
        marks.remove(HELD);
    }
    patch.extend(marks.operations);
    Patch(patch)
}

/// Lets a quarantined release be tried again.
pub fn readmit(workload: &Value, effect: &Readmit) -> Patch {
    let mut patch = guarded_by_version(&effect.uid, &effect.resource_version);
    let mut marks = Annotations::of(workload);
    if effect.quarantined.is_empty() {
        marks.remove(QUARANTINED);
    } else {
        marks.set(QUARANTINED, to_json(&effect.quarantined));
    }
    if effect.forgets_pin {
        marks.remove(HELD);
    }
    patch.extend(marks.operations);
    Patch(patch)
}

/// The annotations of a workload, and the operations that change them.
struct Annotations<'a> {
    present: Option<&'a serde_json::Map<String, Value>>,
    operations: Vec<PatchOperation>,
}

impl<'a> Annotations<'a> {
    fn of(workload: &'a Value) -> Self {
        let present = workload.pointer("/metadata/annotations").and_then(Value::as_object);
        let mut operations = Vec::new();
        if present.is_none() {
            operations.push(add(&["metadata", "annotations"], json!({})));
        }
        Self { present, operations }
    }

    fn has(&self, key: &str) -> bool {
        self.present.is_some_and(|annotations| annotations.contains_key(key))
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.present?.get(key)?.as_str()
    }

    fn set(&mut self, key: &str, value: String) {
        self.operations.push(add(&["metadata", "annotations", key], Value::String(value)));
    }

    fn remove(&mut self, key: &str) {
        if self.has(key) {
            let path = PointerBuf::from_tokens(["metadata", "annotations", key]);
            self.operations.push(PatchOperation::Remove(RemoveOperation { path }));
        }
    }
}

fn guarded_by_generation(uid: &str, generation: i64) -> Vec<PatchOperation> {
    vec![test(&["metadata", "uid"], json!(uid)), test(&["metadata", "generation"], json!(generation))]
}

fn guarded_by_version(uid: &str, resource_version: &str) -> Vec<PatchOperation> {
    vec![test(&["metadata", "uid"], json!(uid)), test(&["metadata", "resourceVersion"], json!(resource_version))]
}

fn test(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Test(TestOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}

fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}

fn replace(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Replace(ReplaceOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}

fn to_json(value: &impl serde::Serialize) -> String {
    // Marks are structs of text; their JSON always exists.
    serde_json::to_string(value).unwrap_or_default()
}
