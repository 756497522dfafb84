//! The workload behind a Scale, which carries no annotations: whether it is contained is known from elsewhere.
//!
//! The open incident says it from the moment at which the act is intended until the replicas are restored; where there is
//! no word of that incident any more, as after its Pilot was created anew, the marks that the watch saw last say it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pilots::Guardian;
use super::wire::Request;
use crate::api::incident::{Incident, IncidentStage};
use crate::api::trigger::TriggerAction;
use crate::api::workload::PartReference;
use crate::observation::Workload;
use crate::observe::cluster::Cluster;
use crate::observe::index::Owner;
use crate::release::marks::{Contained, Marks};
use crate::release::workload;

/// What is known of the workload that is scaled.
pub(super) fn scaled_workload(
    request: &Request,
    reference: PartReference,
    guardian: &Guardian,
    cluster: &Cluster,
) -> Workload {
    let uid = request.old_object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
    let marked = marked(request, &reference, cluster, &uid);
    let contained = match &guardian.ledger.incident {
        Some(incident) => contained(incident, &reference, marked),
        None => marked,
    };
    Workload {
        reference,
        uid,
        waiting: None,
        resource_version: String::new(),
        generation: 0,
        template: String::new(),
        payload: String::new(),
        replicas: workload::scale_replicas(&request.old_object),
        is_complete: false,
        progress_deadline_exceeded: false,
        rollback_unsafe: None,
        break_glass: None,
        change_label: None,
        foreign: None,
        owes_fields: false,
        generated: BTreeSet::new(),
        marks: Marks { contained, ..Marks::default() },
        snapshots: Vec::new(),
        unreadable_snapshots: Vec::new(),
        annotations: 0,
        images: Vec::new(),
    }
}

/// The mark on the same workload, as the watch saw it last.
fn marked(request: &Request, reference: &PartReference, cluster: &Cluster, uid: &str) -> Option<Contained> {
    let owner = Owner { namespace: request.namespace.clone(), name: reference.name.clone() };
    let seen = cluster.workloads.of(reference.kind).of(&owner).iter().find(|seen| seen.uid == uid)?.clone();
    seen.marks.contained.clone()
}

fn contained(incident: &Incident, workload: &PartReference, marked: Option<Contained>) -> Option<Contained> {
    let is_over = matches!(incident.stage, IncidentStage::Resuming | IncidentStage::Closing);
    let Some(intent) = incident.intent.as_ref().filter(|intent| intent.action == TriggerAction::ScaleDown) else {
        // It may have been contained before it was decided otherwise; only its end takes that back.
        return marked.filter(|marked| marked.incident != incident.id || !is_over);
    };
    // Of its own the incident knows more than a watch that lags.
    let of_another = marked.filter(|marked| marked.incident != incident.id);
    let part = intent.workloads.iter().find(|part| part.workload == *workload);
    let replicas = part.and_then(|part| part.replicas).or(incident.scale_down_to).unwrap_or(0);
    let by_this = (!is_over).then(|| Contained { incident: incident.id.clone(), replicas });
    by_this.or(of_another)
}
