//! What pilotguard believes because it wrote it is written by nobody else, and what is not its own it leaves alone: static
//! policies, with no operator running.

use anyhow::ensure;
use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotguard::api::change_record::ChangeRecord;
use pilotguard::api::decision::Decision;
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{Person, ReleaseOptions, release};
use serde_json::{Value, json};

use super::installed;
use crate::cluster::Cluster;
use crate::release::Release;

tests![
    nobody_writes_release_snapshots,
    nobody_writes_the_ledger,
    nobody_makes_decisions_large,
    nothing_is_put_back_in_the_namespaces_of_the_system,
];

async fn nobody_writes_release_snapshots(cluster: &Cluster) -> anyhow::Result<()> {
    let (release, guarded) = installed(cluster).await?;
    let mallory = cluster.rig.person("mallory", &[]).await?;
    cluster.rig.grant(&mallory, &guarded, "cluster-admin").await?;
    let operator = release.operator(cluster).await?;
    let revision = |name: &str, labels: Value| {
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": {"template": {}},
            "metadata": {"name": name, "namespace": guarded, "labels": labels}})
        .to_string()
    };
    let ours = json!({"pilotguard.dev/workload": "web"});
    let create = ["create", "-f", "-"];
    // A new policy is obeyed a moment after it was stored.
    wait::until("policy in force", PATIENCE, || async {
        let arguments = ["create", "--dry-run=server", "-f", "-"];
        let forged = mallory.kubectl_with(&arguments, &revision("forged", ours.clone())).await;
        let said = forged.map_err(|error| error.to_string())?.stderr;
        if said.contains("are pilotguard's release snapshots; leave them unchanged") { Ok(()) } else { Err(said) }
    })
    .await?;
    let made = operator.kubectl_with(&create, &revision("web-1", ours.clone())).await?;
    ensure!(made.succeeded(), "{made:?}");
    let theirs = mallory.kubectl_with(&create, &revision("theirs", json!({"app": "db"}))).await?;
    ensure!(theirs.succeeded(), "{theirs:?}");
    for (line, is_allowed) in [
        ("label controllerrevision web-1 a=b", false),
        ("label controllerrevision web-1 pilotguard.dev/workload-", false),
        ("label controllerrevision theirs pilotguard.dev/workload=web", false),
        ("delete controllerrevision web-1", false),
        ("label controllerrevision theirs a=b", true),
        ("delete controllerrevision theirs", true),
    ] {
        let words: Vec<_> = line.split(' ').chain(["--namespace", &guarded]).collect();
        let output = mallory.kubectl(&words).await?;
        ensure!(output.succeeded() == is_allowed, "{line}: {output:?}");
    }
    // The operator's token reaches its own snapshots only.
    let unlabelled = operator.kubectl_with(&create, &revision("web-2", json!({"app": "db"}))).await?;
    ensure!(!unlabelled.succeeded() && unlabelled.stderr.contains("may write only"), "{unlabelled:?}");
    let foreign = operator.kubectl_with(&create, &revision("web-3", ours.clone())).await?;
    ensure!(foreign.succeeded(), "{foreign:?}");
    let theirs = mallory.kubectl_with(&create, &revision("theirs", json!({"app": "db"}))).await?;
    ensure!(theirs.succeeded(), "{theirs:?}");
    for (line, is_allowed) in [
        ("label controllerrevision theirs a=b", false),
        ("label controllerrevision theirs pilotguard.dev/workload=web", false),
        ("delete controllerrevision theirs", false),
        ("label controllerrevision web-3 a=b", true),
        ("label controllerrevision web-3 pilotguard.dev/workload-", false),
        ("delete controllerrevision web-3", true),
    ] {
        let words: Vec<_> = line.split(' ').chain(["--namespace", &guarded]).collect();
        let output = operator.kubectl(&words).await?;
        let is_told = output.succeeded() || output.stderr.contains("may write only");
        ensure!(output.succeeded() == is_allowed && is_told, "{line}: {output:?}");
    }
    // The end of the namespace takes them along.
    cluster.done(&["delete", "namespace", &guarded, "--timeout=150s"]).await?;
    Ok(())
}

async fn nobody_writes_the_ledger(cluster: &Cluster) -> anyhow::Result<()> {
    let (release, guarded) = installed(cluster).await?;
    let mallory = cluster.rig.person("mallory", &[]).await?;
    cluster.rig.grant(&mallory, &guarded, "cluster-admin").await?;
    let operator = release.operator(cluster).await?;
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "pilotguard.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": guarded}, "spec": spec})
        .to_string()
    };
    let change = |name: &str| {
        object(
            "ChangeRecord",
            name,
            json!({"pilot": "web", "class": "Normal", "release": "r", "payload": "p",
            "requestedBy": {"user": "grace"},
            "workloads": [{"kind": "Deployment", "name": "web", "template": "t", "payload": "p"}]}),
        )
    };
    let pilot = object(
        "Pilot",
        "web",
        json!({
        "intent": {"summary": "A pilot", "decisionDate": "2999-01-01T00:00:00Z"},
        "owners": {"serviceOwner": {"name": "Ada"}}, "workloads": [{"name": "web"}],
        "changes": {"windows": [{"name": "always", "always": true}]}}),
    );
    let hold = json!({"pilot": "web", "type": "HoldChanges", "reason": "look", "by": {"user": "mallory"}});
    let decision = object("Decision", "hold", hold);
    let denied = "may be written only by pilotguard";
    let create = ["create", "-f", "-"];
    // A new policy is obeyed a moment after it was stored.
    wait::until("policy in force", PATIENCE, || async {
        let forged = mallory.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &change("forged")).await;
        let said = forged.map_err(|error| error.to_string())?.stderr;
        if said.contains(denied) { Ok(()) } else { Err(said) }
    })
    .await?;
    let made = operator.kubectl_with(&create, &change("c-1")).await?;
    ensure!(made.succeeded(), "{made:?}");
    for manifest in [&pilot, &decision] {
        let made = mallory.kubectl_with(&create, manifest).await?;
        ensure!(made.succeeded(), "{made:?}");
    }
    let status = |of: &str| format!("patch {of} --subresource=status --type=merge -p {{\"status\":{{}}}}");
    let generation = r#"patch pilot web --subresource=status --type=merge -p {"status":{"observedGeneration":7}}"#;
    let class = r#"patch changerecord c-1 --type=merge -p {"spec":{"class":"Rollback"}}"#;
    for line in [class.to_owned(), generation.to_owned(), status("changerecord c-1"), status("decision hold")] {
        let words: Vec<_> = line.split(' ').chain(["--namespace", &guarded]).collect();
        let output = mallory.kubectl(&words).await?;
        ensure!(!output.succeeded() && output.stderr.contains(denied), "{line}: {output:?}");
    }
    the_operator_writes_it(&operator, &guarded).await?;
    let delete = ["delete", "changerecord", "c-1", "--timeout=150s", "--namespace", &guarded];
    let deleted = mallory.kubectl(&delete).await?;
    ensure!(deleted.succeeded(), "{deleted:?}");
    Ok(())
}

async fn the_operator_writes_it(operator: &Person, guarded: &str) -> anyhow::Result<()> {
    let (client, params) = (operator.client()?, PatchParams::default());
    let fields = json!({"spec": {"class": "Rollback"}});
    let changes: Api<ChangeRecord> = Api::namespaced(client.clone(), guarded);
    changes.patch("c-1", &params, &Patch::Merge(&fields)).await?;
    changes.patch_status("c-1", &params, &Patch::Merge(&json!({"status": {"outcome": "Pending"}}))).await?;
    let decisions: Api<Decision> = Api::namespaced(client, guarded);
    decisions.patch_status("hold", &params, &Patch::Merge(&json!({"status": {}}))).await?;
    Ok(())
}

const TOO_LARGE: &str = "characters; shorten them to 16384 in total";

/// The annotations of a Decision that is as large as the policy allows, or larger.
fn padded(length: usize) -> Value {
    json!({"note": "x".repeat(length - "note".len())})
}

async fn nobody_makes_decisions_large(cluster: &Cluster) -> anyhow::Result<()> {
    // The kinds are installed with it; its policies look at another namespace.
    installed(cluster).await?;
    let guarded = cluster.rig.namespace("guarded").await?;
    let mallory = cluster.rig.person("mallory", &["interns"]).await?;
    cluster.rig.grant(&mallory, &guarded, "cluster-admin").await?;
    let by = json!({"user": "mallory", "groups": ["interns"]});
    let manifest = |name: &str, reason: &str, metadata: Value| {
        let mut decision = json!({"apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
            "metadata": {"name": name, "namespace": guarded},
            "spec": {"pilot": "web", "type": "HoldChanges", "reason": reason, "by": by}});
        json_patch::merge(&mut decision["metadata"], &metadata);
        decision.to_string()
    };
    let large = |name: &str| manifest(name, "look", json!({"annotations": padded(200_000)}));
    let create = ["create", "-f", "-"];
    // What was stored before the policy.
    let stored = mallory.kubectl_with(&create, &large("stored")).await?;
    ensure!(stored.succeeded(), "{stored:?}");
    let release = Release::install(cluster, &guarded, &["external=true"]).await?;
    // A new policy is obeyed a moment after it was stored.
    wait::until("policy in force", PATIENCE, || async {
        let arguments = ["create", "--dry-run=server", "-f", "-"];
        let said = mallory.kubectl_with(&arguments, &large("new")).await.map_err(|error| error.to_string())?.stderr;
        if said.contains(TOO_LARGE) { Ok(()) } else { Err(said) }
    })
    .await?;

    let owner = |name: usize| json!([{"apiVersion": "v1", "kind": "Pod", "name": "x".repeat(name), "uid": "u"}]);
    let labels: serde_json::Map<String, Value> = (0..300).map(|it| (format!("l{it}"), "x".repeat(60).into())).collect();
    let finalizers: Vec<String> = (0..100).map(|it| format!("{}/f{it}", "x".repeat(200))).collect();
    for (name, metadata, is_allowed) in [
        ("fits", json!({"annotations": padded(16_384)}), true),
        ("annotations", json!({"annotations": padded(16_385)}), false),
        ("labels", json!({"labels": labels}), false),
        ("finalizers", json!({"finalizers": finalizers}), false),
        ("owner", json!({"ownerReferences": owner(20_000)}), false),
        ("with-owner", json!({"ownerReferences": owner(20)}), true),
    ] {
        let output = mallory.kubectl_with(&create, &manifest(name, "look", metadata)).await?;
        let is_told = output.succeeded() || output.stderr.contains(TOO_LARGE);
        ensure!(output.succeeded() == is_allowed && is_told, "{name}: {output:?}");
    }
    // The longest reason, each character of which takes six where `kubectl apply` repeats it.
    let apply = ["apply", "-f", "-"];
    let applied = mallory.kubectl_with(&apply, &manifest("applied", &"<&>a".repeat(256), json!({}))).await?;
    ensure!(applied.succeeded(), "{applied:?}");
    what_was_stored_before_may_shrink(&mallory, &release.operator(cluster).await?, &guarded).await
}

async fn what_was_stored_before_may_shrink(person: &Person, operator: &Person, guarded: &str) -> anyhow::Result<()> {
    let decisions: Api<Decision> = Api::namespaced(operator.client()?, guarded);
    for (name, metadata, is_allowed) in [
        ("fits", json!({"labels": {"team": "shop"}}), false),
        ("stored", json!({"labels": {"team": "shop"}}), false),
        ("stored", json!({"labels": {}, "finalizers": []}), true),
        ("stored", json!({"annotations": padded(100_000)}), true),
        ("stored", json!({"annotations": null}), true),
    ] {
        let patch = json!({"metadata": metadata}).to_string();
        let words = ["patch", "decision", name, "--type=merge", "--namespace", guarded, "-p", &patch];
        let output = person.kubectl(&words).await?;
        let is_told = output.succeeded() || output.stderr.contains(TOO_LARGE);
        ensure!(output.succeeded() == is_allowed && is_told, "{name}: {output:?}");
        // Whatever its size, it is judged.
        let judged = json!({"status": {"message": is_allowed.to_string()}});
        decisions.patch_status("stored", &PatchParams::default(), &Patch::Merge(&judged)).await?;
    }
    Ok(())
}

async fn nothing_is_put_back_in_the_namespaces_of_the_system(cluster: &Cluster) -> anyhow::Result<()> {
    let own = cluster.rig.namespace("pilotguard").await?;
    let options = ReleaseOptions {
        name: own.clone(),
        namespace: own.clone(),
        guarded: vec![own.clone(), "kube-system".to_owned()],
        settings: vec!["external=true".to_owned()],
    };
    release::Release::install(&cluster.rig, options).await?;
    let operator = Release { name: own.clone(), namespace: own.clone() }.operator(cluster).await?;
    let denied = "in Kubernetes' own namespaces or in its own";
    let marks = json!({"pilotguard.dev/admitted": "{}"});
    for namespace in [own.as_str(), "kube-system"] {
        let metadata = json!({"name": own, "namespace": namespace, "annotations": marks});
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
        let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"level": "1"}});
        for object in [&deployment, &config_map] {
            cluster.done_with(&["create", "-f", "-"], &object.to_string()).await?;
        }
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}});
        let level = json!({"data": {"level": "2"}});
        for (kind, patch) in [("deployment", image), ("configmap", level)] {
            let patch = patch.to_string();
            let words = ["patch", kind, &own, "--dry-run=server", "--namespace", namespace, "-p", &patch];
            // A new policy is obeyed a moment after it was stored.
            wait::until("refusal", PATIENCE, || async {
                let output = operator.kubectl(&words).await.map_err(|error| error.to_string())?;
                if output.stderr.contains(denied) { Ok(()) } else { Err(format!("{output:?}")) }
            })
            .await?;
        }
        let generated = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flags-7f8c9dk2m4",
            "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "pilotguard"}}});
        let output = operator.kubectl_with(&["create", "-f", "-"], &generated.to_string()).await?;
        ensure!(!output.succeeded() && output.stderr.contains(denied), "{output:?}");
        cluster.done(&["delete", "deployment,configmap", &own, "--namespace", namespace]).await?;
    }
    Ok(())
}
