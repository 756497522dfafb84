//! Releasing what was held: a stored release is judged again at every evaluation, and rolled out once all guards allow.
//!
//! Nothing here holds a change; that happens at admission. What is still refused simply goes on waiting.

use jiff::{SignedDuration, Timestamp};

use super::Case;
use super::judge::judge;
use super::plan::{Effect, Release, Waiting};
use super::proposal::{GitOps, Judgement, Operation, Proposal, Verdict};
use super::turn::Turn;
use super::whole::waiting_changes;
use crate::api::decision::Requester;
use crate::api::incident::IncidentStage;
use crate::observation::Workload;
use crate::release::images::release_name;
use crate::release::marks::{Admitted, AdmittedVerdict, Held};

/// Releases that wait for the same window begin within this time of its opening, not all at once.
const LONGEST_JITTER: SignedDuration = SignedDuration::from_secs(30);

/// Of what is left of the window at most this part is waited.
const JITTER_OF_WINDOW: i32 = 20;

impl Turn<'_> {
    /// Rolls out each change that waits, if it may: all its parts or none, for what was asked for together is one.
    pub(super) fn release_what_waits(&mut self) {
        let is_acting = self.ledger.incident.as_ref().is_some_and(|incident| incident.stage == IncidentStage::Acting);
        let changes = waiting_changes(self.workloads(), self.case.declaration.group_within);
        let judged: Vec<Vec<Judgement>> =
            changes.iter().map(|change| change.iter().map(|(it, held)| self.judged(it, held)).collect()).collect();
        let mut any_may_start = false;
        for (change, judgements) in changes.iter().zip(&judged) {
            let waits = change.iter().zip(judgements).filter(|(_, judgement)| judgement.verdict != Verdict::Allow);
            self.waiting.extend(waits.map(|((_, held), judgement)| waiting_on(held, judgement)));
            let may_start = !is_acting && judgements.iter().all(|judgement| judgement.verdict == Verdict::Allow);
            if may_start {
                any_may_start = true;
                self.release_change(change, judgements);
            }
        }
        if !any_may_start {
            self.ledger.memory.releasable_since = None;
        }
    }

    fn release_change(&mut self, change: &[(&Workload, &Held)], judgements: &[Judgement]) {
        let Some((first, named)) = change.first() else { return };
        let since = *self.ledger.memory.releasable_since.get_or_insert(self.case.now);
        // An exception is for now.
        let is_urgent = judgements.iter().any(Judgement::is_emergency);
        let starts_at = if is_urgent { since } else { since + self.jitter(first, since) };
        if self.case.now < starts_at {
            return self.evaluate_again_at(starts_at);
        }
        let now = self.case.now;
        let released = change.iter().zip(judgements).map(|((workload, held), judgement)| {
            // Under the name by which the whole change was recorded.
            let held = Held { change: named.change.clone(), ..(*held).clone() };
            Effect::Release(released(workload, &held, judgement, now))
        });
        self.effects.extend(released);
    }

    fn judged(&self, workload: &Workload, held: &Held) -> Judgement {
        let proposal = Proposal {
            workload: workload.reference.clone(),
            operation: Operation::Update,
            requester: Requester { user: held.by.clone(), groups: held.groups.clone() },
            moves_release: true,
            gains_owner: false,
            template: held.template.clone(),
            payload: held.payload.clone(),
            gitops: GitOps::default(),
            one_live_release: true,
            annotations: workload.annotations,
            images: held.images.clone(),
            replicas_before: Some(workload.replicas),
            replicas_after: Some(workload.replicas),
        };
        let case = Case { ledger: &self.ledger, ..self.case };
        judge(&case, &proposal)
    }

    /// The same for one workload at every evaluation, different for others.
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
        release: release_name(&held.images, &held.payload),
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
            variant_of: None,
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
