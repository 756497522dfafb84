//! Which change, if any, may be blamed. A rollback needs a suspect: without one it would punish a release
//! for an outage that it did not cause.

use jiff::Timestamp;

use super::condition::{Form, State, consecutive_failures};
use super::slo::Span;
use super::turn::Turn;
use crate::api::change_record::Outcome;
use crate::api::incident::{RollbackTarget, Suspect};
use crate::api::pilot::Dependency;
use crate::declaration::{Condition, Objective, Trigger};
use crate::observation::{Reading, Unknown};
use crate::release::marks::{Admitted, AdmittedVerdict};

impl Turn<'_> {
    /// The newest rolled-out change that is still in bake and for which everything speaks; else why not.
    pub(super) fn find_suspect(&self, trigger: &Trigger, target: &RollbackTarget) -> Result<Suspect, String> {
        let admitted = self.change_in_bake(trigger)?;
        if admitted.payload == target.payload {
            return Err("the running release is the rollback target".to_owned());
        }
        // All are looked up before any is judged, so that everything is asked in one round.
        let dependencies = self.dependencies_are_well();
        let began = self.began_with(trigger, admitted);
        let worse = match &trigger.when {
            Condition::ErrorBudget { slo, .. } | Condition::BurnRate { slo, .. } => {
                self.case.declaration.slo(slo).map_or(Ok(()), |slo| self.is_worse_since(slo, admitted.at))
            }
            _ => Ok(()),
        };
        dependencies.and(began).and(worse)?;
        Ok(Suspect {
            change: admitted.change.clone(),
            payload: admitted.payload.clone(),
            admitted_at: admitted.at,
            images: self.whole.images.clone(),
        })
    }

    /// The change that brought what runs, if one did: neither an adoption nor a rollback.
    pub(super) fn change_that_runs(&self) -> Option<Suspect> {
        let admitted = self.whole.admitted.as_ref()?;
        let is_change = !matches!(admitted.verdict, AdmittedVerdict::Adopted | AdmittedVerdict::Rollback);
        is_change.then(|| Suspect {
            change: admitted.change.clone(),
            payload: admitted.payload.clone(),
            admitted_at: admitted.at,
            images: self.whole.images.clone(),
        })
    }

    fn change_in_bake(&self, trigger: &Trigger) -> Result<&Admitted, String> {
        let admitted = self.whole.admitted.as_ref().ok_or("no admitted change runs")?;
        match admitted.verdict {
            AdmittedVerdict::Adopted => return Err("no change was made since the pilot was adopted".to_owned()),
            AdmittedVerdict::Rollback => {
                return Err("the running release is itself the result of a rollback".to_owned());
            }
            AdmittedVerdict::Allow
            | AdmittedVerdict::Hold
            | AdmittedVerdict::Pin
            | AdmittedVerdict::Deny
            | AdmittedVerdict::Override
            | AdmittedVerdict::BreakGlass
            | AdmittedVerdict::Unauthorized => {}
        }
        if let Condition::ConsecutiveFailedChanges { .. } = trigger.when {
            let failed = self
                .case
                .seen
                .changes
                .iter()
                .any(|change| change.name == admitted.change && change.outcome == Outcome::Failed);
            return if failed { Ok(admitted) } else { Err("the newest failed change no longer runs".to_owned()) };
        }
        let is_baked = self
            .ledger
            .release
            .as_ref()
            .is_some_and(|release| release.payload == admitted.payload && release.state.is_baked());
        if is_baked { Err("no change is in bake".to_owned()) } else { Ok(admitted) }
    }

    fn dependencies_are_well(&self) -> Result<(), String> {
        let dependencies = &self.case.declaration.dependencies;
        let judge = |dependency: &Dependency| match self.inquiry.value(&dependency.query, self.case.now, false) {
            Reading::Fresh(0.0) => Ok(()),
            Reading::Fresh(_) => Err(format!("dependency {} is unhealthy", dependency.name)),
            Reading::Unknown(why) => {
                Err(format!("the state of dependency {} is unknown ({})", dependency.name, why.as_str()))
            }
        };
        dependencies.iter().map(judge).fold(Ok(()), Result::and)
    }

    /// The condition was false just before the rollout, or the short-window burn has at least doubled since.
    fn began_with(&self, trigger: &Trigger, admitted: &Admitted) -> Result<(), String> {
        let before = admitted.at - self.case.source.evaluation_interval;
        match &trigger.when {
            // A rollout's own deadline cannot have passed before the rollout.
            Condition::Workload(_) => return Ok(()),
            Condition::ConsecutiveFailedChanges { count } => {
                let earlier = consecutive_failures(&self.case.seen.changes, Some(&admitted.change));
                let was_clear = earlier < *count;
                return if was_clear { Ok(()) } else { Err("the condition held before the last change".to_owned()) };
            }
            _ => {}
        }
        let has_doubled = self.burn_has_doubled(trigger, before);
        match self.condition(trigger, Form::at(before)) {
            State::Clear => Ok(()),
            State::Unknown(_) => Err("whether the condition held before the last change is unknown".to_owned()),
            State::Holds(_) if has_doubled => Ok(()),
            State::Holds(_) => Err("the condition held before the last change and is no worse since".to_owned()),
        }
    }

    fn burn_has_doubled(&self, trigger: &Trigger, before: Timestamp) -> bool {
        let (Condition::ErrorBudget { slo, .. } | Condition::BurnRate { slo, .. }) = &trigger.when else {
            return false;
        };
        let burn = |until| self.short_burn(slo, Span::of(trigger.short_window, until), 1.0).fresh();
        match (burn(before), burn(self.case.now)) {
            (Some(before), Some(now)) => now > 0.0 && now >= 2.0 * before,
            _ => false,
        }
    }

    /// The error ratio since the rollout is certainly above what the objective allows and, where there was
    /// traffic, above twice the ratio of an equal span before.
    fn is_worse_since(&self, slo: &Objective, rollout: Timestamp) -> Result<(), String> {
        let length = self.case.now.duration_since(rollout);
        if length.as_secs() < 1 {
            return Err("the last change has only just begun".to_owned());
        }
        let ratio = |until| self.error_ratio(slo, Span::of(length, until));
        let (since, before) = (ratio(self.case.now), ratio(rollout));
        let Reading::Fresh(since) = since else {
            return Err("the error ratio since the last change is unknown".to_owned());
        };
        if since.at_least <= slo.allowed {
            return Err("the errors since the last change are within the objective".to_owned());
        }
        match before {
            Reading::Fresh(before)
                if before.counts.total >= slo.min_events && since.at_least <= 2.0 * before.measured =>
            {
                Err("the error ratio since the last change is less than twice that before it".to_owned())
            }
            Reading::Unknown(why) if !matches!(why, Unknown::LowTraffic | Unknown::NoSeries) => {
                Err(format!("the error ratio before the last change is unknown ({})", why.as_str()))
            }
            _ => Ok(()),
        }
    }
}
