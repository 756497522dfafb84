//! The operator does its work with the chart's service account and rights, and is never told that it may not.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{AuditEvent, Leashed};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::release::Release;

tests![it_refuses_acts_and_reports_with_the_rights_of_the_chart];

/// Another process may take a port between our choosing it and its use.
const ATTEMPTS: u32 = 3;

const PILOT: &str = r#"
apiVersion: pilotguard.dev/v1alpha1
kind: Pilot
metadata: {name: web}
spec:
  intent: {summary: A pilot, decisionDate: "2099-01-01T00:00:00Z"}
  owners: {serviceOwner: {name: Ada}}
  workloads: [{name: web}]
  changes:
    bake: 0s
    windows:
    - {name: always, always: true}
    - {name: freeze, kind: Deny, once: {from: "2020-01-01T00:00:00", to: "2090-01-01T00:00:00"}}
  metricsSource: SOURCE
  triggers:
  - name: quiet
    when: {promql: {query: vector(1), operator: GT, threshold: "2"}}
    for: 0s
    decisionWindow: 0s
    action: ScaleDown
---
apiVersion: pilotguard.dev/v1alpha1
kind: MetricsSource
metadata: {name: SOURCE}
spec: {url: "URL", evaluationInterval: 1s}
"#;

async fn it_refuses_acts_and_reports_with_the_rights_of_the_chart(cluster: &Cluster) -> anyhow::Result<()> {
    let guarded = cluster.rig.namespace("guarded").await?;
    let release = Release::install(cluster, &guarded, &["external=true"]).await?;
    let (name, namespace) = (&release.name, &release.namespace);
    let (process, webhook) = started(cluster, &release, &guarded).await?;
    let log = cluster.rig.directory().join(format!("logs/{name}.log"));
    cluster.rig.expose(namespace, name, &[webhook.port()]).await?;

    let kubectl = async |line: &str| {
        let words: Vec<&str> = line.split(' ').chain(["--namespace", guarded.as_str()]).collect();
        cluster.done(&words).await
    };
    kubectl("create deployment web --image=web:1").await?;
    let manifests = PILOT.replace("SOURCE", name).replace("URL", cluster.rig.prometheus_url()?);
    cluster.done_with(&["apply", "--namespace", &guarded, "-f", "-"], &manifests).await?;
    kubectl("wait pilot/web --for=condition=Enforced --timeout=150s").await?;
    let refused = || async {
        match kubectl("set image deployment/web web=web:2 --dry-run=server").await {
            Err(error) if error.to_string().contains("freeze") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    wait::until("refusal", PATIENCE, refused).await?;
    let known_good = || async {
        let state = kubectl("get pilot web -o jsonpath={.status.release.state}").await.map_err(|e| e.to_string())?;
        if state == "KnownGood" { Ok(()) } else { Err(state) }
    };
    wait::until("known-good release", PATIENCE, known_good).await?;

    let firing = manifests.replace(r#"threshold: "2""#, r#"threshold: "0""#);
    cluster.done_with(&["apply", "--namespace", &guarded, "-f", "-"], &firing).await?;
    let of_web = ["deployment", "web", "--namespace", &guarded, "-o"];
    let replicas = [&["get"], &of_web[..], &["jsonpath={.spec.replicas}"]].concat();
    cluster.prints(&replicas, "0").await?;
    let told = || async {
        let events = kubectl("get events.events.k8s.io -o jsonpath={.items[*].regarding.kind}").await;
        let events = events.map_err(|error| error.to_string())?;
        if events.contains("Pilot") { Ok(()) } else { Err(events) }
    };
    wait::until("Event on the Pilot", PATIENCE, told).await?;
    drop(process);

    // Reads are not in the audit log; what the operator was told about them is in its own.
    let log = std::fs::read_to_string(log)?;
    let forbidden: Vec<&str> = log.lines().filter(|line| line.contains("is forbidden: User")).collect();
    ensure!(forbidden.is_empty(), "{forbidden:#?}");
    // Its probe of its own webhook is a dry-run that is meant to be refused.
    let user = format!("system:serviceaccount:{namespace}:{name}");
    let is_denied = |event: &AuditEvent| event.user == user && event.code == 403 && !event.dry_run;
    let denied: Vec<AuditEvent> = cluster.rig.audit()?.into_iter().filter(is_denied).collect();
    ensure!(denied.is_empty(), "{denied:#?}");
    Ok(())
}

/// The operator, once it answers, and where its webhook listens.
async fn started(cluster: &Cluster, release: &Release, guarded: &str) -> anyhow::Result<(Leashed, SocketAddr)> {
    let operator = release.operator(cluster).await?;
    for _ in 0..ATTEMPTS {
        let [webhook, health, metrics] = free_addresses(cluster)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilotguard"));
        command.env("KUBECONFIG", &operator.kubeconfig).env("POD_NAMESPACE", &release.namespace);
        command.args(["run", "--instance", &release.name, "--namespaces", guarded]);
        command.args(["--owner-cluster-role", &release.name, "--webhook-service"]);
        command.arg(format!("{}/{}:443", release.namespace, release.name));
        for (flag, address) in [("--listen", webhook), ("--health", health), ("--metrics", metrics)] {
            command.arg(flag).arg(address.to_string());
        }
        let mut process = cluster.rig.run(&release.name, &command)?;
        let deadline = Instant::now() + PATIENCE;
        while process.ended().is_none() && Instant::now() < deadline {
            if TcpStream::connect(health).await.is_ok() && process.ended().is_none() {
                return Ok((process, webhook));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    anyhow::bail!("the operator did not start {ATTEMPTS} times; its log has the reason")
}

/// On the host's network address, where the API server looks for a Service's endpoints. Held together, so that they
/// differ.
fn free_addresses(cluster: &Cluster) -> anyhow::Result<[SocketAddr; 3]> {
    let host = cluster.rig.host_address()?;
    let free = || TcpListener::bind((host, 0));
    let held = [free()?, free()?, free()?];
    Ok([held[0].local_addr()?, held[1].local_addr()?, held[2].local_addr()?])
}
