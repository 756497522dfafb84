//! The governed ConfigMaps. Which exist is watched by their metadata alone; what one of them contains is read when its
//! pilot is looked at and it has moved since.
//!
//! Nothing is read that no Pilot governs, and of what was read only digests and marks are kept.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Client, ResourceExt};

use super::cluster::{Cluster, ObserveError, read_raw, reduce_workload, within};
use super::index::{Entry, Owner};
use crate::api::workload::{PartKind, PartReference};
use crate::declaration::Declaration;

/// Reads those that a Pilot governs and that have moved since they were read last.
pub async fn refresh(cluster: &Cluster, client: &Client, declaration: &Declaration) -> Result<(), ObserveError> {
    for reference in declaration.workloads.iter().filter(|reference| !reference.kind.has_pods()) {
        refresh_one(cluster, client, &declaration.pilot.namespace, reference).await?;
    }
    Ok(())
}

async fn refresh_one(
    cluster: &Cluster,
    client: &Client,
    namespace: &str,
    reference: &PartReference,
) -> Result<(), ObserveError> {
    let owner = Owner { namespace: namespace.to_owned(), name: reference.name.clone() };
    let contents = cluster.workloads.of(reference.kind);
    let known = contents.one_of(&owner);
    let version = cluster.versions.one_of(&owner);
    if version.as_ref() == known.as_ref().map(|known| &known.resource_version) {
        return Ok(());
    }
    let found = match version {
        Some(_) => within("a ConfigMap", read_raw(client, namespace, reference)).await?,
        None => None,
    };
    if let Some(found) = found {
        contents.see(&Event::Apply(found), |found| reduce_workload(reference.kind, found));
    } else {
        let entry =
            |owner: &Owner| Some(Entry { owner: owner.clone(), name: owner.name.clone(), kept: known.clone()? });
        contents.see(&Event::Delete(owner), entry);
    }
    Ok(())
}

/// Forgets what was read of those that no Pilot governs any more.
pub fn forget(cluster: &Cluster, is_governed: impl Fn(&str, &PartReference) -> bool) {
    let kind = PartKind::ConfigMap;
    let reference = |owner: &Owner| PartReference { kind, name: owner.name.clone() };
    cluster.workloads.of(kind).retain(|owner| is_governed(&owner.namespace, &reference(owner)));
}

/// Keeps the resourceVersion of a ConfigMap under its own name.
pub fn reduce_version(config_map: &PartialObjectMeta<ConfigMap>) -> Option<Entry<String>> {
    let owner = Owner { namespace: config_map.namespace()?, name: config_map.name_any() };
    Some(Entry { name: owner.name.clone(), owner, kept: config_map.resource_version()? })
}
