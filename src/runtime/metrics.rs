//! Our own metrics, in the OpenMetrics text format. Labels name pilots, SLOs and outcomes, never users or
//! messages, so their number is bounded by what is declared.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use jiff::SignedDuration;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::api::status::SloVerdict;
use crate::decide::plan::{Plan, SloFigures};
use crate::decide::storage::Storage;
use crate::declaration::PilotId;

/// Lags are counted in these steps, in seconds.
const LAGS: [f64; 10] = [0.01, 0.05, 0.25, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 300.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PilotLabels {
    namespace: String,
    pilot: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct SloLabels {
    namespace: String,
    pilot: String,
    slo: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct BurnLabels {
    namespace: String,
    pilot: String,
    slo: String,
    window: String,
}

/// The series of one pilot's SLOs, so that those that are no longer declared or known are removed.
#[derive(Debug, Default)]
struct Shown {
    slos: BTreeSet<SloLabels>,
    burn: BTreeSet<BurnLabels>,
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
    evaluations: Counter,
    failed_evaluations: Counter,
    failed_effects: Counter,
    failing_pilots: Gauge,
    evaluation_lag: Histogram,
    source_breaker: Family<SourceLabels, Gauge>,
    reviews: Family<ReviewLabels, Counter>,
    announcements: Family<AnnouncementLabels, Counter>,
    incident_open: Family<PilotLabels, Gauge>,
    unmeasured: Family<PilotLabels, Gauge>,
    releases_stored: Family<PilotLabels, Gauge>,
    slos: SloFamilies,
    shown: Mutex<HashMap<PilotId, Shown>>,
}

/// What is shown of SLOs.
#[derive(Debug, Default)]
struct SloFamilies {
    known: Family<SloLabels, Gauge>,
    met: Family<SloLabels, Gauge>,
    error_ratio: Family<SloLabels, Gauge<f64, AtomicU64>>,
    budget_remaining: Family<SloLabels, Gauge<f64, AtomicU64>>,
    burn_rate: Family<BurnLabels, Gauge<f64, AtomicU64>>,
}

impl SloFamilies {
    fn register(registry: &mut Registry) -> Self {
        let slos = Self::default();
        registry.register("slo_known", "0 while the SLO cannot be measured", slos.known.clone());
        registry.register(
            "slo_met",
            "1 while the SLO is met, 0 while it is missed; absent while unknown",
            slos.met.clone(),
        );
        registry.register(
            "slo_error_ratio",
            "Bad events as a share of all events over the SLO's window; absent while unknown",
            slos.error_ratio.clone(),
        );
        registry.register(
            "slo_budget_remaining_ratio",
            "Share of the error budget that remains; below 0 it is overspent; absent while unknown",
            slos.budget_remaining.clone(),
        );
        registry.register(
            "slo_burn_rate",
            "Burn rate over each window that a trigger names; 1 spends the budget exactly over the SLO's window; absent \
             while unknown",
            slos.burn_rate.clone(),
        );
        slos
    }

    fn remove<'a>(&self, slos: impl Iterator<Item = &'a SloLabels>, burn: impl Iterator<Item = &'a BurnLabels>) {
        for labels in slos {
            self.error_ratio.remove(labels);
            self.budget_remaining.remove(labels);
            self.known.remove(labels);
            self.met.remove(labels);
        }
        for labels in burn {
            self.burn_rate.remove(labels);
        }
    }

    /// Shows an SLO and notes the series.
    fn show(&self, pilot: &PilotId, figures: &SloFigures, verdict: SloVerdict, shown: &mut Shown) {
        let (namespace, pilot, slo) = (&pilot.namespace, &pilot.name, &figures.slo);
        let labels = SloLabels { namespace: namespace.clone(), pilot: pilot.clone(), slo: slo.clone() };
        let is_known = verdict != SloVerdict::Unknown;
        self.known.get_or_create(&labels).set(i64::from(is_known));
        let show = |family: &Family<SloLabels, Gauge<f64, AtomicU64>>, figure: Option<f64>| match figure {
            Some(figure) => drop(family.get_or_create(&labels).set(figure)),
            None => drop(family.remove(&labels)),
        };
        show(&self.error_ratio, figures.error_ratio);
        show(&self.budget_remaining, figures.budget_remaining);
        if is_known {
            self.met.get_or_create(&labels).set(i64::from(verdict == SloVerdict::Ok));
        } else {
            self.met.remove(&labels);
        }
        for (window, rate) in &figures.burn {
            let (namespace, pilot, slo) = (namespace.clone(), pilot.clone(), slo.clone());
            let labels = BurnLabels { namespace, pilot, slo, window: window.clone() };
            self.burn_rate.get_or_create(&labels).set(*rate);
            shown.burn.insert(labels);
        }
        shown.slos.insert(labels);
    }
}

impl Metrics {
    /// Metrics that nothing has been counted in.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("pilotguard");
        let evaluations = Counter::default();
        let failed_evaluations = Counter::default();
        let failed_effects = Counter::default();
        let failing_pilots = Gauge::default();
        let evaluation_lag = Histogram::new(LAGS);
        let source_breaker = Family::default();
        let reviews = Family::default();
        let announcements = Family::default();
        let incident_open = Family::default();
        let unmeasured = Family::default();
        let releases_stored = Family::default();
        registry.register("evaluations", "Evaluations of pilots", evaluations.clone());
        registry.register("failed_evaluations", "Evaluations that failed and were retried", failed_evaluations.clone());
        registry.register(
            "failed_effects",
            "Writes that failed and are retried, without conflicts",
            failed_effects.clone(),
        );
        register_unmeasured(&mut registry, &unmeasured);
        register_evaluations(&mut registry, &failing_pilots, &evaluation_lag, &source_breaker);
        registry.register("admission_reviews", "Admission reviews by result", reviews.clone());
        registry.register(
            "announcements",
            "Events published about incidents, unauthorized changes and exceptions, by reason",
            announcements.clone(),
        );
        registry.register("incident_open", "1 while an incident of the pilot is open", incident_open.clone());
        let slos = SloFamilies::register(&mut registry);
        registry.register(
            "releases_stored",
            "0 while a release that runs cannot be stored or marked, or a stored one cannot be read",
            releases_stored.clone(),
        );
        Self {
            registry,
            evaluations,
            failed_evaluations,
            failed_effects,
            failing_pilots,
            evaluation_lag,
            source_breaker,
            reviews,
            announcements,
            incident_open,
            unmeasured,
            slos,
            shown: Mutex::default(),
            releases_stored,
        }
    }

    /// Counts an evaluation and shows what it decided.
    pub fn looked(&self, pilot: &PilotId, plan: &Plan) {
        self.evaluations.inc();
        let labels = PilotLabels { namespace: pilot.namespace.clone(), pilot: pilot.name.clone() };
        self.incident_open.get_or_create(&labels).set(i64::from(plan.ledger.incident.is_some()));
        let mut shown = Shown::default();
        for figures in &plan.figures {
            let verdict = plan.ledger.slos.iter().find(|slo| slo.name == figures.slo).map(|slo| slo.verdict);
            self.slos.show(pilot, figures, verdict.unwrap_or(SloVerdict::Unknown), &mut shown);
        }
        let mut all = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.insert(pilot.clone(), shown).unwrap_or_default();
        if let Some(now) = all.get(pilot) {
            self.slos.remove(before.slos.difference(&now.slos), before.burn.difference(&now.burn));
        }
    }

    /// Shows whether a pilot's releases are stored.
    pub fn stored(&self, pilot: &PilotId, storage: &Storage<'_>) {
        let labels = PilotLabels { namespace: pilot.namespace.clone(), pilot: pilot.name.clone() };
        let is_well = matches!(storage, Storage::Complete | Storage::Pending(_));
        self.releases_stored.get_or_create(&labels).set(i64::from(is_well));
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

    /// Counts an evaluation that came to nothing.
    pub fn evaluation_failed(&self) {
        self.failed_evaluations.inc();
    }

    /// Counts an effect that failed for another reason than that the world had moved on.
    pub fn effect_failed(&self) {
        self.failed_effects.inc();
    }

    /// Removes what was shown of a pilot that was deleted.
    pub fn forget(&self, pilot: &PilotId) {
        let labels = PilotLabels { namespace: pilot.namespace.clone(), pilot: pilot.name.clone() };
        self.incident_open.remove(&labels);
        self.unmeasured.remove(&labels);
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).remove(pilot).unwrap_or_default();
        self.slos.remove(shown.slos.iter(), shown.burn.iter());
        self.releases_stored.remove(&labels);
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
        "Delay of evaluations of pilots behind their schedule",
        Unit::Seconds,
        evaluation_lag.clone(),
    );
    registry.register(
        "source_breaker",
        "State of a metrics source's circuit breaker: 0 closed, 1 half-open, 2 open",
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

    type Slo<'a> = (&'a str, Option<f64>, &'a [(&'a str, f64)]);

    fn plan(slos: &[Slo<'_>]) -> Plan {
        let figures = slos.iter().map(|(slo, remaining, burn)| SloFigures {
            slo: (*slo).to_owned(),
            error_ratio: *remaining,
            budget_remaining: *remaining,
            burn: burn.iter().map(|(window, rate)| ((*window).to_owned(), *rate)).collect(),
        });
        Plan { figures: figures.collect(), ..Plan::default() }
    }

    #[test]
    fn series_of_what_is_no_longer_declared_or_known_are_removed() {
        let metrics = Metrics::new();
        let pilot = PilotId { namespace: "shop".to_owned(), name: "checkout".to_owned(), uid: "1".to_owned() };
        let series = || {
            let text = metrics.text();
            let lines = text.lines().filter(|line| line.starts_with("pilotguard_slo"));
            lines.map(|line| line.replace("namespace=\"shop\",pilot=\"checkout\",slo=", "")).collect::<BTreeSet<_>>()
        };
        metrics.looked(&pilot, &plan(&[("old", Some(0.5), &[("1h", 2.0), ("5m", 3.0)]), ("new", Some(0.9), &[])]));
        assert!(series().contains("pilotguard_slo_burn_rate{\"old\",window=\"5m\"} 3.0"), "{:?}", series());
        assert!(series().contains("pilotguard_slo_budget_remaining_ratio{\"old\"} 0.5"), "{:?}", series());
        metrics.looked(&pilot, &plan(&[("old", None, &[("1h", 2.5)])]));
        let expected = ["pilotguard_slo_burn_rate{\"old\",window=\"1h\"} 2.5", "pilotguard_slo_known{\"old\"} 0"];
        assert_eq!(series(), BTreeSet::from(expected.map(str::to_owned)));
        metrics.forget(&pilot);
        assert_eq!(series(), BTreeSet::new());
    }

    #[test]
    fn failed_effects_are_counted() {
        let metrics = Metrics::new();
        assert!(metrics.text().contains("\npilotguard_failed_effects_total 0\n"), "{}", metrics.text());
        metrics.effect_failed();
        assert!(metrics.text().contains("\npilotguard_failed_effects_total 1\n"), "{}", metrics.text());
    }
}
