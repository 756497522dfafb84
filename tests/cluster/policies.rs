//! The static policies hold by themselves, with no operator running.

use anyhow::{Context, ensure};
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{Output, Person};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::release::Release;

mod glass;
mod ledger;

tests![
    nobody_decides_in_anothers_name,
    the_operator_may_touch_little_of_a_workload,
    the_operator_may_only_mark_through_a_status,
    the_policies_are_type_checked,
    the_policies_name_every_field_of_a_workload,
    the_operator_may_only_scale_a_stateful_set_and_mark_a_daemon_set,
    the_operator_may_put_back_what_a_config_map_contained,
];

/// What this module and its parts prove.
pub(crate) fn all_tests() -> Vec<crate::Test> {
    [tests(), glass::tests(), ledger::tests()].into_iter().flatten().collect()
}

const PARKING: &str = "pilotguard may park only the replicas that a workload has";

const RECORD: &str = r#"{"trigger": "burn", "openedAt": "2026-01-01T00:00:00Z", "closedAt": "2026-01-01T01:00:00Z",
    "decidedBy": "Deadline", "carriedOut": true}"#;

async fn installed(cluster: &Cluster) -> anyhow::Result<(Release, String)> {
    let guarded = cluster.rig.namespace("guarded").await?;
    Ok((Release::install(cluster, &guarded, &["external=true"]).await?, guarded))
}

async fn decide(person: &Person, namespace: &str, extra: &str) -> anyhow::Result<Output> {
    decide_as(person, namespace, r#""generateName": "d-""#, extra).await
}

async fn decide_as(person: &Person, namespace: &str, name: &str, extra: &str) -> anyhow::Result<Output> {
    let manifest = format!(
        r#"{{"apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision", "metadata": {{{name}}},
        "spec": {{"pilot": "web", "type": "Rollback", "reason": "it is broken"{extra}}}}}"#
    );
    Ok(person.kubectl_with(&["create", "--namespace", namespace, "-f", "-"], &manifest).await?)
}

async fn nobody_decides_in_anothers_name(cluster: &Cluster) -> anyhow::Result<()> {
    let (release, guarded) = installed(cluster).await?;
    let mallory = cluster.rig.person("mallory", &["interns"]).await?;
    cluster.rig.grant(&mallory, &guarded, "cluster-admin").await?;
    let policy = format!("{}-decisions", release.name);
    in_force(&mallory, &guarded).await?;

    let denied = |why: &str| {
        format!("is invalid: : ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {why}\n")
    };
    let cases = [
        (
            r#", "by": {"user": "ada"}"#.to_owned(),
            "spec.by.user is ada, but the request comes from mallory; omit spec.by, it is set automatically",
        ),
        (
            r#", "by": {"user": "mallory", "groups": ["interns", "owners"]}"#.to_owned(),
            "spec.by.groups names groups that mallory is not in: owners; omit spec.by, it is set automatically",
        ),
        (
            r#", "by": {"user": "mallory", "groups": ["interns", "interns", "interns"]}"#.to_owned(),
            "spec.by.groups names a group more than once; omit spec.by, it is set automatically",
        ),
        (
            String::new(),
            "spec.by is missing because pilotguard did not answer; to decide anyway, set spec.by.user: mallory",
        ),
        (
            format!(r#", "by": {{"user": "mallory"}}, "record": {RECORD}"#),
            "spec.record may be set only by pilotguard; remove it",
        ),
    ];
    for (extra, why) in cases {
        let output = decide(&mallory, &guarded, &extra).await?;
        ensure!(!output.succeeded(), "accepted: {extra}");
        ensure!(output.stderr.ends_with(&denied(why)), "{}\ninstead of\n{}", output.stderr, denied(why));
    }

    let mallorys = r#", "by": {"user": "mallory", "groups": ["interns"]}"#;
    let own = decide(&mallory, &guarded, mallorys).await?;
    ensure!(own.succeeded(), "{}", own.stderr);
    let reserved = denied("names that begin with incident- are reserved for pilotguard's records; choose another name");
    for name in [r#""name": "incident-burn-1""#, r#""generateName": "incident-""#] {
        let output = decide_as(&mallory, &guarded, name, mallorys).await?;
        ensure!(!output.succeeded() && output.stderr.ends_with(&reserved), "{name}: {output:?}");
    }
    let operator = release.operator(cluster).await?;
    // Whoever has the operator's token is the operator, and nobody else.
    for (name, by, is_allowed) in [
        ("incident-burn-1", r#"{"user": "system:pilotguard"}"#, true),
        ("incident-burn-2", r#"{"user": "ada"}"#, false),
        ("incident-burn-3", r#"{"user": "system:pilotguard", "groups": ["owners"]}"#, false),
        ("override-1", r#"{"user": "system:pilotguard"}"#, false),
    ] {
        let record = format!(r#", "by": {by}, "record": {RECORD}"#);
        let output = decide_as(&operator, &guarded, &format!(r#""name": "{name}""#), &record).await?;
        ensure!(output.succeeded() == is_allowed, "{name} by {by}: {output:?}");
    }
    let without_record = decide(&operator, &guarded, r#", "by": {"user": "ada"}"#).await?;
    ensure!(!without_record.succeeded(), "the operator decides in Ada's name");
    Ok(())
}

/// A new policy is obeyed a moment after it was stored.
async fn in_force(person: &Person, namespace: &str) -> anyhow::Result<()> {
    let probe = || async {
        let forged =
            decide(person, namespace, r#", "by": {"user": "somebody-else"}"#).await.map_err(|e| e.to_string())?;
        if forged.succeeded() { Err("not in force".to_owned()) } else { Ok(()) }
    };
    Ok(wait::until("policy in force", PATIENCE, probe).await?)
}

async fn the_operator_may_touch_little_of_a_workload(cluster: &Cluster) -> anyhow::Result<()> {
    let (release, guarded) = installed(cluster).await?;
    let operator = release.operator(cluster).await?.client()?;
    let web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": guarded, "labels": {"team": "shop"}, "annotations": {"note": "theirs"}},
        "spec": {
            "replicas": 3, "paused": true, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}},
        },
    });
    cluster.done_with(&["create", "-f", "-"], &web.to_string()).await?;
    refuses_dry_runs(&operator, &guarded).await?;

    let spec = "pilotguard may change only template, replicas and paused in the spec of a Deployment";
    let template = "may restore the template only of a Deployment with the annotation pilotguard.dev/admitted";
    let replicas = "pilotguard may lower replicas, or restore the number in pilotguard.dev/parked-replicas";
    let paused = "pilotguard may un-pause a Deployment, never pause it";
    let metadata = "pilotguard may not change labels, finalizers or owners of a workload";
    let note = "pilotguard may not change annotations other than its own: note";
    let image = |image: &str| json!({"template": {"spec": {"containers": [{"name": "web", "image": image}]}}});
    let marks = json!({"pilotguard.dev/quarantined": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"});
    let admitted = |text: Option<&str>| json!({"pilotguard.dev/admitted": text});
    // In this order: each step starts from what the ones before left.
    let steps: Vec<(Value, Option<&str>)> = vec![
        (json!({"spec": image("web:2")}), Some(template)),
        (json!({"spec": image("web:2"), "metadata": {"annotations": admitted(Some("{}"))}}), Some(template)),
        (json!({"metadata": {"annotations": admitted(Some("{}"))}}), None),
        (json!({"spec": image("web:2"), "metadata": {"annotations": marks}}), None),
        (json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 3}}}}), Some(spec)),
        (json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}), Some(spec)),
        (json!({"spec": {"minReadySeconds": 9}}), Some(spec)),
        (json!({"spec": {"progressDeadlineSeconds": 9}}), Some(spec)),
        (json!({"spec": {"revisionHistoryLimit": 0}}), Some(spec)),
        (json!({"spec": {"replicas": 4}}), Some(replicas)),
        (
            json!({"metadata": {"annotations": {"pilotguard.dev/parked-replicas": "9"}}, "spec": {"replicas": 9}}),
            Some(replicas),
        ),
        (json!({"metadata": {"annotations": {"pilotguard.dev/parked-replicas": "9"}}}), Some(PARKING)),
        (json!({"metadata": {"annotations": {"pilotguard.dev/parked-replicas": "3"}}, "spec": {"replicas": 0}}), None),
        (json!({"spec": {"replicas": 2}}), Some(replicas)),
        (json!({"metadata": {"annotations": {"pilotguard.dev/parked-replicas": null}}, "spec": {"replicas": 3}}), None),
        (json!({"spec": {"paused": false}}), None),
        (json!({"spec": {"paused": true}}), Some(paused)),
        (json!({"metadata": {"labels": {"team": "ours"}}}), Some(metadata)),
        (json!({"metadata": {"finalizers": ["example.com/stay"]}}), Some(metadata)),
        (json!({"metadata": {"annotations": {"note": "ours"}}}), Some(note)),
        (json!({"metadata": {"annotations": {"note": null}}}), Some(note)),
        (json!({"metadata": {"annotations": {"pilotguard.dev/quarantined": null}}, "spec": image("web:1")}), None),
    ];
    for (patch, refusal) in steps {
        let answer = touch(&operator, &guarded, &patch).await.err().map(|error| error.to_string());
        let as_expected = match (&answer, refusal) {
            (None, None) => true,
            (Some(answer), Some(refusal)) => answer.contains(refusal),
            _ => false,
        };
        ensure!(as_expected, "{patch}: {answer:?} instead of {refusal:?}");
    }
    // People are not its concern.
    Ok(touch(&cluster.rig.admin().client()?, &guarded, &json!({"spec": {"replicas": 5, "paused": true}})).await?)
}

async fn touch(client: &Client, namespace: &str, patch: &Value) -> Result<(), kube::Error> {
    patch_web(client, namespace, patch, &PatchParams::default()).await
}

async fn patch_web(client: &Client, namespace: &str, patch: &Value, params: &PatchParams) -> Result<(), kube::Error> {
    let deployments = ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&());
    patch_as(client, namespace, &deployments, patch, params).await
}

async fn patch_as(
    client: &Client,
    namespace: &str,
    resource: &ApiResource,
    patch: &Value,
    params: &PatchParams,
) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    api.patch("web", params, &Patch::Strategic(patch)).await.map(drop)
}

async fn the_operator_may_only_mark_through_a_status(cluster: &Cluster) -> anyhow::Result<()> {
    let (release, guarded) = installed(cluster).await?;
    let operator = release.operator(cluster).await?.client()?;
    let line = ["create", "deployment", "web", "--image=web:1", "--namespace", &guarded];
    cluster.done(&line).await?;
    refuses_dry_runs(&operator, &guarded).await?;

    let deployments = ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(operator, &guarded, &deployments);
    let mark = async |patch: Value| api.patch_status("web", &PatchParams::default(), &Patch::Merge(&patch)).await;
    let marked = mark(json!({"metadata": {"annotations": {"pilotguard.dev/admitted": "{}"}}, "spec": {"replicas": 9}}));
    let marked = marked.await?;
    ensure!(marked.metadata.annotations.unwrap_or_default().contains_key("pilotguard.dev/admitted"));
    ensure!(marked.data["spec"]["replicas"] == 1, "a spec was written through the status: {}", marked.data["spec"]);
    for (patch, why) in [
        (
            json!({"status": {"replicas": 7}}),
            "through the status of a workload pilotguard may write only its annotations",
        ),
        (json!({"metadata": {"annotations": {"note": "ours"}}}), "annotations other than its own: note"),
        (json!({"metadata": {"finalizers": ["example.com/stay"]}}), "labels, finalizers or owners"),
    ] {
        let answer = mark(patch.clone()).await.err().map(|error| error.to_string());
        ensure!(answer.as_ref().is_some_and(|answer| answer.contains(why)), "{patch}: {answer:?}");
    }
    Ok(())
}

async fn refuses_dry_runs(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let deployments = ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&());
    in_force_on(client, namespace, &deployments, &json!({"metadata": {"labels": {"team": "ours"}}})).await
}

/// A new policy is obeyed a moment after it was stored.
async fn in_force_on(client: &Client, namespace: &str, resource: &ApiResource, label: &Value) -> anyhow::Result<()> {
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let probe = || async {
        match patch_as(client, namespace, resource, label, &params).await {
            Err(kube::Error::Api(status)) if status.message.contains("labels, finalizers or owners") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    Ok(wait::until("policy in force", PATIENCE, probe).await?)
}

async fn the_policies_are_type_checked(cluster: &Cluster) -> anyhow::Result<()> {
    let (release, _) = installed(cluster).await?;
    for part in [
        "decisions",
        "decisions-size",
        "workloads",
        "statefulsets",
        "daemonsets",
        "deployments-status",
        "statefulsets-status",
        "daemonsets-status",
        "configuration",
        "generated-configuration",
        "snapshots",
        "break-glass",
        "status",
    ] {
        let policy = format!("{}-{part}", release.name);
        let get = ["get", "validatingadmissionpolicy", &policy, "-o"];
        let checked = [&get[..], &["jsonpath={.status.observedGeneration}"]].concat();
        cluster.prints(&checked, "1").await?;
        let warnings =
            cluster.done(&[&get[..], &["jsonpath={.status.typeChecking.expressionWarnings}"]].concat()).await?;
        ensure!(warnings.is_empty(), "{policy}: {warnings}");
    }
    Ok(())
}

/// A field that a newer Kubernetes brings must be looked at: the policies list what the operator may not change.
async fn the_policies_name_every_field_of_a_workload(cluster: &Cluster) -> anyhow::Result<()> {
    let document: Value = serde_json::from_str(&cluster.done(&["get", "--raw", "/openapi/v3/apis/apps/v1"]).await?)?;
    let file =
        std::fs::read_to_string(crate::cluster::root().join("charts/pilotguard/templates/policy-workloads.yaml"))?;
    // A DaemonSet's spec is compared as a whole.
    for (kind, resource) in [("Deployment", "deployments"), ("StatefulSet", "statefulsets")] {
        let of_kind = |part: &&str| part.contains(&format!("resources: [{resource}]"));
        let policy = file.split("\n---\n").find(of_kind).with_context(|| format!("no policy on {resource}"))?;
        let schema = format!("io.k8s.api.apps.v1.{kind}Spec");
        let spec = &document["components"]["schemas"][&schema]["properties"];
        let fields = spec.as_object().with_context(|| format!("no schema of a {kind}'s spec"))?.keys();
        let named = |field: &str| {
            // What the included part speaks of.
            field == "replicas"
                || ["", "?"].iter().any(|optional| policy.contains(&format!("oldObject.spec.{optional}{field}")))
        };
        let unnamed: Vec<_> = fields.filter(|field| !named(field)).collect();
        ensure!(unnamed.is_empty(), "the policy on {resource} does not speak of {unnamed:?}");
    }
    Ok(())
}

async fn the_operator_may_only_scale_a_stateful_set_and_mark_a_daemon_set(cluster: &Cluster) -> anyhow::Result<()> {
    let (release, guarded) = installed(cluster).await?;
    let operator = release.operator(cluster).await?.client()?;
    let create = async |kind: &str, more: Value| {
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": guarded},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}},
            },
        });
        json_patch::merge(&mut object["spec"], &more);
        cluster.done_with(&["create", "-f", "-"], &object.to_string()).await
    };
    create("StatefulSet", json!({"replicas": 3, "serviceName": "web"})).await?;
    create("DaemonSet", json!({})).await?;
    let stateful = ApiResource::erase::<k8s_openapi::api::apps::v1::StatefulSet>(&());
    let daemon = ApiResource::erase::<k8s_openapi::api::apps::v1::DaemonSet>(&());
    let label = json!({"metadata": {"labels": {"team": "ours"}}});
    for resource in [&stateful, &daemon] {
        in_force_on(&operator, &guarded, resource, &label).await?;
    }
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}});
    let marks = json!({"metadata": {"annotations": {"pilotguard.dev/admitted": "{}"}}});
    let only_replicas = "pilotguard may change only replicas in the spec of a StatefulSet";
    let nothing = "pilotguard may change nothing in the spec of a DaemonSet";
    let on_delete = json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}});
    let parked = json!({"metadata": {"annotations": {"pilotguard.dev/parked-replicas": "3"}}, "spec": {"replicas": 0}});
    let steps = [
        (&stateful, marks.clone(), None),
        (&stateful, image.clone(), Some(only_replicas)),
        (&stateful, on_delete.clone(), Some(only_replicas)),
        (&stateful, json!({"spec": {"replicas": 4}}), Some("pilotguard may lower replicas")),
        (
            &stateful,
            json!({"metadata": {"annotations": {"pilotguard.dev/parked-replicas": "9"}}}),
            Some("may park only"),
        ),
        (&stateful, parked, None),
        (&stateful, json!({"spec": {"replicas": 3}}), None),
        (&daemon, marks, None),
        (&daemon, image, Some(nothing)),
        (&daemon, on_delete, Some(nothing)),
        (&daemon, label, Some("labels, finalizers or owners")),
    ];
    for (resource, patch, refusal) in steps {
        let answer = patch_as(&operator, &guarded, resource, &patch, &PatchParams::default()).await;
        let said = answer.err().map(|error| error.to_string());
        let is_expected = match (&said, refusal) {
            (None, None) => true,
            (Some(said), Some(refusal)) => said.contains(refusal),
            _ => false,
        };
        ensure!(is_expected, "{} {patch}: {said:?} instead of {refusal:?}", resource.kind);
    }
    Ok(())
}

async fn the_operator_may_put_back_what_a_config_map_contained(cluster: &Cluster) -> anyhow::Result<()> {
    let (release, guarded) = installed(cluster).await?;
    let operator = release.operator(cluster).await?;
    cluster.done(&["create", "configmap", "web", "--from-literal=level=1", "--namespace", &guarded]).await?;
    let config_maps = ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
    let label = json!({"metadata": {"labels": {"team": "ours"}}});
    let client = operator.client()?;
    in_force_on(&client, &guarded, &config_maps, &label).await?;
    let level = json!({"data": {"level": "2"}});
    let marks = json!({"metadata": {"annotations": {"pilotguard.dev/admitted": "{}"}}});
    let content = "pilotguard may restore content only of a ConfigMap with the annotation pilotguard.dev/admitted";
    // In this order: each step starts from what the ones before left.
    let steps = [
        (level.clone(), Some(content)),
        (json!({"data": {"level": "2"}, "metadata": marks["metadata"]}), Some(content)),
        (marks, None),
        (level, None),
        (json!({"binaryData": {"more": "AA=="}}), None),
        (json!({"immutable": true}), Some("may not change whether a ConfigMap is immutable")),
        (json!({"metadata": {"annotations": {"note": "ours"}}}), Some("annotations other than its own: note")),
        (label, Some("labels, finalizers or owners")),
    ];
    for (patch, refusal) in steps {
        let answer = patch_as(&client, &guarded, &config_maps, &patch, &PatchParams::default()).await;
        let said = answer.err().map(|error| error.to_string());
        let is_expected = match (&said, refusal) {
            (None, None) => true,
            (Some(said), Some(refusal)) => said.contains(refusal),
            _ => false,
        };
        ensure!(is_expected, "{patch}: {said:?} instead of {refusal:?}");
    }
    let create = async |name: &str, labels: Value| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": guarded, "labels": labels}});
        operator.kubectl_with(&["create", "-f", "-"], &object.to_string()).await
    };
    let ours = json!({"app.kubernetes.io/managed-by": "pilotguard"});
    for (name, labels, is_allowed) in
        [("flags-7f8c9dk2m4", ours.clone(), true), ("flags-bh8ff59hkd", json!({}), false), ("flags", ours, false)]
    {
        let output = create(name, labels).await?;
        ensure!(output.succeeded() == is_allowed, "{name}: {output:?}");
    }
    Ok(())
}
