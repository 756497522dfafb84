//! The conditions of a Pilot that speak of measuring: does the metrics source answer, and does anybody look in time?

use jiff::SignedDuration;

use super::conditions::{Finding, Reason, Truth, finding};
use super::surroundings::Surroundings;
use crate::decide::{Case, lateness};

/// Lags are told in these steps, in seconds: an exact one would be a write at every evaluation.
const STEPS: [(i64, &str); 6] = [(3600, "1h"), (900, "15m"), (300, "5m"), (60, "1m"), (30, "30s"), (10, "10s")];

pub(super) fn metrics_available(surroundings: &Surroundings) -> Finding {
    match &surroundings.source_problem {
        None => finding("MetricsAvailable", Truth::True, Reason::Answering, ""),
        Some(problem) => finding("MetricsAvailable", Truth::False, Reason::SourceUnavailable, problem.clone()),
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

fn step(lag: SignedDuration) -> &'static str {
    STEPS.iter().find(|(seconds, _)| lag.as_secs() >= *seconds).map_or("3s", |(_, text)| text)
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
