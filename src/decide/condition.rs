//! Does a trigger's condition hold, at an instant, in a form?

use jiff::{SignedDuration, Timestamp};

use super::slo::{Budget, ErrorRatio, Span, text};
use super::turn::Turn;
use crate::api::change_record::{ChangeClass, Outcome};
use crate::api::trigger::{Operator, WorkloadCondition};
use crate::declaration::{Condition, Objective, Trigger};
use crate::observation::{Change, Reading, Unknown, Workload};

/// Whether a condition holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// It holds; the figures in words.
    Holds(String),
    /// It does not.
    Clear,
    /// Not known, and why.
    Unknown(Unknown),
}

/// How a condition is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// At which instant.
    pub(super) at: Timestamp,
    /// In its own-release form: as if all had been well until then.
    pub(super) since: Option<Timestamp>,
    /// Asked a second time.
    pub(super) confirm: bool,
}

impl Form {
    pub(super) fn at(at: Timestamp) -> Self {
        Self { at, since: None, confirm: false }
    }
}

impl Turn<'_> {
    /// Reads the condition of a trigger.
    pub(super) fn condition(&self, trigger: &Trigger, form: Form) -> State {
        match &trigger.when {
            Condition::ErrorBudget { slo, remaining_below } => self.with_slo(slo, |slo| {
                let span = Span { length: slo.window, until: form.at, confirm: form.confirm };
                holds(self.budget(slo, span, form.since).map(|budget| {
                    (budget.remaining_at_most < *remaining_below)
                        .then(|| describe_budget(slo, &budget, *remaining_below))
                }))
            }),
            Condition::BurnRate { slo, long, short, factor } => {
                self.with_slo(slo, |slo| holds(self.burns(slo, (*long, *short), *factor, form)))
            }
            Condition::PromQl { query, operator, threshold, .. } => {
                holds(self.inquiry.value(query, form.at, form.confirm).map(|value| {
                    compare(value, *operator, *threshold)
                        .then(|| format!("the query yields {value}, which is {} {threshold}", words(*operator)))
                }))
            }
            Condition::ConsecutiveFailedChanges { count } => {
                let failed = consecutive_failures(&self.case.seen.changes, None);
                if failed >= *count {
                    State::Holds(format!("{failed} consecutive changes failed"))
                } else {
                    State::Clear
                }
            }
            Condition::Workload(WorkloadCondition::ProgressDeadlineExceeded) => {
                let is_stuck = |workload: &Workload| workload.progress_deadline_exceeded;
                match self.workloads() {
                    [] => State::Unknown(Unknown::NoSeries),
                    workloads if workloads.iter().any(is_stuck) => {
                        State::Holds("the rollout made no progress within its deadline".to_owned())
                    }
                    _ => State::Clear,
                }
            }
        }
    }

    /// Whether the service still suffers from what the trigger watches: the burn rate over its short window is
    /// at least 1, or, where there is no SLO, its condition holds.
    pub(super) fn suffers(&self, trigger: &Trigger) -> Reading<bool> {
        match &trigger.when {
            Condition::ErrorBudget { slo, .. } | Condition::BurnRate { slo, .. } => {
                self.short_burn(slo, Span::of(trigger.short_window, self.case.now), 1.0).map(|burn| burn >= 1.0)
            }
            _ => match self.condition(trigger, Form::at(self.case.now)) {
                State::Holds(_) => Reading::Fresh(true),
                State::Clear => Reading::Fresh(false),
                State::Unknown(why) => Reading::Unknown(why),
            },
        }
    }

    /// The burn rate of an SLO over a span, from at least so many events.
    pub(super) fn short_burn(&self, slo: &str, span: Span, events: f64) -> Reading<f64> {
        let Some(slo) = self.case.declaration.slo(slo) else {
            return Reading::Unknown(Unknown::NoSeries);
        };
        self.error_ratio(slo, span).and_then(|ratio| {
            if ratio.counts.total < events {
                return Reading::Unknown(Unknown::LowTraffic);
            }
            Reading::Fresh(ratio.measured / slo.allowed)
        })
    }

    fn burns(
        &self,
        slo: &Objective,
        (long, short): (SignedDuration, SignedDuration),
        factor: f64,
        form: Form,
    ) -> Reading<Option<String>> {
        let cut = |length: SignedDuration| match form.since {
            Some(since) => length.min(form.at.duration_since(since)).max(SignedDuration::from_secs(1)),
            None => length,
        };
        let span = |length| Span { length: cut(length), until: form.at, confirm: form.confirm };
        // Both are looked up before either is judged, so that they are asked in one round.
        let (over_long, over_short) = (self.judged_ratio(slo, span(long)), self.error_ratio(slo, span(short)));
        over_long.and_then(|over_long| {
            over_short.map(|over_short| {
                let limit = factor * slo.allowed;
                let exceeds = over_long.at_least > limit && over_short.measured > limit;
                exceeds.then(|| describe_burn(slo, (&over_long, long), (&over_short, short), factor))
            })
        })
    }

    fn with_slo(&self, name: &str, read: impl FnOnce(&Objective) -> State) -> State {
        // A declaration names no SLO that it lacks; if one did, nothing would be known.
        self.case.declaration.slo(name).map_or(State::Unknown(Unknown::NoSeries), read)
    }
}

fn holds(reading: Reading<Option<String>>) -> State {
    match reading {
        Reading::Fresh(Some(evidence)) => State::Holds(evidence),
        Reading::Fresh(None) => State::Clear,
        Reading::Unknown(why) => State::Unknown(why),
    }
}

fn describe_budget(slo: &Objective, budget: &Budget, below: f64) -> String {
    format!(
        "{:.0} % of the error budget of {} remains, below {:.0} % ({:.0} bad of {:.0} events)",
        budget.remaining * 100.0,
        slo.name,
        below * 100.0,
        budget.ratio.counts.bad,
        budget.ratio.counts.total,
    )
}

fn describe_burn(
    slo: &Objective,
    (over_long, long): (&ErrorRatio, SignedDuration),
    (over_short, short): (&ErrorRatio, SignedDuration),
    factor: f64,
) -> String {
    format!(
        "the burn rate of {} is {:.1} over {} and {:.1} over {}, above {factor} ({:.0} bad of {:.0} events)",
        slo.name,
        over_long.measured / slo.allowed,
        text(long),
        over_short.measured / slo.allowed,
        text(short),
        over_long.counts.bad,
        over_long.counts.total,
    )
}

fn compare(value: f64, operator: Operator, threshold: f64) -> bool {
    match operator {
        Operator::Gt => value > threshold,
        Operator::Ge => value >= threshold,
        Operator::Lt => value < threshold,
        Operator::Le => value <= threshold,
    }
}

const fn words(operator: Operator) -> &'static str {
    match operator {
        Operator::Gt => "above",
        Operator::Ge => "at or above",
        Operator::Lt => "below",
        Operator::Le => "at or below",
    }
}

/// How many of the newest decided changes failed in a row; `except` names one that is passed over. Decided changes are
/// ordered by completion; rollbacks, aborted, superseded and pending ones are passed over; one that succeeded ends the count.
pub(super) fn consecutive_failures(changes: &[Change], except: Option<&str>) -> usize {
    let decided = |outcome| {
        let counts = move |change: &&Change| {
            change.outcome == outcome && change.class != ChangeClass::Rollback && except != Some(&change.name)
        };
        changes.iter().filter(counts).map(decided_at)
    };
    let last_success = decided(Outcome::Succeeded).max();
    decided(Outcome::Failed).filter(|at| Some(*at) > last_success).count()
}

/// Orders decided changes: by completion, then by start.
pub(super) fn decided_at(change: &Change) -> (Timestamp, Timestamp) {
    (change.completed_at.unwrap_or(change.started_at), change.started_at)
}
