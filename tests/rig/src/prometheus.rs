//! The rig's Prometheus: scrapes what it is told to, can be taken away and brought back with its data.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::process::{Daemon, ProcessError};
use crate::tree;
use crate::wait::{self, PATIENCE, TimedOut};

/// Why Prometheus did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// The rig was started without Prometheus.
    #[error("this rig was started without Prometheus")]
    Absent,
    /// Its process could not be started, or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It did not become ready.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// Its configuration or history could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It did not take the new configuration.
    #[error("reload failed: {0}")]
    Reload(String),
}

/// One endpoint to scrape at `http://ADDRESS/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The value of the `job` label; several targets may share it.
    pub job: String,
    /// Host and port.
    pub address: String,
    /// More labels for every series of this target.
    pub labels: BTreeMap<String, String>,
}

/// A Prometheus process and its files.
#[derive(Debug)]
pub(crate) struct Prometheus {
    daemon: Daemon,
    url: String,
    configuration: PathBuf,
    interval: Duration,
    scraped: Mutex<Scraped>,
    http: reqwest::Client,
}

/// What a Prometheus was told to scrape.
#[derive(Debug, Default)]
struct Scraped {
    targets: BTreeSet<Target>,
    /// Every job there has been: Prometheus marks the series of a target that left as ended, but not those of a job
    /// that left with its targets.
    jobs: BTreeSet<String>,
}

/// What a Prometheus is started from.
pub(crate) struct Settings<'a> {
    pub(crate) program: &'a Path,
    pub(crate) directory: &'a Path,
    pub(crate) logs: &'a Path,
    pub(crate) port: u16,
    pub(crate) interval: Duration,
    pub(crate) history: Option<&'a Path>,
}

impl Prometheus {
    /// Prepares the files; nothing runs yet.
    pub(crate) fn prepare(settings: &Settings<'_>, http: reqwest::Client) -> Result<Self, PrometheusError> {
        let data = settings.directory.join("prometheus");
        std::fs::create_dir_all(&data).map_err(at(&data))?;
        if let Some(history) = settings.history {
            tree::copy(history, &data).map_err(at(history))?;
        }
        let configuration = settings.directory.join("prometheus.yaml");
        let flag = |name: &str, value: &Path| {
            let mut flag = OsString::from(format!("--{name}="));
            flag.push(value);
            flag
        };
        let arguments = [
            flag("config.file", &configuration),
            flag("storage.tsdb.path", &data),
            "--storage.tsdb.retention.time=5y".into(),
            format!("--web.listen-address=127.0.0.1:{}", settings.port).into(),
            "--web.enable-lifecycle".into(),
            // Targets change while tests run: its usual 5 s of patience would be paid at each change.
            "--scrape.discovery-reload-interval=100ms".into(),
        ];
        let prometheus = Self {
            daemon: Daemon::new("prometheus", settings.program, arguments, settings.logs),
            url: format!("http://127.0.0.1:{}", settings.port),
            configuration,
            interval: settings.interval,
            scraped: Mutex::default(),
            http,
        };
        prometheus.write(BTreeSet::clear)?;
        Ok(prometheus)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Starts it on its port and data and returns once it answers queries.
    pub(crate) async fn start(&self) -> Result<(), PrometheusError> {
        self.daemon.start()?;
        let ready = format!("{}/-/ready", self.url);
        let answers = wait::until("ready Prometheus", PATIENCE, || async {
            self.http.get(&ready).send().await?.error_for_status().map(drop)
        });
        tokio::select! {
            answered = answers => Ok(answered?),
            ended = self.daemon.ended() => Err(ended.into()),
        }
    }

    pub(crate) fn stop(&self) {
        self.daemon.stop();
    }

    /// Changes what is scraped.
    pub(crate) async fn scrape(&self, change: impl FnOnce(&mut BTreeSet<Target>)) -> Result<(), PrometheusError> {
        self.write(change)?;
        let failed = |error: reqwest::Error| PrometheusError::Reload(error.to_string());
        let reload = self.http.post(format!("{}/-/reload", self.url)).send().await.map_err(failed)?;
        if reload.status().is_success() {
            return Ok(());
        }
        Err(PrometheusError::Reload(reload.text().await.map_err(failed)?))
    }

    /// Under the lock, so that of two changes at the same time neither loses the other.
    fn write(&self, change: impl FnOnce(&mut BTreeSet<Target>)) -> Result<(), PrometheusError> {
        let mut guard = self.scraped.lock().unwrap_or_else(PoisonError::into_inner);
        let scraped = &mut *guard;
        change(&mut scraped.targets);
        scraped.jobs.extend(scraped.targets.iter().map(|target| target.job.clone()));
        let mut jobs: BTreeMap<&str, Vec<serde_json::Value>> =
            scraped.jobs.iter().map(|job| (job.as_str(), Vec::new())).collect();
        for target in &scraped.targets {
            let group = json!({"targets": [target.address], "labels": target.labels});
            jobs.entry(&target.job).or_default().push(group);
        }
        let interval = format!("{}ms", self.interval.as_millis());
        let jobs: Vec<_> =
            jobs.into_iter().map(|(job, groups)| json!({"job_name": job, "static_configs": groups})).collect();
        let configuration = json!({
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "scrape_configs": jobs,
        });
        std::fs::write(&self.configuration, configuration.to_string()).map_err(at(&self.configuration))
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> PrometheusError + use<> {
    let path = path.to_owned();
    move |source| PrometheusError::File { path, source }
}
