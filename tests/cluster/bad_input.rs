//! Pilots that cannot be used, or only in part: the author hears of it when applying, or finds it in a condition.

use std::time::Duration;

use anyhow::{Context, ensure};
use kube::Api;
use pilotguard::api::decision::DecisionPhase;
use pilotguard::api::incident::DecidedBy;
use pilotguard::api::pilot::Pilot;
use pilotguard_rig::Operator;
use pilotguard_rig::wait::{self, PATIENCE};
use serde_json::{Value, json};

use crate::cluster::{Apply, Cluster};
use crate::scene::{Outcome, Scene, condition};

tests![
    what_cannot_be_used_is_refused_at_apply,
    what_slipped_through_is_a_condition,
    an_invalid_edit_leaves_the_last_valid_pilot_in_force,
    what_depends_on_the_cluster_is_a_condition,
    a_malformed_review_is_answered_and_forgotten,
];

/// What to change in the spec of a good Pilot, and what is said about it: path, problem, hint.
fn unusable() -> Vec<(&'static str, Value, &'static str)> {
    let window = |window: Value| json!({"changes": {"windows": [window]}});
    let always = json!({"name": "always", "always": true});
    let promql = |query: &str| json!({"triggers": [{"name": "odd", "action": "Notify", "when": {"promql": {"query": query, "operator": "GT", "threshold": "1"}}}]});
    vec![
        (
            "zone",
            window(json!({"name": "w", "timeZone": "Europe/Berln", "always": true})),
            r#"spec.changes.windows[name=w].timeZone: unknown time zone "Europe/Berln"; use a name from the IANA time-zone database"#,
        ),
        (
            "never",
            json!({"changes": {"windows": [always, {"name": "w", "cron": {"schedule": "0 0 30 2 *", "duration": "1h"}}]}}),
            "spec.changes.windows[name=w].cron.schedule: ",
        ),
        ("query", promql("sum(rate(x[5m])"), "spec.triggers[name=odd].when.promql.query: is not PromQL: "),
        (
            "selector",
            json!({"slos": [{"name": "s", "target": "99", "window": {"rolling": "1h"}, "indicator": {"ratio": {"bad": "rate(x[5m])", "total": "x"}}}]}),
            "spec.slos[name=s].indicator.ratio.bad: is not a plain vector selector; write a plain counter selector such as",
        ),
        (
            "dependency",
            json!({"constraints": {"dependencies": [{"name": "d", "query": "up{"}]}}),
            "spec.constraints.dependencies[0].query: is not PromQL: ",
        ),
    ]
}

fn named(mut pilot: Value, name: &str) -> Value {
    pilot["metadata"]["name"] = name.into();
    pilot
}

async fn what_cannot_be_used_is_refused_at_apply(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.declare(&scene.pilot(&json!({}))).await?;
    for (name, fields, problem) in unusable() {
        for way in Apply::BOTH {
            let bad = named(scene.pilot(&fields), name).to_string();
            let output = cluster.apply(&scene.grace, way, &bad).await?;
            output.refused(&[problem]).map_err(|error| error.context(format!("{way:?}")))?;
        }
    }
    Ok(())
}

async fn what_slipped_through_is_a_condition(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.rig.namespace("slipped").await?;
    let operator = cluster.operator(std::slice::from_ref(&namespace)).await?;
    let scene = Scene::set_with(cluster, &operator, namespace).await?;
    scene.guard(&scene.pilot(&json!({}))).await?;
    operator.kill();
    for (name, fields, _) in unusable() {
        let mut bad = named(scene.pilot(&fields), name);
        bad["spec"]["workloads"] = json!([{"name": name}]);
        scene.apply(&scene.grace, &bad).await?.accepted()?;
    }
    operator.start().await?;
    for (name, _, problem) in unusable() {
        has(&scene, name, "Stalled", "True", "InvalidDeclaration", problem).await?;
        has(&scene, name, "Ready", "False", "InvalidDeclaration", problem).await?;
    }
    let (_, _, zone) = &unusable()[0];
    let name = unusable()[0].0;
    let mut unread = scene.release(2, 0);
    unread["metadata"]["name"] = name.into();
    let refused = scene.apply(&scene.grace, &unread).await?;
    refused.refused(&["which guards it, is invalid:", zone, "Correct the Pilot"])
}

/// With the webhook away for a moment an invalid spec is stored while an incident is open: the last valid one stays in
/// force, for the deadline, for people's Decisions and for admission, also after restarts.
async fn an_invalid_edit_leaves_the_last_valid_pilot_in_force(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.rig.namespace("invalid-edit").await?;
    let operator = cluster.operator(std::slice::from_ref(&namespace)).await?;
    let scene = Scene::set_with(cluster, &operator, namespace).await?;
    let mut pilot = scene.pilot(&Scene::trigger(&json!({"decisionWindow": "20s"})));
    scene.bake(&pilot).await?;
    scene.apply(&scene.grace, &scene.release(2, 50)).await?.accepted()?;
    let incident = scene.incident().await?;
    operator.kill();
    let promql = json!({"promql": {"query": "sum(rate(x[5m])", "operator": "GT", "threshold": "1"}});
    let odd = json!({"name": "odd", "action": "Notify", "when": promql});
    pilot["spec"]["triggers"].as_array_mut().context("triggers")?.push(odd);
    // What the invalid spec loosens is not in force either.
    pilot["spec"]["enforcement"] = json!({"changes": "Observe", "actions": "Observe"});
    scene.apply(&scene.grace, &pilot).await?.accepted()?;
    operator.start().await?;

    let problem = "stays in force: spec.triggers[name=odd].when.promql.query: is not PromQL: ";
    has(&scene, "web", "Stalled", "True", "InvalidDeclaration", problem).await?;
    let record = scene.closed(&incident.id).await?;
    let record = record.spec.record.context("a record")?;
    ensure!(record.carried_out && record.decided_by == DecidedBy::Deadline, "{record:?}");
    ensure!(scene.deployment().await?.pointer("/spec/template/spec/containers/0/image") == Some(&json!("web:1")));

    operator.start().await?;
    accepted(&scene, &json!({"type": "HoldChanges"})).await?;
    let id = scene.incident().await?.id;
    accepted(&scene, &json!({"type": "Resume", "incident": id})).await?;
    scene.closed(&id).await?;
    let again = scene.apply(&scene.grace, &scene.release(2, 50)).await?;
    again.refused(&["rolled back by"])?;
    has(&scene, "web", "Ready", "False", "InvalidDeclaration", problem).await
}

async fn what_depends_on_the_cluster_is_a_condition(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.guard(&scene.pilot(&json!({}))).await?;
    let lost = scene.pilot(&json!({"workloads": [{"name": "nothing"}]}));
    scene.apply(&scene.grace, &named(lost, "lost")).await?.accepted()?;
    let message = "Deployment nothing does not exist in this namespace; create it or correct spec.workloads";
    has(&scene, "lost", "Ready", "False", "WorkloadNotFound", message).await?;
    has(&scene, "lost", "Reconciling", "True", "WorkloadNotFound", message).await?;

    let younger = scene.apply(&scene.grace, &named(scene.pilot(&json!({})), "younger")).await?;
    younger.accepted()?;
    let warning =
        "Warning: Deployment web belongs to the older pilot web, created by grace; this one stays stalled until";
    ensure!(younger.stderr.contains(warning), "{}", younger.stderr);
    let message = "Deployment web belongs to the older Pilot web, created by grace at 2";
    has(&scene, "younger", "Stalled", "True", "ConflictingPilot", message).await?;
    settled_by_an_owner_of_both(&scene).await?;
    // Not Ready for a moment, while the API server is told whom to guard now.
    scene.guarded().await?;

    let past = json!([
        {"name": "always", "always": true},
        {"name": "launch", "once": {"from": "2020-01-01T00:00:00", "to": "2020-01-02T00:00:00"}},
    ]);
    let applied = scene.apply(&scene.grace, &scene.pilot(&json!({"changes": {"windows": past}}))).await?;
    applied.accepted()?;
    let warning = "Warning: spec.changes.windows[name=launch] lies in the past";
    ensure!(applied.stderr.contains(warning), "{}", applied.stderr);
    let message = "over and without effect: launch; remove them when convenient";
    has(&scene, "web", "WindowsCurrent", "False", "WindowInThePast", message).await?;
    scene.guarded().await
}

/// Writes a Decision of the owner until it is stored and accepted: right after a start the API server may not know the
/// webhook's new certificate yet.
async fn accepted(scene: &Scene<'_>, spec: &Value) -> anyhow::Result<()> {
    let attempt = || async {
        let decision = scene.decide(&scene.ada, spec).await.map_err(|error| error.to_string())?;
        let status = decision.status.unwrap_or_default();
        if status.phase == Some(DecisionPhase::Accepted) { Ok(()) } else { Err(format!("{status:?}")) }
    };
    Ok(wait::until("Decision that is accepted", PATIENCE, attempt).await?)
}

/// Waits until a Pilot has a condition whose message contains this.
/// Ada is the service owner in both Pilots, Mallory in none.
async fn settled_by_an_owner_of_both(scene: &Scene<'_>) -> anyhow::Result<()> {
    let take_over = "annotate pilot younger pilotguard.dev/takes-over=web";
    let refused = scene.kubectl(&scene.mallory, take_over).await?;
    refused.refused(&["pilot younger does not take over from pilot web", "mallory has no role", "Ada Lovelace"])?;
    scene.kubectl(&scene.ada, take_over).await?.accepted()?;
    let message = "Deployment web belongs to Pilot younger, which takes over from this one";
    has(scene, "web", "Stalled", "True", "ConflictingPilot", message).await?;
    has(scene, "younger", "Stalled", "False", "Settled", "").await?;
    scene.kubectl(&scene.grace, "annotate pilot younger pilotguard.dev/takes-over-").await?.accepted()?;
    has(scene, "younger", "Stalled", "True", "ConflictingPilot", "older Pilot web").await
}

async fn has(
    scene: &Scene<'_>,
    pilot: &str,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> anyhow::Result<()> {
    let api: Api<Pilot> = scene.api();
    let probe = || async {
        let found = api.get(pilot).await.map_err(|error| error.to_string())?;
        match condition(&found, type_) {
            Some(it) if it.status == status && it.reason == reason && it.message.contains(message) => Ok(()),
            other => {
                tokio::time::sleep(Duration::from_millis(150)).await;
                Err(format!("{other:?}"))
            }
        }
    };
    Ok(wait::until(&format!("{type_} {status} of {pilot}"), PATIENCE, probe).await?)
}

async fn a_malformed_review_is_answered_and_forgotten(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).timeout(PATIENCE).build()?;
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u-1"}});
    let cases = [
        ("", 400, "the body is not JSON"),
        ("{\"kind\": ", 400, "the body is not JSON"),
        ("\0\u{1}\u{2}", 400, "the body is not JSON"),
        ("{}", 400, "expected kind AdmissionReview"),
        (&review.to_string(), 200, "the AdmissionReview has no usable request"),
    ];
    let base = format!("https://{}", webhook(scene.operator)?);
    for path in ["workloads", "observed", "scale", "objects"] {
        for (body, status, text) in &cases {
            let answer = http.post(format!("{base}/{path}")).body((*body).to_owned()).send().await?;
            let (code, said) = (answer.status().as_u16(), answer.text().await?);
            ensure!(code == *status && said.contains(text), "{path} {body:?}: {code} {said}");
            ensure!(!said.contains(r#""allowed":true"#), "{path} {body:?}: {said}");
        }
    }
    scene.operator.check()?;
    let log = std::fs::read_to_string(scene.operator.log())?;
    ensure!(log.contains("the body is not JSON"), "the log does not tell of malformed reviews");
    ensure!(!log.contains("panicked"), "the operator panicked");
    Ok(())
}

fn webhook(operator: &Operator) -> anyhow::Result<&str> {
    operator.arguments().iter().find_map(|argument| argument.strip_prefix("--listen=")).context("no address")
}
