//! Arithmetic of service level objectives, on counts and never on ratios of ratios.
//!
//! - error ratio = bad / total; burn rate = error ratio / (1 − target) (SRE workbook, chapter 5).
//! - remaining budget = 1 − bad / ((1 − target) · total over the whole window). A window that is not yet full
//!   is judged from the later of pilot start and first sample, and its total is projected to the full window.
//! - Confidence: the lower Wilson bound at z = 2.326 (98 %, one-sided 99 %) of the error ratio, so that one
//!   error among few requests is no evidence.

use jiff::{SignedDuration, Timestamp};

use super::bands::{BUDGET_MARGIN, budget_band, burn_band};
use super::plan::SloFigures;
use super::turn::Turn;
use crate::api::status::{BurnStatus, SloStatus, SloVerdict};
use crate::declaration::{Condition, Objective};
use crate::observation::{Counts, Reading, Unknown};

/// The quantile of the standard normal distribution behind the confidence bound.
const Z: f64 = 2.326;

/// An SLO that had too few events has enough when there are so many times `minEvents`.
const ENOUGH_AGAIN: f64 = 1.1;

/// The share of bad events, as measured and as is certain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ErrorRatio {
    pub(super) counts: Counts,
    /// bad / total.
    pub(super) measured: f64,
    /// The lower bound of the confidence interval.
    pub(super) at_least: f64,
}

impl ErrorRatio {
    /// The ratio of counts with at least one event.
    fn of(counts: Counts) -> Reading<Self> {
        if counts.total < 1.0 {
            return Reading::Unknown(Unknown::LowTraffic);
        }
        let measured = (counts.bad / counts.total).clamp(0.0, 1.0);
        Reading::Fresh(Self { counts, measured, at_least: wilson_lower_bound(measured, counts.total) })
    }
}

/// The error budget over an objective's whole window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Budget {
    pub(super) ratio: ErrorRatio,
    /// The share of the budget that remains; below 0 it is overspent.
    pub(super) remaining: f64,
    /// At most so much remains, with confidence.
    pub(super) remaining_at_most: f64,
}

/// Wilson score interval, lower bound, for `ratio` among `total` events.
pub(super) fn wilson_lower_bound(ratio: f64, total: f64) -> f64 {
    let square = Z * Z;
    let centre = ratio + square / (2.0 * total);
    let spread = Z * (ratio * (1.0 - ratio) / total + square / (4.0 * total * total)).sqrt();
    ((centre - spread) / (1.0 + square / total)).max(0.0)
}

/// A window of an objective, as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) length: SignedDuration,
    pub(super) until: Timestamp,
    pub(super) confirm: bool,
}

/// The part of a span in which a pilot is judged.
#[derive(Clone, Copy, Debug)]
struct Judged {
    length: SignedDuration,
    /// The span that counts the events of that part.
    asked: Span,
}

impl Span {
    /// So much time before an instant.
    pub(super) const fn of(length: SignedDuration, until: Timestamp) -> Self {
        Self { length, until, confirm: false }
    }
}

impl Turn<'_> {
    /// The error ratio over a span, however few its events.
    pub(super) fn error_ratio(&self, slo: &Objective, span: Span) -> Reading<ErrorRatio> {
        match self.inquiry.counts(&slo.name, span.length, span.until, span.confirm) {
            Reading::Unknown(Unknown::NoSeries) if self.has_just_begun(slo, span.until) => {
                Reading::Unknown(Unknown::WarmingUp)
            }
            counts => counts.and_then(ErrorRatio::of),
        }
    }

    /// Whether there cannot be two samples yet: they are at most `noData.after` apart, else they count as stale.
    fn has_just_begun(&self, slo: &Objective, at: Timestamp) -> bool {
        let first = self.ledger.memory.first_samples.get(&slo.definition);
        first.is_some_and(|first| at < *first + slo.stale_after)
    }

    /// The error ratio over the part of a span in which the pilot was judged; Unknown in warm-up or with too
    /// few events.
    pub(super) fn judged_ratio(&self, slo: &Objective, span: Span) -> Reading<ErrorRatio> {
        if self.case.now < self.case.declaration.start + slo.warmup {
            return Reading::Unknown(Unknown::WarmingUp);
        }
        self.judged_part(slo, span)
            .and_then(|judged| self.error_ratio(slo, judged.asked).and_then(|ratio| enough(ratio, slo)))
    }

    /// The error budget. With `since` it is judged as if it had been full at that instant.
    pub(super) fn budget(&self, slo: &Objective, span: Span, since: Option<Timestamp>) -> Reading<Budget> {
        let whole = Span { length: slo.window, ..span };
        let (judged, ratio) = (self.judged_part(slo, whole), self.judged_ratio(slo, whole));
        let since = since.map(|instant| self.error_ratio(slo, Span { length: since_then(span, instant, slo), ..span }));
        judged.and_then(|Judged { length, .. }| {
            ratio.and_then(|ratio| {
                let total = ratio.counts.total * (slo.window.as_secs_f64() / length.as_secs_f64()).max(1.0);
                let allowed = slo.allowed * total;
                since.unwrap_or(Reading::Fresh(ratio)).map(|ratio| Budget {
                    ratio,
                    remaining: 1.0 - ratio.counts.bad / allowed,
                    remaining_at_most: 1.0 - ratio.at_least * ratio.counts.total / allowed,
                })
            })
        })
    }

    /// How much of a span lies behind the later of pilot start and first sample, and what to ask for.
    fn judged_part(&self, slo: &Objective, span: Span) -> Reading<Judged> {
        let first = match self.ledger.memory.first_samples.get(&slo.definition) {
            Some(first) => Reading::Fresh(*first),
            None => self.inquiry.first_sample(&slo.name),
        };
        first.and_then(|first| {
            let start = self.case.declaration.start;
            let length = span.until.duration_since(first.max(start)).min(span.length);
            if length < SignedDuration::from_secs(1) {
                Reading::Unknown(Unknown::WarmingUp)
            } else {
                // Before the first sample there is nothing to leave out, and the same span is asked by many.
                let asked = if first < start { Span { length, ..span } } else { span };
                Reading::Fresh(Judged { length, asked })
            }
        })
    }

    /// Remembers first samples, so that they are asked for once.
    pub(super) fn remember_first_samples(&mut self) {
        for slo in &self.case.declaration.slos {
            if !self.ledger.memory.first_samples.contains_key(&slo.definition)
                && let Reading::Fresh(first) = self.inquiry.first_sample(&slo.name)
            {
                self.ledger.memory.first_samples.insert(slo.definition.clone(), first);
            }
        }
    }

    /// How every SLO stands now: in bands for the status, exactly for the metrics.
    pub(super) fn report_slos(&mut self) {
        let slos = &self.case.declaration.slos;
        let (statuses, figures) = slos.iter().map(|slo| self.slo_status(slo)).unzip();
        (self.ledger.slos, self.figures) = (statuses, figures);
    }

    /// Why an SLO cannot be measured, if it cannot.
    pub(super) fn why_unmeasured(&self, slo: &Objective) -> Option<Unknown> {
        match self.budget(slo, self.whole_window(slo), None) {
            Reading::Fresh(_) => None,
            Reading::Unknown(why) => Some(why),
        }
    }

    /// Whether some SLO cannot be measured, for another reason than quiet or youth.
    pub(super) fn some_slo_is_unmeasured(&self) -> bool {
        self.case.declaration.slos.iter().any(|slo| self.why_unmeasured(slo).is_some_and(|why| !why.is_benign()))
    }

    pub(super) fn whole_window(&self, slo: &Objective) -> Span {
        Span::of(slo.window, self.case.now)
    }

    fn slo_status(&self, slo: &Objective) -> (SloStatus, SloFigures) {
        let budget = self.budget(slo, self.whole_window(slo), None);
        // A status that was stored by an older version tells no definition.
        let is_same = |status: &&SloStatus| status.definition.as_ref().is_none_or(|it| *it == slo.definition);
        let before = self.case.ledger.slos.iter().find(|status| status.name == slo.name).filter(is_same);
        let (verdict, reason) = match judge_budget(&budget, slo, before) {
            Reading::Fresh(verdict) => (verdict, None),
            Reading::Unknown(why) => (SloVerdict::Unknown, Some(why.as_str().to_owned())),
        };
        let since = before
            .filter(|before| before.verdict == verdict && before.reason == reason)
            .map_or(self.case.now, |before| before.since);
        let budget = budget.fresh();
        let is_known = verdict != SloVerdict::Unknown;
        let shown = before.and_then(|before| before.budget_remaining.as_deref());
        let band = |budget: Budget| budget_band(budget.remaining * 100.0, budget_thresholds(self, slo), shown);
        let burns = self.burns_of(slo);
        let burn = burns.iter().filter_map(|(length, ratio)| self.burn_status(slo, *length, ratio, before)).collect();
        let status = SloStatus {
            name: slo.name.clone(),
            definition: Some(slo.definition.clone()),
            verdict,
            reason,
            since,
            budget_remaining: budget.filter(|_| is_known).map(band),
            burn,
        };
        let figures = SloFigures {
            slo: slo.name.clone(),
            error_ratio: budget.map(|budget| budget.ratio.measured),
            budget_remaining: budget.map(|budget| budget.remaining),
            burn: burns.iter().map(|(length, ratio)| (text(*length), ratio.measured / slo.allowed)).collect(),
        };
        (status, figures)
    }

    /// The error ratios over the windows that triggers name, as far as they are known.
    fn burns_of(&self, slo: &Objective) -> Vec<(SignedDuration, ErrorRatio)> {
        let mut windows: Vec<SignedDuration> = burn_rates(self, slo).flat_map(|(windows, _)| windows).collect();
        windows.sort_unstable();
        windows.dedup();
        let ratio = |length| self.error_ratio(slo, Span::of(length, self.case.now)).fresh();
        windows.into_iter().filter_map(|length| Some((length, ratio(length)?))).collect()
    }

    fn burn_status(
        &self,
        slo: &Objective,
        length: SignedDuration,
        ratio: &ErrorRatio,
        before: Option<&SloStatus>,
    ) -> Option<BurnStatus> {
        let window = text(length);
        let before = before.and_then(|before| before.burn.iter().find(|burn| burn.window == window));
        let factors = burn_rates(self, slo).filter(|(windows, _)| windows.contains(&length)).map(|(_, factor)| factor);
        let (at_least, measured) = (ratio.at_least / slo.allowed, ratio.measured / slo.allowed);
        let rate = burn_band(at_least, measured, factors, before.and_then(|burn| burn.rate.as_deref()))?;
        Some(BurnStatus { window, rate: Some(rate) })
    }
}

/// How an SLO stands. A verdict is left only when the figures have moved past the edge by a margin.
fn judge_budget(budget: &Reading<Budget>, slo: &Objective, before: Option<&SloStatus>) -> Reading<SloVerdict> {
    let was_quiet = before.is_some_and(|before| before.reason.as_deref() == Some(Unknown::LowTraffic.as_str()));
    let was_missed = before.is_some_and(|before| before.verdict == SloVerdict::Breach);
    budget.clone().and_then(|budget| {
        if was_quiet && budget.ratio.counts.total < slo.min_events * ENOUGH_AGAIN {
            return Reading::Unknown(Unknown::LowTraffic);
        }
        let is_missed = budget.ratio.at_least > slo.allowed && budget.remaining_at_most < 0.0;
        let stays_missed = was_missed && budget.remaining * 100.0 < BUDGET_MARGIN;
        Reading::Fresh(if is_missed || stays_missed { SloVerdict::Breach } else { SloVerdict::Ok })
    })
}

/// The windows and factors of the burn-rate triggers of an SLO.
fn burn_rates(turn: &Turn<'_>, slo: &Objective) -> impl Iterator<Item = ([SignedDuration; 2], f64)> {
    turn.case.declaration.triggers.iter().filter_map(|trigger| match &trigger.when {
        Condition::BurnRate { slo: name, long, short, factor } if *name == slo.name => Some(([*long, *short], *factor)),
        _ => None,
    })
}

/// What triggers and the freeze of an SLO's budget compare it with, in percent.
fn budget_thresholds(turn: &Turn<'_>, slo: &Objective) -> impl Iterator<Item = f64> {
    let declared = turn.case.declaration;
    let of_triggers = declared.triggers.iter().filter_map(|trigger| match &trigger.when {
        Condition::ErrorBudget { slo: name, remaining_below } if *name == slo.name => Some(*remaining_below),
        _ => None,
    });
    let of_freeze = declared.budget_freeze.iter().filter(|freeze| freeze.slo == slo.name);
    of_triggers.chain(of_freeze.map(|freeze| freeze.remaining_below)).map(|share| share * 100.0)
}

/// The span from an instant on, at least a second and at most the objective's window.
fn since_then(span: Span, instant: Timestamp, slo: &Objective) -> SignedDuration {
    span.until.duration_since(instant).clamp(SignedDuration::from_secs(1), slo.window)
}

fn enough(ratio: ErrorRatio, slo: &Objective) -> Reading<ErrorRatio> {
    if ratio.counts.total < slo.min_events { Reading::Unknown(Unknown::LowTraffic) } else { Reading::Fresh(ratio) }
}

/// A duration as people write it in a declaration.
pub(super) fn text(duration: SignedDuration) -> String {
    crate::api::duration::Duration::from_signed(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::wilson_lower_bound;

    /// Figures of an independent calculation.
    #[test]
    fn wilson_bounds_degrade_smoothly() {
        for (bad, total, percent) in
            [(1.0, 20.0, 0.69), (2.0, 20.0, 2.26), (1.0, 60.0, 0.23), (3.0, 60.0, 1.43), (6.0, 200.0, 1.2)]
        {
            let bound = wilson_lower_bound(bad / total, total) * 100.0;
            assert!((bound - percent).abs() < 0.05, "{bad}/{total}: {bound}");
        }
        assert!(wilson_lower_bound(0.0, 10.0).abs() < 1e-12);
    }
}
