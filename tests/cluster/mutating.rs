//! Other people's mutating admission answers our own writes too: what they change never moves a pod by our marks, and
//! what an act puts back is known again with what they changed.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};
use axum::routing::post;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsConfig, from_tcp_rustls};
use json_patch::PatchOperation;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use pilotguard::api::pilot::Pilot;
use pilotguard::release::digest::template_digest;
use pilotguard::release::marks::{AdmittedVerdict, Marks};
use pilotguard::release::workload::annotations;
use pilotguard_rig::wait::{self, PATIENCE};
use rcgen::generate_simple_self_signed;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::held::{apply, image, managed, reason};
use crate::scene::{Outcome, Scene, condition, holds};

tests![
    adopting_moves_no_pod_past_a_policy,
    adopting_moves_no_pod_past_a_webhook,
    a_release_is_rolled_back_to_as_a_policy_has_it_now,
    what_is_held_is_released_as_a_policy_has_it_now,
    a_scale_down_and_its_end_keep_the_stamp,
    what_a_dry_run_cannot_tell_is_reported,
];

const GRACE: &str = "/spec/template/spec/terminationGracePeriodSeconds";

/// Has whatever is written of the Deployments of a namespace end its pods after so many seconds.
async fn policy(cluster: &Cluster, namespace: &str, seconds: u32) -> anyhow::Result<()> {
    let expression = format!(
        "Object{{spec: Object.spec{{template: Object.spec.template{{spec: Object.spec.template.spec{{\
         terminationGracePeriodSeconds: {seconds}}}}}}}}}"
    );
    let version = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": version, "kind": "MutatingAdmissionPolicy", "metadata": {"name": namespace},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}],
            },
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
        },
    });
    let binding = json!({
        "apiVersion": version, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": namespace},
        "spec": {"policyName": namespace},
    });
    for object in [policy, binding] {
        cluster.done_with(&["apply", "-f", "-"], &object.to_string()).await?;
    }
    Ok(())
}

/// Waits until what is written of the Deployment `web` comes out with so many seconds.
async fn mutates(scene: &Scene<'_>, seconds: u32) -> anyhow::Result<()> {
    // The operator's own dry-runs are not judged; of people the guards would refuse what the policy makes of theirs.
    let line = "annotate deployment web pilotguard.dev/tried=yes --dry-run=server -o json";
    let probe = || async {
        let output = scene.kubectl(&scene.operator.account, line).await.map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&output.stdout).map_err(|_| output.stderr.clone())?;
        if answer.pointer(GRACE) == Some(&json!(seconds)) { Ok(()) } else { Err(answer["spec"].to_string()) }
    };
    Ok(wait::until("mutation", PATIENCE, probe).await?)
}

/// What a webhook does to every update of a Deployment.
#[derive(Clone, Copy)]
enum Mutation {
    /// Has its pods end after so many seconds.
    Seconds(u32),
    /// The same, one more each time.
    Counting,
    /// Refuses dry-runs.
    RefusingDryRuns,
}

/// A webhook on the host that changes the Deployments of a namespace.
struct Mutator(Handle<std::net::SocketAddr>);

impl Mutator {
    async fn start(cluster: &Cluster, namespace: &str, name: &str, mutation: Mutation) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let key = generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let (certificate, private) = (key.cert.pem(), key.signing_key.serialize_pem());
        let tls = RustlsConfig::from_pem(certificate.clone().into_bytes(), private.into_bytes()).await?;
        let counter = Arc::new(AtomicU32::new(40));
        let mutate = async move |Json(review): Json<AdmissionReview<DynamicObject>>| {
            let request: AdmissionRequest<DynamicObject> = review.try_into().expect("a request");
            let answer = AdmissionResponse::from(&request);
            let seconds = match mutation {
                Mutation::Seconds(seconds) => seconds,
                Mutation::Counting => counter.fetch_add(1, Ordering::Relaxed),
                Mutation::RefusingDryRuns if request.dry_run => {
                    return Json(answer.deny("not even to try").into_review());
                }
                Mutation::RefusingDryRuns => return Json(answer.into_review()),
            };
            let operation: PatchOperation =
                serde_json::from_value(json!({"op": "add", "path": GRACE, "value": seconds})).expect("an operation");
            let answer = answer.with_patch(json_patch::Patch(vec![operation]));
            Json(answer.expect("a patch").into_review())
        };
        let handle = Handle::new();
        let server = from_tcp_rustls(listener, tls)?.handle(handle.clone());
        tokio::spawn(server.serve(Router::new().route("/mutate", post(mutate)).into_make_service()));
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "grace.rig.test", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": "Fail", "timeoutSeconds": 10, "reinvocationPolicy": "IfNeeded",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}],
                "clientConfig": {
                    "url": format!("https://127.0.0.1:{port}/mutate"),
                    "caBundle": k8s_openapi::ByteString(certificate.into_bytes()),
                },
            }],
        });
        cluster.done_with(&["apply", "-f", "-"], &configuration.to_string()).await?;
        Ok(Self(handle))
    }
}

impl Drop for Mutator {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

async fn adopting_moves_no_pod_past_a_policy(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.apply(&scene.grace, &scene.release(1, 0)).await?.accepted()?;
    policy(cluster, &scene.namespace, 32).await?;
    mutates(&scene, 32).await?;
    is_adopted_as_it_runs(&scene).await
}

async fn adopting_moves_no_pod_past_a_webhook(cluster: &Cluster) -> anyhow::Result<()> {
    for order in ["a", "z"] {
        let scene = Scene::set(cluster).await?;
        scene.apply(&scene.grace, &scene.release(1, 0)).await?.accepted()?;
        // The API server asks webhooks in the order of their names; ours is called pilotguard-….
        let name = format!("{order}-{}", scene.namespace);
        let _mutator = Mutator::start(cluster, &scene.namespace, &name, Mutation::Seconds(32)).await?;
        mutates(&scene, 32).await?;
        is_adopted_as_it_runs(&scene).await?;
    }
    Ok(())
}

/// An observing Pilot takes the release over, and the very same pods run on.
async fn is_adopted_as_it_runs(scene: &Scene<'_>) -> anyhow::Result<()> {
    let before = scene.deployment().await?;
    let observing = json!({"slos": [], "enforcement": {"changes": "Observe", "actions": "Observe"}});
    scene.declare(&scene.pilot(&observing)).await?;
    scene.known_good().await?;
    let after = scene.deployment().await?;
    ensure!(after["spec"] == before["spec"], "{} became {}", before["spec"], after["spec"]);
    let sets = scene.api::<ReplicaSet>().list(&ListParams::default()).await?.items;
    ensure!(sets.len() == 1, "pods were moved: {} ReplicaSets", sets.len());
    let stamp = scene.marks().await?.admitted.context("a stamp")?;
    ensure!(stamp.verdict == AdmittedVerdict::Adopted, "{stamp:?}");
    ensure!(stamp.template == template_digest(&after["spec"]["template"]), "{stamp:?}");
    Ok(())
}

async fn a_release_is_rolled_back_to_as_a_policy_has_it_now(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    policy(cluster, &scene.namespace, 31).await?;
    scene.apply(&scene.grace, &scene.release(1, 0)).await?.accepted()?;
    mutates(&scene, 31).await?;
    let pilot = scene.pilot(&json!({"slos": []}));
    scene.apply(&scene.grace, &scene.release(1, 0)).await?.accepted()?;
    scene.declare(&pilot).await?;
    scene.guarded().await?;
    scene.bake_no_more(&pilot).await?;
    policy(cluster, &scene.namespace, 32).await?;
    mutates(&scene, 32).await?;
    scene.apply(&scene.grace, &scene.release(2, 0)).await?.accepted()?;

    scene.rolled_back_by(&scene.ada).await?;
    let after = scene.deployment().await?;
    ensure!(after["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1", "{}", after["spec"]);
    ensure!(after.pointer(GRACE) == Some(&json!(32)), "{}", after["spec"]);
    is_stamped(&scene).await?;
    scene.known_good().await?;
    scene.until("Ready Pilot", |pilot| holds(pilot, "InSync", "True")).await?;
    // People are not locked out.
    scene.apply(&scene.grace, &scene.release(3, 0)).await?.accepted()
}

/// The stamp is of the template that is stored.
async fn is_stamped(scene: &Scene<'_>) -> anyhow::Result<()> {
    // Both of one reading: a second one may already see the next write.
    let deployment = scene.deployment().await?;
    let template = template_digest(&deployment["spec"]["template"]);
    let stamp = Marks::read(&annotations(&deployment)).admitted.context("a stamp")?;
    ensure!(stamp.template == template, "the stamp is of another template: {stamp:?}");
    ensure!(stamp.verdict != AdmittedVerdict::Unauthorized, "{stamp:?}");
    Ok(())
}

async fn what_is_held_is_released_as_a_policy_has_it_now(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let tool = scene.gitops_tool(cluster).await?;
    let (later, _) = Scene::later();
    scene.guard(&scene.pilot(&json!({"slos": [], "changes": {"windows": [later]}}))).await?;
    apply(&tool, &managed(&scene, 2)).await?.accepted()?;
    scene.until("held change", |pilot| reason(pilot) == Some("ChangeHeld")).await?;
    policy(cluster, &scene.namespace, 32).await?;
    mutates(&scene, 32).await?;

    scene.declare(&scene.pilot(&json!({"slos": []}))).await?;
    scene.until("release of what was held", |pilot| reason(pilot) == Some("NothingKeptOut")).await?;
    let released = scene.deployment().await?;
    ensure!(image(&released) == "web:2" && released["spec"]["paused"] != true, "{released}");
    ensure!(released.pointer(GRACE) == Some(&json!(32)), "{released}");
    is_stamped(&scene).await?;
    ensure!(scene.marks().await?.admitted.is_some_and(|stamp| stamp.by == tool.name));
    scene.known_good().await
}

async fn a_scale_down_and_its_end_keep_the_stamp(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.bake(&scene.pilot(&json!({"slos": []}))).await?;
    for (seconds, type_, replicas) in [(32, "ScaleDown", 0), (33, "Resume", 3)] {
        policy(cluster, &scene.namespace, seconds).await?;
        mutates(&scene, seconds).await?;
        let open = scene.seen().await?.status.and_then(|status| status.incident);
        let incident = open.map(|incident| incident.id).filter(|_| type_ == "Resume");
        scene.decide(&scene.ada, &json!({"type": type_, "incident": incident})).await?;
        let probe = || async {
            let deployment = scene.deployment().await.map_err(|error| error.to_string())?;
            if deployment["spec"]["replicas"] == replicas { Ok(()) } else { Err(deployment["spec"].to_string()) }
        };
        wait::until(type_, PATIENCE, probe).await?;
        is_stamped(&scene).await?;
        ensure!(scene.deployment().await?.pointer(GRACE) == Some(&json!(seconds)));
    }
    scene.until("end of the incident", |pilot| holds(pilot, "IncidentOpen", "False")).await?;
    scene.known_good().await?;
    ensure!(holds(&scene.seen().await?, "InSync", "True"));
    Ok(())
}

async fn what_a_dry_run_cannot_tell_is_reported(cluster: &Cluster) -> anyhow::Result<()> {
    for (mutation, expected, says) in [
        (Mutation::RefusingDryRuns, "DryRunRefused", "not even to try"),
        (Mutation::Counting, "NotIdempotent", "spec.template.spec.terminationGracePeriodSeconds"),
    ] {
        let scene = Scene::set(cluster).await?;
        scene.apply(&scene.grace, &scene.release(1, 0)).await?.accepted()?;
        let name = format!("a-{}", scene.namespace);
        let _mutator = Mutator::start(cluster, &scene.namespace, &name, mutation).await?;
        let tried = || async {
            let line = "annotate deployment web tried=yes --dry-run=server -o json";
            let output = scene.kubectl(&scene.grace, line).await.map_err(|error| error.to_string())?;
            let is_asked = output.stderr.contains("not even to try")
                || serde_json::from_str::<Value>(&output.stdout).is_ok_and(|it| it.pointer(GRACE) != Some(&json!(30)));
            if is_asked { Ok(()) } else { Err(output.stdout) }
        };
        wait::until("webhook that is asked", PATIENCE, tried).await?;
        let before = scene.deployment().await?;
        scene.declare(&scene.pilot(&Scene::trigger(&json!({})))).await?;
        let is_told = |pilot: &Pilot| {
            let found = condition(pilot, "WritesPredictable");
            found.is_some_and(|it| it.status == "False" && it.reason == expected)
        };
        let pilot = scene.until(expected, is_told).await?;
        let message = condition(&pilot, "WritesPredictable").map(|it| it.message.clone()).unwrap_or_default();
        ensure!(message.contains(says), "{message}");
        let by = format!("MutatingWebhookConfiguration {name}");
        ensure!(expected != "NotIdempotent" || message.contains(&by), "by whom: {message}");
        let is_not_ready = |pilot: &Pilot| condition(pilot, "Ready").is_some_and(|ready| ready.reason == expected);
        scene.until("Ready that says so", is_not_ready).await?;
        ensure!(scene.deployment().await?["spec"] == before["spec"], "a pod moved");
    }
    Ok(())
}
