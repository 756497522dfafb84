//! How far the release that runs has come: rolling out, baking, known-good.

use super::Timer;
use super::plan::Effect;
use super::turn::Turn;
use crate::api::change_record::Outcome;
use crate::api::status::{ReleaseState, ReleaseStatus};
use crate::observation::{Change, Snapshot, Workload};
use crate::release::marks::{Admitted, AdmittedVerdict};
use jiff::SignedDuration;

impl Turn<'_> {
    /// Moves the release on. Time in which nobody can say that it is well does not count as baked: an SLO cannot be
    /// measured, a trigger's condition holds, an incident is open, or no replica runs.
    pub(super) fn advance_release(&mut self) {
        let admitted = self.workload().and_then(|workload| Some((workload, admitted_template(workload)?)));
        let Some((workload, admitted)) = admitted else {
            self.ledger.release = None;
            return;
        };
        let mut release = match self.ledger.release.take() {
            Some(release) if release.payload == admitted.payload && release.admitted_at == admitted.at => release,
            _ => ReleaseStatus {
                payload: admitted.payload.clone(),
                admitted_at: admitted.at,
                state: if self.has_survived(admitted) { ReleaseState::KnownGood } else { ReleaseState::RollingOut },
                bake_until: None,
            },
        };
        match release.state {
            ReleaseState::RollingOut if workload.is_complete => self.start_bake(&mut release, admitted),
            ReleaseState::Baking => self.bake(&mut release),
            ReleaseState::RollingOut | ReleaseState::KnownGood => {}
        }
        if release.state == ReleaseState::KnownGood
            && let Some(snapshot) = self.snapshot_of(&release.payload)
            && snapshot.known_good_at.is_none()
        {
            self.effects.push(Effect::MarkKnownGood { snapshot: snapshot.name.clone(), at: self.case.now });
        }
        self.ledger.release = Some(release);
    }

    /// Whether the records tell of a finished bake, where the status does not (any more).
    fn has_survived(&self, admitted: &Admitted) -> bool {
        let has_succeeded = |change: &Change| change.name == admitted.change && change.outcome == Outcome::Succeeded;
        let was_good_since = |snapshot: &Snapshot| snapshot.known_good_at.is_some_and(|at| at >= admitted.at);
        self.case.seen.changes.iter().any(has_succeeded)
            || self.snapshot_of(&admitted.payload).is_some_and(was_good_since)
    }

    fn start_bake(&mut self, release: &mut ReleaseStatus, admitted: &Admitted) {
        let was_good = self.snapshot_of(&release.payload).is_some_and(|snapshot| snapshot.known_good_at.is_some());
        if admitted.verdict == AdmittedVerdict::Rollback && was_good {
            release.state = ReleaseState::KnownGood;
            return;
        }
        release.state = ReleaseState::Baking;
        release.bake_until = Some(self.case.now + self.case.declaration.bake);
        self.bake(release);
    }

    fn bake(&mut self, release: &mut ReleaseStatus) {
        let now = self.case.now;
        let mut until = release.bake_until.unwrap_or(now + self.case.declaration.bake);
        let counts = self.bake_counts(release);
        match self.ledger.memory.last_look {
            Some(last_look) if !counts => until += now.duration_since(last_look).max(SignedDuration::ZERO),
            Some(_) => {}
            // A process that has just started does not know for how long conditions have held.
            None => until = until.max(now + self.longest_hold()),
        }
        release.bake_until = Some(until);
        self.look_again_at(until);
        if now >= until && counts {
            release.state = ReleaseState::KnownGood;
            release.bake_until = None;
        }
    }

    /// Whether the release proves itself now: users reach it, it is measured, and nothing is wrong with it.
    fn bake_counts(&self, release: &ReleaseStatus) -> bool {
        let serves = self.workload().is_some_and(|workload| workload.replicas > 0);
        let has_failed = |change: &Change| change.payload == release.payload && change.outcome == Outcome::Failed;
        let is_blamed =
            self.case.seen.changes.iter().any(|change| has_failed(change) && change.started_at == release.admitted_at);
        let holds = |timer: &Timer| timer.holds_since.is_some() && timer.payload == release.payload;
        let is_pending = self.ledger.memory.timers.values().any(holds);
        serves && !is_blamed && !is_pending && self.ledger.incident.is_none() && !self.some_slo_is_unmeasured()
    }

    fn longest_hold(&self) -> SignedDuration {
        let holds = self.case.declaration.triggers.iter().map(|trigger| trigger.hold_for);
        holds.max().unwrap_or(SignedDuration::ZERO)
    }
}

/// The mark of the template that is stored, if that template was admitted.
pub(super) fn admitted_template(workload: &Workload) -> Option<&Admitted> {
    workload.marks.admitted.as_ref().filter(|admitted| admitted.template == workload.template)
}
