//! The part of a pilot's history that later decisions can depend on.
//!
//! A pilot gathers ChangeRecords and Decisions for years. What is kept of them in memory is bounded here, beside the rules
//! that ask: each bound names its rule and lies beyond what that rule asks. Nothing is deleted in the cluster, and nothing
//! is judged here.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::decided_at;
use super::decisions::strictness;
use super::people::may_loosen;
use crate::api::change_record::{ChangeClass, Outcome};
use crate::api::decision::{DecisionPhase, DecisionType};
use crate::api::owners::Owners;
use crate::api::workload::ReleasePart;
use crate::declaration::LONGEST_EXCEPTION;
use crate::observation::{Change, PilotDecision};

/// Changes that succeeded or failed: a trigger counts at most 100 that failed, beside the one that runs.
pub const DECIDED_CHANGES: usize = 128;

/// Rollbacks, the newest changes of any kind, and those that were approved last: rules ask for what runs or waits, the
/// status shows ten, and a Decision of type Approve is judged once the approval is seen.
pub const NEWEST_CHANGES: usize = 32;

/// Releases of one part of which a success is kept: a workload has at most ten snapshots beside its rollback targets.
pub const RELEASES_OF_A_PART: usize = 16;

/// Records of incidents with the same origin: a rule opens one incident about a change that runs.
pub const RECORDS: usize = 128;

/// Rolled-back releases that are kept out of a workload which is created anew.
pub const ROLLED_BACK_RELEASES: usize = 1000;

/// Decisions that were accepted, and those that were refused: an open incident names the one that it follows.
pub const JUDGED_DECISIONS: usize = 64;

/// Unjudged Decisions of each of three kinds that one evaluation judges: the oldest, the strictest of people with a role, and
/// the strictest of all.
pub const JUDGED_AT_ONCE: usize = 10;

/// The changes that decisions can depend on, oldest first by their start.
pub fn relevant_changes(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by(|one, other| (one.started_at, &one.name).cmp(&(other.started_at, &other.name)));
    let is_open = |it: &Change| it.outcome == Outcome::Pending || it.approval_owed.is_some();
    let is_rollback = |it: &Change| it.class == ChangeClass::Rollback;
    let is_decided = |it: &Change| !is_rollback(it) && matches!(it.outcome, Outcome::Succeeded | Outcome::Failed);
    let kept = [
        newest(&changes, usize::MAX, |it| is_open(it).then_some(it.started_at)),
        newest(&changes, DECIDED_CHANGES, |it| is_decided(it).then_some(decided_at(it))),
        newest(&changes, NEWEST_CHANGES, |it| is_rollback(it).then_some(it.started_at)),
        newest(&changes, NEWEST_CHANGES, |it| Some(it.started_at)),
        newest(&changes, NEWEST_CHANGES, |it| it.approval.as_ref().map(|approval| approval.at)),
        last_moves(&changes),
        last_successes(&changes),
    ];
    only(changes, &kept.concat())
}

/// The Decisions that later ones, or the admission of a change, can depend on, oldest first by their creation.
pub fn relevant_decisions(mut decisions: Vec<PilotDecision>) -> Vec<PilotDecision> {
    decisions.sort_by(|one, other| (one.created_at, &one.name).cmp(&(other.created_at, &other.name)));
    let mut kept = vec![
        newest(&decisions, usize::MAX, |it| it.is_unjudged().then_some(it.created_at)),
        overrides_in_time(&decisions),
        quarantines(&decisions),
    ];
    for phase in [DecisionPhase::Accepted, DecisionPhase::Refused] {
        let is_it = |it: &PilotDecision| !it.is_record && it.phase == Some(phase);
        kept.push(newest(&decisions, JUDGED_DECISIONS, |it| is_it(it).then_some(it.created_at)));
    }
    let origins: BTreeSet<_> = decisions.iter().filter(|it| it.is_record).map(|it| it.origin).collect();
    for origin in origins {
        let is_it = |it: &PilotDecision| it.is_record && it.origin == origin;
        kept.push(newest(&decisions, RECORDS, |it| is_it(it).then_some(it.created_at)));
    }
    only(decisions, &kept.concat())
}

/// The Decisions that one evaluation judges, oldest first; the others wait for the next ones. However many others flood in,
/// the oldest are among them, so that each has its turn, and so are the strictest, so that the service is protected first.
/// Those of people with a role have places of their own, because only they can prevent an act. Among equals the newest
/// comes first: it speaks of what runs now.
pub fn next_to_judge<'a>(decisions: &'a [PilotDecision], owners: &Owners) -> Vec<&'a PilotDecision> {
    let unjudged: Vec<&PilotDecision> = decisions.iter().filter(|it| it.is_unjudged()).collect();
    let may_relax = |it: &PilotDecision| may_loosen(owners, it.by.as_ref()).is_ok();
    let chosen = [
        (0..unjudged.len().min(JUDGED_AT_ONCE)).collect(),
        newest(&unjudged, JUDGED_AT_ONCE, |it| may_relax(it).then_some((strictness(it.type_), it.created_at))),
        newest(&unjudged, JUDGED_AT_ONCE, |it| Some((strictness(it.type_), it.created_at))),
    ];
    only(unjudged, &chosen.concat())
}

/// What an act rests on: the Decisions that were seen to be judged, and those of which a live reading says that they are
/// not. One that is neither has just been judged, or deleted, and must not be followed again.
pub fn with_unjudged(seen: &[PilotDecision], unjudged: Vec<PilotDecision>) -> Vec<PilotDecision> {
    let judged = seen.iter().filter(|decision| !decision.is_unjudged());
    let mut all: Vec<PilotDecision> = judged.cloned().chain(unjudged).collect();
    all.sort_by(|one, other| (one.created_at, &one.name).cmp(&(other.created_at, &other.name)));
    all
}

/// For each part of the newest release, the change that moved it last: a part that has not moved for years still refers to
/// it. The change before it is kept as well, and ends the search the next time.
fn last_moves(changes: &[Change]) -> Vec<usize> {
    let ran = || changes.iter().enumerate().rev().filter(|(_, change)| change.completed_at.is_some());
    let parts = ran().next().map(|(_, newest)| newest.parts.as_slice()).unwrap_or_default();
    let moves = parts.iter().flat_map(|part| {
        // Records of older versions name no images.
        let is_it = |it: &ReleasePart| {
            (it.kind, &it.name) == (part.kind, &part.name)
                && (&it.template, &it.payload) == (&part.template, &part.payload)
        };
        let unmoved = ran().take_while(|(_, change)| change.parts.iter().any(is_it)).count();
        ran().skip(unmoved.saturating_sub(1)).take(2).map(|(index, _)| index)
    });
    moves.collect()
}

/// For each part of the newest change, the last success of each release: from it a lost note on a snapshot is recovered.
fn last_successes(changes: &[Change]) -> Vec<usize> {
    let parts = changes.last().map(|newest| newest.parts.as_slice()).unwrap_or_default();
    let mut known: BTreeMap<_, BTreeSet<&str>> =
        parts.iter().map(|part| ((part.kind, part.name.as_str()), BTreeSet::new())).collect();
    let mut kept = Vec::new();
    for (index, change) in changes.iter().enumerate().rev().filter(|(_, change)| change.outcome == Outcome::Succeeded) {
        for part in &change.parts {
            let Some(releases) = known.get_mut(&(part.kind, part.name.as_str())) else { continue };
            if releases.len() < RELEASES_OF_A_PART && releases.insert(&part.payload) {
                kept.push(index);
            }
        }
    }
    kept
}

/// Accepted Overrides that may not have ended: what is as old as two of them one after another has ended by any clock.
fn overrides_in_time(decisions: &[PilotDecision]) -> Vec<usize> {
    let Some(since) = decisions.last().map(|newest| newest.created_at - 2 * LONGEST_EXCEPTION) else {
        return Vec::new();
    };
    let counts = |it: &PilotDecision| {
        it.type_ == DecisionType::Override && it.phase == Some(DecisionPhase::Accepted) && it.created_at >= since
    };
    newest(decisions, usize::MAX, |it| counts(it).then_some(it.created_at))
}

/// For each release that was rolled back, the last record that says so, and the last Readmit that lifts it.
fn quarantines(decisions: &[PilotDecision]) -> Vec<usize> {
    let mut records: BTreeMap<&str, usize> = BTreeMap::new();
    let newest_first = || decisions.iter().enumerate().rev();
    for (index, record) in newest_first().filter(|(_, decision)| decision.is_record) {
        for release in &record.quarantined {
            if records.len() < ROLLED_BACK_RELEASES {
                records.entry(release).or_insert(index);
            }
        }
    }
    let mut readmits: BTreeMap<&str, usize> = BTreeMap::new();
    let counts = |it: &PilotDecision| it.type_ == DecisionType::Readmit && it.phase == Some(DecisionPhase::Accepted);
    for (index, readmit) in newest_first().filter(|(_, decision)| counts(decision)) {
        let Some(release) = readmit.payload.as_deref() else { continue };
        if records.get(release).is_some_and(|record| *record < index) {
            readmits.entry(release).or_insert(index);
        }
    }
    records.into_values().chain(readmits.into_values()).collect()
}

/// Where the newest are by their key; what has none is passed over.
fn newest<T, K: Ord>(all: &[T], most: usize, key: impl Fn(&T) -> Option<K>) -> Vec<usize> {
    let mut found: Vec<(K, usize)> = all.iter().enumerate().filter_map(|(index, it)| Some((key(it)?, index))).collect();
    found.sort_unstable();
    found.into_iter().rev().take(most).map(|(_, index)| index).collect()
}

fn only<T>(all: Vec<T>, kept: &[usize]) -> Vec<T> {
    let mut is_kept = vec![false; all.len()];
    for index in kept {
        is_kept[*index] = true;
    }
    all.into_iter().zip(is_kept).filter_map(|(it, is_kept)| is_kept.then_some(it)).collect()
}
