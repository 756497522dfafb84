//! How far the release that runs has come: rolling out, baking, known-good.

use super::plan::Effect;
use super::turn::Turn;
use crate::api::change_record::Outcome;
use crate::api::status::{ReleaseState, ReleaseStatus};
use crate::observation::{Change, Snapshot, Workload};
use crate::release::marks::{Admitted, AdmittedVerdict};

impl Turn<'_> {
    /// Moves the release on. Time in which an SLO cannot be measured does not count as baked; nothing becomes
    /// known-good while an incident is open.
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
        if self.some_slo_is_unmeasured()
            && let Some(last_look) = self.ledger.memory.last_look
        {
            until += now.duration_since(last_look).max(jiff::SignedDuration::ZERO);
        }
        release.bake_until = Some(until);
        self.look_again_at(until);
        if now >= until && self.ledger.incident.is_none() && !self.some_slo_is_unmeasured() {
            release.state = ReleaseState::KnownGood;
            release.bake_until = None;
        }
    }
}

/// The mark of the template that is stored, if that template was admitted.
pub(super) fn admitted_template(workload: &Workload) -> Option<&Admitted> {
    workload.marks.admitted.as_ref().filter(|admitted| admitted.template == workload.template)
}
