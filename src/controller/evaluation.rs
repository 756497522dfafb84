//! One evaluation of a pilot: observe, decide, ask what the decision needs, decide again.
//!
//! Nothing is written here. A plan that users would feel rests on a live reading of the workload and of the
//! Decisions, never on a cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::rehearsal::rehearse;
use crate::admit::pilots::WorkloadKey;
use crate::decide::pilot::decide;
use crate::decide::plan::Plan;
use crate::decide::{Case, Ledger, SourceFacts};
use crate::declaration::Declaration;
use crate::observation::{Answer, Claimed, Observation, Question, Reading, Unknown, Workload};
use crate::observe::cluster::ObserveError;
use crate::observe::configuration;
use crate::observe::prometheus::{Conversation, Problem, Source};
use crate::report::surroundings::SourceState;

/// More rounds of questions than any case needs; the timelines of `tests/core` never see more than four. What is
/// still missing then stays Unknown.
const MOST_ROUNDS: usize = 8;

/// Time for which an evaluation waits for metrics, all rounds together: figures that are older say little about now, and people's
/// Decisions are heard at the next evaluation. What is still missing then stays Unknown.
const METRICS_DEADLINE: Duration = Duration::from_secs(20);

/// One round rehearses all that a plan restores; what it leaves open is done as it is stored.
const MOST_REHEARSALS: usize = 2;

/// How a pilot is looked at whose metrics source cannot be read.
const WITHOUT_SOURCE: SourceFacts =
    SourceFacts { evaluation_interval: SignedDuration::from_secs(15), query_offset: SignedDuration::ZERO, data: None };

/// What one evaluation found and decided.
#[derive(Debug)]
pub struct Evaluation {
    /// What was seen.
    pub seen: Observation,
    /// How the metrics source is read.
    pub source: SourceFacts,
    /// How it answers.
    pub source_state: SourceState,
    /// What is to be done.
    pub plan: Plan,
    /// Why the cluster could not be read live for a plan that needs it. Then the plan holds only what may be done without
    /// ([`Plan::without_live_reading`]), and the evaluation has failed.
    pub unconfirmed: Option<ObserveError>,
}

impl Evaluation {
    /// The pilot's workloads; none where one belongs to another Pilot.
    pub fn own_workloads(&self) -> &[Workload] {
        if self.seen.claimed.is_none() { &self.seen.workloads } else { &[] }
    }
}

/// Observes a pilot and decides; effects and status are left to the caller.
pub async fn observe_and_decide(
    context: &Context,
    declaration: &Declaration,
    ledger: &Ledger,
    now: Timestamp,
) -> Result<Evaluation, ObserveError> {
    let ends_at = Instant::now() + METRICS_DEADLINE;
    let source = find_source(context, declaration, ends_at).await;
    let facts = source.as_ref().map_or(WITHOUT_SOURCE, |source| source.facts());
    let mut metrics = match &source {
        Ok(source) => Metrics::Source(source.converse(declaration, ends_at)),
        Err(problem) => Metrics::Problem(problem),
    };
    configuration::refresh(&context.cluster, context.writer.client(), declaration).await?;
    let mut seen = context.cluster.observe(declaration);
    seen.claimed = claimed(context, declaration);
    let mut plan = settle((&mut metrics, facts), declaration, &mut seen, ledger, now).await;
    if plan.is_destructive() {
        match context.cluster.observe_live(context.writer.client(), declaration).await {
            Ok(live) => seen = Observation { claimed: seen.claimed, answers: seen.answers, ..live },
            Err(error) => {
                let (plan, unconfirmed) = (plan.without_live_reading(), Some(error));
                return Ok(Evaluation { seen, source: facts, source_state: metrics.end(), plan, unconfirmed });
            }
        }
        plan = settle((&mut metrics, facts), declaration, &mut seen, ledger, now).await;
    }
    for _ in 0..MOST_REHEARSALS {
        if plan.rehearse.is_empty() {
            break;
        }
        for rehearsal in std::mem::take(&mut plan.rehearse) {
            let landing = rehearse(&context.writer, &declaration.pilot.namespace, &rehearsal).await;
            seen.landings.insert(rehearsal, landing);
        }
        plan = settle((&mut metrics, facts), declaration, &mut seen, ledger, now).await;
    }
    Ok(Evaluation { seen, source: facts, source_state: metrics.end(), plan, unconfirmed: None })
}

/// Decides until nothing more has to be asked.
async fn settle(
    (metrics, source): (&mut Metrics<'_>, SourceFacts),
    declaration: &Declaration,
    seen: &mut Observation,
    ledger: &Ledger,
    now: Timestamp,
) -> Plan {
    for _ in 0..MOST_ROUNDS {
        let plan = decide(&Case { declaration, source, seen, ledger, now });
        if plan.ask.is_empty() {
            return plan;
        }
        seen.answers.extend(metrics.ask(&plan.ask, now).await);
    }
    tracing::warn!(
        pilot = declaration.pilot.name,
        "an evaluation asks for ever more figures; the missing ones count as Unknown"
    );
    decide(&Case { declaration, source, seen, ledger, now })
}

/// A workload that belongs to an older Pilot, if one does.
fn claimed(context: &Context, declaration: &Declaration) -> Option<Claimed> {
    declaration.workloads.iter().find_map(|workload| {
        let guardian = context.guarded.guardian(&WorkloadKey::new(&declaration.pilot.namespace, workload))?;
        let is_other = guardian.id != declaration.pilot;
        is_other.then(|| Claimed {
            workload: workload.clone(),
            by: guardian.id.name.clone(),
            created_by: guardian.created_by.clone(),
            created_at: guardian.created_at,
            takes_over: guardian.takes_over.as_ref() == Some(&declaration.pilot.name),
        })
    })
}

/// A pilot's metrics source, or why there is none.
async fn find_source(context: &Context, declaration: &Declaration, ends_at: Instant) -> Result<Arc<Source>, String> {
    let name = &declaration.metrics_source;
    match timeout_at(ends_at, context.sources.get(name, &declaration.pilot.namespace)).await {
        Ok(found) => found.map_err(|problem| problem.to_string()),
        Err(_) => Err(format!(
            "the Secrets of MetricsSource {name:?} were not read in time; check that the API server answers"
        )),
    }
}

/// What answers an evaluation's questions, or why nothing does.
enum Metrics<'a> {
    Source(Conversation<'a>),
    Problem(&'a str),
}

impl Metrics<'_> {
    async fn ask(&mut self, questions: &BTreeSet<Question>, now: Timestamp) -> BTreeMap<Question, Answer> {
        match self {
            Self::Source(source) => source.ask(questions, now).await,
            Self::Problem(_) => questions.iter().map(|question| (question.clone(), unanswered(question))).collect(),
        }
    }

    fn end(self) -> SourceState {
        let said = match self {
            Self::Source(source) => source.end(),
            Self::Problem(problem) => return SourceState::Unavailable(problem.to_owned()),
        };
        let Some(Problem { reason, message }) = said.problem else {
            return said.slow.map_or(SourceState::Answering, SourceState::Slow);
        };
        let message = [Some(message), said.slow].into_iter().flatten().collect::<Vec<_>>().join("; ");
        match reason {
            Unknown::QueryRefused => SourceState::QueryRefused(message),
            _ => SourceState::Unavailable(message),
        }
    }
}

fn unanswered(question: &Question) -> Answer {
    let why = Unknown::SourceUnavailable;
    match question {
        Question::Counts { .. } => Answer::Counts(Reading::Unknown(why)),
        Question::FirstSample { .. } => Answer::FirstSample(Reading::Unknown(why)),
        Question::Value { .. } => Answer::Value(Reading::Unknown(why)),
    }
}
