//! How fast pilotguard reacts, and what admission costs: each figure beside a baseline of the same run, because absolute
//! times say more about the machine than about pilotguard.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use pilotguard::api::incident::Incident;
use pilotguard::api::status::ReleaseState;
use pilotguard_rig::wait::{self, PATIENCE, within};
use serde_json::{Value, json};

use crate::chronicle::Chronicle;
use crate::figures::{median, percentile, text};
use crate::fleet;
use crate::probe::{self, Probe};
use crate::stage::{NAME, NAMESPACE, Stage, succeed};

/// Enough requests for a breach to show in the first scrape after it began.
const REQUESTS_PER_SECOND: f64 = 200.0;
/// The MetricsSource's `evaluationInterval`, the baseline of the first figure.
const INTERVAL: Duration = Duration::from_secs(1);
/// What each figure may be in the median.
const TARGET: Duration = Duration::from_secs(2);
/// How long one step of a run may take.
const STEP: Duration = Duration::from_mins(1);
/// A Deployment that nothing guards.
const UNGUARDED: &str = "unguarded";

/// The trigger's own query and threshold.
const CONDITION: &str = r#"sum(increase(http_requests_total{app="checkout",code="500"}[5s]))
/ sum(increase(http_requests_total{app="checkout"}[5s])) > 0.05"#;

/// Measures and prints.
pub(crate) async fn measure(runs: u32, requests: u32, (pilots, seconds): (usize, u64)) -> anyhow::Result<()> {
    println!("Starting a cluster, Prometheus and pilotguard ({}) …", build());
    let rig = Stage::rig(None).await?;
    let stage = Box::pin(Stage::install(rig, REQUESTS_PER_SECOND)).await?;
    std::fs::write(stage.folder().join("bench.yaml"), include_str!("../story/bench.yaml"))?;
    succeed(&stage.platform, "apply -f metricssource.yaml").await?;
    succeed(&stage.grace, "apply -f checkout-1.0.yaml").await?;
    succeed(&stage.grace, "rollout status deployment/checkout -n shop --timeout=150s").await?;
    let pilot = Chronicle::open(stage.ada.client()?, NAMESPACE, NAME);
    succeed(&stage.ada, "apply -f bench.yaml").await?;
    succeed(&stage.ada, "wait pilot/checkout -n shop --for=condition=Ready --timeout=150s").await?;
    let bench = Bench { deployments: Api::namespaced(stage.grace.client()?, NAMESPACE), stage, pilot };
    bench.settled().await?;
    bench.add_unguarded().await?;
    bench.reaction(runs).await?;
    bench.admission(requests).await?;
    if pilots > 0 {
        fleet::measure(&bench.stage, pilots, seconds).await?;
    }
    Ok(())
}

fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug build: `make bench` measures a release build" } else { "release build" }
}

struct Bench {
    deployments: Api<Deployment>,
    pilot: Chronicle,
    stage: Stage,
}

/// One run.
struct Run {
    to_incident: Duration,
    to_patch: Duration,
}

impl Bench {
    async fn reaction(&self, runs: u32) -> anyhow::Result<()> {
        println!("\nReaction at evaluationInterval 1s and for: 0s");
        println!(
            "(i)  breach visible to a {} probe of the trigger's query → incident in the status",
            text(probe::EVERY)
        );
        println!("(ii) deadline of the decision window → 200 of the rollback's patch in the audit log\n");
        println!("run        (i)       (ii)");
        let mut all = Vec::new();
        for number in 1..=runs {
            let run = self.run(number).await.with_context(|| format!("run {number}"))?;
            println!("{number:>3} {:>10} {:>10}", text(run.to_incident), text(run.to_patch));
            all.push(run);
        }
        let patch = self.plain_patch().await?;
        let sum = |what: &str, figures: Vec<Duration>, base: Duration, of: &str| {
            let Some(median) = median(&figures) else { return };
            let verdict = if median < TARGET { "within" } else { "beyond" };
            let ratio = median.as_secs_f64() / base.as_secs_f64();
            println!(
                "{what} median {}, {verdict} the target of {}; {ratio:.2} × {of} ({})",
                text(median),
                text(TARGET),
                text(base)
            );
        };
        println!();
        sum("(i) ", all.iter().map(|run| run.to_incident).collect(), INTERVAL, "the evaluation interval");
        sum("(ii)", all.iter().map(|run| run.to_patch).collect(), patch, "a plain PATCH of a Deployment");
        Ok(())
    }

    /// A new release rolls out, its requests begin to fail, it is rolled back, and all is well again.
    async fn run(&self, number: u32) -> anyhow::Result<Run> {
        let before = self.pilot.now().release.map(|release| release.payload);
        let (params, release) = (PatchParams::default(), release(&format!("run-{number}")));
        let patched = self.deployments.patch(NAME, &params, &release);
        within("new release", STEP, patched).await??;
        let bakes = || async {
            let release = self.pilot.now().release.filter(|release| Some(&release.payload) != before.as_ref());
            release.filter(|release| release.state == ReleaseState::Baking).map(|_| ()).ok_or("it does not bake yet")
        };
        wait::until("baking release", STEP, bakes).await?;
        // Runs begin at different moments between two looks of the operator.
        tokio::time::sleep(Duration::from_millis(u64::from(number) * 370 % 1000)).await;

        let probe = Probe::new(self.stage.rig.prometheus_url()?, CONDITION)?;
        let known: Option<Incident> = self.pilot.now().incident;
        anyhow::ensure!(known.is_none(), "an incident is open already: {known:?}");
        let since = k8s_openapi::jiff::Timestamp::now();
        self.stage.service.set_errors(50.0);
        let opened = self.pilot.first(|status| status.incident.clone().filter(|incident| incident.opened_at >= since));
        let (visible, (seen, incident)) =
            within("incident", STEP, async { tokio::join!(probe.first(), opened) }).await?;
        let patch = within("rollback", STEP, self.stage.patched_since(incident.deadline)).await??;
        self.stage.service.set_errors(0.0);
        self.settled().await?;
        Ok(Run {
            to_incident: seen.saturating_duration_since(visible),
            to_patch: patch.answered.duration_since(incident.deadline).unsigned_abs(),
        })
    }

    /// Waits until a known-good release runs, no incident is open and no trigger is latched.
    async fn settled(&self) -> anyhow::Result<()> {
        let calm = || async {
            let status = self.pilot.now();
            let is_good = status.release.as_ref().is_some_and(|release| release.state == ReleaseState::KnownGood);
            let is_calm = is_good && status.incident.is_none() && status.latches.is_empty();
            if is_calm { Ok(()) } else { Err(format!("{:?}, {:?}", status.incident, status.latches)) }
        };
        Ok(wait::until("calm pilot", STEP, calm).await?)
    }

    async fn add_unguarded(&self) -> anyhow::Result<()> {
        let mut copy = self.deployments.get(NAME).await?;
        copy.metadata = kube::api::ObjectMeta { name: Some(UNGUARDED.to_owned()), ..Default::default() };
        copy.status = None;
        if let Some(spec) = &mut copy.spec {
            spec.replicas = Some(0);
        }
        within("unguarded Deployment", PATIENCE, self.deployments.create(&PostParams::default(), &copy)).await??;
        Ok(())
    }

    /// The median of twenty patches of a Deployment that nothing guards.
    async fn plain_patch(&self) -> anyhow::Result<Duration> {
        let mut times = Vec::new();
        for number in 0..20 {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"example.com/bench": number.to_string()}}}));
            times.push(timed(self.deployments.patch(UNGUARDED, &PatchParams::default(), &patch)).await?);
        }
        median(&times).context("nothing was measured")
    }

    /// Dry-runs of a new template, guarded and not, in turns.
    async fn admission(&self, requests: u32) -> anyhow::Result<()> {
        println!("\nAdmission: {requests} dry-runs of a new template through the API server, each way, in turns");
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        let (mut guarded, mut unguarded) = (Vec::new(), Vec::new());
        for number in 0..requests {
            let patch = release(&format!("dry-{number}"));
            guarded.push(timed(self.deployments.patch(NAME, &dry_run, &patch)).await?);
            unguarded.push(timed(self.deployments.patch(UNGUARDED, &dry_run, &patch)).await?);
        }
        let line = |what: &str, figures: &[Duration]| {
            let (middle, tail) = (median(figures).map(text), percentile(figures, 99).map(text));
            println!("{what} median {}, p99 {}", middle.unwrap_or_default(), tail.unwrap_or_default());
        };
        line("guarded  ", &guarded);
        line("unguarded", &unguarded);
        if let (Some(guarded), Some(unguarded)) = (median(&guarded), median(&unguarded)) {
            println!("ratio of the medians {:.2}", guarded.as_secs_f64() / unguarded.as_secs_f64());
        }
        Ok(())
    }
}

/// A strategic merge patch to a release of its own.
fn release(name: &str) -> Patch<Value> {
    let container = json!({"name": "checkout", "env": [{"name": "RELEASE", "value": name}]});
    Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [container]}}}}))
}

async fn timed<T, E>(call: impl Future<Output = Result<T, E>>) -> anyhow::Result<Duration>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let began = Instant::now();
    within("answer", PATIENCE, call).await??;
    Ok(began.elapsed())
}
