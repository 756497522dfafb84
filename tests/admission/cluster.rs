//! On a real API server: the registration calls the webhook exactly when it must, is put back when someone
//! touches it, and fails closed only for what an enforcing Pilot guards.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::Event;
use pilotguard::admit::certificates::ServerIdentity;
use pilotguard::admit::keeper::{Applied, keep, owning_cluster_role};
use pilotguard::admit::pilots::Guarded;
use pilotguard::admit::registration::{Endpoint, Registration};
use pilotguard::admit::server::{Admission, serve};
use pilotguard::admit::witness::Witness;
use pilotguard::api::custom_resource_definitions;
use pilotguard::api::workload::PartKind;
use pilotguard::observe::cluster::RawWorkload;
use pilotguard::release::digest::template_digest;
use pilotguard::release::marks::{ADMITTED, QUARANTINED};
use pilotguard::runtime::clients::Clients;
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{Output, Person, Rig, RigOptions};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fixtures::{admitted, no_records, pilot, read, with};

const INSTANCE: &str = "pilotguard-test";

/// How often the webhook was called: the clock is read once a call.
static CALLS: AtomicUsize = AtomicUsize::new(0);

fn counting_clock() -> Timestamp {
    CALLS.fetch_add(1, Ordering::SeqCst);
    Timestamp::now()
}

/// One operator as far as admission goes, in this process.
struct Scene {
    rig: Rig,
    namespace: String,
    team: Person,
    operator: Person,
    guarded: Arc<Guarded>,
    applied: watch::Receiver<Applied>,
    stop_serving: CancellationToken,
}

impl Scene {
    async fn set() -> anyhow::Result<Self> {
        let rig = Rig::start(RigOptions { prometheus: false, ..RigOptions::default() }).await?;
        for definition in custom_resource_definitions() {
            let made = rig.admin().kubectl_with(&["apply", "-f", "-"], &json!(definition).to_string()).await?;
            ensure!(made.succeeded(), "{}", made.stderr);
        }
        let namespace = rig.namespace("admission").await?;
        let (team, operator) = (rig.person("grace", &["shop-team"]).await?, rig.person("operator", &[]).await?);
        // Writes to a status, too.
        rig.grant(&team, &namespace, "cluster-admin").await?;
        rig.grant(&operator, &namespace, "edit").await?;

        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let endpoint = Endpoint::Url(format!("https://{}", listener.local_addr()?));
        let identity = ServerIdentity::generate(&endpoint, Timestamp::now())?;
        let guarded = Arc::new(Guarded::new(TimeZoneDatabase::bundled()));
        let owner = owning_cluster_role(&rig.admin().client()?, "view").await?;
        let registration = Registration {
            instance: INSTANCE.to_owned(),
            endpoint,
            ca_pem: identity.ca_pem.clone(),
            own_account: operator.name.clone(),
            namespaces: None,
            owner: Some(owner),
        };
        let admission = Admission {
            guarded: guarded.clone(),
            cluster: Arc::new(no_records()),
            witness: Witness::new(Arc::default()).0,
            own_account: operator.name.as_str().into(),
            gitops_users: [].into(),
            clock: counting_clock,
        };
        let stop_serving = CancellationToken::new();
        let stop = stop_serving.clone();
        tokio::spawn(async move { serve(listener, &identity, admission, stop).await });
        let (sender, applied) = watch::channel(None);
        let clients = Clients { watching: rig.admin().client()?, acting: rig.admin().client()? };
        tokio::spawn(keep(clients, registration, guarded.subscribe(), sender, CancellationToken::new()));
        Ok(Self { rig, namespace, team, operator, guarded, applied, stop_serving })
    }

    /// Lets the index see these Pilots, and returns once the API server calls for them.
    async fn guard(&self, pilots: &[Value]) -> anyhow::Result<()> {
        self.guarded.see(&Event::Init);
        for pilot in pilots {
            self.guarded.see(&Event::InitApply(read(pilot)));
        }
        self.guarded.see(&Event::InitDone);
        let wanted = self.guarded.subscribe().borrow().clone();
        wait::until("registration", PATIENCE, || async {
            let applied = self.applied.borrow().clone();
            if applied == wanted { Ok(()) } else { Err(format!("in force is {applied:?}")) }
        })
        .await?;
        Ok(())
    }

    /// Returns once the API server acts by the configuration, which it learns of a moment after it was stored.
    async fn probed(&self) -> anyhow::Result<()> {
        let probe =
            json!({"spec": {"template": {"metadata": {"annotations": {"pilotguard.dev/probe": "n0"}}}}}).to_string();
        let arguments = ["patch", "deployment", "web", "--dry-run=server", "-p", &probe];
        wait::until("answer to the probe", PATIENCE, || async {
            let output = self.run(&self.operator, &arguments).await.map_err(|error| error.to_string())?;
            if output.stderr.contains("pilotguard probe n0 answered") { Ok(()) } else { Err(output.stderr) }
        })
        .await?;
        Ok(())
    }

    async fn run(&self, person: &Person, arguments: &[&str]) -> anyhow::Result<Output> {
        let place = ["--namespace", &self.namespace];
        Ok(person.kubectl(&[arguments, &place].concat()).await?)
    }

    /// What a command of the team's makes of the webhook: its output and how often it was called.
    async fn calls(&self, line: &str) -> anyhow::Result<(Output, usize)> {
        self.settled().await?;
        let before = CALLS.load(Ordering::SeqCst);
        let output = self.run(&self.team, &line.split(' ').collect::<Vec<_>>()).await?;
        self.settled().await?;
        Ok((output, CALLS.load(Ordering::SeqCst) - before))
    }

    /// Returns once the controllers have followed up on the last change: a request that meets a write of theirs
    /// is repeated within the API server, admission included, and what they write must not count either.
    async fn settled(&self) -> anyhow::Result<()> {
        wait::until("rest", PATIENCE, || async {
            let first = self.deployment().await.map_err(|error| error.to_string())?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let second = self.deployment().await.map_err(|error| error.to_string())?;
            let status = &second["status"];
            let is_complete = ["updatedReplicas", "availableReplicas", "replicas"]
                .iter()
                .all(|count| status[count].as_i64().unwrap_or(0) == second["spec"]["replicas"].as_i64().unwrap_or(0));
            let is_followed = status["observedGeneration"] == second["metadata"]["generation"]
                && (is_complete || second["spec"]["paused"] == true);
            let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
            let is_at_rest = second.is_null() || (is_followed && version(&first) == version(&second));
            if is_at_rest { Ok(()) } else { Err(status.to_string()) }
        })
        .await?;
        Ok(())
    }

    /// Null where there is none.
    async fn deployment(&self) -> anyhow::Result<Value> {
        let kind = PartKind::Deployment;
        let deployments: Api<RawWorkload> = Api::namespaced_with(self.team.client()?, &self.namespace, &kind);
        Ok(json!(deployments.get_opt("web").await?))
    }

    fn pilot(&self, change: &Value) -> Value {
        let always = json!({"metadata": {"namespace": self.namespace}, "spec": {
            "workloads": [{"name": "web"}], "intent": {"decisionDate": "2999-01-01T00:00:00Z"},
            "blastRadius": {"maxReplicas": 9}, "changes": {"groupWithin": "0s", "windows": [{"name": "always", "always": true}]}}});
        with(with(pilot(), &always), change)
    }

    /// Never open.
    fn closed(&self) -> Value {
        let once = json!({"from": "2000-01-01T00:00:00", "to": "2000-01-02T00:00:00"});
        self.pilot(
            &json!({"metadata": {"generation": 2}, "spec": {"changes": {"windows": [{"name": "past", "once": once}]}}}),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_asks_exactly_when_it_must() -> anyhow::Result<()> {
    let scene = Box::pin(Scene::set()).await?;
    let outcome = play(&scene).await;
    if outcome.is_err() {
        scene.rig.keep();
    }
    outcome
}

async fn play(scene: &Scene) -> anyhow::Result<()> {
    let created = scene.calls("create deployment web --image=web:1 --replicas=2").await?;
    ensure!(created.0.succeeded() && created.1 == 0, "{created:?}");
    scene.guard(&[scene.pilot(&json!({}))]).await?;
    scene.probed().await?;
    each_change_makes_its_number_of_calls(scene).await.context("calls")?;
    added_owners_are_asked_about(scene).await.context("owners")?;
    marks_hold(scene).await.context("marks")?;
    applying_again_asks_nobody(scene).await.context("apply")?;
    a_long_list_is_within_the_servers_budget(scene).await.context("a long list")?;
    own_objects(scene).await.context("own objects")?;
    a_refusal_reaches_the_terminal(scene).await.context("refusal")?;
    a_collection_is_deleted_one_by_one(scene).await.context("a collection")?;
    edits_are_undone(scene).await.context("edits")?;
    a_quarrel_slows_down(scene).await.context("quarrel")?;
    without_the_webhook(scene).await.context("without the webhook")?;
    a_namespace_can_end_without_the_webhook(scene).await.context("the end of a namespace")?;
    what_is_no_longer_named_is_no_longer_guarded(scene).await.context("release")
}

async fn each_change_makes_its_number_of_calls(scene: &Scene) -> anyhow::Result<()> {
    for (line, expected) in [
        ("label deployment web a=b", 0),
        ("annotate deployment web a=b", 0),
        ("annotate deployment web pilotguard.dev/change=CHG-7", 1),
        ("set image deployment/web web=web:2", 1),
        ("set image deployment/web web=web:2", 0),
        ("scale deployment web --replicas=3", 1),
        (r#"patch deployment web -p {"spec":{"replicas":2}}"#, 1),
        (r#"patch deployment web -p {"spec":{"replicas":3,"template":{"metadata":{"labels":{"x":"y"}}}}}"#, 1),
        ("rollout pause deployment/web", 0),
        ("rollout resume deployment/web", 1),
        ("rollout restart deployment/web", 1),
        ("rollout undo deployment/web", 1),
        ("create deployment other --image=other:1", 0),
        ("set image deployment/other other=other:2", 0),
        ("delete deployment other", 0),
        ("delete deployment web --dry-run=server", 1),
        ("create deployment web --image=web:1 --dry-run=server", 1),
    ] {
        let (output, calls) = scene.calls(line).await?;
        // A second creation fails, after admission, because the workload exists.
        ensure!(output.succeeded() || line.starts_with("create deployment web"), "{line}: {}", output.stderr);
        ensure!(calls == expected, "{line}: {calls} calls instead of {expected}");
    }
    Ok(())
}

/// Only in dry-runs: the garbage collector would delete what names an owner that does not exist.
async fn added_owners_are_asked_about(scene: &Scene) -> anyhow::Result<()> {
    for (owners, subresource) in [(1, ""), (1, " --subresource=status"), (400, "")] {
        let owner = |n| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": format!("u-{n}")});
        let patch = json!({"metadata": {"ownerReferences": (0..owners).map(owner).collect::<Vec<_>>()}});
        let line = format!("patch deployment web{subresource} --dry-run=server --type=merge -p {patch}");
        let (output, calls) = scene.calls(&line).await?;
        ensure!(output.succeeded() && calls == 1, "{owners} owners{subresource}: {calls} calls, {output:?}");
    }
    Ok(())
}

/// What is stamped is what is stored, also after `rollout undo`; and nobody but the operator writes marks.
async fn marks_hold(scene: &Scene) -> anyhow::Result<()> {
    let stored = scene.deployment().await?;
    let mark = admitted(&stored);
    ensure!(mark.template == template_digest(&stored["spec"]["template"]), "stamped is another template: {mark:?}");
    ensure!(mark.by == "grace" && mark.groups.contains(&"shop-team".to_owned()), "{mark:?}");
    let forged = format!("annotate deployment web --overwrite {ADMITTED}={{}} {QUARANTINED}=[]");
    let (output, calls) = scene.calls(&forged).await?;
    ensure!(output.succeeded() && calls == 1, "{output:?}");
    let after = scene.deployment().await?;
    ensure!(admitted(&after) == mark && after["metadata"]["annotations"].get(QUARANTINED).is_none(), "{after}");
    let forged = format!(r#"{{"metadata":{{"annotations":{{"{ADMITTED}":"{{}}","{QUARANTINED}":"[]"}}}}}}"#);
    let (output, calls) = scene.calls(&format!("patch deployment web --subresource=status -p {forged}")).await?;
    ensure!(output.succeeded() && calls == 1, "{output:?}, {calls} calls");
    let after = scene.deployment().await?;
    ensure!(admitted(&after) == mark && after["metadata"]["annotations"].get(QUARANTINED).is_none(), "{after}");
    let plain = r#"patch deployment web --subresource=status -p {"status":{"collisionCount":1}}"#;
    let (output, calls) = scene.calls(plain).await?;
    ensure!(output.succeeded() && calls == 0, "{output:?}, {calls} calls");
    let image = r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:7"}]}}}}"#;
    let before = CALLS.load(Ordering::SeqCst);
    let acted = scene.run(&scene.operator, &["patch", "deployment", "web", "-p", image]).await?;
    ensure!(acted.succeeded() && CALLS.load(Ordering::SeqCst) == before, "the operator asked itself: {acted:?}");
    Ok(())
}

/// The stamp is nobody's field: applying the same manifest again neither removes it nor calls the webhook.
async fn applying_again_asks_nobody(scene: &Scene) -> anyhow::Result<()> {
    let manifest = |image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}}})
        .to_string()
    };
    let server_side = ["--server-side", "--force-conflicts"];
    for (image, flags, expected) in [
        ("web:a", &server_side[..], 1),
        ("web:a", &server_side[..], 0),
        ("web:b", &server_side[..], 1),
        ("web:b", &[], 0),
        ("web:c", &[], 1),
        ("web:c", &[], 0),
    ] {
        scene.settled().await?;
        let before = CALLS.load(Ordering::SeqCst);
        let arguments = [&["apply", "-n", &scene.namespace, "-f", "-"], flags].concat();
        let output = scene.team.kubectl_with(&arguments, &manifest(image)).await?;
        let calls = CALLS.load(Ordering::SeqCst) - before;
        ensure!(output.succeeded() && calls == expected, "{image} {flags:?}: {calls} calls, {output:?}");
        let stored = scene.deployment().await?;
        ensure!(admitted(&stored).template == template_digest(&stored["spec"]["template"]), "{image}: {stored}");
    }
    Ok(())
}

async fn a_long_list_is_within_the_servers_budget(scene: &Scene) -> anyhow::Result<()> {
    let name = |n: usize| format!("{}{n:04}", "a-rather-long-name-of-a-workload-".repeat(2));
    let many = (0..700).map(|n| {
        scene.pilot(&json!({"metadata": {"name": name(n), "uid": name(n)}, "spec": {"workloads": [{"name": name(n)}]}}))
    });
    let pilots: Vec<Value> = many.chain([scene.pilot(&json!({}))]).collect();
    let before = Instant::now();
    scene.guard(&pilots).await?;
    println!("a set of {} workloads is in force after {:?}", pilots.len(), before.elapsed());
    // The server learns of it a moment later; a list beyond its budget would then refuse each of these.
    for n in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (output, calls) = scene.calls(&format!("set image deployment/web web=web:long-{n}")).await?;
        ensure!(output.succeeded() && calls == 1, "{output:?}");
    }
    scene.guard(&[scene.pilot(&json!({}))]).await
}

async fn own_objects(scene: &Scene) -> anyhow::Result<()> {
    let apply = |object: Value| {
        let text = object.to_string();
        async move { scene.rig.admin().kubectl_with(&["create", "-n", &scene.namespace, "-f", "-"], &text).await }
    };
    let forged =
        apply(json!({"apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision", "metadata": {"name": "forged"},
        "spec": {"pilot": "checkout", "type": "Rollback", "reason": "outage", "by": {"user": "ada"}}}))
        .await?;
    ensure!(forged.succeeded(), "{forged:?}");
    let by = scene
        .rig
        .admin()
        .kubectl(&["get", "dec", "forged", "-n", &scene.namespace, "-o", "jsonpath={.spec.by.user}"])
        .await?;
    ensure!(by.stdout == "rig-admin", "{by:?}");
    let mut broken = scene
        .pilot(&json!({"spec": {"changes": {"windows": [{"name": "w", "timeZone": "Mars/Olympus", "always": true}]}}}));
    broken["metadata"] = json!({"name": "broken"});
    let refused = apply(broken).await?;
    ensure!(
        refused.stderr.contains("spec.changes.windows[name=w].timeZone") && refused.stderr.contains("Mars/Olympus"),
        "{refused:?}"
    );
    let source = json!({"apiVersion": "pilotguard.dev/v1alpha1", "kind": "MetricsSource", "metadata": {"name": "s"},
        "spec": {"url": "http://[::1:9090"}});
    let refused = apply(source).await?;
    ensure!(refused.stderr.contains("spec.url"), "{refused:?}");
    Ok(())
}

async fn a_refusal_reaches_the_terminal(scene: &Scene) -> anyhow::Result<()> {
    scene.guarded.see(&Event::Apply(read(&scene.closed())));
    let (output, calls) = scene.calls("set image deployment/web web=web:3").await?;
    println!("{}", output.stderr);
    ensure!(!output.succeeded() && calls == 1, "{output:?}");
    ensure!(
        output.stderr.contains("Refused: updating Deployment web from web:long-5 (")
            && output.stderr.contains("to web:3 (")
            && output.stderr.contains("), guarded by pilot checkout.\n- outside"),
        "{output:?}"
    );
    ensure!(output.stderr.contains("Owner: Ada Lovelace (service owner), ada@example.com"), "{output:?}");
    ensure!(!scene.calls("delete deployment web").await?.0.succeeded(), "deleted");
    Ok(())
}

/// The API server deletes one after the other in the name of one request, which names none of them.
async fn a_collection_is_deleted_one_by_one(scene: &Scene) -> anyhow::Result<()> {
    let created = scene.calls("create deployment other --image=other:1").await?;
    ensure!(created.0.succeeded(), "{created:?}");
    let delete = async |app: &str| {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments?labelSelector=app%3D{app}", scene.namespace);
        let before = CALLS.load(Ordering::SeqCst);
        let output = scene.team.kubectl(&["delete", "--raw", &path]).await?;
        anyhow::Ok((output, CALLS.load(Ordering::SeqCst) - before))
    };
    let (output, calls) = delete("other").await?;
    ensure!(output.succeeded() && calls == 0, "{output:?}, {calls} calls");
    let left = scene.run(&scene.team, &["get", "deployments", "-o", "name"]).await?;
    ensure!(left.stdout.trim() == "deployment.apps/web", "{left:?}");
    let (output, calls) = delete("web").await?;
    ensure!(!output.succeeded() && calls == 1, "{output:?}, {calls} calls");
    ensure!(output.stderr.contains("Refused: deleting Deployment web"), "{output:?}");
    let generated = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generateName": "other-"}, "spec": {
        "selector": {"matchLabels": {"app": "other"}},
        "template": {"metadata": {"labels": {"app": "other"}}, "spec": {"containers": [{"name": "other", "image": "other:1"}]}}}});
    let arguments = ["create", "-n", &scene.namespace, "-f", "-"];
    let created = scene.team.kubectl_with(&arguments, &generated.to_string()).await?;
    ensure!(created.succeeded(), "{created:?}");
    let (output, _) = delete("other").await?;
    ensure!(output.succeeded(), "{output:?}");
    Ok(())
}

async fn edits_are_undone(scene: &Scene) -> anyhow::Result<()> {
    let client = scene.rig.admin().client()?;
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client);
    let wanted = mutating.get(INSTANCE).await?;
    ensure!(wanted.metadata.owner_references.iter().flatten().any(|owner| owner.name == "view"), "no owner");
    let weaker = r#"[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"},
        {"op":"add","path":"/webhooks/0/matchConditions/-","value":{"name":"never","expression":"false"}}]"#;
    let edits: [&[&str]; 3] = [
        &["patch", "mutatingwebhookconfiguration", INSTANCE, "--type=json", "-p", weaker],
        &["delete", "mutatingwebhookconfiguration", INSTANCE],
        &["delete", "validatingwebhookconfiguration", INSTANCE],
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        if number == 2 {
            // Watches that broke off are back in time too.
            scene.rig.stop_apiserver()?;
            tokio::time::sleep(Duration::from_secs(5)).await;
            scene.rig.start_apiserver().await?;
        }
        let output = scene.rig.admin().kubectl(edit).await?;
        ensure!(output.succeeded(), "{output:?}");
        let since = Instant::now();
        wait::until("undoing an edit", Duration::from_secs(2), || async {
            let stored = mutating.get_opt(INSTANCE).await.map_err(|error| error.to_string())?;
            let other = validating.get_opt(INSTANCE).await.map_err(|error| error.to_string())?;
            let is_whole = stored.is_some_and(|stored| stored.webhooks == wanted.webhooks) && other.is_some();
            if is_whole { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await?;
        println!("{} undone within {:?}", edit[0], since.elapsed());
    }
    // Its own writes are no edits.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let version = async || {
        anyhow::Ok((
            mutating.get(INSTANCE).await?.metadata.resource_version,
            validating.get(INSTANCE).await?.metadata.resource_version,
        ))
    };
    let settled = version().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(settled == version().await?, "it goes on writing");
    scene.probed().await
}

/// Someone whose edits are undone and who repeats them at once.
async fn a_quarrel_slows_down(scene: &Scene) -> anyhow::Result<()> {
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(scene.rig.admin().client()?);
    let weaker = Patch::Json::<()>(serde_json::from_value(
        json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
    )?);
    let until = Instant::now() + Duration::from_secs(8);
    let mut edits = 0;
    while Instant::now() < until {
        let stored = mutating.get(INSTANCE).await?;
        let is_whole = stored.webhooks.iter().flatten().all(|webhook| {
            webhook.name != "workloads.pilotguard.dev" || webhook.failure_policy.as_deref() == Some("Fail")
        });
        if is_whole {
            mutating.patch(INSTANCE, &PatchParams::default(), &weaker).await?;
            edits += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // After waits of 0.2, 0.4, 0.8, 1.6 and 3.2 s.
    ensure!((2..=7).contains(&edits), "{edits} edits were undone within 8 s");
    // The last edit is undone in the end, and what is not in force is not said to be.
    wait::until("registration", PATIENCE, || async {
        if scene.applied.borrow().is_some() { Ok(()) } else { Err("not in force".to_owned()) }
    })
    .await?;
    scene.probed().await
}

async fn without_the_webhook(scene: &Scene) -> anyhow::Result<()> {
    scene.stop_serving.cancel();
    wait::until("end of the webhook", PATIENCE, || async {
        let output = scene.run(&scene.team, &["set", "image", "deployment/web", "web=web:4", "--dry-run=server"]).await;
        let text = output.map_err(|error| error.to_string())?.stderr;
        if text.contains("failed calling webhook") { Ok(()) } else { Err(text) }
    })
    .await?;
    for (line, is_allowed) in [
        ("set image deployment/web web=web:4", false),
        ("delete deployment web", false),
        ("label deployment web c=d", true),
        ("scale deployment web --replicas=5", true),
        (r#"patch deployment web -p {"spec":{"replicas":2}}"#, true),
        ("rollout pause deployment/web", true),
        ("rollout resume deployment/web", false),
        ("create deployment other --image=other:1", true),
    ] {
        let (output, _) = scene.calls(line).await?;
        ensure!(output.succeeded() == is_allowed, "{line}: {output:?}");
    }
    let image = r#"{"spec":{"paused":false,"template":{"spec":{"containers":[{"name":"web","image":"web:1"}]}}}}"#;
    let acted = scene.run(&scene.operator, &["patch", "deployment", "web", "-p", image]).await?;
    ensure!(acted.succeeded(), "the operator cannot roll back: {acted:?}");
    Ok(())
}

/// Nobody can delete the workload, but Kubernetes' own collectors are not held up.
async fn a_namespace_can_end_without_the_webhook(scene: &Scene) -> anyhow::Result<()> {
    let ending = scene.rig.namespace("ending").await?;
    let run = async |line: &str| {
        let words: Vec<_> = line.split(' ').chain(["--namespace", &ending]).collect();
        anyhow::Ok(scene.rig.admin().kubectl(&words).await?)
    };
    ensure!(run("create deployment web --image=web:1").await?.succeeded());
    let there = json!({"metadata": {"namespace": ending, "uid": "p-9"}});
    scene.guard(&[scene.pilot(&json!({})), scene.pilot(&there)]).await?;
    wait::until("refusal", PATIENCE, || async {
        let output = run("delete deployment web --dry-run=server").await.map_err(|error| error.to_string())?;
        if output.stderr.contains("failed calling webhook") { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .await?;
    let ended = scene.rig.admin().kubectl(&["delete", "namespace", &ending, "--timeout=150s"]).await?;
    ensure!(ended.succeeded(), "{ended:?}");
    Ok(())
}

async fn what_is_no_longer_named_is_no_longer_guarded(scene: &Scene) -> anyhow::Result<()> {
    let observing =
        json!({"metadata": {"generation": 3}, "spec": {"enforcement": {"changes": "Observe", "actions": "Observe"}}});
    scene.guard(&[scene.pilot(&observing)]).await?;
    let change = async |line: &str| {
        wait::until(line, PATIENCE, || async {
            let (output, _) = scene.calls(line).await.map_err(|error| error.to_string())?;
            if output.succeeded() { Ok(()) } else { Err(output.stderr) }
        })
        .await
    };
    change("set image deployment/web web=web:5").await?;
    scene.guard(&[]).await?;
    change("delete deployment web").await?;
    let stored = Api::<MutatingWebhookConfiguration>::all(scene.rig.admin().client()?).get(INSTANCE).await?;
    let names: Vec<_> = stored.webhooks.unwrap_or_default().into_iter().map(|webhook| webhook.name).collect();
    ensure!(names == ["decisions.pilotguard.dev", "pilots.pilotguard.dev"], "{names:?}");
    Ok(())
}
