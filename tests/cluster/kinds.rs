//! StatefulSets and DaemonSets on a real cluster: guarded as Deployments are, pinned instead of held, and acted on only
//! where they can be; and workloads that others drive or claim.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ObjectMeta, PostParams};
use pilotguard::api::decision::{Decision, DecisionPhase};
use pilotguard::api::incident::IncidentStage;
use pilotguard::api::pilot::Pilot;
use pilotguard::api::trigger::TriggerAction;
use pilotguard::api::workload::PartKind;
use pilotguard::release::marks::{ADMITTED, Contained};
use pilotguard_rig::wait::{self, PATIENCE};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, condition, holds, incident};

tests![
    a_stateful_set_is_guarded_scaled_down_and_resumed,
    a_daemon_set_is_guarded_and_never_scaled_down,
    what_another_controller_drives_is_only_guarded,
    the_older_pilot_keeps_the_workload,
];

/// A workload `web` of this kind in this version, as Argo CD applies it.
fn release(scene: &Scene<'_>, kind: PartKind, version: u32) -> Value {
    let mut object = scene.release(version, 0);
    object["kind"] = kind.as_str().into();
    object["metadata"]["annotations"] = json!({"argocd.argoproj.io/tracking-id": "web"});
    let spec = object["spec"].as_object_mut();
    match kind {
        PartKind::StatefulSet => object["spec"]["serviceName"] = "web".into(),
        PartKind::DaemonSet => drop(spec.and_then(|spec| spec.remove("replicas"))),
        PartKind::Deployment | PartKind::ConfigMap => {}
    }
    object
}

fn pilot(scene: &Scene<'_>, kind: PartKind, fields: &Value) -> Value {
    let mut pilot = scene.pilot(&json!({"slos": [], "workloads": [{"kind": kind, "name": "web"}]}));
    json_patch::merge(&mut pilot["spec"], fields);
    pilot
}

async fn guard(scene: &Scene<'_>, kind: PartKind) -> anyhow::Result<()> {
    scene.apply(&scene.grace, &release(scene, kind, 1)).await?.accepted()?;
    scene.declare(&pilot(scene, kind, &json!({}))).await?;
    scene.guarded().await?;
    scene.known_good().await
}

/// Outside the windows people are refused and a GitOps tool is pinned; inside both may.
async fn changes_are_guarded(cluster: &Cluster, scene: &Scene<'_>, kind: PartKind) -> anyhow::Result<()> {
    let accounts = scene.api::<ServiceAccount>();
    let metadata = ObjectMeta { name: Some("gitops".to_owned()), ..ObjectMeta::default() };
    accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await?;
    let tool = cluster.rig.service_account(&scene.namespace, "gitops").await?;
    cluster.rig.grant(&tool, &scene.namespace, "edit").await?;
    let (later, _) = Scene::later();
    scene.declare(&pilot(scene, kind, &json!({"changes": {"windows": [later]}}))).await?;
    scene.until("closed window", |pilot| holds(pilot, "WindowOpen", "False")).await?;

    let name = kind.as_str();
    let lower = name.to_lowercase();
    let refused = scene.kubectl(&scene.grace, &format!("set image {lower}/web web=web:9")).await?;
    refused.refused(&[&format!("Refused: updating {name} web"), "outside the change windows"])?;
    let refused = scene.kubectl(&scene.grace, &format!("delete {lower}/web --wait=false")).await?;
    refused.refused(&[&format!("Refused: deleting {name} web")])?;
    let second = release(scene, kind, 2);
    let pinned = scene.apply(&tool, &second).await?;
    pinned.accepted()?;
    ensure!(pinned.stderr.contains("pilotguard kept the stored release instead of: "), "{}", pinned.stderr);
    ensure!(image(&scene.workload(kind).await?) == "web:1", "what ran runs on");
    scene.until("Pilot that says what was pinned", |pilot| kept_out(pilot) == Some("ChangePinned")).await?;
    told(scene, kind, &["ChangeRefused", "ChangePinned"]).await?;

    scene.declare(&pilot(scene, kind, &json!({}))).await?;
    scene.until("open window", |pilot| holds(pilot, "WindowOpen", "True")).await?;
    scene.apply(&tool, &second).await?.accepted()?;
    let stored = scene.workload(kind).await?;
    ensure!(image(&stored) == "web:2" && stored["metadata"]["annotations"].get(ADMITTED).is_some(), "{stored}");
    scene.until("Pilot that is well again", |pilot| kept_out(pilot) == Some("NothingKeptOut")).await?;
    scene.known_good().await
}

async fn a_stateful_set_is_guarded_scaled_down_and_resumed(cluster: &Cluster) -> anyhow::Result<()> {
    let kind = PartKind::StatefulSet;
    let scene = Scene::set(cluster).await?;
    guard(&scene, kind).await?;
    changes_are_guarded(cluster, &scene, kind).await?;
    let snapshots = scene.kubectl(&scene.grace, "get controllerrevisions -l pilotguard.dev/workload -o name").await?;
    ensure!(snapshots.stdout.lines().count() == 2, "the collector leaves the snapshots alone: {}", snapshots.stdout);
    scene.kubectl(&scene.grace, "scale statefulset/web --replicas=9").await?.refused(&["blastRadius.maxReplicas"])?;

    let refused = scene.propose(&scene.ada, &json!({"type": "Rollback"})).await?;
    refused.refused(&["StatefulSet web is never rolled back automatically"])?;

    let (phase, message) = word(&scene.decide(&scene.mallory, &json!({"type": "ScaleDown"})).await?);
    ensure!(phase == Some(DecisionPhase::Accepted), "{message}");
    let is_standing = |pilot: &Pilot| incident(pilot).is_some_and(|it| it.stage == IncidentStage::Standing);
    let opened = scene.until("contained StatefulSet", is_standing).await?;
    let id = incident(&opened).context("an incident")?.id.clone();
    let contained = scene.workload(kind).await?;
    let mark = contained["metadata"]["annotations"]["pilotguard.dev/contained"].as_str().context("a mark")?;
    ensure!(
        serde_json::from_str::<Contained>(mark)?.incident == id && contained["spec"]["replicas"] == 0,
        "{contained}"
    );
    scene.kubectl(&scene.grace, "scale statefulset/web --replicas=1").await?.refused(&["scaled this workload down"])?;
    ensure!(
        scene.events(kind.as_str()).await?.contains(&"ScalingDown".to_owned()),
        "{:?}",
        scene.events(kind.as_str()).await?
    );

    scene.decide(&scene.ada, &json!({"type": "Resume", "incident": id})).await?;
    scene.closed(&id).await?;
    let resumed = scene.workload(kind).await?;
    ensure!(resumed["spec"]["replicas"] == 3, "{resumed}");
    ensure!(resumed["metadata"]["annotations"].get("pilotguard.dev/contained").is_none(), "{resumed}");
    scene.guarded().await
}

async fn a_daemon_set_is_guarded_and_never_scaled_down(cluster: &Cluster) -> anyhow::Result<()> {
    let kind = PartKind::DaemonSet;
    let scene = Scene::set(cluster).await?;
    guard(&scene, kind).await?;
    changes_are_guarded(cluster, &scene, kind).await?;
    let query = json!({"promql": {"query": "vector(0)", "operator": "GT", "threshold": "1"}});
    for fields in [json!({"action": "ScaleDown"}), json!({"action": "Rollback", "otherwise": "ScaleDown"})] {
        let mut trigger = json!({"name": "never", "when": query});
        json_patch::merge(&mut trigger, &fields);
        let declared = scene.apply(&scene.grace, &pilot(&scene, kind, &json!({"triggers": [trigger]}))).await?;
        declared.refused(&["a DaemonSet runs one pod on each node and has no replicas to scale down"])?;
    }
    let refused = scene.propose(&scene.ada, &json!({"type": "ScaleDown"})).await?;
    refused.refused(&["DaemonSet web has no replicas to scale down; HoldChanges remains"])?;
    let mild = json!({"name": "never", "when": query, "action": "Rollback"});
    let declared = scene.apply(&scene.grace, &pilot(&scene, kind, &json!({"triggers": [mild]}))).await?;
    declared.accepted()?;
    ensure!(declared.stderr.contains("HoldChanges happens instead of Rollback"), "{}", declared.stderr);
    scene.guarded().await
}

async fn what_another_controller_drives_is_only_guarded(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let firing = json!({"promql": {"query": "vector(1)", "operator": "GT", "threshold": "0"}});
    let trigger = json!({"name": "burn", "when": firing, "for": "0s", "decisionWindow": "0s", "action": "ScaleDown"});
    scene.guard(&scene.pilot(&json!({"slos": []}))).await?;
    scene.known_good().await?;
    // What Flagger does to its target, under the name that the API server notes for it.
    let scaled = json!({"spec": {"replicas": 1}}).to_string();
    let line = format!("patch deployment/web --field-manager=flagger -p {scaled}");
    scene.kubectl(&scene.grace, &line).await?.accepted()?;
    // Nothing that was declared is in its way.
    let is_told = |it: &Pilot| holds(it, "ConflictingController", "True") && holds(it, "Ready", "True");
    let driven = scene.until("word of the other controller", is_told).await?;
    let said = condition(&driven, "ConflictingController").context("a condition")?;
    ensure!(said.message.starts_with("Deployment web is driven by Flagger"), "{said:?}");

    let mut calm = trigger.clone();
    calm["when"]["promql"]["query"] = "vector(0)".into();
    scene.declare(&scene.pilot(&json!({"slos": [], "triggers": [calm]}))).await?;
    let warned = scene.until("word on the trigger", |it| reason(it) == Some("ConflictingController")).await?;
    ensure!(holds(&warned, "Ready", "False"), "what is declared would not happen");

    scene.declare(&scene.pilot(&json!({"slos": [], "triggers": [trigger]}))).await?;
    let incident = scene.incident().await?;
    ensure!(incident.action == TriggerAction::HoldChanges, "{incident:#?}");
    scene
        .kubectl(&scene.grace, "set image deployment/web web=web:2")
        .await?
        .refused(&["Refused: updating Deployment web"])?;
    ensure!(scene.deployment().await?["spec"]["replicas"] == 1);

    // Whoever takes the field over ends it.
    scene.declare(&scene.pilot(&json!({"slos": [], "enforcement": {"actions": "Observe"}}))).await?;
    scene.kubectl(&scene.grace, "scale deployment/web --replicas=3").await?.accepted()?;
    scene.until("end of the conflict", |it| holds(it, "ConflictingController", "False")).await.map(drop)
}

async fn the_older_pilot_keeps_the_workload(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.guard(&scene.pilot(&json!({"slos": []}))).await?;
    let (later, _) = Scene::later();
    let mut younger = scene.pilot(&json!({"slos": [], "changes": {"windows": [later]}}));
    younger["metadata"]["name"] = "younger".into();
    // The warning is only advice: an API server that is busy may do without it.
    wait::until("warning about the older Pilot", PATIENCE, || async {
        let dry_run = ["apply", "--dry-run=server", "-f", "-"];
        let tried = scene.grace.kubectl_with(&dry_run, &younger.to_string()).await.map_err(|it| it.to_string())?;
        let is_told = tried.stderr.contains("Deployment web belongs to the older pilot web");
        if is_told { Ok(()) } else { Err(tried.stderr) }
    })
    .await?;
    scene.apply(&scene.grace, &younger).await?.accepted()?;
    let is_stalled = |pilot: &Pilot| {
        holds(pilot, "Stalled", "True") && reason(pilot) == Some("ConflictingPilot") && pilot.status.is_some()
    };
    scene.until_of("younger", "stalled Pilot", is_stalled).await?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:2").await?.accepted()?;

    // A namesake of another kind is another workload.
    let mut other = younger.clone();
    other["spec"]["workloads"] = json!([{"kind": "StatefulSet", "name": "web"}]);
    scene.apply(&scene.grace, &other).await?.accepted()?;
    let is_free = |pilot: &Pilot| holds(pilot, "Stalled", "False") && reason(pilot) == Some("WorkloadNotFound");
    scene.until_of("younger", "Pilot with a workload of its own", is_free).await?;

    // With the older one gone the younger takes over, windows and all.
    scene.apply(&scene.grace, &younger).await?.accepted()?;
    scene.until_of("younger", "stalled Pilot", is_stalled).await?;
    scene.kubectl(&scene.grace, "delete pilot/web").await?.accepted()?;
    scene.until_of("younger", "Pilot that took over", |pilot| holds(pilot, "Ready", "True")).await?;
    let refused = scene.kubectl(&scene.grace, "set image deployment/web web=web:3").await?;
    refused.refused(&["guarded by pilot younger", "outside the change windows"])
}

/// Waits until Events of these reasons are on the workload.
async fn told(scene: &Scene<'_>, kind: PartKind, reasons: &[&str]) -> anyhow::Result<()> {
    let probe = || async {
        let told = scene.events(kind.as_str()).await.map_err(|error| error.to_string())?;
        let is_told = reasons.iter().all(|reason| told.iter().any(|it| it == reason));
        if is_told { Ok(()) } else { Err(format!("{told:?}")) }
    };
    Ok(wait::until("Events on the workload", PATIENCE, probe).await?)
}

fn word(decision: &Decision) -> (Option<DecisionPhase>, String) {
    let status = decision.status.clone().unwrap_or_default();
    (status.phase, status.message.unwrap_or_default())
}

fn image(workload: &Value) -> &str {
    workload["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

fn reason(pilot: &Pilot) -> Option<&str> {
    condition(pilot, "Ready").map(|condition| condition.reason.as_str())
}

fn kept_out(pilot: &Pilot) -> Option<&str> {
    condition(pilot, "UpToDate").map(|condition| condition.reason.as_str())
}
