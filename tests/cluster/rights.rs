//! Who may do what: the operator by its service account, people by the aggregated roles.

use anyhow::{Context, ensure};
use pilotguard_rig::Person;
use pilotguard_rig::wait::{self, PATIENCE};

use crate::cluster::Cluster;
use crate::release::Release;

tests![the_operator_may_do_its_work_and_no_more, people_may_declare_and_decide];

async fn the_operator_may_do_its_work_and_no_more(cluster: &Cluster) -> anyhow::Result<()> {
    let guarded = cluster.rig.namespace("guarded").await?;
    let release = Release::install(cluster, &guarded, &["external=true"]).await?;
    let (operator, own, guarded) = (release.operator(cluster).await?, release.namespace.as_str(), guarded.as_str());
    let [hooks, role] = ["mutatingwebhookconfigurations", "clusterroles"].map(|it| format!("{it}/{}", release.name));
    let may = [
        ("list", "pilots.pilotguard.dev", guarded),
        ("watch", "metricssources.pilotguard.dev", ""),
        ("watch", "changecalendars.pilotguard.dev", ""),
        ("patch", "changecalendars.pilotguard.dev/status", ""),
        ("watch", "namespaces", ""),
        ("update", "pilots.pilotguard.dev/status", guarded),
        ("patch", "metricssources.pilotguard.dev/status", ""),
        ("create", "decisions.pilotguard.dev", guarded),
        ("patch", "decisions.pilotguard.dev/status", guarded),
        ("patch", "changerecords.pilotguard.dev", guarded),
        ("patch", "deployments.apps", guarded),
        ("patch", "statefulsets.apps", guarded),
        ("patch", "daemonsets.apps", guarded),
        ("delete", "controllerrevisions.apps", guarded),
        ("create", "events.events.k8s.io", guarded),
        ("create", "mutatingwebhookconfigurations", ""),
        ("list", "mutatingwebhookconfigurations", ""),
        ("update", &hooks, ""),
        ("watch", &hooks, ""),
        ("get", &role, ""),
        ("get", "secrets", own),
        // Which ConfigMaps, and what of them, is narrowed by a static policy.
        ("watch", "configmaps", ""),
        ("patch", "configmaps", guarded),
    ];
    let may_not = [
        ("update", "pilots.pilotguard.dev", guarded),
        ("create", "metricssources.pilotguard.dev", ""),
        ("update", "changecalendars.pilotguard.dev", ""),
        ("patch", "namespaces", ""),
        ("update", "decisions.pilotguard.dev", guarded),
        ("delete", "decisions.pilotguard.dev", guarded),
        ("delete", "changerecords.pilotguard.dev", guarded),
        ("create", "deployments.apps", guarded),
        ("update", "deployments.apps", guarded),
        ("delete", "deployments.apps", guarded),
        ("patch", "deployments.apps/scale", guarded),
        ("update", "statefulsets.apps", guarded),
        ("patch", "statefulsets.apps/scale", guarded),
        ("delete", "daemonsets.apps", guarded),
        ("list", "replicasets.apps", guarded),
        ("delete", "pods", guarded),
        ("get", "pods", guarded),
        ("get", "secrets", guarded),
        ("list", "secrets", own),
        ("update", "configmaps", guarded),
        ("delete", "configmaps", guarded),
        ("update", "validatingwebhookconfigurations/other", ""),
        ("update", &role, ""),
        ("delete", "validatingadmissionpolicies", ""),
        ("impersonate", "users", ""),
    ];
    wait::until("rights of the operator", PATIENCE, || expect(&operator, &may, "yes")).await?;
    expect(&operator, &may_not, "no").await
}

async fn people_may_declare_and_decide(cluster: &Cluster) -> anyhow::Result<()> {
    let guarded = cluster.rig.namespace("guarded").await?;
    let _release = Release::install(cluster, &guarded, &["external=true"]).await?;
    let (editor, viewer) = (cluster.rig.person("editor", &[]).await?, cluster.rig.person("viewer", &[]).await?);
    cluster.rig.grant(&editor, &guarded, "edit").await?;
    cluster.rig.grant(&viewer, &guarded, "view").await?;
    let guarded = guarded.as_str();
    // The aggregation of roles takes a moment.
    let pilots = [("create", "pilots.pilotguard.dev", guarded)];
    wait::until("aggregated role", PATIENCE, || expect(&editor, &pilots, "yes")).await?;
    let decisions = [("list", "decisions.pilotguard.dev", guarded)];
    wait::until("aggregated role", PATIENCE, || expect(&viewer, &decisions, "yes")).await?;
    let editor_may = [("update", "pilots.pilotguard.dev", guarded), ("create", "decisions.pilotguard.dev", guarded)];
    let editor_may_not = [
        ("update", "pilots.pilotguard.dev/status", guarded),
        ("update", "decisions.pilotguard.dev", guarded),
        ("delete", "decisions.pilotguard.dev", guarded),
        ("create", "changerecords.pilotguard.dev", guarded),
        ("delete", "changerecords.pilotguard.dev", guarded),
        ("create", "metricssources.pilotguard.dev", ""),
        ("get", "metricssources.pilotguard.dev", ""),
    ];
    let viewer_may_not =
        [("create", "pilots.pilotguard.dev", guarded), ("create", "decisions.pilotguard.dev", guarded)];
    expect(&editor, &editor_may, "yes").await?;
    expect(&editor, &editor_may_not, "no").await?;
    expect(&viewer, &viewer_may_not, "no").await
}

/// Asks the API server whether someone may, for each (verb, resource, namespace or none).
async fn expect(person: &Person, questions: &[(&str, &str, &str)], answer: &str) -> anyhow::Result<()> {
    for (verb, resource, namespace) in questions {
        let (resource, subresource) = match resource.split_once('/') {
            Some((kind, part @ ("status" | "scale"))) => (kind, part),
            _ => (*resource, ""),
        };
        let mut arguments = vec!["auth", "can-i", verb, resource, "--subresource", subresource];
        if namespace.is_empty() {
            arguments.push("--all-namespaces");
        } else {
            arguments.extend(["--namespace", namespace]);
        }
        let output = person.kubectl(&arguments).await?;
        let said = output.stdout.split_whitespace().next().context(output.stderr)?;
        ensure!(said == answer, "may {} {verb} {resource} {subresource} in {namespace:?}? {said}", person.name);
    }
    Ok(())
}
