//! The conditions of a Pilot that speak of measuring: does the metrics source answer, and does anybody look in time?

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::{Finding, Reason, Truth, finding, stamped};
use super::surroundings::{SourceState, Surroundings};
use crate::api::status::SloVerdict;
use crate::decide::unmeasured::{Subject, Unmeasured, unmeasured};
use crate::decide::{Case, Ledger, lateness};
use crate::observation::Unknown;

/// Lags are told in these steps, in seconds: an exact one would be a write at every evaluation.
const STEPS: [(i64, &str); 6] = [(3600, "1h"), (900, "15m"), (300, "5m"), (60, "1m"), (30, "30s"), (10, "10s")];

pub(super) fn budget_healthy(decided: &Ledger) -> Finding {
    let named = |verdict| {
        let of = decided.slos.iter().filter(|slo| slo.verdict == verdict);
        of.map(|slo| match &slo.reason {
            Some(reason) => format!("{} ({reason})", slo.name),
            None => slo.name.clone(),
        })
        .collect::<Vec<_>>()
        .join(", ")
    };
    let (missed, unknown) = (named(SloVerdict::Breach), named(SloVerdict::Unknown));
    if decided.slos.is_empty() {
        finding("BudgetHealthy", Truth::Unknown, Reason::NoObjectives, "the Pilot declares no SLO")
    } else if !missed.is_empty() {
        finding("BudgetHealthy", Truth::False, Reason::OverBudget, missed)
    } else if is_warming_up(decided) {
        finding("BudgetHealthy", Truth::Unknown, Reason::WarmingUp, unknown)
    } else if !unknown.is_empty() {
        finding("BudgetHealthy", Truth::Unknown, Reason::Unmeasured, unknown)
    } else {
        finding("BudgetHealthy", Truth::True, Reason::WithinBudget, "")
    }
}

pub(super) fn metrics_available(surroundings: &Surroundings) -> Finding {
    let finding = |truth, reason, message: String| finding("MetricsAvailable", truth, reason, message);
    match &surroundings.source {
        SourceState::Answering => finding(Truth::True, Reason::Answering, String::new()),
        SourceState::Slow(what) => {
            let message = format!(
                "{what}, so the Pilot's queries wait behind those of others; narrow the query, or let a recording rule answer it"
            );
            finding(Truth::True, Reason::SlowQuery, message)
        }
        SourceState::QueryRefused(problem) => finding(Truth::False, Reason::QueryRefused, problem.clone()),
        SourceState::Unavailable(problem) => finding(Truth::False, Reason::SourceUnavailable, problem.clone()),
    }
}

/// Whether everything is measured that the pilot's promises rest on; each thing that is not, with what follows.
pub(super) fn measured(case: &Case<'_>, decided: &Ledger) -> Finding {
    let unmeasured = unmeasured(case.declaration, decided, case.now);
    if unmeasured.is_empty() {
        return finding("Measured", Truth::True, Reason::EverythingMeasured, "");
    }
    let message = unmeasured.iter().map(consequence).collect::<Vec<_>>().join("; ");
    finding("Measured", Truth::False, Reason::NotMeasured, message)
}

fn consequence(unmeasured: &Unmeasured) -> String {
    let why = unmeasured.why.as_str();
    match &unmeasured.subject {
        Subject::Slo(name) => {
            format!("SLO {name} is unknown ({why}), so its triggers cannot fire and no release completes its bake")
        }
        Subject::Trigger(name) => format!("trigger {name} cannot fire, because its condition is unknown ({why})"),
        Subject::Dependency(name) => format!(
            "no release can be blamed, and none is rolled back automatically, while dependency {name} is unknown ({why})"
        ),
    }
}

/// Whether the pilot is evaluated as often as its triggers need.
pub(super) fn evaluated_on_time(case: &Case<'_>) -> Finding {
    let lag = lateness::lag(case);
    if lag <= lateness::longest_lag(case.declaration, case.source) {
        return finding("EvaluatedOnTime", Truth::True, Reason::OnTime, "");
    }
    let message = format!(
        "the last evaluation was more than {} late; triggers fire later by what they miss. MetricsAvailable says whether \
         the metrics source is slow; otherwise the operator is overloaded",
        step(lag)
    );
    finding("EvaluatedOnTime", Truth::False, Reason::EvaluationLate, message)
}

/// The conditions of a Pilot whose evaluations fail: what is known of the others is as old as the last that did not.
pub fn failing(cause: &str, before: &[Condition], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let message = format!("the last evaluations failed, so nothing is judged or done meanwhile: {cause}");
    let findings = ["Ready", "EvaluatedOnTime"]
        .map(|type_| finding(type_, Truth::False, Reason::EvaluationFailing, message.clone()));
    let new = stamped(findings.into(), before, generation, now);
    let kept = before.iter().filter(|condition| new.iter().all(|other| other.type_ != condition.type_));
    kept.cloned().chain(new.clone()).collect()
}

fn step(lag: SignedDuration) -> &'static str {
    STEPS.iter().find(|(seconds, _)| lag.as_secs() >= *seconds).map_or("3s", |(_, text)| text)
}

/// Whether all that keeps the SLOs from being known is that they have only just begun.
fn is_warming_up(decided: &Ledger) -> bool {
    let mut reasons = decided.slos.iter().filter_map(|slo| slo.reason.as_deref()).peekable();
    reasons.peek().is_some() && reasons.all(|reason| reason == Unknown::WarmingUp.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_told_in_steps() {
        let told = |seconds| step(SignedDuration::from_secs(seconds));
        assert_eq!([5, 12, 59, 70, 299, 7200].map(told), ["3s", "10s", "30s", "1m", "1m", "1h"]);
    }
}
