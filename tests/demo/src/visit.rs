//! The story on a cluster that somebody else runs: says beforehand what will happen there, begins only where nothing of
//! it exists yet, and removes all of it in the end.
//!
//! Because it begins only there, whatever bears the demo's names in the end was made by the demo.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pilotguard_rig::release::repository;
use pilotguard_rig::{Person, Release, Rig, wait};
use serde_json::json;

use crate::narrator::Narrator;
use crate::stage::{NAMESPACE, RELEASE, SYSTEM, release, succeed};

/// How long a cluster may take to remove everything.
const REMOVED: Duration = Duration::from_mins(2);

/// The operator itself makes these, and the chart does not name them.
const CONFIGURATIONS: &str = "validatingwebhookconfigurations,mutatingwebhookconfigurations";

/// What an image of the demo's pods is replaced by where nodes really pull it: it does nothing, and is everywhere.
const IMAGES: [(&str, &str); 3] = [("1.0", "1.26"), ("2.0", "1.27"), ("2.1", "1.28")];

/// Says what will be done on the cluster, and what it takes.
pub(crate) fn announce(narrator: &Narrator, address: IpAddr) {
    narrator.say(&format!(
        "The demo makes the namespaces {NAMESPACE} and {SYSTEM} there, installs pilotguard's definitions and chart, and \
         removes all of it in the end, after Ctrl-C too. Its people are impersonated."
    ));
    narrator.say(&format!(
        "pilotguard and Prometheus run on this machine, so the API server must be able to reach it at {address}. The \
         pods really run, but do nothing: the requests that users would send are counted here."
    ));
}

/// The image of a release that nodes can pull.
pub(crate) fn image(version: &str) -> String {
    let tag = IMAGES.iter().find(|(of, _)| *of == version).map_or(version, |(_, tag)| tag);
    format!("nginx:{tag}")
}

/// A stay on somebody's cluster.
#[derive(Debug)]
pub(crate) struct Visit {
    rig: Arc<Rig>,
    /// Everything of the demo's but the definitions and what the operator makes.
    manifests: String,
}

impl Visit {
    /// Refuses a cluster where it would change something that exists; nothing is changed yet.
    pub(crate) async fn begin(rig: Arc<Rig>) -> anyhow::Result<Self> {
        let may = rig.admin().kubectl(&["auth", "can-i", "*", "*", "--all-namespaces"]).await?;
        ensure!(
            may.succeeded(),
            "{} may not do everything on this cluster; the demo takes an administrator",
            rig.admin().name
        );
        let mut manifests = Release { options: release(&rig) }.render(&rig, &[]).await?;
        for name in [NAMESPACE, SYSTEM] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            manifests = format!("{manifests}\n---\n{namespace}\n");
        }
        let visit = Self { rig, manifests };
        let found = visit.found().await?;
        if !found.is_empty() {
            bail!(
                "nothing was changed: the demo needs a cluster without pilotguard and without its own names, but this \
                 one has {}. Choose another cluster or, if a killed demo left them, remove them first",
                found.join(", ")
            );
        }
        Ok(visit)
    }

    /// Removes everything that the demo made, however the story ended; the operator must have ended.
    pub(crate) async fn end(self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        println!("\nRemoving what the demo made on the cluster ...");
        match (self.clear().await, outcome) {
            (Ok(()), outcome) => {
                println!("Nothing of it is left there.");
                outcome
            }
            (Err(left), Ok(())) => Err(left.context("not everything was removed")),
            (Err(left), Err(error)) => Err(error.context(format!("not everything was removed: {left:#}"))),
        }
    }

    async fn clear(&self) -> anyhow::Result<()> {
        let admin = self.rig.admin();
        // First what could refuse the rest: nobody answers the webhook any more.
        let configurations = format!("delete {CONFIGURATIONS} {RELEASE} --ignore-not-found");
        succeed(admin, &configurations).await?;
        self.delete(&["--filename", "-"]).await?;
        self.delete(&["--filename", &repository().join("crds").display().to_string()]).await?;
        let gone = || async {
            match self.found().await {
                Ok(found) if found.is_empty() => Ok(()),
                Ok(found) => Err(format!("{} are left", found.join(", "))),
                Err(error) => Err(format!("{error:#}")),
            }
        };
        Ok(wait::until("cluster without traces of the demo", REMOVED, gone).await?)
    }

    async fn delete(&self, what: &[&str]) -> anyhow::Result<()> {
        let arguments = [&["delete", "--ignore-not-found", "--wait=false"], what].concat();
        let output = self.rig.admin().kubectl_with(&arguments, &self.manifests).await?;
        ensure!(output.succeeded(), "kubectl {}: {}", arguments.join(" "), output.stderr.trim());
        Ok(())
    }

    /// What of the demo's, or of another pilotguard's definitions, the cluster has.
    async fn found(&self) -> anyhow::Result<Vec<String>> {
        let admin = self.rig.admin();
        let named = ["get", "--ignore-not-found", "--output=name", "--filename", "-"];
        let named = admin.kubectl_with(&named, &self.manifests).await.context("kubectl get")?;
        ensure!(named.succeeded(), "kubectl get: {}", named.stderr.trim());
        let mut found: Vec<String> = named.stdout.lines().map(str::to_owned).collect();
        let is_definition = |name: &str| name.ends_with(".pilotguard.dev");
        found.extend(listed(admin, "get customresourcedefinitions --output=name", is_definition).await?);
        let is_configuration = |name: &str| name.ends_with(&format!("/{RELEASE}"));
        found.extend(listed(admin, &format!("get {CONFIGURATIONS} --output=name"), is_configuration).await?);
        Ok(found)
    }
}

async fn listed(person: &Person, line: &str, matches: impl Fn(&str) -> bool) -> anyhow::Result<Vec<String>> {
    let output = succeed(person, line).await?;
    Ok(output.stdout.lines().filter(|name| matches(name)).map(str::to_owned).collect())
}
