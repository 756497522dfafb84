//! The demo service: what users would feel of a Deployment whose pods exist as objects only.
//!
//! Flow: it watches the ReplicaSets of a Deployment; requests arrive at a steady rate for as long as a pod is ready and
//! are spread over the ready pods; each answers with an error as often as `FAIL_PERCENT` in its template says (0
//! where it does not). The counters are served to Prometheus as `http_requests_total{namespace, app, code}`.
//!
//! Counted is by the clock and not by chance: two runs with the same pods count the same. A test may take over with
//! [`DemoService::set_errors`], [`DemoService::silence`] and [`DemoService::go_dark`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::prometheus::Target;

/// The environment variable of a pod's first container that says how many of a hundred requests it fails.
pub const FAIL_PERCENT: &str = "FAIL_PERCENT";

/// What the service plays.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceOptions {
    /// The namespace of the Deployment.
    pub namespace: String,
    /// The Deployment; also the value of the label `app`.
    pub deployment: String,
    /// Requests per second while at least one pod is ready.
    pub requests_per_second: f64,
}

/// The service, until it is dropped.
#[derive(Debug)]
pub struct DemoService {
    target: Target,
    counters: Arc<Mutex<Counters>>,
    tasks: [AbortHandle; 2],
}

impl DemoService {
    /// Starts it on a free port of the loopback interface.
    pub async fn start(client: Client, options: ServiceOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let target = Target { job: options.deployment.clone(), address, labels: BTreeMap::new() };
        let counters = Arc::new(Mutex::new(Counters::new(options.clone())));
        let served = counters.clone();
        let metrics = move || {
            let answer = lock(&served).page(Instant::now());
            async { answer.ok_or(StatusCode::SERVICE_UNAVAILABLE) }
        };
        let router = Router::new().route("/metrics", get(metrics));
        let serving = tokio::spawn(async move {
            // It only ever ends with this task.
            let _ = axum::serve(listener, router).await;
        });
        let watching = tokio::spawn(follow(client, options, counters.clone()));
        Ok(Self { target, counters, tasks: [serving.abort_handle(), watching.abort_handle()] })
    }

    /// What to scrape.
    pub fn target(&self) -> Target {
        self.target.clone()
    }

    /// Lets so many of a hundred requests fail, whatever runs.
    pub fn set_errors(&self, percent: f64) {
        self.play(Play::Errors(percent / 100.0));
    }

    /// Lets no more requests arrive; the counters stand still.
    pub fn silence(&self) {
        self.play(Play::Silence);
    }

    /// Fails every scrape: the series end. Requests go on uncounted.
    pub fn go_dark(&self) {
        self.play(Play::Dark);
    }

    /// Follows the Deployment again.
    pub fn follow(&self) {
        self.play(Play::Deployment);
    }

    fn play(&self, play: Play) {
        let mut counters = lock(&self.counters);
        counters.count(Instant::now());
        counters.play = play;
    }
}

impl Drop for DemoService {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Who says how requests fare.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Play {
    Deployment,
    Errors(f64),
    Silence,
    Dark,
}

/// What has been counted so far, and how it goes on.
#[derive(Debug)]
struct Counters {
    options: ServiceOptions,
    play: Play,
    /// Ready pods and the share of requests that each fails, by ReplicaSet.
    running: BTreeMap<String, (f64, f64)>,
    good: f64,
    bad: f64,
    until: Instant,
}

impl Counters {
    fn new(options: ServiceOptions) -> Self {
        Self { options, play: Play::Deployment, running: BTreeMap::new(), good: 0.0, bad: 0.0, until: Instant::now() }
    }

    /// Counts what arrived since the last time.
    fn count(&mut self, now: Instant) {
        let arrived = now.duration_since(self.until).as_secs_f64() * self.options.requests_per_second;
        self.until = now;
        if let Some(share) = self.failing() {
            self.bad += arrived * share;
            self.good += arrived * (1.0 - share);
        }
    }

    /// The share of requests that fail; `None` where none arrive or are counted.
    fn failing(&self) -> Option<f64> {
        let ready: f64 = self.running.values().map(|(ready, _)| ready).sum();
        match self.play {
            Play::Errors(share) => Some(share),
            Play::Deployment if ready > 0.0 => {
                Some(self.running.values().map(|(pods, share)| pods * share).sum::<f64>() / ready)
            }
            Play::Deployment | Play::Silence | Play::Dark => None,
        }
    }

    /// Both codes are there from the start: a counter that appears with its first error hides that error.
    fn page(&mut self, now: Instant) -> Option<String> {
        self.count(now);
        if self.play == Play::Dark {
            return None;
        }
        let ServiceOptions { namespace, deployment, .. } = &self.options;
        let mut page = "# TYPE http_requests_total counter\n".to_owned();
        for (code, count) in [(200, self.good), (500, self.bad)] {
            let labels = format!(r#"namespace="{namespace}",app="{deployment}",code="{code}""#);
            // Writing to a text cannot fail.
            let _ = writeln!(page, "http_requests_total{{{labels}}} {}", count.floor());
        }
        Some(page)
    }
}

fn lock(counters: &Mutex<Counters>) -> MutexGuard<'_, Counters> {
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the counters told which pods are ready.
async fn follow(client: Client, options: ServiceOptions, counters: Arc<Mutex<Counters>>) {
    let sets: Api<ReplicaSet> = Api::namespaced(client, &options.namespace);
    let mut events = watch(sets, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let mut counters = lock(&counters);
        counters.count(Instant::now());
        match event {
            Ok(Event::Apply(set) | Event::InitApply(set)) if is_of(&set, &options.deployment) => {
                counters.running.insert(set.metadata.name.clone().unwrap_or_default(), (ready(&set), share(&set)));
            }
            Ok(Event::Delete(set)) => drop(counters.running.remove(&set.metadata.name.unwrap_or_default())),
            Ok(Event::Init) => counters.running.clear(),
            Ok(Event::Apply(_) | Event::InitApply(_) | Event::InitDone) | Err(_) => {}
        }
    }
}

fn is_of(set: &ReplicaSet, deployment: &str) -> bool {
    let mut owners = set.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.kind == "Deployment" && owner.name == deployment)
}

fn ready(set: &ReplicaSet) -> f64 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default().into()
}

/// A value that is no percentage fails nothing.
fn share(set: &ReplicaSet) -> f64 {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let container = template.and_then(|template| template.spec.as_ref()?.containers.first());
    let variables = container.into_iter().flat_map(|container| container.env.iter().flatten());
    let value = variables.filter(|variable| variable.name == FAIL_PERCENT).find_map(|variable| variable.value.clone());
    let percent: f64 = value.and_then(|value| value.parse().ok()).unwrap_or_default();
    (percent / 100.0).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn counters() -> Counters {
        Counters::new(ServiceOptions {
            namespace: "shop".to_owned(),
            deployment: "checkout".to_owned(),
            requests_per_second: 100.0,
        })
    }

    fn counted(counters: &mut Counters, seconds: u64) -> (u64, u64) {
        let before = (counters.good, counters.bad);
        counters.count(counters.until + Duration::from_secs(seconds));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
        let whole = |count: f64| count.round() as u64;
        (whole(counters.good - before.0), whole(counters.bad - before.1))
    }

    #[test]
    fn requests_are_spread_over_ready_pods_and_fail_as_their_release_says() {
        let mut counters = counters();
        assert_eq!(counted(&mut counters, 10), (0, 0), "no ready pods, no requests");
        counters.running.insert("old".to_owned(), (3.0, 0.0));
        assert_eq!(counted(&mut counters, 10), (1000, 0));
        counters.running.insert("new".to_owned(), (1.0, 0.4));
        assert_eq!(counted(&mut counters, 10), (900, 100));
        counters.running.insert("old".to_owned(), (0.0, 0.0));
        assert_eq!(counted(&mut counters, 10), (600, 400));
    }

    #[test]
    fn a_test_may_take_over() {
        let mut counters = counters();
        counters.play = Play::Errors(0.25);
        assert_eq!(counted(&mut counters, 4), (300, 100));
        counters.play = Play::Silence;
        assert_eq!(counted(&mut counters, 4), (0, 0));
        let page = counters.page(counters.until).unwrap();
        assert!(page.contains("{namespace=\"shop\",app=\"checkout\",code=\"500\"} 100\n"), "{page}");
        counters.play = Play::Dark;
        assert_eq!(counters.page(counters.until), None);
    }
}
