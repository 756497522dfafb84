//! Which release a rollback would go back to, and whether it may.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::judge::rolled_back_before;
use super::turn::Turn;
use crate::api::incident::{RollbackTarget, TargetPart};
use crate::api::workload::ReleasePart;
use crate::observation::{Snapshot, Workload};
use crate::release::images::once;
use crate::release::vector::release_payload;

/// A release of the whole pilot that was good: for each workload the snapshot that holds its part.
struct Candidate<'a> {
    payload: &'a str,
    parts: Vec<(&'a Workload, &'a Snapshot)>,
}

impl<'a> Turn<'a> {
    /// The newest known-good release, other than the one that runs, that ran within `rollback.maxAge` and is
    /// not quarantined.
    pub(super) fn choose_target(&mut self) {
        let oldest = self.case.now - self.case.declaration.rollback_max_age;
        // A full mark lists not all that was quarantined; the records of incidents know the others.
        let is_listed = !self.workloads().iter().any(|workload| workload.marks.quarantine_is_full());
        let unlisted = if is_listed { Vec::new() } else { rolled_back_before(&self.case) };
        let candidates = self.releases_that_were_good().into_iter();
        let usable = candidates
            .filter(|release| !release.runs())
            .filter(|release| !release.is_quarantined(&unlisted))
            .filter(|release| release.stopped_at().is_none_or(|stopped| stopped >= oldest));
        let newest = usable
            .max_by_key(|release| (release.stopped_at().is_none(), release.stopped_at(), release.revisions().max()));
        self.ledger.rollback_target = newest.and_then(|release| release.target());
    }

    /// The releases that survived a bake and of which everything that runs still has its part, and that had no others:
    /// what is missing a part was never good so.
    fn releases_that_were_good(&self) -> Vec<Candidate<'a>> {
        let mut running = self.running();
        let Some(first) = running.next() else {
            return Vec::new();
        };
        let others: Vec<&Workload> = running.collect();
        let named =
            first.snapshots.iter().flat_map(|snapshot| snapshot.known_good_in.iter().map(move |it| (it, snapshot)));
        let whole = named.filter_map(|(payload, snapshot)| {
            let mut parts = vec![(first, snapshot)];
            for workload in &others {
                let has_it = |snapshot: &&Snapshot| snapshot.known_good_in.contains(payload);
                parts.push((workload, workload.snapshots.iter().find(has_it)?));
            }
            Some(Candidate { payload, parts }).filter(Candidate::is_whole)
        });
        whole.collect()
    }

    /// Why no automatic rollback may cross the releases between what runs and the target, if it may not.
    pub(super) fn unsafe_to_cross(&self, target: &RollbackTarget) -> Option<String> {
        self.workloads().iter().find_map(|workload| {
            let goes_to = target.part_of(workload)?;
            if goes_to.payload == workload.payload {
                return None;
            }
            let floor = workload.snapshot_of(&goes_to.payload).map_or(0, |snapshot| snapshot.revision);
            let stored = workload
                .snapshots
                .iter()
                .filter(|snapshot| snapshot.revision > floor || snapshot.payload == workload.payload)
                .find_map(|snapshot| snapshot.rollback_unsafe.clone());
            workload.rollback_unsafe.clone().or(stored)
        })
    }
}

/// The releases of a workload that a rollback to the target quarantines: what runs, and whatever is newer than the
/// target and was never baked. Where the workload runs the target already, only what ran since the blamed change began:
/// an owner may have readmitted what came before it.
pub(super) fn releases_to_quarantine(
    workload: &Workload,
    target: &TargetPart,
    blamed_since: Option<Timestamp>,
) -> Vec<String> {
    let floor = workload.snapshot_of(&target.payload).map_or(0, |snapshot| snapshot.revision);
    let since = blamed_since.filter(|_| workload.payload == target.payload);
    let is_involved =
        |snapshot: &&Snapshot| since.is_none_or(|since| snapshot.last_running_at.is_none_or(|end| end >= since));
    let unbaked = workload
        .snapshots
        .iter()
        .filter(|snapshot| snapshot.revision > floor && snapshot.known_good_at.is_none())
        .filter(is_involved)
        .map(|snapshot| snapshot.payload.clone());
    let mut releases: Vec<String> = std::iter::once(workload.payload.clone()).chain(unbaked).collect();
    // What runs comes first, then the newest: where there are too many for the intent, the oldest are left out.
    let mut seen = BTreeSet::new();
    releases.retain(|payload| *payload != target.payload && !payload.is_empty() && seen.insert(payload.clone()));
    releases
}

impl RollbackTarget {
    /// What a workload would run.
    pub fn part_of(&self, workload: &Workload) -> Option<&TargetPart> {
        self.workloads.iter().find(|part| workload.reference.is(part.kind, &part.name))
    }
}

impl Candidate<'_> {
    /// Whether these parts are all of the release.
    fn is_whole(&self) -> bool {
        let part = |(workload, snapshot): &(&Workload, &Snapshot)| ReleasePart {
            kind: workload.reference.kind,
            name: workload.reference.name.clone(),
            template: snapshot.template.clone(),
            payload: snapshot.payload.clone(),
            images: Vec::new(),
        };
        release_payload(&self.parts.iter().map(part).collect::<Vec<_>>()) == self.payload
    }

    fn runs(&self) -> bool {
        self.parts.iter().all(|(workload, snapshot)| {
            snapshot.payload == workload.payload || workload.variant_of() == Some(snapshot.payload.as_str())
        })
    }

    fn is_quarantined(&self, unlisted: &[String]) -> bool {
        self.parts.iter().any(|(workload, Snapshot { payload, .. })| {
            workload.marks.quarantined.contains(payload)
                || (workload.marks.quarantine_is_full() && unlisted.contains(payload))
        })
    }

    /// When its first part stopped running; `None` where all still run.
    fn stopped_at(&self) -> Option<Timestamp> {
        self.parts.iter().filter_map(|(_, snapshot)| snapshot.last_running_at).min()
    }

    fn revisions(&self) -> impl Iterator<Item = i64> {
        self.parts.iter().map(|(_, snapshot)| snapshot.revision)
    }

    fn target(&self) -> Option<RollbackTarget> {
        let part = |(workload, snapshot): &(&Workload, &Snapshot)| TargetPart {
            kind: workload.reference.kind,
            name: workload.reference.name.clone(),
            payload: snapshot.payload.clone(),
            revision: snapshot.name.clone(),
        };
        Some(RollbackTarget {
            images: once(self.parts.iter().flat_map(|(_, snapshot)| snapshot.images.clone())),
            payload: self.payload.to_owned(),
            known_good_at: self.parts.iter().filter_map(|(_, snapshot)| snapshot.known_good_at).min()?,
            workloads: self.parts.iter().map(part).collect(),
        })
    }
}
