//! How far the release that runs has come: rolling out, baking, known-good.

use super::Timer;
use super::backstop::unauthorized_stamp;
use super::plan::Effect;
use super::turn::Turn;
use crate::api::change_record::Outcome;
use crate::api::status::{ReleaseState, ReleaseStatus};
use crate::api::workload::{PartKind, ReleasePart};
use crate::observation::{Change, Snapshot, Workload};
use crate::release::marks::{Admitted, AdmittedVerdict};
use jiff::{SignedDuration, Timestamp};

/// So many releases are remembered in which a part was good.
const MOST_RELEASES_OF_A_PART: usize = 10;

impl Turn<'_> {
    /// Moves the release on. Time in which nobody can say that it is well does not count as baked: an SLO cannot be
    /// measured, a trigger's condition holds, an incident is open, or no replica runs.
    pub(super) fn advance_release(&mut self) {
        let Some(admitted) = self.whole.admitted.clone() else {
            self.ledger.release = None;
            return;
        };
        let mut release = match self.ledger.release.take() {
            Some(release) if release.payload == admitted.payload && release.admitted_at == admitted.at => release,
            _ => ReleaseStatus {
                payload: admitted.payload.clone(),
                admitted_at: admitted.at,
                state: if self.has_survived(&admitted) { ReleaseState::KnownGood } else { ReleaseState::RollingOut },
                bake_until: None,
            },
        };
        match release.state {
            ReleaseState::RollingOut if self.is_complete() => self.start_bake(&mut release, &admitted),
            ReleaseState::Baking => self.bake(&mut release),
            ReleaseState::RollingOut | ReleaseState::KnownGood => {}
        }
        if release.state == ReleaseState::KnownGood {
            self.mark_known_good(&release.payload);
        }
        self.ledger.release = Some(release);
        self.recover_known_good();
    }

    /// Notes on releases that ran before what their ChangeRecords say, where the note itself is missing.
    fn recover_known_good(&mut self) {
        for workload in self.workloads() {
            let lacks_note = |it: &&Snapshot| !it.is_legacy && it.known_good_at.is_none();
            for snapshot in workload.snapshots.iter().filter(lacks_note).filter(|it| it.payload != workload.payload) {
                let has_it = |part: &ReleasePart| {
                    workload.reference.is(part.kind, &part.name) && part.payload == snapshot.payload
                };
                let has_succeeded =
                    |change: &&Change| change.outcome == Outcome::Succeeded && change.parts.iter().any(has_it);
                let Some(change) = self.case.seen.changes.iter().rfind(has_succeeded) else { continue };
                self.effects.push(Effect::MarkKnownGood {
                    snapshot: snapshot.name.clone(),
                    at: change.completed_at.unwrap_or(change.started_at),
                    releases: vec![change.payload.clone()],
                });
            }
        }
    }

    /// Each part of the release is noted to have been good in it.
    fn mark_known_good(&mut self, payload: &str) {
        for workload in self.workloads() {
            let Some(snapshot) = workload.snapshot_of(&workload.payload) else { continue };
            if snapshot.is_legacy || snapshot.known_good_in.iter().any(|release| release == payload) {
                continue;
            }
            // The newest are kept: a release of which a part forgot that it was good is no target any more.
            let kept = snapshot.known_good_in.len().saturating_sub(MOST_RELEASES_OF_A_PART - 1);
            let mut releases = snapshot.known_good_in.get(kept..).unwrap_or_default().to_vec();
            releases.push(payload.to_owned());
            self.effects.push(Effect::MarkKnownGood { snapshot: snapshot.name.clone(), at: self.case.now, releases });
        }
    }

    /// When the release of the whole pilot survived its bake, if all its parts tell of it. What other admission made of a
    /// release is as good as that release.
    fn was_good_at(&self, payload: &str) -> Option<Timestamp> {
        let good = |part: &str, workload: &Workload, release: &str| {
            let snapshot = workload.snapshot_of(part)?;
            snapshot.known_good_at.filter(|_| snapshot.known_good_in.iter().any(|good| good == release))
        };
        let as_it_is: Option<Vec<Timestamp>> =
            self.running().map(|workload| good(&workload.payload, workload, payload)).collect();
        let as_it_was_meant = || -> Option<Vec<Timestamp>> {
            let meant = self.whole.variant_of.as_deref()?;
            let of_part =
                |workload: &Workload| good(workload.variant_of().unwrap_or(&workload.payload), workload, meant);
            self.running().map(of_part).collect()
        };
        as_it_is.or_else(as_it_was_meant)?.into_iter().min()
    }

    /// Whether the records tell of a finished bake, where the status does not (any more).
    fn has_survived(&self, admitted: &Admitted) -> bool {
        let has_succeeded = |change: &Change| {
            let is_it = change.name == admitted.change && change.payload == admitted.payload;
            is_it && change.outcome == Outcome::Succeeded
        };
        self.case.seen.changes.iter().any(has_succeeded)
            || self.was_good_at(&admitted.payload).is_some_and(|at| at >= admitted.at)
    }

    fn start_bake(&mut self, release: &mut ReleaseStatus, admitted: &Admitted) {
        if admitted.verdict == AdmittedVerdict::Rollback && self.was_good_at(&release.payload).is_some() {
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
        match self.ledger.memory.last_look.filter(|_| !self.is_newly_declared) {
            Some(last_look) if !counts => until += now.duration_since(last_look).max(SignedDuration::ZERO),
            Some(_) => {}
            // A process that has just started does not know for how long conditions have held, nor is it known of a
            // trigger that has just been edited.
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
        // What nobody judged proves nothing, however long it runs.
        let is_judged = !self.workloads().iter().any(|workload| unauthorized_stamp(workload).is_some());
        let mut with_pods = self.running().filter(|workload| workload.reference.kind.has_pods()).peekable();
        let serves = with_pods.peek().is_some() && with_pods.all(serves_or_rests);
        let has_failed = |change: &Change| change.payload == release.payload && change.outcome == Outcome::Failed;
        let is_blamed =
            self.case.seen.changes.iter().any(|change| has_failed(change) && change.started_at == release.admitted_at);
        let holds = |timer: &Timer| timer.holds_since.is_some() && timer.payload == release.payload;
        let is_pending = self.ledger.memory.timers.values().any(holds);
        serves
            && is_judged
            && !is_blamed
            && !is_pending
            && self.ledger.incident.is_none()
            && !self.some_slo_is_unmeasured()
    }

    fn longest_hold(&self) -> SignedDuration {
        let holds = self.case.declaration.triggers.iter().map(|trigger| trigger.hold_for);
        holds.max().unwrap_or(SignedDuration::ZERO)
    }
}

/// Whether it has pods, or rests as it did when it was good: a worker without work, a DaemonSet without nodes.
fn serves_or_rests(workload: &Workload) -> bool {
    workload.replicas > 0 || workload.reference.kind == PartKind::DaemonSet || workload.runs_what_was_good()
}
