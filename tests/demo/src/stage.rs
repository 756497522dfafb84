//! What the story plays on: a cluster with pilotguard installed, a Prometheus, the demo service, and its people.
//!
//! Everything that runs on this machine ends when the stage is dropped and nobody else shares its rig.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{
    Access, AuditEvent, DemoService, Operator, OperatorOptions, Output, Person, ReleaseOptions, Rig, RigOptions,
    ServiceOptions,
};

use crate::visit;

/// The team's namespace.
pub(crate) const NAMESPACE: &str = "shop";
/// pilotguard's namespace.
pub(crate) const SYSTEM: &str = "pilotguard-system";
/// pilotguard's release.
pub(crate) const RELEASE: &str = "pilotguard";
/// The Deployment, the Pilot and the label `app`.
pub(crate) const NAME: &str = "checkout";
/// The service owner.
pub(crate) const ADA: &str = "ada@example.com";
/// Who rolls releases out.
pub(crate) const GRACE: &str = "grace@example.com";

/// The audit log is written a moment after the answer.
const LOGGED: Duration = Duration::from_secs(10);

const MANIFESTS: [(&str, &str); 4] = [
    ("checkout-1.0.yaml", include_str!("../story/checkout-1.0.yaml")),
    ("checkout-2.0.yaml", include_str!("../story/checkout-2.0.yaml")),
    ("checkout-2.1.yaml", include_str!("../story/checkout-2.1.yaml")),
    ("metricssource.yaml", include_str!("../story/metricssource.yaml")),
];

/// The stage and its people.
#[derive(Debug)]
pub(crate) struct Stage {
    // Dropped in this order: who uses another ends before it.
    pub(crate) service: DemoService,
    pub(crate) operator: Operator,
    /// The platform team: may do everything.
    pub(crate) platform: Person,
    pub(crate) ada: Person,
    pub(crate) grace: Person,
    folder: PathBuf,
    pub(crate) rig: Arc<Rig>,
}

impl Stage {
    /// Starts the cluster, unless there is one, and Prometheus; builds first what is missing, which tells its own
    /// progress.
    pub(crate) async fn rig(access: Option<&Access>) -> anyhow::Result<Arc<Rig>> {
        let rig = match access {
            None => Rig::start(RigOptions::default()).await.context("the cluster did not start")?,
            Some(access) => Rig::attach(access).await?,
        };
        Ok(Arc::new(rig))
    }

    /// Installs everything on a rig. The platform team has made the team's namespace; nothing runs there yet.
    pub(crate) async fn install(rig: Arc<Rig>, requests_per_second: f64) -> anyhow::Result<Self> {
        let folder = rig.directory().join("story");
        std::fs::create_dir_all(&folder)?;
        let prometheus = rig.prometheus_url()?.to_owned();
        for (name, text) in MANIFESTS {
            let text = text.replace("PROMETHEUS", &prometheus);
            let text =
                VERSIONS.iter().fold(text, |text, version| text.replace(&played(version), &image(&rig, version)));
            std::fs::write(folder.join(name), text)?;
        }
        let platform = rig.admin().in_directory(&folder);
        succeed(&platform, &format!("create namespace {NAMESPACE}")).await?;
        let ReleaseOptions { name, namespace, guarded, settings } = release(&rig);
        let options = OperatorOptions { program: program()?, name, namespace, guarded, settings };
        let operator = Operator::install(&rig, options).await?;
        let options =
            ServiceOptions { namespace: NAMESPACE.to_owned(), deployment: NAME.to_owned(), requests_per_second };
        let service = DemoService::start(rig.admin().client()?, options).await?;
        rig.scrape_also(service.target()).await?;
        let ada = team_member(&rig, ADA).await?.in_directory(&folder);
        let grace = team_member(&rig, GRACE).await?.in_directory(&folder);
        Ok(Self { service, operator, platform, ada, grace, folder, rig })
    }

    /// Where the manifests are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The image that a release of the service runs.
    pub(crate) fn image(&self, version: &str) -> String {
        image(&self.rig, version)
    }

    /// The first request of the operator that succeeded in patching the Deployment since then.
    pub(crate) async fn patched_since(&self, since: Timestamp) -> anyhow::Result<AuditEvent> {
        let user = &self.operator.account.name;
        let is_it = |event: &AuditEvent| {
            event.user == *user
                && event.verb == "patch"
                && event.resource == "deployments"
                && event.subresource.is_empty()
                && event.code == 200
                && !event.dry_run
                && event.at >= since
        };
        let found = || async {
            let events = self.rig.audit().map_err(|error| error.to_string())?;
            events.into_iter().find(is_it).ok_or_else(|| "no such request is logged yet".to_owned())
        };
        Ok(wait::until("patch of the Deployment in the audit log", LOGGED, found).await?)
    }
}

/// The releases of the service in the manifests.
const VERSIONS: [&str; 3] = ["1.0", "2.0", "2.1"];

/// An image that no node pulls, in the manifests as they are.
fn played(version: &str) -> String {
    format!("registry.example/shop/checkout:{version}")
}

fn image(rig: &Rig, version: &str) -> String {
    if rig.owns_the_cluster() { played(version) } else { visit::image(version) }
}

/// pilotguard's release: on somebody else's cluster it looks after the team's namespace only.
pub(crate) fn release(rig: &Rig) -> ReleaseOptions {
    let guarded = if rig.owns_the_cluster() { Vec::new() } else { vec![NAMESPACE.to_owned()] };
    ReleaseOptions { name: RELEASE.to_owned(), namespace: SYSTEM.to_owned(), guarded, settings: Vec::new() }
}

/// Ends early, and with it all that the future owns, when somebody types Ctrl-C.
pub(crate) async fn unless_interrupted<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        outcome = future => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; all that was started has ended"),
    }
}

/// A member of the team, with the rights of Kubernetes' own role `edit` in the team's namespace.
async fn team_member(rig: &Rig, name: &str) -> anyhow::Result<Person> {
    let person = rig.person(name, &["shop-team"]).await?;
    rig.grant(&person, NAMESPACE, "edit").await?;
    // The chart's part of the role arrives a moment later.
    let may = || async {
        let output = person.kubectl(&["auth", "can-i", "create", "pilots", "-n", NAMESPACE]).await;
        match output {
            Ok(output) if output.succeeded() => Ok(()),
            Ok(output) => Err(output.stdout + &output.stderr),
            Err(error) => Err(error.to_string()),
        }
    };
    wait::until("rights of the team", PATIENCE, may).await?;
    Ok(person)
}

/// The `pilotguard` that was built with this program.
fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("pilotguard");
    ensure!(program.is_file(), "{} is missing; run `cargo build`", program.display());
    Ok(program)
}

/// Runs a `kubectl` that has to succeed; words are separated by single spaces.
pub(crate) async fn succeed(person: &Person, line: &str) -> anyhow::Result<Output> {
    let output = run(person, line).await?;
    ensure!(output.succeeded(), "kubectl {line}, as {}: {}", person.name, output.stderr.trim());
    Ok(output)
}

/// Runs a `kubectl`; words are separated by single spaces.
pub(crate) async fn run(person: &Person, line: &str) -> anyhow::Result<Output> {
    let words: Vec<&str> = line.split(' ').collect();
    person.kubectl(&words).await.with_context(|| format!("kubectl {line}"))
}
