//! Whether the releases that run are stored, so that a rollback could return to them, and what follows from a write of a
//! snapshot that the API server refused: it is tried again ever less often, and reported until it succeeds.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::plan::Effect;
use super::turn::Turn;
use super::whole::running;
use super::{Memory, StorageProblem};
use crate::api::workload::PartReference;
use crate::observation::{Observation, Workload};

/// Wait after the first refusal; each further one doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(1);

/// Longest wait: somebody may have made room by then.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(10);

impl Memory {
    /// Notes whether a write of a snapshot succeeded; `key` is that of its [`Effect::storage_key`].
    pub fn note_storage(&mut self, key: &str, outcome: Result<(), String>, now: Timestamp) {
        let Err(cause) = outcome else {
            self.storage_problems.remove(key);
            return;
        };
        let failures = self.storage_problems.get(key).map_or(0, |before| before.failures) + 1;
        let wait = FIRST_WAIT.saturating_mul(2_i32.saturating_pow(failures - 1)).min(LONGEST_WAIT);
        self.storage_problems.insert(key.to_owned(), StorageProblem { cause, failures, retry_at: now + wait });
    }
}

impl Effect {
    /// What a refusal of this write is remembered by, where it stores a release or notes something on a stored one.
    pub fn storage_key(&self) -> Option<String> {
        match self {
            Self::TakeSnapshot { workload, payload } => Some(release_key(workload, payload)),
            Self::MarkKnownGood { snapshot, .. }
            | Self::MarkRunning { snapshot, .. }
            | Self::RepackSnapshot { snapshot } => Some(snapshot.clone()),
            _ => None,
        }
    }
}

fn release_key(workload: &PartReference, payload: &str) -> String {
    format!("{workload} {payload}")
}

impl Turn<'_> {
    /// Forgets refusals that concern nothing any more, and puts off what was refused a moment ago.
    pub(super) fn put_off_refused_storage(&mut self) {
        let present = keys(self.workloads());
        let now = self.case.now;
        let problems = &mut self.ledger.memory.storage_problems;
        problems.retain(|key, _| present.contains(key));
        let retry_at = |effect: &Effect| Some(problems.get(&effect.storage_key()?)?.retry_at);
        self.effects.retain(|effect| retry_at(effect).is_none_or(|at| at <= now));
        let next = problems.values().map(|problem| problem.retry_at).filter(|at| *at > now).min();
        if let Some(next) = next {
            self.evaluate_again_at(next);
        }
    }

    /// Whether a rollback could return to the release that runs, as far as it is known to be good.
    pub(super) fn is_stored(&self) -> bool {
        let problems = &self.case.ledger.memory.storage_problems;
        self.running().all(|workload| {
            let snapshot = workload.snapshot_of(&workload.payload);
            snapshot.is_some_and(|snapshot| !problems.contains_key(&snapshot.name))
        })
    }
}

/// All that a refusal could concern now.
fn keys(workloads: &[Workload]) -> BTreeSet<String> {
    let of_workload = |workload: &Workload| {
        let lacks = workload.snapshot_of(&workload.payload).is_none();
        let release = lacks.then(|| release_key(&workload.reference, &workload.payload));
        release.into_iter().chain(workload.snapshots.iter().map(|snapshot| snapshot.name.clone())).collect::<Vec<_>>()
    };
    workloads.iter().flat_map(of_workload).collect()
}

/// What is wrong with the stored releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage<'a> {
    /// Each release that runs is stored.
    Complete,
    /// One was admitted a moment ago and is about to be stored.
    Pending(&'a PartReference),
    /// One could not be stored.
    Refused(&'a PartReference, &'a StorageProblem),
    /// On this snapshot something could not be noted.
    Unmarked(&'a str, &'a StorageProblem),
    /// This snapshot cannot be read.
    Unreadable(&'a str),
}

/// How the releases of a pilot are stored; the worst comes first.
pub fn storage<'a>(seen: &'a Observation, memory: &'a Memory) -> Storage<'a> {
    let lacking = || {
        let admitted = running(&seen.workloads).filter(|workload| workload.admitted().is_some());
        admitted.filter(|workload| workload.snapshot_of(&workload.payload).is_none())
    };
    let problem = |key: &str| memory.storage_problems.get(key);
    let refused = lacking().find_map(|workload| {
        let problem = problem(&release_key(&workload.reference, &workload.payload))?;
        Some(Storage::Refused(&workload.reference, problem))
    });
    let snapshots = || seen.workloads.iter().flat_map(|workload| &workload.snapshots);
    let unmarked =
        || snapshots().find_map(|snapshot| Some(Storage::Unmarked(&snapshot.name, problem(&snapshot.name)?)));
    let unreadable = || {
        let name = seen.workloads.iter().flat_map(|workload| &workload.unreadable_snapshots).next()?;
        Some(Storage::Unreadable(name))
    };
    let pending = || lacking().next().map(|workload| Storage::Pending(&workload.reference));
    refused.or_else(unmarked).or_else(unreadable).or_else(pending).unwrap_or(Storage::Complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_again_and_again_is_tried_ever_less_often() {
        let (mut memory, now) = (Memory::default(), Timestamp::UNIX_EPOCH);
        let mut waits = Vec::new();
        for _ in 0..40 {
            memory.note_storage("web", Err("too large".to_owned()), now);
            waits.push(memory.storage_problems["web"].retry_at.duration_since(now).as_secs());
        }
        assert_eq!(waits[..11], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600]);
        assert_eq!(waits.last(), Some(&600));
        memory.note_storage("web", Ok(()), now);
        assert!(memory.storage_problems.is_empty());
    }
}
