//! Releasing what was held: a stored release is judged again at every look, and rolled out once all guards allow.
//!
//! Nothing here holds a change; that happens at admission. What is still refused simply goes on waiting.

use jiff::{SignedDuration, Timestamp};

use super::Case;
use super::judge::judge;
use super::plan::{Effect, Release, Waiting};
use super::proposal::{GitOps, Judgement, Operation, Proposal, Verdict};
use super::turn::Turn;
use crate::api::decision::Requester;
use crate::api::incident::IncidentStage;
use crate::observation::Workload;
use crate::release::marks::{Admitted, AdmittedVerdict, Held};

/// Releases that wait for the same window begin within this time of its opening, not all at once.
const LONGEST_JITTER: SignedDuration = SignedDuration::from_secs(30);

/// Of what is left of the window at most this part is waited.
const JITTER_OF_WINDOW: i32 = 20;

impl Turn<'_> {
    /// Rolls out what waits, if it may: all of it or nothing, for what was never tried together is no release.
    pub(super) fn release_what_waits(&mut self) {
        let waiting: Vec<(&Workload, &Held)> =
            self.workloads().iter().filter_map(|workload| Some((workload, workload.waiting.as_ref()?))).collect();
        let is_acting = self.ledger.incident.as_ref().is_some_and(|incident| incident.stage == IncidentStage::Acting);
        let judged: Vec<Judgement> = waiting.iter().map(|(workload, held)| self.judged(workload, held)).collect();
        let may_start = !is_acting && judged.iter().all(|judgement| judgement.verdict == Verdict::Allow);
        let still_waiting = waiting.iter().zip(&judged).filter(|(_, judgement)| judgement.verdict != Verdict::Allow);
        self.waiting = still_waiting.map(|((_, held), judgement)| waiting_on(held, judgement)).collect();
        let Some((first, _)) = waiting.first().filter(|_| may_start) else {
            self.ledger.memory.releasable_since = None;
            return;
        };
        let since = *self.ledger.memory.releasable_since.get_or_insert(self.case.now);
        // An exception is for now.
        let is_urgent = judged.iter().any(Judgement::is_emergency);
        let starts_at = if is_urgent { since } else { since + self.jitter(first, since) };
        if self.case.now < starts_at {
            return self.look_again_at(starts_at);
        }
        let now = self.case.now;
        let released = waiting.into_iter().zip(&judged).map(|((workload, held), it)| released(workload, held, it, now));
        self.effects.extend(released.map(Effect::Release));
    }

    fn judged(&self, workload: &Workload, held: &Held) -> Judgement {
        let proposal = Proposal {
            workload: workload.reference.clone(),
            operation: Operation::Update,
            requester: Requester { user: held.by.clone(), groups: held.groups.clone() },
            moves_release: true,
            template: held.template.clone(),
            payload: held.payload.clone(),
            gitops: GitOps::default(),
            one_live_release: true,
            replicas_before: Some(workload.replicas),
            replicas_after: Some(workload.replicas),
        };
        let case = Case { ledger: &self.ledger, ..self.case };
        judge(&case, &proposal)
    }

    /// The same for one workload at every look, different for others.
    fn jitter(&self, workload: &Workload, since: Timestamp) -> SignedDuration {
        let left = self.case.declaration.calendar.next_close(since).map(|closes| closes.duration_since(since));
        let longest = left.map_or(LONGEST_JITTER, |left| (left / JITTER_OF_WINDOW).min(LONGEST_JITTER));
        let share = workload.uid.bytes().fold(0_i32, |sum, byte| (sum * 31 + i32::from(byte)) % 1_000);
        longest / 1_000 * share
    }
}

fn waiting_on(held: &Held, judgement: &Judgement) -> Waiting {
    let problems = judgement.findings.iter().map(|finding| finding.problem.clone());
    Waiting {
        change: held.change.clone(),
        by: held.by.clone(),
        problems: problems.collect(),
        allowed_from: judgement.allowed_from(),
    }
}

fn released(workload: &Workload, held: &Held, judgement: &Judgement, now: Timestamp) -> Release {
    let is_emergency = judgement.is_emergency();
    let lifted = judgement.reasons().into_iter().filter(|_| is_emergency);
    Release {
        workload: workload.reference.clone(),
        uid: workload.uid.clone(),
        generation: workload.generation,
        unpauses: !held.was_paused,
        admitted: Admitted {
            template: held.template.clone(),
            payload: held.payload.clone(),
            by: held.by.clone(),
            groups: held.groups.clone(),
            at: now,
            change: held.change.clone(),
            verdict: if is_emergency { AdmittedVerdict::Override } else { AdmittedVerdict::Allow },
            reasons: lifted.chain([format!("held since {:.0}", held.at)]).collect(),
            break_glass: workload.marks.known_break_glass(),
        },
    }
}
