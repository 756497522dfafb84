//! A metrics source: one Prometheus-compatible API that answers a pilot's questions.
//!
//! Flow: questions → queries (`queries`, confined by `matcher`) → requests (`client`) → answers (`envelope`) →
//! readings (`readings`). Every question gets an answer; what could not be measured is Unknown with its reason.
//! It never repeats a query within one call, never retries, and keeps no figures.

pub mod client;
mod credentials;
pub mod envelope;
pub mod matcher;
pub mod queries;
pub mod readings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

pub use credentials::{Credentials, CredentialsError};

use crate::api::metrics_source::MetricsSourceSpec;
use crate::decide::SourceFacts;
use crate::declaration::{Declaration, PilotId};
use crate::observation::{Answer, Question, Reading, Unknown};
use client::{Client, Failure, FailureKind};
use envelope::{QueryResult, Sample};
use matcher::{LabelValue, Scope};
use queries::{Counter, Expression, VALUE_STALE_AFTER};
use readings::Figure;

/// What last went wrong with a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `SourceUnavailable`, `QueryRefused` or `Partial`.
    pub reason: Unknown,
    /// The source, what happened and what to look at, in one sentence. It holds no credential.
    pub message: String,
}

/// A Prometheus-compatible API.
pub struct Source {
    name: String,
    url: String,
    namespace_label: Option<String>,
    evaluation_interval: SignedDuration,
    query_offset: SignedDuration,
    client: Client,
    state: Mutex<State>,
}

/// What the latest calls found wrong.
#[derive(Default)]
struct State {
    /// The source as a whole; ends with the first query that it answers.
    outage: Option<Problem>,
    is_unauthenticated: bool,
    /// What is wrong with each pilot's own queries; ends when they are answered.
    complaints: BTreeMap<PilotId, Problem>,
}

/// One request: a query at an instant. A confirmation is never answered by the query that it confirms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    query: String,
    at: Timestamp,
    confirm: bool,
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
        Ok(Self {
            name: name.to_owned(),
            url: spec.url.clone(),
            namespace_label: spec.namespace_label.clone(),
            evaluation_interval: spec.evaluation_interval.as_signed(),
            query_offset: spec.query_offset.as_signed(),
            client: Client::new(spec, credentials)?,
            state: Mutex::default(),
        })
    }

    /// How it is read, as far as judging depends on it.
    pub const fn facts(&self) -> SourceFacts {
        SourceFacts { evaluation_interval: self.evaluation_interval, query_offset: self.query_offset }
    }

    /// Answers every question at the evaluation instant `now`. Queries run side by side, four at most for each source.
    pub async fn ask(
        &self,
        declaration: &Declaration,
        questions: &BTreeSet<Question>,
        now: Timestamp,
    ) -> BTreeMap<Question, Answer> {
        let plans: Vec<(&Question, Plan)> =
            questions.iter().map(|question| (question, self.plan(declaration, question, now))).collect();
        let requests: BTreeSet<&Request> = plans.iter().flat_map(|(_, plan)| plan.requests()).collect();
        let replies = join_all(requests.into_iter().map(|request| async move {
            let reply = self.client.query(&request.query, request.at).await;
            (request, reply)
        }))
        .await;
        let mut findings = Findings::default();
        for (_, plan) in &plans {
            if let Plan::Refused(message) = plan {
                findings.complain(Unknown::QueryRefused, message.clone());
            }
        }
        let figures: BTreeMap<&Request, Figure> =
            replies.into_iter().map(|(request, reply)| (request, findings.figure(request, reply))).collect();
        self.remember(&declaration.pilot, findings);
        plans.iter().map(|(question, plan)| ((*question).clone(), answer(question, plan, &figures))).collect()
    }

    /// Why the source as a whole did not answer when it was last asked.
    pub fn outage(&self) -> Option<Problem> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).outage.clone()
    }

    /// What last went wrong for a pilot: an outage of the source, else what is wrong with its own queries. Another
    /// pilot's queries are none of its business.
    pub fn problem_of(&self, pilot: &PilotId) -> Option<Problem> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.outage.clone().or_else(|| state.complaints.get(pilot).cloned())
    }

    /// Whether the source refused the credentials when it was last asked.
    pub fn is_unauthenticated(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_unauthenticated
    }

    fn plan(&self, declaration: &Declaration, question: &Question, now: Timestamp) -> Plan {
        let scope: Scope =
            self.namespace_label.clone().map(|label| LabelValue { label, value: declaration.pilot.namespace.clone() });
        let planned = match question {
            Question::Counts { slo, span, until, confirm } => {
                self.plan_counts(declaration, &scope, slo, *span, *until, *confirm)
            }
            Question::FirstSample { slo } => self.plan_first_sample(declaration, &scope, slo, now),
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
        until: Timestamp,
        confirm: bool,
    ) -> Result<Plan, String> {
        let objective = declaration.slo(slo).ok_or_else(|| no_slo(slo))?;
        let total = Counter::parse(&objective.total, scope).map_err(|error| error.to_string())?;
        let bad = Counter::parse(&objective.bad, scope).map_err(|error| error.to_string())?;
        let request = |query| Request { query, at: self.asked(until), confirm };
        Ok(Plan::Counts {
            newest: request(total.newest(objective.stale_after)),
            total: request(total.increase(span)),
            bad: request(bad.increase(span)),
            stale_after: objective.stale_after,
        })
    }

    fn plan_first_sample(
        &self,
        declaration: &Declaration,
        scope: &Scope,
        slo: &str,
        now: Timestamp,
    ) -> Result<Plan, String> {
        let objective = declaration.slo(slo).ok_or_else(|| no_slo(slo))?;
        let total = Counter::parse(&objective.total, scope).map_err(|error| error.to_string())?;
        let query = total.oldest(objective.window);
        Ok(Plan::FirstSample(Request { query, at: self.asked(now), confirm: false }))
    }

    fn plan_value(&self, scope: &Scope, query: &str, at: Timestamp, confirm: bool) -> Result<Plan, String> {
        let expression = Expression::parse(query, scope).map_err(|error| error.to_string())?;
        let request = |query| Request { query, at: self.asked(at), confirm };
        let newest = expression.newest.into_iter().map(request).collect();
        Ok(Plan::Value { value: request(expression.query), newest })
    }

    fn asked(&self, instant: Timestamp) -> Timestamp {
        instant.saturating_sub(self.query_offset).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn remember(&self, pilot: &PilotId, findings: Findings) {
        let problem =
            |(reason, message)| Problem { reason, message: format!("{} at {}: {message}", self.name, self.url) };
        let outage = findings.outage.map(|message| problem((Unknown::SourceUnavailable, message)));
        let complaint = findings.complaint.map(|(reason, message)| {
            problem((reason, format!("{message} (pilot {}/{})", pilot.namespace, pilot.name)))
        });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if outage.is_some() || findings.has_answered {
            report(state.outage.as_ref(), outage.as_ref(), &self.name);
            state.outage = outage;
            state.is_unauthenticated = findings.is_unauthenticated;
        }
        match complaint {
            Some(complaint) => drop(state.complaints.insert(pilot.clone(), complaint)),
            None => drop(state.complaints.remove(pilot)),
        }
    }
}

/// Logs an outage once when it begins or changes, and once when it ends.
fn report(before: Option<&Problem>, after: Option<&Problem>, source: &str) {
    match (before, after) {
        (before, Some(after)) if before != Some(after) => {
            tracing::warn!(source, problem = %after.message, "metrics source is unavailable");
        }
        (Some(_), None) => tracing::info!(source, "metrics source answers again"),
        _ => {}
    }
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
    // Every request of a plan was sent; were one missing, its figure would still not be known.
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

/// What one call found wrong; of each kind the first in the order of the queries.
#[derive(Default)]
struct Findings {
    has_answered: bool,
    is_unauthenticated: bool,
    outage: Option<String>,
    complaint: Option<(Unknown, String)>,
}

impl Findings {
    fn figure(&mut self, request: &Request, reply: Result<client::Reply, Failure>) -> Figure {
        let reply = match reply {
            Ok(reply) => reply,
            Err(failure) if failure.kind == FailureKind::Refused => {
                self.has_answered = true;
                self.complain(Unknown::QueryRefused, format!("{}; the query was {}", failure.message, request.query));
                return Err(Unknown::QueryRefused);
            }
            Err(failure) => {
                self.is_unauthenticated |= failure.kind == FailureKind::Unauthenticated;
                self.outage.get_or_insert(failure.message);
                return Err(Unknown::SourceUnavailable);
            }
        };
        self.has_answered = true;
        if let Some(warning) = reply.warnings.first() {
            self.complain(Unknown::Partial, format!("answered with a warning: {warning}"));
            return Err(Unknown::Partial);
        }
        let figure = readings::figure(&reply.result);
        if figure == Err(Unknown::QueryRefused) {
            let what = yields(&reply.result);
            self.complain(Unknown::QueryRefused, format!("{} yields {what} where one number is needed", request.query));
        }
        figure
    }

    fn complain(&mut self, reason: Unknown, message: String) {
        self.complaint.get_or_insert((reason, message));
    }
}

fn yields(result: &QueryResult) -> String {
    match result {
        QueryResult::Other(kind) => format!("a {kind}"),
        QueryResult::Vector(rows) if rows.contains(&Sample::Histogram) => {
            "a native histogram; wrap it in histogram_count() or histogram_fraction()".to_owned()
        }
        _ => "something else".to_owned(),
    }
}
