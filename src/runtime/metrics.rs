//! Our own metrics, in the OpenMetrics text format. Labels name pilots, SLOs and outcomes, never users or
//! messages, so their number is bounded by what is declared.

use std::sync::atomic::AtomicU64;

use jiff::SignedDuration;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::api::status::SloVerdict;
use crate::decide::Ledger;
use crate::declaration::PilotId;

/// Lags are counted in these steps, in seconds.
const LAGS: [f64; 10] = [0.01, 0.05, 0.25, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 300.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PilotLabels {
    namespace: String,
    pilot: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SloLabels {
    namespace: String,
    pilot: String,
    slo: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnnouncementLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    outcome: ReviewOutcome,
}

/// What became of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ReviewOutcome {
    /// It was let through.
    Allowed,
    /// It was let through with a warning: it would have been refused, or nobody could tell.
    Warned,
    /// It was stored, to be rolled out once it is allowed.
    Held,
    /// It was answered with the release that was stored before.
    Pinned,
    /// It was refused.
    Refused,
}

/// Our own metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    looks: Counter,
    failed_looks: Counter,
    failed_effects: Counter,
    failing_pilots: Gauge,
    evaluation_lag: Histogram,
    source_breaker: Family<SourceLabels, Gauge>,
    reviews: Family<ReviewLabels, Counter>,
    announcements: Family<AnnouncementLabels, Counter>,
    incident_open: Family<PilotLabels, Gauge>,
    unmeasured: Family<PilotLabels, Gauge>,
    budget_remaining: Family<SloLabels, Gauge<f64, AtomicU64>>,
    slo_known: Family<SloLabels, Gauge>,
    slo_met: Family<SloLabels, Gauge>,
}

impl Metrics {
    /// Metrics that nothing has been counted in.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("pilotguard");
        let looks = Counter::default();
        let failed_looks = Counter::default();
        let failed_effects = Counter::default();
        let failing_pilots = Gauge::default();
        let evaluation_lag = Histogram::new(LAGS);
        let source_breaker = Family::default();
        let reviews = Family::default();
        let announcements = Family::default();
        let incident_open = Family::default();
        let unmeasured = Family::default();
        let budget_remaining = Family::default();
        let slo_known = Family::default();
        let slo_met = Family::default();
        registry.register("looks", "Looks at pilots", looks.clone());
        registry.register("failed_looks", "Looks that came to nothing and were made again", failed_looks.clone());
        registry.register(
            "failed_effects",
            "Writes of a plan that failed and stay due; not those that the world had moved on from",
            failed_effects.clone(),
        );
        register_unmeasured(&mut registry, &unmeasured);
        register_evaluations(&mut registry, &failing_pilots, &evaluation_lag, &source_breaker);
        registry.register("admission_reviews", "Admission reviews by what became of them", reviews.clone());
        registry.register(
            "announcements",
            "What people were told in Events, by reason: incidents, unauthorized changes, exceptions",
            announcements.clone(),
        );
        registry.register("incident_open", "1 while an incident of the pilot is open", incident_open.clone());
        registry.register(
            "slo_budget_remaining_ratio",
            "Share of the error budget that remains; below 0 it is overspent; absent while unknown",
            budget_remaining.clone(),
        );
        registry.register("slo_known", "0 while the SLO cannot be measured", slo_known.clone());
        registry.register(
            "slo_met",
            "1 while the SLO is met, 0 while it is missed; absent while unknown",
            slo_met.clone(),
        );
        Self {
            registry,
            looks,
            failed_looks,
            failed_effects,
            failing_pilots,
            evaluation_lag,
            source_breaker,
            reviews,
            announcements,
            incident_open,
            unmeasured,
            budget_remaining,
            slo_known,
            slo_met,
        }
    }

    /// Counts a look and shows what it decided.
    pub fn looked(&self, pilot: &PilotId, decided: &Ledger) {
        self.looks.inc();
        let labels = PilotLabels { namespace: pilot.namespace.clone(), pilot: pilot.name.clone() };
        self.incident_open.get_or_create(&labels).set(i64::from(decided.incident.is_some()));
        for slo in &decided.slos {
            let labels =
                SloLabels { namespace: pilot.namespace.clone(), pilot: pilot.name.clone(), slo: slo.name.clone() };
            let is_known = slo.verdict != SloVerdict::Unknown;
            self.slo_known.get_or_create(&labels).set(i64::from(is_known));
            if let Some(remaining) = &slo.budget_remaining {
                self.budget_remaining.get_or_create(&labels).set(remaining.value() / 100.0);
                self.slo_met.get_or_create(&labels).set(i64::from(slo.verdict == SloVerdict::Ok));
            } else {
                self.budget_remaining.remove(&labels);
                self.slo_met.remove(&labels);
            }
        }
    }

    /// Counts an admission review.
    pub fn reviewed(&self, outcome: ReviewOutcome) {
        self.reviews.get_or_create(&ReviewLabels { outcome }).inc();
    }

    /// Counts something that people were told.
    pub fn told(&self, reason: &'static str) {
        self.announcements.get_or_create(&AnnouncementLabels { reason }).inc();
    }

    /// Shows how much of a pilot has been unknown for too long.
    pub fn unmeasured(&self, pilot: &PilotId, count: usize) {
        let labels = PilotLabels { namespace: pilot.namespace.clone(), pilot: pilot.name.clone() };
        self.unmeasured.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes how late an evaluation was.
    pub fn late_by(&self, lag: SignedDuration) {
        self.evaluation_lag.observe(lag.as_secs_f64());
    }

    /// Shows how many pilots cannot be evaluated.
    pub fn failing(&self, pilots: usize) {
        self.failing_pilots.set(i64::try_from(pilots).unwrap_or(i64::MAX));
    }

    /// Shows whether a metrics source is asked: 0 it is, 1 a probe finds out, 2 it is known not to answer.
    pub fn source_seen(&self, source: &str, breaker: i64) {
        self.source_breaker.get_or_create(&SourceLabels { source: source.to_owned() }).set(breaker);
    }

    /// Removes what was shown of a metrics source that was deleted.
    pub fn source_gone(&self, source: &str) {
        self.source_breaker.remove(&SourceLabels { source: source.to_owned() });
    }

    /// Counts a look that came to nothing.
    pub fn look_failed(&self) {
        self.failed_looks.inc();
    }

    /// Counts an effect that failed for another reason than that the world had moved on.
    pub fn effect_failed(&self) {
        self.failed_effects.inc();
    }

    /// Removes what was shown of a pilot that was deleted.
    pub fn forget(&self, pilot: &PilotId, slos: &[String]) {
        let labels = PilotLabels { namespace: pilot.namespace.clone(), pilot: pilot.name.clone() };
        self.incident_open.remove(&labels);
        self.unmeasured.remove(&labels);
        for slo in slos {
            let labels = SloLabels { namespace: pilot.namespace.clone(), pilot: pilot.name.clone(), slo: slo.clone() };
            self.budget_remaining.remove(&labels);
            self.slo_known.remove(&labels);
            self.slo_met.remove(&labels);
        }
    }

    /// The OpenMetrics text.
    pub fn text(&self) -> String {
        let mut buffer = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut buffer, &self.registry);
        buffer
    }
}

fn register_unmeasured(registry: &mut Registry, unmeasured: &Family<PilotLabels, Gauge>) {
    let help = "SLOs, triggers and dependencies of the pilot that have been unknown for too long";
    registry.register("unmeasured", help, unmeasured.clone());
}

fn register_evaluations(
    registry: &mut Registry,
    failing_pilots: &Gauge,
    evaluation_lag: &Histogram,
    source_breaker: &Family<SourceLabels, Gauge>,
) {
    registry.register(
        "failing_pilots",
        "Pilots whose evaluation has failed several times in a row",
        failing_pilots.clone(),
    );
    registry.register_with_unit(
        "evaluation_lag",
        "How much later than it was due a pilot was evaluated",
        Unit::Seconds,
        evaluation_lag.clone(),
    );
    registry.register(
        "source_breaker",
        "Whether a metrics source is asked: 0 it is, 1 a probe finds out, 2 it is known not to answer",
        source_breaker.clone(),
    );
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_effects_are_counted() {
        let metrics = Metrics::new();
        assert!(metrics.text().contains("\npilotguard_failed_effects_total 0\n"), "{}", metrics.text());
        metrics.effect_failed();
        assert!(metrics.text().contains("\npilotguard_failed_effects_total 1\n"), "{}", metrics.text());
    }
}
