//! Release snapshots: ControllerRevisions that hold a release as it was stored.
//!
//! They are owned by the workload and never carry its selector labels, so that no controller adopts them.
//! Their data cannot be edited; what happens to the release later is noted in annotations.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::changes::label_value;
use crate::act::writer::{WriteError, Writer};
use crate::act::{StoredConfiguration, StoredRelease};
use crate::api::workload::PartKind;
use crate::observation::Snapshot;
use crate::release::digest::template_digest;
use crate::release::marks::rollback_unsafe;
use crate::release::ownership::LAST_APPLIED;
use crate::release::workload;

const WORKLOAD_LABEL: &str = "pilotguard.dev/workload";
const KNOWN_GOOD_AT: &str = "pilotguard.dev/known-good-at";
/// The payload digests of the pilot's releases in which the release of this workload was good, oldest first.
const KNOWN_GOOD_IN: &str = "pilotguard.dev/known-good-in";
const LAST_RUNNING_AT: &str = "pilotguard.dev/last-running-at";

/// What a snapshot stores.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    template: Value,
    template_digest: String,
    payload_digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_applied: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollback_unsafe: Option<String>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    managed_fields: Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    generated: Vec<StoredConfiguration>,
}

/// The label selector of the snapshots of some workloads.
pub fn selector<'a>(workloads: impl Iterator<Item = &'a str>) -> String {
    format!("{WORKLOAD_LABEL} in ({})", workloads.map(label_value).collect::<Vec<_>>().join(","))
}

/// The label selector of all snapshots.
pub const ALL: &str = WORKLOAD_LABEL;

/// Reads one of our snapshots: the name and uid of its workload, and what judging needs of it.
pub fn read(revision: &ControllerRevision) -> Option<(String, String, Snapshot)> {
    revision.labels().get(WORKLOAD_LABEL)?;
    let owner = revision.owner_references().first()?;
    let stored = stored(revision)?;
    let time = |key| revision.annotations().get(key).and_then(|text: &String| text.parse::<Timestamp>().ok());
    let snapshot = Snapshot {
        name: revision.name_any(),
        revision: revision.revision,
        known_good_in: known_good_in(revision),
        payload: stored.payload_digest,
        template: stored.template_digest,
        known_good_at: time(KNOWN_GOOD_AT),
        last_running_at: time(LAST_RUNNING_AT),
        rollback_unsafe: stored.rollback_unsafe,
    };
    Some((owner.name.clone(), owner.uid.clone(), snapshot))
}

fn known_good_in(revision: &ControllerRevision) -> Vec<String> {
    let releases = revision.annotations().get(KNOWN_GOOD_IN).map(String::as_str).unwrap_or_default();
    releases.split_whitespace().map(str::to_owned).collect()
}

/// The release that a snapshot holds.
pub fn release(revision: &ControllerRevision) -> Option<StoredRelease> {
    let Stored { template, last_applied, managed_fields, .. } = stored(revision)?;
    Some(StoredRelease { template, last_applied, managed_fields })
}

/// The generated ConfigMaps that a snapshot holds.
pub fn generated(revision: &ControllerRevision) -> Vec<StoredConfiguration> {
    stored(revision).map(|stored| stored.generated).unwrap_or_default()
}

/// Stores the release that a workload of this kind runs, with the generated ConfigMaps that it uses.
pub async fn take(
    writer: &Writer,
    kind: PartKind,
    workload: &Value,
    generated: Vec<StoredConfiguration>,
    revision: i64,
) -> Result<(), WriteError> {
    let Some((namespace, snapshot)) = build(kind, workload, generated, revision) else { return Ok(()) };
    writer.create(&namespace, &snapshot).await.map(drop)
}

/// Notes that a release survived its bake, as a part of these releases of the pilot.
pub async fn mark_known_good(
    writer: &Writer,
    namespace: &str,
    name: &str,
    at: Timestamp,
    releases: &[String],
) -> Result<(), WriteError> {
    let noted = json!({ KNOWN_GOOD_AT: at.to_string(), KNOWN_GOOD_IN: releases.join(" ") });
    annotate(writer, namespace, name, noted).await
}

/// Notes when a release stopped running, or that it runs again.
pub async fn mark_running(
    writer: &Writer,
    namespace: &str,
    name: &str,
    stopped_at: Option<Timestamp>,
) -> Result<(), WriteError> {
    let noted = json!({ LAST_RUNNING_AT: stopped_at.map(|at| at.to_string()) });
    annotate(writer, namespace, name, noted).await
}

async fn annotate(writer: &Writer, namespace: &str, name: &str, noted: Value) -> Result<(), WriteError> {
    let fields = json!({ "metadata": { "annotations": noted } });
    writer.merge::<ControllerRevision>(namespace, name, &fields).await
}

fn build(
    kind: PartKind,
    object: &Value,
    generated: Vec<StoredConfiguration>,
    revision: i64,
) -> Option<(String, ControllerRevision)> {
    let template = workload::template(kind, object)?.into_owned();
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let (name, namespace) = (text("/metadata/name")?, text("/metadata/namespace")?);
    let uid = text("/metadata/uid")?;
    let annotations = workload::annotations(object);
    let payload = workload::payload(kind, &template);
    let stored = Stored {
        template_digest: template_digest(&template),
        payload_digest: payload.clone(),
        template,
        last_applied: annotations.get(LAST_APPLIED).cloned(),
        rollback_unsafe: rollback_unsafe(&annotations),
        managed_fields: object.pointer("/metadata/managedFields").cloned().unwrap_or_default(),
        generated,
    };
    let owner = OwnerReference {
        api_version: kind.api_version().to_owned(),
        kind: kind.as_str().to_owned(),
        name: name.clone(),
        uid: uid.clone(),
        ..OwnerReference::default()
    };
    // With the uid: a namesake that was deleted may have left snapshots of its own behind.
    let (short, of) = (payload.get(..10).unwrap_or(&payload), uid.get(..8).unwrap_or(&uid));
    let snapshot = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{short}-{of}", name.get(..200).unwrap_or(&name))),
            namespace: Some(namespace.clone()),
            labels: Some([(WORKLOAD_LABEL.to_owned(), label_value(&name))].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        revision,
        data: Some(RawExtension(serde_json::to_value(stored).ok()?)),
    };
    Some((namespace, snapshot))
}

/// What a snapshot stores, if its template is the one that its digests name: a claim is not believed.
fn stored(revision: &ControllerRevision) -> Option<Stored> {
    let stored: Stored = serde_json::from_value(revision.data.as_ref()?.0.clone()).ok()?;
    let owner = revision.owner_references().first()?;
    let kind = PartKind::ALL.into_iter().find(|kind| kind.as_str() == owner.kind)?;
    let is_true = workload::payload(kind, &stored.template) == stored.payload_digest
        && template_digest(&stored.template) == stored.template_digest;
    is_true.then_some(stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::digest::payload_digest;

    fn workload() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "0123456789"},
            "spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
        })
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let (namespace, snapshot) = build(PartKind::StatefulSet, &workload(), Vec::new(), 3).unwrap();
        assert_eq!(namespace, "shop");
        let owner = &snapshot.owner_references()[0];
        assert_eq!(owner.kind, "StatefulSet", "the collector takes what names an owner of another kind for an orphan");
        let (name, uid, read) = read(&snapshot).unwrap();
        assert_eq!((name.as_str(), uid.as_str(), read.revision), ("web", "0123456789", 3));
        assert_eq!(read.payload, payload_digest(&workload()["spec"]["template"]));
        assert_eq!(release(&snapshot).unwrap().template, workload()["spec"]["template"]);
    }

    #[test]
    fn a_snapshot_is_not_believed_what_its_template_does_not_bear_out() {
        let (_, honest) = build(PartKind::Deployment, &workload(), Vec::new(), 1).unwrap();
        let forge = |pointer: &str, value: Value| {
            let mut forged = honest.clone();
            let data = &mut forged.data.as_mut().unwrap().0;
            *data.pointer_mut(pointer).unwrap() = value;
            forged
        };
        for forged in [
            forge("/template/spec/containers/0/image", json!("evil:1")),
            forge("/payloadDigest", json!("0".repeat(64))),
            forge("/templateDigest", json!("0".repeat(64))),
        ] {
            assert!(read(&forged).is_none() && release(&forged).is_none(), "{forged:?}");
        }
    }
}
