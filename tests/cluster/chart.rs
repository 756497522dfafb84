//! The Helm chart installs, in both of its forms.

use anyhow::ensure;

use crate::cluster::Cluster;
use crate::release::{CHART, Release, helm};

tests![
    lint_finds_nothing,
    a_misspelt_value_is_refused,
    it_runs_in_a_namespace_of_restricted_pods,
    external_leaves_the_process_to_others,
];

async fn lint_finds_nothing(cluster: &Cluster) -> anyhow::Result<()> {
    for external in ["external=false", "external=true"] {
        let output = helm(cluster, &["lint", "--strict", CHART, "--set", external]).await?;
        ensure!(output.succeeded(), "{}{}", output.stdout, output.stderr);
    }
    Ok(())
}

async fn a_misspelt_value_is_refused(cluster: &Cluster) -> anyhow::Result<()> {
    for (setting, part) in [
        ("externl=true", "externl"),
        ("webhook.prt=1", "prt"),
        ("health.port=80", "/health/port"),
        ("breakGlass.users[0]=system:serviceaccount:shop:bot", "/breakGlass/users/0"),
    ] {
        let output = helm(cluster, &["template", "pilotguard", CHART, "--set", setting]).await?;
        ensure!(!output.succeeded() && output.stderr.contains(part), "{setting}: {}", output.stderr);
    }
    Ok(())
}

async fn it_runs_in_a_namespace_of_restricted_pods(cluster: &Cluster) -> anyhow::Result<()> {
    let guarded = cluster.rig.namespace("guarded").await?;
    let release = Release::install(cluster, &guarded, &[]).await?;
    let (name, namespace) = (&release.name, &release.namespace);
    let deployment = format!("deployment/{name}");
    cluster.done(&["rollout", "status", &deployment, "--namespace", namespace, "--timeout=150s"]).await?;
    let ports = "jsonpath={.spec.ports[*].port}";
    cluster.prints(&["get", "service", name, "--namespace", namespace, "-o", ports], "443 8080").await?;
    let ready = "jsonpath={.items[*].endpoints[*].conditions.ready}";
    cluster.prints(&["get", "endpointslices", "--namespace", namespace, "-o", ready], "true").await?;
    let arguments = "jsonpath={.spec.template.spec.containers[0].args}";
    let expected = format!(
        r#"["run","--instance={name}","--webhook-service={namespace}/{name}:443","--owner-cluster-role={name}","#
    ) + r#""--listen=0.0.0.0:8443","--health=0.0.0.0:8081","--metrics=0.0.0.0:8080"]"#;
    cluster.prints(&["get", &deployment, "--namespace", namespace, "-o", arguments], &expected).await
}

async fn external_leaves_the_process_to_others(cluster: &Cluster) -> anyhow::Result<()> {
    let guarded = cluster.rig.namespace("guarded").await?;
    let release = Release::install(cluster, &guarded, &["external=true", "webhook.port=9443"]).await?;
    let (name, namespace) = (&release.name, &release.namespace);
    let pods = cluster.done(&["get", "deployments,pods", "--namespace", namespace, "-o", "name"]).await?;
    ensure!(pods.is_empty(), "external: true runs {pods}");
    let service = "jsonpath={.spec.selector}{.spec.ports[*].port} {.spec.ports[*].targetPort}";
    cluster.prints(&["get", "service", name, "--namespace", namespace, "-o", service], "443 9443").await?;
    // The operator can be started with exactly this account.
    let operator = release.operator(cluster).await?;
    let who = operator.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).await?;
    ensure!(who.stdout == format!("system:serviceaccount:{namespace}:{name}"), "{who:?}");
    Ok(())
}
