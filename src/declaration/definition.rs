//! Digests of SLOs and triggers as they are declared.
//!
//! What is remembered of an SLO or a trigger is kept under its digest, so that nothing that was learned under one
//! declaration counts for another. Each digest covers an explicit, versioned projection: a field that a later version
//! adds must not change the digest of a declaration that nobody edited, because latches are stored with theirs.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Condition, Objective, Trigger};
use crate::canonical::digest;

/// Characters of a digest that tell the definitions of one Pilot apart.
const LENGTH: usize = 16;

/// The definition of an SLO: everything that its figures depend on.
pub(super) fn of_objective(slo: &Objective, metrics_source: &str, start: Timestamp) -> String {
    shortened(&json!({
        "version": 1,
        "metricsSource": metrics_source,
        "start": start.as_second(),
        "name": slo.name,
        "allowed": slo.allowed,
        "window": millis(slo.window),
        "bad": slo.bad,
        "total": slo.total,
        "minEvents": slo.min_events,
        "warmup": millis(slo.warmup),
        "staleAfter": millis(slo.stale_after),
    }))
}

/// The definition of a trigger, with that of the SLO that it names.
pub(super) fn of_trigger(trigger: &Trigger, slos: &[Objective], metrics_source: &str) -> String {
    let definition_of = |name: &str| slos.iter().find(|slo| slo.name == name).map(|slo| &slo.definition);
    let when = match &trigger.when {
        Condition::ErrorBudget { slo, remaining_below } => {
            json!({"errorBudget": definition_of(slo), "remainingBelow": remaining_below})
        }
        Condition::BurnRate { slo, long, short, factor } => json!({
            "burnRate": definition_of(slo), "long": millis(*long), "short": millis(*short), "factor": factor,
        }),
        Condition::PromQl { query, operator, threshold, .. } => {
            json!({"promql": query, "operator": operator, "threshold": threshold, "metricsSource": metrics_source})
        }
        Condition::ConsecutiveFailedChanges { count } => json!({"consecutiveFailedChanges": count}),
        Condition::Workload(condition) => json!({"workload": condition}),
    };
    shortened(&json!({
        "version": 1,
        "name": trigger.name,
        "when": when,
        "for": millis(trigger.hold_for),
        "clearAfter": millis(trigger.clear_after),
        "shortWindow": millis(trigger.short_window),
        "decisionWindow": millis(trigger.decision_window),
        "action": trigger.action,
        "otherwise": trigger.otherwise,
        "scaleDownTo": trigger.scale_down_to,
    }))
}

/// The definition of a freeze, with that of its SLO.
pub(super) fn of_freeze(slo: &Objective, remaining_below: f64) -> String {
    shortened(&json!({"version": 1, "slo": slo.definition, "remainingBelow": remaining_below}))
}

fn shortened(value: &Value) -> String {
    let mut text = digest(value);
    text.truncate(LENGTH);
    text
}

fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
