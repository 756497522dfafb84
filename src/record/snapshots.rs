//! Release snapshots: ControllerRevisions that hold a release as it was stored.
//!
//! They are owned by the workload and never carry its selector labels, so that no controller adopts them.
//! Their data cannot be edited; what happens to the release later is noted in annotations. The API server refuses such
//! a note where its own encoding of the data differs from ours, so the data is one [`packed`] string.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::changes::label_value;
use super::packed;
use crate::act::writer::{WriteError, Writer};
use crate::act::{StoredConfiguration, StoredRelease};
use crate::api::workload::PartKind;
use crate::observation::Snapshot;
use crate::release::digest::template_digest;
use crate::release::images::images;
use crate::release::marks::rollback_unsafe;
use crate::release::ownership::LAST_APPLIED;
use crate::release::workload;

const WORKLOAD_LABEL: &str = "pilotguard.dev/workload";
const KNOWN_GOOD_AT: &str = "pilotguard.dev/known-good-at";
/// The payload digests of the pilot's releases in which the release of this workload was good, oldest first.
const KNOWN_GOOD_IN: &str = "pilotguard.dev/known-good-in";
const LAST_RUNNING_AT: &str = "pilotguard.dev/last-running-at";

/// The only field of a snapshot's data: its [`Stored`] release, packed.
const PACKED: &str = "packed";

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The API server refused it, or did not answer.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The release cannot be packed.
    #[error("the release cannot be stored")]
    Pack(#[from] packed::PackedError),
    /// A ControllerRevision of that name exists, and holds no release.
    #[error("ControllerRevision {0} does not contain a readable release; delete it")]
    Unreadable(String),
}

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

/// The workload that a ControllerRevision is labelled to be a snapshot of.
pub fn workload_of(revision: &ControllerRevision) -> Option<&OwnerReference> {
    revision.labels().get(WORKLOAD_LABEL)?;
    revision.owner_references().first()
}

/// Reads one of our snapshots: the name and uid of its workload, and what judging needs of it.
pub fn read(revision: &ControllerRevision) -> Option<(String, String, Snapshot)> {
    let owner = workload_of(revision)?;
    let stored = stored(revision)?;
    let time = |key| revision.annotations().get(key).and_then(|text: &String| text.parse::<Timestamp>().ok());
    let snapshot = Snapshot {
        name: revision.name_any(),
        revision: revision.revision,
        known_good_in: known_good_in(revision),
        payload: stored.payload_digest,
        images: images(&stored.template),
        template: stored.template_digest,
        known_good_at: time(KNOWN_GOOD_AT),
        last_running_at: time(LAST_RUNNING_AT),
        is_legacy: is_legacy(revision),
        rollback_unsafe: stored.rollback_unsafe,
    };
    Some((owner.name.clone(), owner.uid.clone(), snapshot))
}

/// Whether it is of an older version, which stored the release as plain JSON.
fn is_legacy(revision: &ControllerRevision) -> bool {
    revision.data.as_ref().is_some_and(|data| data.0.get(PACKED).is_none())
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
) -> Result<(), SnapshotError> {
    let Some((namespace, snapshot)) = build(kind, workload, generated, revision)? else { return Ok(()) };
    if writer.create(&namespace, &snapshot).await? {
        return Ok(());
    }
    can_be_read(writer, &namespace, &snapshot.name_any()).await
}

/// Whoever made it: one that exists and holds nothing is never overwritten.
async fn can_be_read(writer: &Writer, namespace: &str, name: &str) -> Result<(), SnapshotError> {
    let created: ControllerRevision = writer.read(namespace, name).await?;
    stored(&created).map(drop).ok_or_else(|| SnapshotError::Unreadable(name.to_owned()))
}

/// Stores a legacy snapshot anew as a packed one with the same annotations, and deletes it once that can be read.
pub async fn repack(writer: &Writer, namespace: &str, name: &str) -> Result<(), SnapshotError> {
    let legacy: ControllerRevision = writer.read(namespace, name).await?;
    let Some(packed) = repacked(&legacy)? else { return Ok(()) };
    writer.create(namespace, &packed).await?;
    can_be_read(writer, namespace, &packed.name_any()).await?;
    writer.delete::<ControllerRevision>(namespace, name).await?;
    Ok(())
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
) -> Result<Option<(String, ControllerRevision)>, SnapshotError> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let identity = || Some((text("/metadata/name")?, text("/metadata/namespace")?, text("/metadata/uid")?));
    let template = workload::template(kind, object).map(Cow::into_owned);
    let Some((template, (name, namespace, uid))) = template.zip(identity()) else { return Ok(None) };
    let annotations = workload::annotations(object);
    let stored = Stored {
        template_digest: template_digest(&template),
        payload_digest: workload::payload(kind, &template),
        template,
        last_applied: annotations.get(LAST_APPLIED).cloned(),
        rollback_unsafe: rollback_unsafe(&annotations),
        managed_fields: object.pointer("/metadata/managedFields").cloned().unwrap_or_default(),
        generated,
    };
    let owner = OwnerReference {
        api_version: kind.api_version().to_owned(),
        kind: kind.as_str().to_owned(),
        name,
        uid,
        ..OwnerReference::default()
    };
    Ok(Some((namespace.clone(), holding(&stored, owner, &namespace, revision)?)))
}

/// The packed form of a legacy snapshot; `None` where it holds nothing that could be packed, or is packed already.
fn repacked(legacy: &ControllerRevision) -> Result<Option<ControllerRevision>, SnapshotError> {
    let found = stored(legacy).zip(legacy.owner_references().first().cloned());
    let Some((stored, owner)) = found.filter(|_| is_legacy(legacy)) else { return Ok(None) };
    let mut packed = holding(&stored, owner, &legacy.namespace().unwrap_or_default(), legacy.revision)?;
    packed.metadata.annotations.clone_from(&legacy.metadata.annotations);
    Ok(Some(packed))
}

/// The snapshot that holds a release of its owner.
fn holding(
    stored: &Stored,
    owner: OwnerReference,
    namespace: &str,
    revision: i64,
) -> Result<ControllerRevision, SnapshotError> {
    let (name, payload) = (&owner.name, &stored.payload_digest);
    // With the uid: a namesake that was deleted may have left snapshots of its own behind. Legacy snapshots have ten
    // characters of the payload in their names, so that none is in the way of its packed form.
    let (short, of) = (payload.get(..12).unwrap_or(payload), owner.uid.get(..8).unwrap_or(&owner.uid));
    let metadata = ObjectMeta {
        name: Some(format!("{}-{short}-{of}", name.get(..200).unwrap_or(name))),
        namespace: Some(namespace.to_owned()),
        labels: Some([(WORKLOAD_LABEL.to_owned(), label_value(name))].into()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let data = RawExtension(json!({ PACKED: packed::pack(stored)? }));
    Ok(ControllerRevision { metadata, revision, data: Some(data) })
}

/// What a snapshot stores, if its template is the one that its digests name: a claim is not believed.
fn stored(revision: &ControllerRevision) -> Option<Stored> {
    let data = &revision.data.as_ref()?.0;
    let stored: Stored = match data.get(PACKED) {
        Some(packed) => packed::unpack(packed.as_str()?).ok()?,
        None => serde_json::from_value(data.clone()).ok()?,
    };
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

    /// As older versions stored it.
    fn legacy(packed: &ControllerRevision) -> ControllerRevision {
        let data = serde_json::to_value(stored(packed).unwrap()).unwrap();
        let mut legacy = packed.clone();
        legacy.data = Some(RawExtension(data));
        legacy.metadata.name = Some("web-0123456789-01234567".to_owned());
        legacy
    }

    fn built(kind: PartKind, revision: i64) -> ControllerRevision {
        build(kind, &workload(), Vec::new(), revision).unwrap().unwrap().1
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let snapshot = built(PartKind::StatefulSet, 3);
        assert_eq!(snapshot.namespace().as_deref(), Some("shop"));
        let owner = &snapshot.owner_references()[0];
        assert_eq!(owner.kind, "StatefulSet", "the collector takes what names an owner of another kind for an orphan");
        for snapshot in [snapshot.clone(), legacy(&snapshot)] {
            let (name, uid, read) = read(&snapshot).unwrap();
            assert_eq!((name.as_str(), uid.as_str(), read.revision), ("web", "0123456789", 3));
            assert_eq!(read.payload, payload_digest(&workload()["spec"]["template"]));
            assert_eq!(release(&snapshot).unwrap().template, workload()["spec"]["template"]);
        }
    }

    #[test]
    fn data_has_nothing_that_an_encoder_escapes() {
        let mut workload = workload();
        workload["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["<a && b>", "\u{2028}\u{2029}\u{1}🚀"]);
        let (_, snapshot) = build(PartKind::Deployment, &workload, Vec::new(), 1).unwrap().unwrap();
        let data = snapshot.data.as_ref().unwrap().0.to_string();
        assert!(data.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>&\\".contains(&byte)), "{data}");
        assert_eq!(release(&snapshot).unwrap().template, workload["spec"]["template"]);
    }

    #[test]
    fn a_legacy_snapshot_is_repacked_with_its_notes_under_another_name() {
        let packed = built(PartKind::Deployment, 4);
        let mut legacy = legacy(&packed);
        let noted = [
            (KNOWN_GOOD_AT, "2026-01-01T00:00:00Z"),
            (KNOWN_GOOD_IN, "a b"),
            (LAST_RUNNING_AT, "2026-01-02T00:00:00Z"),
        ];
        legacy.metadata.annotations = Some(noted.map(|(key, text)| (key.to_owned(), text.to_owned())).into());
        let (of_legacy, repacked) = (read(&legacy).unwrap().2, repacked(&legacy).unwrap().unwrap());
        assert_eq!((repacked.name_any(), repacked.data.clone()), (packed.name_any(), packed.data.clone()));
        assert_ne!(repacked.name_any(), legacy.name_any());
        let of_repacked = read(&repacked).unwrap().2;
        assert!(of_legacy.is_legacy && !of_repacked.is_legacy);
        assert_eq!(of_repacked, Snapshot { name: packed.name_any(), is_legacy: false, ..of_legacy });
        assert!(super::repacked(&packed).unwrap().is_none());
    }

    #[test]
    fn a_snapshot_is_not_believed_what_its_template_does_not_bear_out() {
        let honest = built(PartKind::Deployment, 1);
        let forge = |pointer: &str, value: Value| {
            let mut data = serde_json::to_value(stored(&honest).unwrap()).unwrap();
            *data.pointer_mut(pointer).unwrap() = value;
            let packed = json!({ PACKED: packed::pack(&data).unwrap() });
            [data, packed].map(|data| ControllerRevision { data: Some(RawExtension(data)), ..honest.clone() })
        };
        for forged in [
            forge("/template/spec/containers/0/image", json!("evil:1")),
            forge("/payloadDigest", json!("0".repeat(64))),
            forge("/templateDigest", json!("0".repeat(64))),
        ] {
            for forged in forged {
                assert!(read(&forged).is_none() && release(&forged).is_none(), "{forged:?}");
            }
        }
    }
}
