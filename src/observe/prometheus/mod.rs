//! A metrics source: one Prometheus-compatible API that answers a pilot's questions.
//!
//! Flow: questions → requests (`plan`, `counting`), their queries (`queries`, confined by `matcher`), those of many pilots
//! joined (`gather`) → answers (`client`, `envelope`) → readings (`readings`). Every question gets an answer; what could not
//! be measured is Unknown with its reason. It never repeats a query within one round and never retries; of figures it keeps
//! only running counts. A source that fails one query of an evaluation is not asked again in that evaluation; one that is
//! late with it may only find that query too heavy, and is (`link.rs` finds out).

mod breaker;
pub mod client;
mod counting;
mod credentials;
pub mod envelope;
mod gather;
mod grouping;
mod link;
pub mod matcher;
mod plan;
mod problems;
pub mod queries;
pub mod readings;
mod request;
mod slots;
mod tally;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{join, join_all};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

pub use breaker::BreakerState;
pub use credentials::{Credentials, CredentialsError};
pub use link::Transport;
pub use problems::{Problem, Said};
pub use slots::MAX_IN_FLIGHT;

use crate::api::metrics_source::{Dialect, MetricsSourceSpec};
use crate::canonical::digest;
use crate::decide::SourceFacts;
use crate::declaration::{Declaration, PilotId};
use crate::observation::{Answer, Question, Unknown};
use client::{Client, FailureKind};
use counting::Tallies;
use envelope::{QueryResult, Sample};
use gather::Gatherer;
use link::{Asked, Link};
use plan::{Plan, Replies, subjects};
use problems::{Findings, Problems};
use queries::Measure;
use request::Request;
use slots::{MOST_OF_ONE, Urgency};

/// Questions are gathered for an interval divided by this.
const MOMENTS: u32 = 50;

/// A Prometheus-compatible API.
pub struct Source {
    name: String,
    url: String,
    namespace_label: Option<String>,
    dialect: Dialect,
    /// As in [`SourceFacts::data`].
    data: u64,
    evaluation_interval: SignedDuration,
    query_offset: SignedDuration,
    link: Arc<Link>,
    gatherer: Arc<Gatherer>,
    tallies: Tallies,
    /// How many rounds of questions there were.
    rounds: AtomicUsize,
    problems: Mutex<Problems>,
}

/// The questions of one evaluation of one pilot, in as many rounds as it takes.
pub struct Conversation<'a> {
    source: &'a Source,
    declaration: &'a Declaration,
    /// What has not been answered by then stays Unknown.
    ends_at: Instant,
    findings: Findings,
}

impl Source {
    /// A source by this name. The error says why its specification cannot be used.
    pub fn new(name: &str, spec: &MetricsSourceSpec, credentials: Credentials) -> Result<Self, String> {
        Ok(Self::over(name, spec, Box::new(Client::new(spec, credentials)?)))
    }

    /// A source that is reached in a way of its own.
    pub fn over(name: &str, spec: &MetricsSourceSpec, transport: Box<dyn Transport>) -> Self {
        let link = Arc::new(Link::new(transport, client::timeout(spec)));
        let interval = spec.evaluation_interval.as_signed();
        let gatherer = Gatherer::new(Arc::clone(&link), interval.unsigned_abs() / MOMENTS);
        Self {
            name: name.to_owned(),
            url: spec.url.clone(),
            namespace_label: spec.namespace_label.clone(),
            dialect: spec.dialect,
            evaluation_interval: interval,
            query_offset: spec.query_offset.as_signed(),
            link,
            gatherer: Arc::new(gatherer),
            tallies: Tallies::default(),
            rounds: AtomicUsize::new(0),
            data: data_of(spec),
            problems: Mutex::default(),
        }
    }

    /// How it is read, as far as judging depends on it.
    pub const fn facts(&self) -> SourceFacts {
        SourceFacts {
            evaluation_interval: self.evaluation_interval,
            query_offset: self.query_offset,
            data: Some(self.data),
        }
    }

    /// Begins an evaluation's conversation, which is over at `ends_at`.
    pub fn converse<'a>(&'a self, declaration: &'a Declaration, ends_at: Instant) -> Conversation<'a> {
        Conversation { source: self, declaration, ends_at, findings: Findings::default() }
    }

    /// Why the source as a whole does not answer. Nothing: it does.
    pub fn outage(&self) -> Option<Problem> {
        self.problems().outage().cloned()
    }

    /// What concerns a pilot: an outage of the source, else what is wrong with the pilot's own queries.
    pub fn problem_for(&self, pilot: &PilotId) -> Option<Problem> {
        let problems = self.problems();
        problems.outage().or_else(|| problems.complaint(pilot)).cloned()
    }

    /// Whether queries pass, or the source is known not to answer.
    pub fn breaker(&self) -> BreakerState {
        self.link.state()
    }

    /// Whether the source refused the credentials when it was last asked.
    pub fn is_unauthenticated(&self) -> bool {
        self.problems().is_unauthenticated()
    }

    fn problems(&self) -> MutexGuard<'_, Problems> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversation<'_> {
    /// Answers every question at the evaluation instant `now`. Queries run side by side, two at most for each pilot beside
    /// those that are asked together with other pilots.
    pub async fn ask(&mut self, questions: &BTreeSet<Question>, now: Timestamp) -> BTreeMap<Question, Answer> {
        let plans: Vec<(&Question, Plan)> =
            questions.iter().map(|question| (question, self.source.plan(self.declaration, question, now))).collect();
        let has_failed = AtomicBool::new(self.findings.has_failed());
        let is_taken = self.source.gatherer.takes(&self.declaration.pilot);
        let requests = self.in_turn(&plans);
        let is_shared = |request: &Request| is_taken && request.measures.is_some();
        let (mut shared, mut own) = (Vec::new(), Vec::new());
        for (place, request) in requests.iter().enumerate() {
            let sent = self.send((place, request), is_shared(request), &has_failed);
            if is_shared(request) { shared.push(sent) } else { own.push(sent) }
        }
        let own = stream::iter(own).buffer_unordered(MOST_OF_ONE).collect::<Vec<_>>();
        let (shared, own) = join(join_all(shared), own).await;
        for (_, plan) in &plans {
            if let Plan::Refused(message) = plan {
                self.findings.complain(Unknown::QueryRefused, message.clone());
            }
        }
        let subjects = subjects(self.declaration, &plans);
        let read = shared.into_iter().chain(own).map(|(place, asked)| {
            let request = requests[place];
            let subject = subjects.get(&request.key()).map_or("", String::as_str);
            (request.key(), self.read(request, subject, asked))
        });
        let replies = Replies(read.collect());
        let answer = |question: &Question, plan| (question.clone(), self.source.answer(question, plan, &replies));
        plans.iter().map(|(question, plan)| answer(question, plan)).collect()
    }

    /// Ends it; returns what there is to be said to the pilot.
    pub fn end(self) -> Said {
        let Self { source, declaration, findings, .. } = self;
        let name = format!("{} at {}", source.name, source.url);
        source.link.note(&declaration.pilot, findings.is_slow());
        source.gatherer.note(&declaration.pilot, findings.are_none());
        let is_known_down = source.breaker() != BreakerState::Closed;
        let mut problems = source.problems();
        let slow = problems.remember_slow(&declaration.pilot, &findings).filter(|_| !is_known_down);
        problems.remember(&name, &declaration.pilot, findings, is_known_down);
        drop(problems);
        Said { problem: source.problem_for(&declaration.pilot), slow }
    }

    /// Each request once, those of one question together. Every round begins with another question, so that where time
    /// runs out it is not always the same ones that stay unanswered.
    fn in_turn<'a>(&self, plans: &'a [(&Question, Plan)]) -> Vec<&'a Request> {
        let first = self.source.rounds.fetch_add(1, Ordering::Relaxed) % plans.len().max(1);
        let mut known = BTreeSet::new();
        let turned = plans[first..].iter().chain(&plans[..first]);
        turned.flat_map(|(_, plan)| plan.requests()).filter(|request| known.insert(request.key())).collect()
    }

    /// Sends a request, unless one before it has failed.
    async fn send(
        &self,
        (place, request): (usize, &Request),
        is_shared: bool,
        has_failed: &AtomicBool,
    ) -> (usize, Option<Asked>) {
        if has_failed.load(Ordering::Relaxed) {
            return (place, None);
        }
        let urgency = if request.confirm { Urgency::Confirms(self.ends_at) } else { Urgency::Ordinary };
        let (source, pilot) = (self.source, &self.declaration.pilot);
        let asking = async {
            match &request.measures {
                Some((counter, measure)) if is_shared => {
                    source.gatherer.ask(pilot, counter, *measure, request.at).await
                }
                _ => source.link.ask(pilot, urgency, &request.query, request.at).await,
            }
        };
        let asked = timeout_at(self.ends_at, asking).await.unwrap_or_else(|_| {
            let why = "did not answer all queries of one evaluation in time; look for slow queries".to_owned();
            Asked { reply: Err(client::late(why)), took: None }
        });
        let fails = |kind| matches!(kind, FailureKind::Unavailable | FailureKind::Unauthenticated);
        if asked.reply.as_ref().is_err_and(|failure| fails(failure.kind)) {
            has_failed.store(true, Ordering::Relaxed);
        }
        (place, Some(asked))
    }

    /// What a request yielded, or why it is not known.
    fn read(&mut self, request: &Request, subject: &str, asked: Option<Asked>) -> Result<QueryResult, Unknown> {
        let findings = &mut self.findings;
        let Some(Asked { reply, took }) = asked else { return Err(Unknown::SourceUnavailable) };
        if let Some(took) = took {
            findings.note_time(subject, took);
        }
        let reply = match reply {
            Ok(reply) => reply,
            Err(failure) if failure.kind == FailureKind::Refused => {
                findings.has_answered = true;
                let asked = problems::asked(&request.query, subject);
                findings.complain(Unknown::QueryRefused, format!("{}; the query was {asked}", failure.message));
                return Err(Unknown::QueryRefused);
            }
            Err(failure) => {
                findings.fail(failure, subject, &request.query);
                return Err(Unknown::SourceUnavailable);
            }
        };
        findings.has_answered = true;
        if let Some(warning) = reply.warnings.first() {
            findings.complain(Unknown::Partial, format!("answered with a warning: {warning}"));
            return Err(Unknown::Partial);
        }
        let is_number = !matches!(request.measures, Some((_, Measure::History { .. })));
        if is_number && readings::figure(&reply.result) == Err(Unknown::QueryRefused) {
            let what = yields(&reply.result);
            let asked = problems::asked(&request.query, subject);
            findings.complain(Unknown::QueryRefused, format!("{asked} yields {what} where one number is needed"));
        }
        Ok(reply.result)
    }
}

/// Another address, account, tenant or label shows other series under the same selector.
fn data_of(spec: &MetricsSourceSpec) -> u64 {
    let digest = digest(&json!([spec.url, spec.auth, spec.tenant, spec.namespace_label]));
    digest.get(..16).and_then(|start| u64::from_str_radix(start, 16).ok()).unwrap_or_default()
}

fn yields(result: &QueryResult) -> String {
    match result {
        QueryResult::Matrix(_) => "a matrix".to_owned(),
        QueryResult::Other(kind) => format!("a {kind}"),
        QueryResult::Vector(rows) if rows.iter().any(|row| row.sample == Sample::Histogram) => {
            "a native histogram; wrap it in histogram_count() or histogram_fraction()".to_owned()
        }
        _ => "something else".to_owned(),
    }
}
