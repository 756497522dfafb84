//! The operator does its work with the chart's service account and rights, and is never told that it may not.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use anyhow::ensure;
use pilotguard_rig::{AuditEvent, wait};

use crate::cluster::{Cluster, SOON};
use crate::release::Release;

tests![it_refuses_acts_and_reports_with_the_rights_of_the_chart];

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
    let [webhook, health, metrics] = [(); 3].map(|()| free_address(cluster));
    let (webhook, health, metrics) = (webhook?, health?, metrics?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotguard"));
    command.env("KUBECONFIG", &release.operator(cluster).await?.kubeconfig).env("POD_NAMESPACE", namespace);
    command.args(["run", "--instance", name, "--namespaces", &guarded, "--owner-cluster-role", name]);
    command.arg("--webhook-service").arg(format!("{namespace}/{name}:443"));
    for (flag, address) in [("--listen", webhook), ("--health", health), ("--metrics", metrics)] {
        command.arg(flag).arg(address.to_string());
    }
    let log = cluster.rig.directory().join(format!("logs/{name}.log"));
    let process = cluster.rig.run(name, &command)?;
    cluster.rig.expose(namespace, name, &[webhook.port()]).await?;

    let kubectl = async |line: &str| {
        let words: Vec<&str> = line.split(' ').chain(["--namespace", guarded.as_str()]).collect();
        cluster.done(&words).await
    };
    kubectl("create deployment web --image=web:1").await?;
    let manifests = PILOT.replace("SOURCE", name).replace("URL", cluster.rig.prometheus_url()?);
    cluster.done_with(&["apply", "--namespace", &guarded, "-f", "-"], &manifests).await?;
    kubectl("wait pilot/web --for=condition=Enforced --timeout=30s").await?;
    let refused = || async {
        match kubectl("set image deployment/web web=web:2 --dry-run=server").await {
            Err(error) if error.to_string().contains("freeze") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    wait::until("refusal", SOON, refused).await?;
    let known_good = || async {
        let state = kubectl("get pilot web -o jsonpath={.status.release.state}").await.map_err(|e| e.to_string())?;
        if state == "KnownGood" { Ok(()) } else { Err(state) }
    };
    wait::until("known-good release", SOON, known_good).await?;

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
    wait::until("Event on the Pilot", SOON, told).await?;
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

/// On the host's network address, where the API server looks for a Service's endpoints.
fn free_address(cluster: &Cluster) -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((cluster.rig.host_address()?, 0))?.local_addr()?)
}
