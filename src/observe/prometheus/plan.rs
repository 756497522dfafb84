//! Which requests answer a question, and what their replies say.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Source;
use super::counting::{Count, Span};
use super::envelope::QueryResult;
use super::matcher::{LabelValue, Scope};
use super::queries::{Counter, Expression, Measure, VALUE_STALE_AFTER};
use super::readings::{self, Figure, Points};
use super::request::{Ask, Key, Request};
use crate::declaration::{Condition, Declaration, Objective, Trigger};
use crate::observation::{Answer, Question, Reading, Unknown};

/// Pilots ask at common instants, an interval divided by this apart, so that what is alike can be asked at once.
const INSTANTS: i32 = 10;

/// How a question will be answered.
pub(super) enum Plan {
    Counts { newest: Request, total: Count, bad: Count, stale_after: SignedDuration },
    FirstSample(Request),
    Value { value: Request, newest: Vec<Request> },
    Refused(String),
}

/// What came of each request.
pub(super) struct Replies<'a>(pub(super) BTreeMap<Key<'a>, Result<QueryResult, Unknown>>);

impl Source {
    pub(super) fn plan(&self, declaration: &Declaration, question: &Question, now: Timestamp) -> Plan {
        let scope: Scope =
            self.namespace_label.clone().map(|label| LabelValue { label, value: declaration.pilot.namespace.clone() });
        let shared = Ask { at: self.shared_instant(now), confirm: false, is_shared: true };
        let planned = match question {
            Question::Counts { slo, span, until, confirm } => objective(declaration, slo).and_then(|objective| {
                let is_window = declaration.windows_of(objective).any(|window| window == *span);
                // What a release did since it came is not mixed with what was a moment before.
                let is_long = is_window || *span >= self.evaluation_interval;
                let own = Ask { at: self.asked(*until), confirm: *confirm, is_shared: false };
                let ask = if !confirm && *until == now && is_long { shared } else { own };
                let (total, bad) = (parse(&objective.total, &scope)?, parse(&objective.bad, &scope)?);
                let begins = if is_window { ask.at } else { self.asked(*until) }.saturating_sub(*span);
                let span = Span { from: begins.unwrap_or(Timestamp::UNIX_EPOCH), window: is_window.then_some(*span) };
                let count = |counter| self.count(counter, span, ask);
                Ok(Plan::Counts {
                    newest: ask.of(&total, Measure::Newest(objective.stale_after)),
                    total: count(&total),
                    bad: count(&bad),
                    stale_after: objective.stale_after,
                })
            }),
            Question::FirstSample { slo } => objective(declaration, slo).and_then(|objective| {
                let total = parse(&objective.total, &scope)?;
                Ok(Plan::FirstSample(shared.of(&total, Measure::Oldest(objective.window))))
            }),
            Question::Value { query, at, confirm } => self.plan_value(&scope, query, *at, *confirm),
        };
        planned.unwrap_or_else(Plan::Refused)
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
        rounded_down(self.asked(now), self.evaluation_interval / INSTANTS)
    }

    /// The answer to a question, from the replies to the requests of its plan.
    pub(super) fn answer(&self, question: &Question, plan: &Plan, replies: &Replies<'_>) -> Answer {
        match plan {
            Plan::Counts { newest, total, bad, stale_after } => {
                let [total, bad] = [total, bad].map(|count| self.counted(count, replies));
                let newest_sample = replies.figure(newest);
                Answer::Counts(readings::counts(newest_sample, total, bad, newest.at, *stale_after))
            }
            Plan::FirstSample(request) => Answer::FirstSample(readings::timestamp(replies.figure(request))),
            Plan::Value { value, newest } => {
                let newest: Vec<_> = newest.iter().map(|request| replies.figure(request)).collect();
                Answer::Value(readings::value(replies.figure(value), &newest, value.at, VALUE_STALE_AFTER))
            }
            Plan::Refused(_) => match question {
                Question::Counts { .. } => Answer::Counts(Reading::Unknown(Unknown::QueryRefused)),
                Question::FirstSample { .. } => Answer::FirstSample(Reading::Unknown(Unknown::QueryRefused)),
                Question::Value { .. } => Answer::Value(Reading::Unknown(Unknown::QueryRefused)),
            },
        }
    }
}

impl Plan {
    pub(super) fn requests(&self) -> Vec<&Request> {
        match self {
            Self::Counts { newest, total, bad, .. } => {
                std::iter::once(newest).chain(total.requests()).chain(bad.requests()).collect()
            }
            Self::FirstSample(request) => vec![request],
            Self::Value { value, newest } => std::iter::once(value).chain(newest).collect(),
            Self::Refused(_) => Vec::new(),
        }
    }
}

impl Replies<'_> {
    /// The one number that a request yielded.
    pub(super) fn figure(&self, request: &Request) -> Figure {
        self.read(request, readings::figure)
    }

    /// The numbers that a request yielded for several times.
    pub(super) fn points(&self, request: &Request) -> Points {
        self.read(request, readings::points)
    }

    /// Every request of a plan has its reply; were one missing, it would still not be known.
    fn read<T>(&self, request: &Request, read: fn(&QueryResult) -> Result<T, Unknown>) -> Result<T, Unknown> {
        match self.0.get(&request.key()) {
            Some(Ok(result)) => read(result),
            Some(Err(why)) => Err(*why),
            None => Err(Unknown::SourceUnavailable),
        }
    }
}

/// The last multiple of a step, counted from 1970.
pub(super) fn rounded_down(instant: Timestamp, step: SignedDuration) -> Timestamp {
    let into = instant.as_nanosecond().rem_euclid(step.as_nanos().max(1));
    Timestamp::from_nanosecond(instant.as_nanosecond() - into).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What each request is asked for, as its owner calls it.
pub(super) fn subjects<'a>(declaration: &Declaration, plans: &'a [(&Question, Plan)]) -> BTreeMap<Key<'a>, String> {
    let mut subjects = BTreeMap::new();
    for (question, plan) in plans {
        let subject = subject(declaration, question);
        for request in plan.requests() {
            subjects.entry(request.key()).or_insert_with(|| subject.clone());
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

fn objective<'a>(declaration: &'a Declaration, slo: &str) -> Result<&'a Objective, String> {
    declaration.slo(slo).ok_or_else(|| format!("no SLO is named {slo:?}"))
}

fn parse(selector: &str, scope: &Scope) -> Result<Arc<Counter>, String> {
    Counter::parse(selector, scope).map(Arc::new).map_err(|error| error.to_string())
}
