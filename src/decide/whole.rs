//! What a pilot's workloads run, taken together: the pilot's release, and the change that brought it.
//!
//! Marks are written on each workload; here they are read as one. Nothing here judges.

use jiff::{SignedDuration, Timestamp};

use crate::api::workload::ReleasePart;
use crate::observation::Workload;
use crate::release::marks::{Admitted, AdmittedVerdict, Held};
use crate::release::vector::{release_digest, release_payload};

/// The release of the whole pilot.
#[derive(Clone, Debug, Default)]
pub(super) struct Whole {
    /// The payload digest that the pilot runs; empty where nothing runs.
    pub(super) payload: String,
    /// What brought it: the mark of the change that is newest, with the digests of the whole release. `None` while
    /// some workload runs what has no mark.
    pub(super) admitted: Option<Admitted>,
}

impl Whole {
    pub(super) fn of(workloads: &[Workload], within: SignedDuration) -> Self {
        let parts = parts_of(workloads);
        if parts.is_empty() {
            return Self::default();
        }
        let payload = release_payload(&parts);
        let stamp = |workload| Some((Workload::admitted(workload)?, workload.change_label.as_deref()));
        let stamps: Option<Vec<_>> = workloads.iter().filter(|workload| runs(workload)).map(stamp).collect();
        let admitted = stamps.and_then(|stamps| {
            let group = newest_change(stamps, within);
            let first = group.first()?;
            let came_in_unseen = group.iter().find(|stamp| stamp.verdict == AdmittedVerdict::Unauthorized);
            Some(Admitted {
                template: release_digest(&parts),
                payload: payload.clone(),
                verdict: came_in_unseen.map_or(first.verdict, |stamp| stamp.verdict),
                ..(*first).clone()
            })
        });
        Self { payload, admitted }
    }
}

/// What the workloads run, a part for each.
pub(super) fn parts_of(workloads: &[Workload]) -> Vec<ReleasePart> {
    let part = |workload: &Workload| ReleasePart {
        kind: workload.reference.kind,
        name: workload.reference.name.clone(),
        template: workload.template.clone(),
        payload: workload.payload.clone(),
    };
    workloads.iter().filter(|workload| runs(workload)).map(part).collect()
}

/// Whether it runs anything: of what was created held no pod was made.
fn runs(workload: &Workload) -> bool {
    !workload.payload.is_empty()
}

/// The marks of the newest change, oldest first. Changes so close to the first, or named alike by people, are one;
/// an adoption or an act ends a change.
fn newest_change<'a>(mut stamps: Vec<(&'a Admitted, Option<&str>)>, within: SignedDuration) -> Vec<&'a Admitted> {
    stamps.sort_by_key(|(stamp, _)| stamp.at);
    let mut group: Vec<(&Admitted, Option<&str>)> = Vec::new();
    for (stamp, label) in stamps {
        let joins = group.first().is_some_and(|(first, named)| {
            let is_named_alike = label.is_some() && label == *named;
            origin(first) == origin(stamp) && (is_named_alike || is_within(first.at, stamp.at, within))
        });
        if !joins {
            group.clear();
        }
        group.push((stamp, label));
    }
    group.into_iter().map(|(stamp, _)| stamp).collect()
}

/// The waiting releases that belong to one change, for each change: who waits, and what.
pub(super) fn waiting_changes(workloads: &[Workload], within: SignedDuration) -> Vec<Vec<(&Workload, &Held)>> {
    let mut waiting: Vec<_> =
        workloads.iter().filter_map(|workload| Some((workload, workload.waiting.as_ref()?))).collect();
    waiting.sort_by_key(|(_, held)| held.at);
    let mut changes: Vec<Vec<(&Workload, &Held)>> = Vec::new();
    for (workload, held) in waiting {
        let joins = |(other, first): &(&Workload, &Held)| {
            let is_named_alike = workload.change_label.is_some() && workload.change_label == other.change_label;
            is_named_alike || is_within(first.at, held.at, within)
        };
        match changes.last_mut().filter(|change| change.first().is_some_and(joins)) {
            Some(change) => change.push((workload, held)),
            None => changes.push(vec![(workload, held)]),
        }
    }
    changes
}

fn is_within(first: Timestamp, later: Timestamp, within: SignedDuration) -> bool {
    later.duration_since(first) <= within
}

/// What kind of event brought a release: only changes of people are grouped with each other, and emergencies only with
/// emergencies.
const fn origin(stamp: &Admitted) -> u8 {
    match stamp.verdict {
        AdmittedVerdict::Adopted => 0,
        AdmittedVerdict::Rollback => 1,
        AdmittedVerdict::Allow
        | AdmittedVerdict::Hold
        | AdmittedVerdict::Pin
        | AdmittedVerdict::Deny
        | AdmittedVerdict::Unauthorized => 2,
        AdmittedVerdict::Override | AdmittedVerdict::BreakGlass => 3,
    }
}
