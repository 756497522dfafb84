//! Events (events.k8s.io/v1) on the Pilot and on its workloads.
//!
//! Each has a name that follows from what it tells, so that a restarted operator tells nothing twice.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde_json::json;

use crate::act::writer::{WriteError, Writer};
use crate::api::workload::PartReference;
use crate::declaration::Declaration;
use crate::observation::Workload;
use crate::release::digest;
use crate::report::announcements::Announcement;

/// The API server refuses a longer note.
const LONGEST_NOTE: usize = 1024;

/// Tells an announcement on the Pilot and on those of its workloads that exist; returns whether it was not told before.
pub async fn tell(
    writer: &Writer,
    declaration: &Declaration,
    workloads: &[Workload],
    announcement: &Announcement,
    now: Timestamp,
) -> Result<bool, WriteError> {
    let pilot = &declaration.pilot;
    let on_pilot = reference("pilotguard.dev/v1alpha1", "Pilot", &pilot.namespace, &pilot.name, &pilot.uid);
    let is_news = writer.create(&pilot.namespace, &event(on_pilot.clone(), None, announcement, now)).await?;
    for workload in workloads {
        let PartReference { kind, name } = &workload.reference;
        let on_workload = reference(kind.api_version(), kind.as_str(), &pilot.namespace, name, &workload.uid);
        writer.create(&pilot.namespace, &event(on_workload, Some(on_pilot.clone()), announcement, now)).await?;
    }
    Ok(is_news)
}

fn event(
    regarding: ObjectReference,
    related: Option<ObjectReference>,
    announcement: &Announcement,
    now: Timestamp,
) -> Event {
    let mut hash = digest::digest(&json!([regarding.uid, announcement.key]));
    hash.truncate(16);
    let name = regarding.name.clone().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{hash}", name.get(..200).unwrap_or(&name))),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if announcement.is_warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(announcement.reason.to_owned()),
        action: Some(announcement.reason.to_owned()),
        note: Some(announcement.note.chars().take(LONGEST_NOTE).collect()),
        regarding: Some(regarding),
        related,
        reporting_controller: Some("pilotguard.dev/pilotguard".to_owned()),
        reporting_instance: Some("pilotguard".to_owned()),
        ..Event::default()
    }
}

fn reference(api_version: &str, kind: &str, namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}
