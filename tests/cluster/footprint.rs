//! What all operators of a whole run did, against what the chart lets them: nothing was refused for lack of a right,
//! and no right to write was left unused.
//!
//! Rights to read are not looked at: the audit log has writes only.

use std::collections::BTreeSet;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::cluster::Cluster;

/// Verb, API group, resource with its subresource.
type Right = (String, String, String);

const READING: [&str; 3] = ["get", "list", "watch"];

/// Granted, but not used by any test; each with its reason.
const UNUSED: [(&str, &str, &str, &str); 1] =
    [("delete", "apps", "controllerrevisions", "only the eleventh release of a workload removes the first snapshot")];

pub(crate) async fn is_what_the_chart_grants(cluster: &Cluster) -> anyhow::Result<()> {
    let (operator, _) = cluster.shared_operator().await?;
    let client = cluster.rig.admin().client()?;
    let role: ClusterRole = Api::all(client.clone()).get(&operator.release.options.name).await?;
    let existing = Api::<Namespace>::all(client).list_metadata(&ListParams::default()).await?;
    let existing: BTreeSet<String> = existing.iter().map(ResourceExt::name_any).collect();

    let mut used = BTreeSet::new();
    for event in cluster.rig.audit()? {
        if !event.user.starts_with("system:serviceaccount:pilotguard-") || event.dry_run {
            continue;
        }
        // Nothing may be created in a namespace that is being deleted, whoever asks.
        let is_ending = !event.namespace.is_empty() && !existing.contains(&event.namespace);
        ensure!(event.code != 403 || is_ending, "refused: {event:?}");
        if event.code < 300 {
            let part = if event.subresource.is_empty() { String::new() } else { format!("/{}", event.subresource) };
            used.insert((event.verb, event.group, format!("{}{part}", event.resource)));
        }
    }
    let granted: BTreeSet<Right> = role.rules.iter().flatten().flat_map(rights).collect();
    let excused = UNUSED.map(|(verb, group, resource, _)| (verb.to_owned(), group.to_owned(), resource.to_owned()));
    let unused: Vec<&Right> = granted.difference(&used).filter(|right| !excused.contains(right)).collect();
    ensure!(unused.is_empty(), "granted and never used: {unused:#?}");
    Ok(())
}

fn rights(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for verb in rule.verbs.iter().filter(|verb| !READING.contains(&verb.as_str())) {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                rights.push((verb.clone(), group.clone(), resource.clone()));
            }
        }
    }
    rights
}
