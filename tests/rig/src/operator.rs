//! pilotguard itself, run beside the cluster exactly as its chart would run it inside.
//!
//! Flow: the chart is installed with `external: true`; the process gets the arguments and environment of the
//! chart's own Deployment, only with addresses that are free here, and a token of the chart's service account; an
//! EndpointSlice leads the chart's Service to it. So a right that the chart forgets is missing here too.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;

use crate::person::Person;
use crate::ports;
use crate::process::{Leashed, ProcessError, Signal, tail};
use crate::release::{Release, ReleaseError, ReleaseOptions};
use crate::rig::{Rig, RigError};
use crate::wait::{self, PATIENCE, TimedOut};

/// Why the operator does not run.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The chart could not be installed.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The rig did not do as asked.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The chart's Deployment is not what a process can be started from.
    #[error("the chart's Deployment cannot be read: {0}")]
    Chart(String),
    /// The process could not be started, or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No ports were free.
    #[error("no free ports: {0}")]
    Ports(#[from] std::io::Error),
    /// It did not become ready.
    #[error("{source}; the end of {}:\n{}", log.display(), tail(log))]
    NotReady {
        /// What was waited for.
        source: TimedOut,
        /// Its output.
        log: PathBuf,
    },
}

/// Which operator to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorOptions {
    /// The `pilotguard` binary.
    pub program: PathBuf,
    /// The release's name, which is also the instance's name; it must contain `pilotguard`.
    pub name: String,
    /// The operator's own namespace.
    pub namespace: String,
    /// The namespaces that it looks after, so that several operators share one API server; all, if none is given.
    pub guarded: Vec<String>,
    /// Chart values beyond `external=true`, `key=value`.
    pub settings: Vec<String>,
}

/// An installed operator, whose process runs or does not.
#[derive(Debug)]
pub struct Operator {
    /// The release that it runs as.
    pub release: Release,
    /// Its service account.
    pub account: Person,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    program: PathBuf,
    log: PathBuf,
    health: String,
    metrics: String,
    http: reqwest::Client,
    child: Mutex<Option<Leashed>>,
}

impl Operator {
    /// Installs the chart, starts the process and returns once it is ready.
    pub async fn install(rig: &Rig, options: OperatorOptions) -> Result<Self, OperatorError> {
        let OperatorOptions { program, name, namespace, guarded, settings } = options;
        let inside = ReleaseOptions { name, namespace, guarded, settings };
        let mut outside = inside.clone();
        outside.settings.push("external=true".to_owned());
        let release = Release::install(rig, outside).await?;
        let ReleaseOptions { name, namespace, guarded, .. } = &release.options;
        let only = ["--show-only", "templates/deployment.yaml"];
        let container = container(&Release { options: inside.clone() }.render(rig, &only).await?)?;

        let [webhook, health, metrics] = ports::free()?;
        let addresses = Addresses { host: rig.host_address()?, webhook, health, metrics };
        let mut arguments: Vec<String> =
            container.args.iter().flatten().map(|argument| addresses.put_into(argument)).collect();
        if !guarded.is_empty() {
            arguments.push(format!("--namespaces={}", guarded.join(",")));
        }
        rig.expose(namespace, name, &[webhook]).await?;
        let account = rig.service_account(namespace, name).await?;
        let mut environment = environment(&container, namespace);
        environment.push(("KUBECONFIG".to_owned(), account.kubeconfig.display().to_string()));
        let operator = Self {
            account,
            arguments,
            environment,
            program,
            log: rig.logs().join(format!("{name}.log")),
            health: addresses.url(health),
            metrics: addresses.url(metrics),
            http: rig.http.clone(),
            child: Mutex::new(None),
            release,
        };
        operator.start().await?;
        Ok(operator)
    }

    /// Starts the process, in place of one that runs, and returns once it is ready.
    pub async fn start(&self) -> Result<(), OperatorError> {
        self.kill();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        *self.child() = Some(Leashed::spawn(&command, &self.log)?);
        let ready = format!("{}/readyz", self.health);
        let answers = wait::until("ready pilotguard", PATIENCE, || async {
            self.check().map_err(|error| error.to_string())?;
            let asked = self.http.get(&ready).send().await.and_then(reqwest::Response::error_for_status);
            asked.map(drop).map_err(|error| error.to_string())
        });
        answers.await.map_err(|source| OperatorError::NotReady { source, log: self.log.clone() })
    }

    /// Kills the process, as a crash would; nothing happens when it does not run.
    pub fn kill(&self) {
        *self.child() = None;
    }

    /// Passes a signal on to the process.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        match self.child().as_mut() {
            Some(child) => child.signal(signal),
            None => Err(ProcessError::Gone { program: self.program.display().to_string() }),
        }
    }

    /// Fails when the process ended by itself.
    pub fn check(&self) -> Result<(), ProcessError> {
        let Some(status) = self.child().as_mut().and_then(Leashed::ended) else {
            return Ok(());
        };
        Err(ProcessError::Ended {
            name: self.release.options.name.clone(),
            status: status.to_string(),
            log: self.log.clone(),
            tail: tail(&self.log),
        })
    }

    /// Its output, of all its lives.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Where it serves its own metrics, `http://HOST:PORT/metrics`.
    pub fn metrics_url(&self) -> String {
        format!("{}/metrics", self.metrics)
    }

    /// The arguments that it is started with.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    fn child(&self) -> MutexGuard<'_, Option<Leashed>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the process listens, in place of the addresses of a pod.
struct Addresses {
    host: IpAddr,
    webhook: u16,
    health: u16,
    metrics: u16,
}

impl Addresses {
    fn put_into(&self, argument: &str) -> String {
        let host = self.host;
        match argument.split_once('=').map(|(flag, _)| flag) {
            Some("--listen") => format!("--listen={host}:{}", self.webhook),
            Some("--health") => format!("--health={host}:{}", self.health),
            Some("--metrics") => format!("--metrics={host}:{}", self.metrics),
            _ => argument.to_owned(),
        }
    }

    fn url(&self, port: u16) -> String {
        format!("http://{}:{port}", self.host)
    }
}

/// The operator's container in the rendered Deployment.
fn container(manifest: &str) -> Result<Container, OperatorError> {
    let deployment: Deployment =
        serde_yaml::from_str(manifest).map_err(|error| OperatorError::Chart(error.to_string()))?;
    let pod = deployment.spec.and_then(|spec| spec.template.spec);
    let container = pod.and_then(|pod| pod.containers.into_iter().next());
    container.ok_or_else(|| OperatorError::Chart("it has no container".to_owned()))
}

/// The container's environment, with what a field reference would have put in.
fn environment(container: &Container, namespace: &str) -> Vec<(String, String)> {
    let variables = container.env.iter().flatten();
    variables
        .map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_else(|| namespace.to_owned())))
        .collect()
}
