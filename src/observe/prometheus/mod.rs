//! A metrics source: one Prometheus-compatible API that answers a pilot's questions.
//!
//! Flow: questions → queries (`queries`, confined by `matcher`), those of many pilots joined (`gather`) → requests
//! (`client`) → answers (`envelope`) → readings (`readings`). Every question gets an answer; what could not be measured is
//! Unknown with its reason. It never repeats a query within one round, never retries, and keeps no figures. A source that fails one query of an evaluation
//! is not asked again in that evaluation; one that is late with it may only find that query too heavy, and is (`link.rs`
//! finds out).

mod breaker;
pub mod client;
mod credentials;
pub mod envelope;
mod gather;
mod grouping;
mod link;
pub mod matcher;
mod problems;
pub mod queries;
pub mod readings;
mod slots;
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
use crate::declaration::{Condition, Declaration, PilotId, Trigger};
use crate::observation::{Answer, Question, Reading, Unknown};
use client::{Client, FailureKind};
use envelope::{QueryResult, Sample};
use gather::Gatherer;
use link::{Asked, Link};
use matcher::{LabelValue, Scope};
use problems::{Findings, Problems};
use queries::{Counter, Expression, Measure, VALUE_STALE_AFTER};
use readings::Figure;
use slots::{MOST_OF_ONE, Urgency};

/// Pilots ask at the same instants, which are so large a part of an interval apart: what is alike can be asked at once.
const INSTANTS: i32 = 10;

/// For so large a part of an interval questions are gathered.
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

/// One request: a query at an instant. A confirmation is never answered by the query that it confirms.
#[derive(Clone, Debug)]
struct Request {
    query: String,
    at: Timestamp,
    confirm: bool,
    /// What the query measures, if others may ask the like.
    measures: Option<(Counter, Measure)>,
}

/// How a question will be answered.
enum Plan {
    Counts { newest: Request, total: Request, bad: Request, stale_after: SignedDuration },
    FirstSample(Request),
    Value { value: Request, newest: Vec<Request> },
    Refused(String),
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

    fn plan(&self, declaration: &Declaration, question: &Question, now: Timestamp) -> Plan {
        let scope: Scope =
            self.namespace_label.clone().map(|label| LabelValue { label, value: declaration.pilot.namespace.clone() });
        let planned = match question {
            Question::Counts { slo, span, until, confirm } => {
                let is_shared = !confirm && *until == now;
                let at = if is_shared { self.shared_instant(now) } else { self.asked(*until) };
                let ask = Ask { at, confirm: *confirm, is_shared };
                self.plan_counts(declaration, &scope, slo, *span, ask)
            }
            Question::FirstSample { slo } => {
                let ask = Ask { at: self.shared_instant(now), confirm: false, is_shared: true };
                self.plan_first_sample(declaration, &scope, slo, ask)
            }
            Question::Value { query, at, confirm } => self.plan_value(&scope, query, *at, *confirm),
        };
        planned.unwrap_or_else(Plan::Refused)
    }

    fn plan_counts(
        &self,
        declaration: &Declaration,
        scope: &Scope,
        slo: &str,
        span: SignedDuration,
        ask: Ask,
    ) -> Result<Plan, String> {
        let objective = declaration.slo(slo).ok_or_else(|| no_slo(slo))?;
        let total = Counter::parse(&objective.total, scope).map_err(|error| error.to_string())?;
        let bad = Counter::parse(&objective.bad, scope).map_err(|error| error.to_string())?;
        Ok(Plan::Counts {
            newest: ask.of(&total, Measure::Newest(objective.stale_after)),
            total: ask.of(&total, Measure::Increase(span)),
            bad: ask.of(&bad, Measure::Increase(span)),
            stale_after: objective.stale_after,
        })
    }

    fn plan_first_sample(&self, declaration: &Declaration, scope: &Scope, slo: &str, ask: Ask) -> Result<Plan, String> {
        let objective = declaration.slo(slo).ok_or_else(|| no_slo(slo))?;
        let total = Counter::parse(&objective.total, scope).map_err(|error| error.to_string())?;
        Ok(Plan::FirstSample(ask.of(&total, Measure::Oldest(objective.window))))
    }

    fn plan_value(&self, scope: &Scope, query: &str, at: Timestamp, confirm: bool) -> Result<Plan, String> {
        let expression = Expression::parse(query, scope, self.dialect).map_err(|error| error.to_string())?;
        let request = |query| Request { query, at: self.asked(at), confirm, measures: None };
        let newest = expression.newest.into_iter().map(request).collect();
        Ok(Plan::Value { value: request(expression.query), newest })
    }

    fn asked(&self, instant: Timestamp) -> Timestamp {
        instant.saturating_sub(self.query_offset).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The instant at which everybody asks who asks now.
    fn shared_instant(&self, now: Timestamp) -> Timestamp {
        let asked = self.asked(now).as_nanosecond();
        let step = (self.evaluation_interval / INSTANTS).as_nanos().max(1);
        Timestamp::from_nanosecond(asked - asked.rem_euclid(step)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// When a counter is measured, and how.
#[derive(Clone, Copy)]
struct Ask {
    at: Timestamp,
    confirm: bool,
    /// Others may ask the like.
    is_shared: bool,
}

impl Ask {
    fn of(self, counter: &Counter, measure: Measure) -> Request {
        let measures = self.is_shared.then(|| (counter.clone(), measure));
        Request { query: counter.query(measure), at: self.at, confirm: self.confirm, measures }
    }
}

impl Request {
    const fn key(&self) -> (&String, Timestamp, bool) {
        (&self.query, self.at, self.confirm)
    }
}

impl PartialEq for Request {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Request {}

impl PartialOrd for Request {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Request {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
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
        let figures: BTreeMap<&Request, Figure> = shared
            .into_iter()
            .chain(own)
            .map(|(place, asked)| {
                let request = requests[place];
                let subject = subjects.get(request).map_or("", String::as_str);
                (request, self.figure(request, subject, asked))
            })
            .collect();
        plans.iter().map(|(question, plan)| ((*question).clone(), answer(question, plan, &figures))).collect()
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
        turned.flat_map(|(_, plan)| plan.requests()).filter(|request| known.insert(*request)).collect()
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

    fn figure(&mut self, request: &Request, subject: &str, asked: Option<Asked>) -> Figure {
        let findings = &mut self.findings;
        let Some(Asked { reply, took }) = asked else { return Err(Unknown::SourceUnavailable) };
        if let Some(took) = took {
            findings.note_time(subject, took);
        }
        let reply = match reply {
            Ok(reply) => reply,
            Err(failure) if failure.kind == FailureKind::Refused => {
                findings.has_answered = true;
                findings
                    .complain(Unknown::QueryRefused, format!("{}; the query was {}", failure.message, request.query));
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
        let figure = readings::figure(&reply.result);
        if figure == Err(Unknown::QueryRefused) {
            let what = yields(&reply.result);
            findings
                .complain(Unknown::QueryRefused, format!("{} yields {what} where one number is needed", request.query));
        }
        figure
    }
}

/// What each request is asked for, as its owner calls it.
fn subjects<'a>(declaration: &Declaration, plans: &'a [(&Question, Plan)]) -> BTreeMap<&'a Request, String> {
    let mut subjects = BTreeMap::new();
    for (question, plan) in plans {
        let subject = subject(declaration, question);
        for request in plan.requests() {
            subjects.entry(request).or_insert_with(|| subject.clone());
        }
    }
    subjects
}

fn subject(declaration: &Declaration, question: &Question) -> String {
    let query = match question {
        Question::Counts { slo, .. } | Question::FirstSample { slo } => return format!("SLO {slo}"),
        Question::Value { query, .. } => query,
    };
    let asks = |trigger: &&Trigger| matches!(&trigger.when, Condition::PromQl { query: of, .. } if of == query);
    let of_dependency = || declaration.dependencies.iter().find(|dependency| dependency.query == *query);
    match declaration.triggers.iter().find(asks) {
        Some(trigger) => format!("trigger {}", trigger.name),
        None => of_dependency().map_or_else(String::new, |dependency| format!("dependency {}", dependency.name)),
    }
}

/// Another address, account, tenant or label shows other series under the same selector.
fn data_of(spec: &MetricsSourceSpec) -> u64 {
    let digest = digest(&json!([spec.url, spec.auth, spec.tenant, spec.namespace_label]));
    digest.get(..16).and_then(|start| u64::from_str_radix(start, 16).ok()).unwrap_or_default()
}

fn no_slo(slo: &str) -> String {
    format!("no SLO is named {slo:?}")
}

impl Plan {
    fn requests(&self) -> Vec<&Request> {
        match self {
            Self::Counts { newest, total, bad, .. } => vec![newest, total, bad],
            Self::FirstSample(request) => vec![request],
            Self::Value { value, newest } => std::iter::once(value).chain(newest).collect(),
            Self::Refused(_) => Vec::new(),
        }
    }
}

fn answer(question: &Question, plan: &Plan, figures: &BTreeMap<&Request, Figure>) -> Answer {
    // Every request of a plan has its figure; were one missing, it would still not be known.
    let figure = |request: &Request| figures.get(request).copied().unwrap_or(Err(Unknown::SourceUnavailable));
    match plan {
        Plan::Counts { newest, total, bad, stale_after } => {
            Answer::Counts(readings::counts(figure(newest), figure(total), figure(bad), newest.at, *stale_after))
        }
        Plan::FirstSample(request) => Answer::FirstSample(readings::timestamp(figure(request))),
        Plan::Value { value, newest } => {
            let newest: Vec<_> = newest.iter().map(figure).collect();
            Answer::Value(readings::value(figure(value), &newest, value.at, VALUE_STALE_AFTER))
        }
        Plan::Refused(_) => match question {
            Question::Counts { .. } => Answer::Counts(Reading::Unknown(Unknown::QueryRefused)),
            Question::FirstSample { .. } => Answer::FirstSample(Reading::Unknown(Unknown::QueryRefused)),
            Question::Value { .. } => Answer::Value(Reading::Unknown(Unknown::QueryRefused)),
        },
    }
}

fn yields(result: &QueryResult) -> String {
    match result {
        QueryResult::Other(kind) => format!("a {kind}"),
        QueryResult::Vector(rows) if rows.iter().any(|row| row.sample == Sample::Histogram) => {
            "a native histogram; wrap it in histogram_count() or histogram_fraction()".to_owned()
        }
        _ => "something else".to_owned(),
    }
}
