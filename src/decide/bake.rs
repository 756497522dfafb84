//! How far the release that runs has come: rolling out, baking, known-good.

use super::Timer;
use super::backstop::unauthorized_stamp;
use super::plan::Effect;
use super::turn::Turn;
use crate::api::change_record::Outcome;
use crate::api::duration::Duration;
use crate::api::status::{BakePause, ReleaseState, ReleaseStatus};
use crate::api::workload::{PartKind, ReleasePart};
use crate::observation::{Change, Snapshot, Workload};
use crate::release::marks::{Admitted, AdmittedVerdict};
use jiff::{SignedDuration, Timestamp};

/// Time that has to count before a bake is no longer shown as paused: what comes and goes is one pause.
const SETTLED_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// Maximum number of releases remembered in which a part was good.
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
            _ => {
                self.ledger.memory.bake_until = None;
                ReleaseStatus {
                    payload: admitted.payload.clone(),
                    admitted_at: admitted.at,
                    state: if self.has_survived(&admitted) {
                        ReleaseState::KnownGood
                    } else {
                        ReleaseState::RollingOut
                    },
                    bake_until: None,
                    bake_remaining: None,
                    bake_paused_by: None,
                }
            }
        };
        match release.state {
            ReleaseState::RollingOut if self.is_complete() => self.start_bake(&mut release, &admitted),
            ReleaseState::Baking => self.bake(&mut release),
            ReleaseState::RollingOut | ReleaseState::Baked | ReleaseState::KnownGood => {}
        }
        if release.state.is_baked() {
            release.state = if self.is_stored() { ReleaseState::KnownGood } else { ReleaseState::Baked };
        }
        if release.state.is_baked() {
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
        self.ledger.memory.bake_until = Some(self.case.now + self.case.declaration.bake);
        self.bake(release);
    }

    fn bake(&mut self, release: &mut ReleaseStatus) {
        let now = self.case.now;
        let pause = self.bake_pause(release);
        if self.has_forgotten {
            // As in a process that has just started: only the status tells how far it has come.
            self.ledger.memory.bake_until = None;
            self.ledger.memory.bake_counts_since = None;
        }
        let mut until = self.ledger.memory.bake_until.unwrap_or_else(|| self.stored_bake_end(release));
        match self.ledger.memory.last_evaluation.filter(|_| !self.has_forgotten) {
            Some(last_evaluation) if pause.is_some() => {
                until += now.duration_since(last_evaluation).max(SignedDuration::ZERO);
            }
            Some(_) => {}
            // A process that has just started does not know for how long conditions have held, nor is it known of a
            // trigger that has just been edited or reads other data now.
            None => until = until.max(now + self.longest_hold()),
        }
        let memory = &mut self.ledger.memory;
        memory.bake_until = Some(until);
        memory.bake_counts_since = pause.is_none().then(|| memory.bake_counts_since.unwrap_or(now));
        if now >= until && pause.is_none() {
            release.state = ReleaseState::KnownGood;
            (release.bake_until, release.bake_remaining, release.bake_paused_by) = (None, None, None);
            return;
        }
        self.evaluate_again_at(until);
        self.show_bake(release, until, pause);
    }

    /// Writes into the status how the bake goes: only a pause that begins, has another reason or is over says anything
    /// new.
    fn show_bake(&mut self, release: &mut ReleaseStatus, until: Timestamp, pause: Option<BakePause>) {
        let now = self.case.now;
        if pause.is_some() {
            if release.bake_paused_by != pause {
                let seconds = until.duration_since(now).as_secs().max(0);
                release.bake_remaining = Some(Duration::from_secs(seconds));
                release.bake_paused_by = pause;
                release.bake_until = None;
            }
            return;
        }
        let settled_at = self.ledger.memory.bake_counts_since.unwrap_or(now) + SETTLED_AFTER;
        if release.bake_paused_by.is_some() && now < settled_at {
            return self.evaluate_again_at(settled_at);
        }
        (release.bake_until, release.bake_remaining, release.bake_paused_by) = (Some(until), None, None);
    }

    /// When the bake ends as far as the status tells.
    fn stored_bake_end(&self, release: &ReleaseStatus) -> Timestamp {
        let remaining = release.bake_remaining.map_or(self.case.declaration.bake, Duration::as_signed);
        release.bake_until.unwrap_or(self.case.now + remaining)
    }

    /// Why the release does not prove itself now, if it does not: users reach it, it is measured, and nothing is wrong
    /// with it.
    fn bake_pause(&self, release: &ReleaseStatus) -> Option<BakePause> {
        // What nobody judged proves nothing, however long it runs.
        if self.workloads().iter().any(|workload| unauthorized_stamp(workload).is_some()) {
            return Some(BakePause::BypassedAdmission);
        }
        if self.ledger.incident.is_some() {
            return Some(BakePause::IncidentOpen);
        }
        let mut with_pods = self.running().filter(|workload| workload.reference.kind.has_pods()).peekable();
        if with_pods.peek().is_none() || !with_pods.all(serves_or_rests) {
            return Some(BakePause::NotServing);
        }
        let has_failed = |change: &Change| change.payload == release.payload && change.outcome == Outcome::Failed;
        if self.case.seen.changes.iter().any(|change| has_failed(change) && change.started_at == release.admitted_at) {
            return Some(BakePause::ChangeFailed);
        }
        let holds = |timer: &Timer| timer.holds_since.is_some() && timer.payload == release.payload;
        if self.ledger.memory.timers.values().any(holds) {
            return Some(BakePause::TriggerPending);
        }
        self.some_slo_is_unmeasured().then_some(BakePause::SloUnknown)
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
