//! What many quiet pilots cost: queries, samples, writes, memory and CPU, beside what one pilot costs in the same run.
//!
//! The pilots and their Deployments are really on the API server, and a real Prometheus scrapes their series; only the
//! pods are missing.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::routing::get;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use pilotguard::api::metrics_source::MetricsSource;
use pilotguard::api::pilot::Pilot;
use pilotguard_rig::wait::{self, within};
use pilotguard_rig::{Operator, Target};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::stage::Stage;

/// SLOs of each pilot.
const SLOS: usize = 3;
/// Pilots in one namespace.
const IN_A_NAMESPACE: usize = 100;
/// Pilots that are created before it is waited until they are Ready.
const AT_ONCE: usize = 50;
/// Objects that are created side by side.
const SIDE_BY_SIDE: usize = 16;
/// How long many pilots may take until all are Ready.
const PATIENCE: Duration = Duration::from_mins(15);
/// How often it is asked whether they are.
const BETWEEN_LISTS: Duration = Duration::from_secs(3);
/// After the last one is Ready: what happens once is over.
const CALM: Duration = Duration::from_secs(45);
/// Clock ticks in a second of CPU time, the same on every Linux.
const TICKS: f64 = 100.0;

/// What was counted at one time.
struct Reading {
    at: Instant,
    time: Timestamp,
    queries: f64,
    samples: f64,
    cpu: f64,
}

/// What a number of pilots cost.
struct Cost {
    pilots: usize,
    resident: f64,
    cores: f64,
    queries: f64,
    samples: f64,
    writes: f64,
    dry_runs: f64,
}

/// Measures for one pilot and for so many, and prints both.
pub(crate) async fn measure(stage: &Stage, pilots: usize, seconds: u64) -> anyhow::Result<()> {
    println!("\nFleet: pilots with {SLOS} SLOs and burn-rate triggers each, evaluationInterval 15s, nothing changes");
    let client = stage.platform.client()?;
    let address = serve(pilots).await?;
    let target = Target { job: "fleet".to_owned(), address, labels: std::collections::BTreeMap::new() };
    stage.rig.scrape_also(target).await?;
    let source: MetricsSource = read(json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "MetricsSource", "metadata": {"name": "fleet"},
        "spec": {"url": stage.rig.prometheus_url()?, "evaluationInterval": "15s"},
    }))?;
    create(&Api::all(client.clone()), &source).await?;
    let mut costs = Vec::new();
    for (from, to) in [(0, 1), (1, pilots)] {
        let began = Instant::now();
        // A thousand that are created within a minute are another question than what they cost when they are calm.
        for from in (from..to).step_by(AT_ONCE) {
            let to = to.min(from + AT_ONCE);
            add(&client, from, to).await?;
            ready(&client, to).await?;
        }
        println!("{to} Ready after {:.0} s; counting for {seconds} s …", began.elapsed().as_secs_f64());
        tokio::time::sleep(CALM).await;
        costs.push(cost(stage, to, Duration::from_secs(seconds)).await?);
    }
    println!("\npilots  resident      CPU  queries/s  samples/min  writes/s  dry-runs/s");
    for cost in &costs {
        println!(
            "{:>6} {:>5.0} MiB {:>8.3} {:>10.2} {:>12.0} {:>9.2} {:>11.2}",
            cost.pilots, cost.resident, cost.cores, cost.queries, cost.samples, cost.writes, cost.dry_runs
        );
    }
    if let [one, all] = costs.as_slice() {
        println!("{pilots} pilots ask {:.1} × as many queries as one", all.queries / one.queries);
    }
    Ok(())
}

/// Creates the pilots of these numbers.
async fn add(client: &Client, from: usize, to: usize) -> anyhow::Result<()> {
    for number in (0..to).step_by(IN_A_NAMESPACE) {
        let api: Api<Namespace> = Api::all(client.clone());
        if api.get_opt(&namespace_of(number)).await?.is_none() {
            create(&api, &read(json!({"metadata": {"name": namespace_of(number)}}))?).await?;
        }
    }
    let each = |number| async move {
        let namespace = namespace_of(number);
        let deployment: Deployment = read(deployment(number))?;
        create(&Api::namespaced(client.clone(), &namespace), &deployment).await?;
        create(&Api::<Pilot>::namespaced(client.clone(), &namespace), &read(pilot(number))?).await
    };
    stream::iter((from..to).map(each)).buffer_unordered(SIDE_BY_SIDE).try_collect().await
}

async fn create<K>(api: &Api<K>, object: &K) -> anyhow::Result<()>
where
    K: kube::Resource + serde::Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    within("creation", PATIENCE, api.create(&PostParams::default(), object)).await?.map(drop).context("creation")
}

async fn ready(client: &Client, pilots: usize) -> anyhow::Result<()> {
    let api: Api<Pilot> = Api::all(client.clone());
    let is_ready = |pilot: &Pilot| {
        let conditions = pilot.status.iter().flat_map(|status| &status.conditions);
        let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
        ready.any(|condition| condition.status == "True")
    };
    let probe = || async {
        let found = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let ours = found.items.iter().filter(|pilot| pilot.name_any().starts_with("app"));
        let ready = ours.filter(|pilot| is_ready(pilot)).count();
        if ready >= pilots {
            return Ok(());
        }
        // A list of so many pilots costs the API server more than what is measured.
        tokio::time::sleep(BETWEEN_LISTS).await;
        Err(format!("{ready} of {pilots} are Ready"))
    };
    Ok(wait::until("fleet that is Ready", PATIENCE, probe).await?)
}

async fn cost(stage: &Stage, pilots: usize, during: Duration) -> anyhow::Result<Cost> {
    let process = process(&stage.operator)?;
    let prometheus = stage.rig.prometheus_url()?;
    let before = count(prometheus, &process).await?;
    tokio::time::sleep(during).await;
    let after = count(prometheus, &process).await?;
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let user = &stage.operator.account.name;
    let events = stage.rig.audit()?;
    let ours = events.iter().filter(|event| event.user == *user && event.at >= before.time && event.at < after.time);
    let (dry_runs, writes): (Vec<_>, Vec<_>) = ours.partition(|event| event.dry_run);
    let each_second = |events: &[_]| f64::from(u32::try_from(events.len()).unwrap_or(u32::MAX)) / seconds;
    Ok(Cost {
        pilots,
        resident: resident(&process)?,
        cores: (after.cpu - before.cpu) / seconds,
        queries: (after.queries - before.queries) / seconds,
        samples: (after.samples - before.samples) / seconds * 60.0,
        writes: each_second(&writes),
        dry_runs: each_second(&dry_runs),
    })
}

async fn count(prometheus: &str, process: &Path) -> anyhow::Result<Reading> {
    let page = reqwest::get(format!("{prometheus}/metrics")).await?.error_for_status()?.text().await?;
    let sum = |name: &str, label: &str| {
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    Ok(Reading {
        at: Instant::now(),
        time: Timestamp::now(),
        queries: sum("prometheus_http_requests_total", r#"handler="/api/v1/query""#),
        samples: sum("prometheus_engine_query_samples_total", ""),
        cpu: cpu(process)?,
    })
}

/// Where Linux tells of the operator's process.
fn process(operator: &Operator) -> anyhow::Result<PathBuf> {
    let address = operator.arguments().iter().find(|it| it.starts_with("--metrics=")).context("its metrics address")?;
    for entry in std::fs::read_dir("/proc")? {
        let folder = entry?.path();
        let is_it = std::fs::read(folder.join("cmdline"))
            .is_ok_and(|words| words.split(|byte| *byte == 0).any(|word| word == address.as_bytes()));
        let program = std::fs::read_link(folder.join("exe")).unwrap_or_default();
        // The shell that holds its leash names the same arguments.
        if is_it && program.file_stem().is_some_and(|name| name == "pilotguard") {
            return Ok(folder);
        }
    }
    anyhow::bail!("the operator's process was not found")
}

/// Resident memory in MiB.
fn resident(process: &Path) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(process.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// Seconds of CPU time so far, in user and kernel mode.
fn cpu(process: &Path) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(process.join("stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("the name ends")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    ensure!(fields.len() > 12, "{stat}");
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS)
}

/// Serves the counters of all pilots: steady traffic of which one request in a thousand fails.
async fn serve(pilots: usize) -> anyhow::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    let begun = Instant::now();
    let page = move || async move {
        let requests = begun.elapsed().as_secs_f64() * 20.0 + 1000.0;
        let mut text = String::new();
        for (number, slo) in (0..pilots).flat_map(|number| (0..SLOS).map(move |slo| (number, slo))) {
            for (code, share) in [("200", 0.999), ("500", 0.001)] {
                let labels = format!(r#"app="app{number}",slo="slo{slo}",code="{code}""#);
                let _ = writeln!(text, "fleet_requests_total{{{labels}}} {}", requests * share);
            }
        }
        text
    };
    tokio::spawn(async move {
        // It only ever ends with this program.
        let _ = axum::serve(listener, Router::new().route("/metrics", get(page))).await;
    });
    Ok(address)
}

fn namespace_of(number: usize) -> String {
    format!("fleet-{}", number / IN_A_NAMESPACE)
}

fn deployment(number: usize) -> Value {
    let (name, labels) = (format!("app{number}"), json!({"app": format!("app{number}")}));
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
    json!({
        "metadata": {"name": name, "namespace": namespace_of(number)},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    })
}

fn pilot(number: usize) -> Value {
    let name = format!("app{number}");
    let slo = |slo: usize| {
        let selector = |more: &str| format!(r#"fleet_requests_total{{app="{name}",slo="slo{slo}"{more}}}"#);
        let ratio = json!({"bad": selector(r#",code="500""#), "total": selector("")});
        json!({"name": format!("slo{slo}"), "target": "99", "window": {"rolling": "7d"}, "indicator": {"ratio": ratio}})
    };
    let trigger = |slo: usize| {
        let when = json!({"slo": format!("slo{slo}"), "long": "1h", "short": "5m", "factor": "14"});
        json!({"name": format!("burn{slo}"), "action": "HoldChanges", "when": {"burnRate": when}})
    };
    json!({
        "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Pilot",
        "metadata": {"name": name, "namespace": namespace_of(number)},
        "spec": {
            "intent": {"summary": "Measured by the benchmark", "decisionDate": "2099-06-30T12:00:00Z"},
            "owners": {"serviceOwner": {"name": "Ada Lovelace", "identities": {"users": ["ada@example.com"]}}},
            "workloads": [{"name": name}],
            "changes": {"windows": [{"name": "always", "always": true}], "bake": "10s"},
            "metricsSource": "fleet",
            "slos": (0..SLOS).map(slo).collect::<Vec<_>>(),
            "triggers": (0..SLOS).map(trigger).collect::<Vec<_>>(),
        },
    })
}

fn read<T: DeserializeOwned>(object: Value) -> anyhow::Result<T> {
    Ok(serde_json::from_value(object)?)
}
