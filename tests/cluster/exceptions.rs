//! Exceptions as people make them: the command that a refusal prints is pasted into a shell, and then the change goes
//! through; and the glass is broken, also while nobody answers.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::Api;
use kube::api::DeleteParams;
use pilotguard::api::change_record::{ChangeClass, ChangeRecord};
use pilotguard::release::marks::AdmittedVerdict;
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{Operator, OperatorOptions, Output, Person, Tool};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene, condition, holds, incident};

tests![
    the_commands_in_refusals_work_when_pasted,
    the_glass_is_broken_while_the_operator_is_down,
    what_comes_in_past_the_guards_holds_changes_and_is_put_back_where_declared,
];

/// Runs what a refusal prints for a Decision of this type, as this person would paste it, with a reason of their own.
async fn paste(cluster: &Cluster, person: &Person, refusal: &Output, type_: &str) -> anyhow::Result<Output> {
    let (before, open) = refusal.stderr.split_once("\"reason\":\"<").context("a reason that is left open")?;
    let stderr = open.split("\"reason\":\"<").fold(before.to_owned(), |text, rest| {
        let rest = rest.split_once(">\"").map_or(rest, |(_, rest)| rest);
        format!("{text}\"reason\":\"we looked at it\"{rest}")
    });
    paste_as_it_is(cluster, person, &Output { stderr, ..refusal.clone() }, type_).await
}

/// Runs what a refusal prints for a Decision of this type, as it stands there.
async fn paste_as_it_is(cluster: &Cluster, person: &Person, refusal: &Output, type_: &str) -> anyhow::Result<Output> {
    let tool = cluster.rig.tool(Tool::Kubectl);
    let folder = tool.parent().map(Path::to_owned).context("where kubectl is")?;
    let path = format!("{}:{}", folder.display(), std::env::var("PATH")?);
    let is_meant = |line: &&str| line.contains("| kubectl create") && line.contains(&format!(r#""type":"{type_}""#));
    let line = refusal.stderr.lines().map(str::trim).find(is_meant);
    let line = line.with_context(|| format!("no {type_} in: {}", refusal.stderr))?;
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PATH", &path).env("KUBECONFIG", &person.kubeconfig);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Repeats a command until it is accepted: the webhook hears of a Decision a moment after it was stored.
async fn goes_through(scene: &Scene<'_>, person: &Person, line: &str) -> anyhow::Result<()> {
    let attempt = || async {
        let output = scene.kubectl(person, line).await.map_err(|error| error.to_string())?;
        output.accepted().map_err(|error| error.to_string())
    };
    Ok(wait::until(line, PATIENCE, attempt).await?)
}

async fn the_commands_in_refusals_work_when_pasted(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let (later, _) = Scene::later();
    let closed = json!({"slos": [], "changes": {"windows": [later], "bake": "1s"}});
    scene.guard(&scene.pilot(&closed)).await?;
    scene.known_good().await?;

    // Outside the windows: an Override, by an owner who did not ask for the change.
    let change = "set image deployment/web web=web:2";
    let refused = scene.kubectl(&scene.grace, change).await?;
    refused.refused(&["outside the change windows", "an owner other than grace can run"])?;
    let who = paste(cluster, &scene.mallory, &refused, "Override").await?;
    who.refused(&["Override for pilot", "mallory has no role that may relax guards; ask Ada"])?;
    let why = paste_as_it_is(cluster, &scene.ada, &refused, "Override").await?;
    why.refused(&["spec.reason: is empty or a placeholder; write why in your own words"])?;
    scene.kubectl(&scene.grace, change).await?.refused(&["outside the change windows"])?;
    paste(cluster, &scene.ada, &refused, "Override").await?.accepted()?;
    goes_through(&scene, &scene.grace, change).await?;
    let stamp = scene.marks().await?.admitted.context("a stamp")?;
    ensure!((stamp.verdict, stamp.by.as_str()) == (AdmittedVerdict::Override, "grace"), "{stamp:?}");
    let owes = |change: &ChangeRecord| change.status.as_ref().is_some_and(|status| status.approval_owed.is_some());
    let record = scene.change(ChangeClass::Emergency, owes).await?;
    ensure!(record.spec.requested_by.user == "grace", "{record:#?}");
    told(&scene, &["OverrideAccepted", "EmergencyChange"]).await?;
    let pilot = scene.until("debt of an approval", |pilot| holds(pilot, "ApprovalsCurrent", "False")).await?;
    let message = condition(&pilot, "ApprovalsCurrent").map(|it| it.message.clone()).unwrap_or_default();
    let name = record.metadata.name.context("a name")?;
    ensure!(message.contains(&name), "{message}");
    approve(cluster, &scene, &message, &name).await?;
    scene
        .kubectl(&scene.grace, "set image deployment/web web=web:3")
        .await?
        .refused(&["outside the change windows"])?;

    // While an incident stands: a fix.
    scene.declare(&scene.pilot(&json!({"slos": [], "changes": {"bake": "10m"}}))).await?;
    scene.decide(&scene.mallory, &json!({"type": "HoldChanges"})).await?;
    scene.incident().await?;
    let fix = "set image deployment/web web=web:4";
    let held = wait_for_refusal(&scene, fix, "holds changes, decided by mallory: we looked at it").await?;
    paste(cluster, &scene.ada, &held, "Override").await?.accepted()?;
    goes_through(&scene, &scene.grace, fix).await?;
    told(&scene, &["FixForwardAccepted"]).await?;

    // Or its end.
    let opened = scene.incident().await?.id;
    paste(cluster, &scene.ada, &held, "Resume").await?.accepted()?;
    scene.closed(&opened).await?;

    // What was rolled back: a Readmit.
    scene.decide(&scene.mallory, &json!({"type": "Rollback"})).await?;
    scene
        .until("end of the rollback", |pilot| incident(pilot).is_none() && !holds(pilot, "IncidentOpen", "True"))
        .await?;
    let refused = wait_for_refusal(&scene, fix, "this release was rolled back by").await?;
    scene.kubectl(&scene.grace, "wait --for=condition=Ready pilot/web --timeout=60s").await?.accepted()?;
    scene.until("Pilot that says what is kept out", |pilot| holds(pilot, "UpToDate", "False")).await?;
    paste(cluster, &scene.ada, &refused, "Readmit").await?.accepted()?;
    scene.until("Pilot that keeps nothing out", |pilot| holds(pilot, "UpToDate", "True")).await?;
    goes_through(&scene, &scene.grace, fix).await?;
    told(&scene, &["ReleaseReadmitted"]).await
}

/// The command that the condition prints gives the approval; whoever holds no role cannot.
async fn approve(cluster: &Cluster, scene: &Scene<'_>, message: &str, change: &str) -> anyhow::Result<()> {
    let printed = message.replace("can run: ", "can run:\n");
    let printed = Output { code: 1, stdout: String::new(), stderr: printed };
    paste(cluster, &scene.grace, &printed, "Approve").await?.refused(&["grace has no role that may relax guards"])?;
    paste(cluster, &scene.ada, &printed, "Approve").await?.accepted()?;
    scene.until("approval", |pilot| holds(pilot, "ApprovalsCurrent", "True")).await?;
    let is_approved = |record: &ChangeRecord| {
        let status = record.status.as_ref();
        status.is_some_and(|it| it.approval_owed.is_none() && it.approval.as_ref().is_some_and(|by| by.by == "ada"))
    };
    let record = scene.change(ChangeClass::Emergency, is_approved).await?;
    ensure!(record.metadata.name.as_deref() == Some(change), "{record:#?}");
    told(scene, &["ChangeApproved"]).await?;
    // What was refused is seen from the Pilot, too.
    let events = scene.events("Pilot").await?;
    ensure!(events.iter().any(|reason| reason == "ChangeRefused"), "{events:?}");
    Ok(())
}

async fn wait_for_refusal(scene: &Scene<'_>, line: &str, why: &str) -> anyhow::Result<Output> {
    let attempt = || async {
        let dry = format!("{line} --dry-run=server");
        let output = scene.kubectl(&scene.grace, &dry).await.map_err(|error| error.to_string())?;
        if output.stderr.contains(why) && output.stderr.contains("| kubectl create") {
            Ok(output)
        } else {
            Err(output.stderr)
        }
    };
    Ok(wait::until(why, PATIENCE, attempt).await?)
}

/// Waits until all of this has been told in Events, and is counted.
async fn told(scene: &Scene<'_>, reasons: &[&str]) -> anyhow::Result<()> {
    let all = || async {
        let events = scene.events("Pilot").await.map_err(|error| error.to_string())?;
        let metrics = reqwest::get(scene.operator.metrics_url()).await.map_err(|error| error.to_string())?;
        let metrics = metrics.text().await.map_err(|error| error.to_string())?;
        let is_told = |reason: &&&str| {
            let counted = format!("pilotguard_announcements_total{{reason=\"{reason}\"}}");
            events.iter().any(|told| told == **reason) && metrics.contains(&counted)
        };
        match reasons.iter().find(|reason| !is_told(reason)) {
            None => Ok(()),
            Some(missing) => Err(format!("{missing} is not among {events:?}, or not counted")),
        }
    };
    Ok(wait::until("Events", PATIENCE, all).await?)
}

async fn own_operator(cluster: &Cluster, prefix: &str, settings: &[&str]) -> anyhow::Result<(Operator, String)> {
    let guarded = cluster.rig.namespace(prefix).await?;
    let own = cluster.rig.namespace("pilotguard").await?;
    let options = OperatorOptions {
        program: env!("CARGO_BIN_EXE_pilotguard").into(),
        name: own.clone(),
        namespace: own,
        guarded: vec![guarded.clone()],
        settings: settings.iter().map(ToString::to_string).collect(),
    };
    Ok((Operator::install(&cluster.rig, options).await?, guarded))
}

/// A patch of the image, and of the reason where one is given.
fn patch(image: &str, reason: Option<&str>) -> String {
    let mut patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}});
    if let Some(reason) = reason {
        patch["metadata"] = json!({"annotations": {"pilotguard.dev/break-glass-reason": reason}});
    }
    patch.to_string()
}

async fn send(scene: &Scene<'_>, person: &Person, patch: &str, breaks_glass: bool) -> anyhow::Result<Output> {
    let name = format!("--as={}", person.name);
    let mut words = vec!["patch", "deployment", "web", "--namespace", &scene.namespace, "-p", patch];
    if breaks_glass {
        words.extend([name.as_str(), "--as-group=pilotguard:break-glass"]);
    }
    Ok(person.kubectl(&words).await?)
}

async fn the_glass_is_broken_while_the_operator_is_down(cluster: &Cluster) -> anyhow::Result<()> {
    let (operator, namespace) = own_operator(cluster, "glass", &["breakGlass.users[0]=carol"]).await?;
    let scene = Scene::set_with(cluster, &operator, namespace).await?;
    let (later, _) = Scene::later();
    scene.guard(&scene.pilot(&json!({"slos": [], "changes": {"windows": [later]}}))).await?;
    scene.known_good().await?;
    let carol = cluster.rig.person("carol", &[]).await?;
    let root = cluster.rig.person("root", &[]).await?;
    cluster.rig.grant(&root, &scene.namespace, "cluster-admin").await?;

    operator.kill();
    let why = "outage 42: the price is wrong";
    let refusals = [
        (&root, patch("web:8", None), false, "failed calling webhook"),
        (&root, patch("web:8", Some(why)), false, "failed calling webhook"),
        (&carol, patch("web:8", Some(why)), false, "User \"carol\" cannot"),
        (&carol, patch("web:8", None), true, "failed calling webhook"),
        (&scene.grace, patch("web:8", Some(why)), true, "cannot impersonate"),
    ];
    for (person, patch, breaks_glass, text) in refusals {
        send(&scene, person, &patch, breaks_glass).await?.refused(&[text])?;
    }
    send(&scene, &carol, &patch("web:2", Some(why)), true).await?.accepted()?;
    ensure!(scene.marks().await?.admitted.is_some_and(|stamp| stamp.verdict == AdmittedVerdict::Adopted));

    operator.start().await?;
    let owes = |change: &ChangeRecord| change.status.as_ref().is_some_and(|status| status.approval_owed.is_some());
    let record = scene.change(ChangeClass::Emergency, owes).await?;
    ensure!(record.spec.requested_by.groups == ["pilotguard:break-glass"], "{record:#?}");
    let findings = record.status.map(|status| status.findings).unwrap_or_default();
    ensure!(findings == [format!("break-glass: {why}")], "{findings:?}");
    told(&scene, &["BreakGlass", "EmergencyChange"]).await?;
    ensure!(scene.changes().await?.iter().all(|change| change.spec.class != ChangeClass::Unauthorized));

    // While it runs: an account with every right is refused and brings no reason in; the glass can be broken again.
    scene.guarded().await?;
    send(&scene, &root, &patch("web:8", Some("me")), false).await?.refused(&["outside the change windows"])?;
    let note = json!({"metadata": {"annotations": {"pilotguard.dev/break-glass-reason": "forged"}}}).to_string();
    send(&scene, &root, &note, false).await?.accepted()?;
    let kept = pilotguard::release::workload::annotations(&scene.deployment().await?);
    ensure!(kept.get("pilotguard.dev/break-glass-reason").is_some_and(|reason| reason == why), "{kept:?}");
    send(&scene, &carol, &patch("web:3", Some("outage 43")), true).await?.accepted()?;
    let is_second = |change: &ChangeRecord| {
        change.status.as_ref().is_some_and(|status| status.findings == ["break-glass: outage 43"])
    };
    scene.change(ChangeClass::Emergency, is_second).await?;
    let stamp = scene.marks().await?.admitted.context("a stamp")?;
    ensure!(
        stamp.verdict == AdmittedVerdict::BreakGlass && stamp.break_glass.as_deref() == Some("outage 43"),
        "{stamp:?}"
    );
    a_deletion_says_so(&scene, &carol).await
}

/// What pilotguard has seen says nothing of a deletion; what is to be deleted says so.
async fn a_deletion_says_so(scene: &Scene<'_>, carol: &Person) -> anyhow::Result<()> {
    let delete = ["delete", "deployment", "web", "--namespace", &scene.namespace, "--as=carol"];
    let delete = [&delete[..], &["--as-group=pilotguard:break-glass"]].concat();
    carol.kubectl(&delete).await?.refused(&["before deleting, write one that begins"])?;
    let last = "delete: \"web\" must go";
    let note = json!({"metadata": {"annotations": {"pilotguard.dev/break-glass-reason": last}}}).to_string();
    send(scene, carol, &note, true).await?.accepted()?;
    let is_seen = || async {
        let stamp = scene.marks().await.map_err(|error| error.to_string())?.admitted;
        let seen = stamp.and_then(|stamp| stamp.break_glass);
        if seen.as_deref() == Some(last) { Ok(()) } else { Err(format!("{seen:?}")) }
    };
    wait::until("reason seen", PATIENCE, is_seen).await?;
    carol.kubectl(&delete).await?.accepted()
}

async fn what_comes_in_past_the_guards_holds_changes_and_is_put_back_where_declared(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let (operator, namespace) = own_operator(cluster, "backstop", &[]).await?;
    let scene = Scene::set_with(cluster, &operator, namespace).await?;
    let pilot = |unauthorized: &str| scene.pilot(&json!({"slos": [], "changes": {"unauthorized": unauthorized}}));
    scene.guard(&pilot("Notify")).await?;
    scene.known_good().await?;
    let good = scene.deployment().await?;

    // An administrator takes the guards away.
    operator.kill();
    let client = cluster.rig.admin().client()?;
    let name = &operator.release.options.name;
    Api::<MutatingWebhookConfiguration>::all(client.clone()).delete(name, &DeleteParams::default()).await?;
    Api::<ValidatingWebhookConfiguration>::all(client).delete(name, &DeleteParams::default()).await?;
    goes_through(&scene, &scene.grace, "set image deployment/web web=web:2").await?;
    operator.start().await?;
    let unauthorized = scene.change(ChangeClass::Unauthorized, |_| true).await?;
    told(&scene, &["UnauthorizedChange"]).await?;
    let change = unauthorized.metadata.name.context("a name")?;
    let refused = wait_for_refusal(&scene, "set image deployment/web web=web:3", "bypassed admission").await?;
    ensure!(refused.stderr.contains(&change), "{}", refused.stderr);
    ensure!(image(&scene.deployment().await?) == Some("web:2"), "it is only told");

    scene.declare(&pilot("Rollback")).await?;
    let is_back = || async {
        let now = scene.deployment().await.map_err(|error| error.to_string())?;
        if now["spec"] == good["spec"] { Ok(()) } else { Err(now["spec"].to_string()) }
    };
    wait::until("known-good release", PATIENCE, is_back).await?;
    scene.until("end of the rollback", |pilot| incident(pilot).is_none() && holds(pilot, "InSync", "True")).await?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:2").await?.refused(&["was rolled back"])?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:3").await?.accepted()
}

fn image(deployment: &Value) -> Option<&str> {
    deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str()
}
