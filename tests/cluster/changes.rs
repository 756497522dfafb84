//! Changes of a guarded Deployment as people make them: refused outside the windows in whatever way they are tried,
//! admitted, stamped and recorded inside.

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::ListParams;
use pilotguard::api::change_record::{ChangeClass, Outcome as ChangeOutcome};
use pilotguard::api::pilot::Pilot;
use pilotguard::record::snapshots;
use pilotguard::release::digest::{payload_digest, template_digest};
use pilotguard::release::marks::AdmittedVerdict;
use pilotguard_rig::wait::{self, PATIENCE};
use serde_json::json;

use crate::cluster::Cluster;
use crate::scene::{Outcome, Scene};

tests![outside_the_windows_no_way_leads_in, a_change_is_adopted_admitted_and_recorded, changes_close_together_are_one,];

async fn outside_the_windows_no_way_leads_in(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    // An earlier revision, for `rollout undo` to go back to.
    scene.apply(&scene.grace, &scene.release(0, 0)).await?.accepted()?;
    scene.kubectl(&scene.grace, "rollout status deployment/web --timeout=150s").await?.accepted()?;
    let (later, day) = Scene::later();
    let moment = format!("Allowed from {day} 09:00 Europe/Berlin (08:00 UTC, in ");
    let help = [
        ", guarded by pilot web.",
        "- outside the change windows",
        &moment,
        "Owner: Ada Lovelace (service owner), ada@example.com",
    ];
    scene.guard(&scene.pilot(&json!({"slos": [], "changes": {"windows": [later]}}))).await?;
    let before = scene.deployment().await?;
    let edited = scene.release(2, 0).to_string();
    let merge = r#"{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":5}}}}"#;
    let replace = r#"[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"web:2"}]"#;
    let owner =
        r#"{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"gone","uid":"0b1c"}]}}"#;
    let ways = [
        ("apply -f -", edited.as_str()),
        ("apply --server-side --force-conflicts -f -", &edited),
        ("replace -f -", &edited),
        ("set image deployment/web web=web:2", ""),
        ("set env deployment/web MODE=fast", ""),
        (&format!("patch deployment web --type=merge -p {merge}"), ""),
        (&format!("patch deployment web --type=json -p {replace}"), ""),
        (&format!("patch deployment web --type=merge -p {owner}"), ""),
        ("rollout restart deployment/web", ""),
        ("rollout undo deployment/web", ""),
        ("delete deployment web", ""),
    ];
    for (line, input) in ways {
        let words: Vec<&str> = line.split(' ').chain(["--namespace", &scene.namespace]).collect();
        let output = scene.grace.kubectl_with(&words, input).await?;
        output.refused(&help).map_err(|error| error.context(line.to_owned()))?;
    }
    let after = scene.deployment().await?;
    ensure!(after["spec"] == before["spec"] && after["metadata"]["annotations"] == before["metadata"]["annotations"]);
    let allowed = [
        "scale deployment/web --replicas=4",
        "label deployment/web team=shop",
        "rollout pause deployment/web",
        "annotate deployment/web note=theirs",
    ];
    for line in allowed {
        scene.kubectl(&scene.grace, line).await?.accepted().map_err(|error| error.context(line))?;
    }
    let too_many = scene.kubectl(&scene.grace, "scale deployment/web --replicas=6").await?;
    too_many.refused(&["6 replicas exceed blastRadius.maxReplicas (5)", "Ada Lovelace"])
}

async fn a_change_is_adopted_admitted_and_recorded(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.guard(&scene.pilot(&Scene::trigger(&json!({})))).await?;
    scene.known_good().await?;
    let adopted = scene.deployment().await?;
    let stamp = scene.marks().await?.admitted.context("a stamp")?;
    ensure!(
        stamp.verdict == AdmittedVerdict::Adopted && stamp.template == template_digest(&adopted["spec"]["template"])
    );
    ensure!(scene.changes().await?.is_empty(), "adoption is no change");
    ensure!(known_good(&scene).await? == [payload_digest(&adopted["spec"]["template"])]);

    scene.apply(&scene.grace, &scene.release(2, 1)).await?.accepted()?;
    let admitted = scene.deployment().await?;
    let stamp = scene.marks().await?.admitted.context("a stamp")?;
    ensure!(stamp.template == template_digest(&admitted["spec"]["template"]), "{stamp:?}");
    ensure!((stamp.verdict, stamp.by.as_str()) == (AdmittedVerdict::Allow, "grace"), "{stamp:?}");
    let succeeded = |outcome| outcome == ChangeOutcome::Succeeded;
    let change = scene
        .change(ChangeClass::Normal, |change| change.status.as_ref().is_some_and(|status| succeeded(status.outcome)))
        .await?;
    let status = change.status.unwrap_or_default();
    let (spec, payload) = (change.spec, payload_digest(&admitted["spec"]["template"]));
    ensure!(change.metadata.name.as_deref() == Some(stamp.change.as_str()));
    ensure!((spec.requested_by.user.as_str(), &spec.payload, &spec.release) == ("grace", &payload, &stamp.template));
    ensure!(status.started_at == Some(stamp.at) && status.completed_at > status.started_at, "{status:?}");
    ensure!(status.findings.is_empty() && status.cause.is_none(), "{status:?}");
    scene
        .until("two known-good releases", |pilot| {
            let target = pilot.status.as_ref().and_then(|status| status.rollback_target.as_ref());
            target.is_some_and(|target| target.payload == stamp_of(&adopted))
        })
        .await?;
    figures(&scene).await
}

async fn changes_close_together_are_one(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.guard(&scene.pilot(&json!({"slos": [], "changes": {"bake": "10m", "groupWithin": "10m"}}))).await?;
    for version in [2, 3] {
        scene.apply(&scene.grace, &scene.release(version, 0)).await?.accepted()?;
        let payload = stamp_of(&scene.deployment().await?);
        scene.change(ChangeClass::Normal, |change| change.spec.payload == payload).await?;
    }
    let changes = scene.changes().await?;
    ensure!(changes.len() == 1, "{changes:#?}");
    let stamp = scene.marks().await?.admitted.context("a stamp")?;
    ensure!(changes[0].spec.release == stamp.template, "{changes:#?}");
    Ok(())
}

fn stamp_of(deployment: &serde_json::Value) -> String {
    payload_digest(&deployment["spec"]["template"])
}

/// The payload digests of the releases that survived their bake.
async fn known_good(scene: &Scene<'_>) -> anyhow::Result<Vec<String>> {
    let all = ListParams::default().labels(snapshots::ALL);
    let revisions = scene.api::<ControllerRevision>().list(&all).await?.items;
    let read = revisions.iter().filter_map(snapshots::read);
    Ok(read.filter(|(.., it)| it.known_good_at.is_some()).map(|(.., it)| it.payload).collect())
}

/// One request in a hundred fails, where five may: a fifth of the budget goes, at a burn rate of 0.2. The status has the
/// band, the metrics have the figures.
async fn figures(scene: &Scene<'_>) -> anyhow::Result<()> {
    let shown = |pilot: &Pilot| {
        let slo = pilot.status.as_ref().and_then(|status| status.slos.first());
        slo.is_some_and(|slo| slo.budget_remaining.as_deref() == Some("75-100%") && slo.burn.is_empty())
    };
    scene.until("band of the budget", shown).await?;
    let exact = || async {
        let answer = reqwest::get(scene.operator.metrics_url()).await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let labels = format!("namespace=\"{}\",pilot=\"web\",slo=\"availability\"", scene.namespace);
        let is_between = |metric: &str, from: f64, to: f64| {
            let series = format!("pilotguard_slo_{metric}{{{labels}");
            let mut figures = text.lines().filter(|line| line.starts_with(&series));
            let figure = figures.find_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
            figure.is_some_and(|figure| (from..=to).contains(&figure))
        };
        let all = is_between("error_ratio", 0.001, 0.0101)
            && is_between("budget_remaining_ratio", 0.8, 0.99)
            && is_between("burn_rate", 0.15, 0.25);
        if all { Ok(()) } else { Err(text) }
    };
    Ok(wait::until("figures of the SLO", PATIENCE, exact).await?)
}
