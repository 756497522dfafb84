//! Metrics sources that answer as a test tells them to, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use pilotguard::observe::prometheus::Transport;
use pilotguard::observe::prometheus::client::{Failure, FailureKind, Reply};
use pilotguard::observe::prometheus::envelope::{QueryResult, Sample, Samples, Series};
use tokio::time::Instant;

/// What a source does with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers after a few milliseconds.
    Answers,
    /// Accepts and never answers.
    Hangs,
    /// Breaks the connection off.
    Drops,
    /// Answers that there is no such series.
    Lacks,
    /// Answers after so long.
    Dawdles(Duration),
    /// Answers what reads nothing, and never answers what reads a series.
    Lies,
}

/// A query that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Instant,
    pub query: String,
}

#[derive(Default)]
struct State {
    manner: Option<Manner>,
    /// How queries whose text contains a piece are treated instead.
    exceptions: Vec<(String, Manner)>,
    values: BTreeMap<String, f64>,
    /// The apps all of whose requests fail.
    failing: BTreeSet<String>,
    arrivals: Vec<Arrival>,
    in_flight: usize,
    most_in_flight: usize,
}

/// One source.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<State>>);

impl Metrics {
    pub fn new(manner: Manner) -> Self {
        let metrics = Self::default();
        metrics.behave(manner);
        metrics
    }

    pub fn behave(&self, manner: Manner) {
        self.lock().manner = Some(manner);
    }

    /// Treats queries that contain this piece in a way of their own.
    pub fn except(&self, piece: &str, manner: Manner) {
        self.lock().exceptions.push((piece.to_owned(), manner));
    }

    /// Treats all queries alike again.
    pub fn forgive(&self) {
        self.lock().exceptions.clear();
    }

    /// The value of an expression from now on; every other one yields 0.
    pub fn set(&self, query: &str, value: f64) {
        self.lock().values.insert(query.to_owned(), value);
    }

    /// Has all requests of an app fail from now on.
    pub fn fail(&self, app: &str) {
        self.lock().failing.insert(app.to_owned());
    }

    /// When this very query arrived.
    pub fn arrivals(&self, query: &str) -> Vec<Instant> {
        self.lock().arrivals.iter().filter(|arrival| arrival.query == query).map(|arrival| arrival.at).collect()
    }

    /// How many queries arrived since an instant that contain this piece.
    pub fn containing(&self, piece: &str, since: Instant) -> usize {
        let state = self.lock();
        state.arrivals.iter().filter(|arrival| arrival.at >= since && arrival.query.contains(piece)).count()
    }

    /// How many queries arrived.
    pub fn count(&self) -> usize {
        self.lock().arrivals.len()
    }

    pub fn most_in_flight(&self) -> usize {
        self.lock().most_in_flight
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn arrive(&self, query: &str) -> (Manner, InFlight) {
        let mut state = self.lock();
        state.arrivals.push(Arrival { at: Instant::now(), query: query.to_owned() });
        state.in_flight += 1;
        state.most_in_flight = state.most_in_flight.max(state.in_flight);
        let exception = state.exceptions.iter().find(|(piece, _)| query.contains(piece)).map(|(_, manner)| *manner);
        (exception.or(state.manner).unwrap_or(Manner::Answers), InFlight(self.clone()))
    }

    fn answer(&self, query: &str, at: Timestamp) -> Reply {
        let series = |app: Option<&str>| Series {
            labels: app.map(|app| ("app".to_owned(), app.to_owned())).into_iter().collect(),
            sample: Sample::Float(self.value(query, app.or_else(|| only_app(query)), at)),
        };
        let rows: Vec<Series> = match apps(query) {
            Some(apps) => apps.split('|').map(|app| series(Some(&app.replace(r"\\", "")))).collect(),
            None => vec![series(None)],
        };
        // A subquery yields numbers for several times; here nothing happened before now.
        let nothing = |row: Series| Samples { labels: row.labels, points: Vec::new() };
        let result = if query.ends_with(']') {
            QueryResult::Matrix(rows.into_iter().map(nothing).collect())
        } else {
            QueryResult::Vector(rows)
        };
        Reply { result, warnings: Vec::new() }
    }

    /// A hundred requests in whatever span they are counted.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    fn value(&self, query: &str, app: Option<&str>, at: Timestamp) -> f64 {
        let state = self.lock();
        match state.values.get(query) {
            Some(value) => *value,
            None if query.contains("timestamp(") => at.as_second() as f64,
            None if query.contains("code=") => app.filter(|app| state.failing.contains(*app)).map_or(0.0, |_| 100.0),
            None if query.contains("requests_total") => 100.0,
            None => 0.0,
        }
    }
}

/// The apps of a query that reads several.
fn apps(query: &str) -> Option<&str> {
    query.split_once(r#"app=~""#)?.1.split_once('"').map(|(apps, _)| apps)
}

fn only_app(query: &str) -> Option<&str> {
    query.split_once(r#"app=""#)?.1.split_once('"').map(|(app, _)| app)
}

/// A query that is being answered, also when nobody waits for the answer any more.
struct InFlight(Metrics);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl Transport for Metrics {
    fn query<'a>(&'a self, query: &'a str, at: Timestamp) -> BoxFuture<'a, Result<Reply, Failure>> {
        async move {
            let (manner, _in_flight) = self.arrive(query);
            match manner {
                Manner::Lacks => return Ok(Reply { result: QueryResult::Vector(Vec::new()), warnings: Vec::new() }),
                Manner::Answers => tokio::time::sleep(Duration::from_millis(5)).await,
                Manner::Dawdles(pause) => tokio::time::sleep(pause).await,
                Manner::Lies if query == "vector(1)" => {}
                Manner::Lies | Manner::Hangs => std::future::pending().await,
                Manner::Drops => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let message = "broke off: connection closed".to_owned();
                    return Err(Failure { kind: FailureKind::Unavailable, message });
                }
            }
            Ok(self.answer(query, at))
        }
        .boxed()
    }
}
