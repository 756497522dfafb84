//! What a pilot's workloads run, taken together: the pilot's release, and the change that brought it.
//!
//! Marks are written on each workload; here they are read as one. Nothing here judges.

use jiff::{SignedDuration, Timestamp};

use super::Case;
use crate::api::change_record::ReplacedRelease;
use crate::api::workload::ReleasePart;
use crate::observation::Workload;
use crate::release::images;
use crate::release::marks::{Admitted, AdmittedVerdict, Held};
use crate::release::vector::{release_digest, release_payload};

/// The release of the whole pilot.
#[derive(Clone, Debug, Default)]
pub(super) struct Whole {
    /// The payload digest that the pilot runs; empty where nothing runs.
    pub(super) payload: String,
    /// Its images.
    pub(super) images: Vec<String>,
    /// What brought it: the mark of the change that is newest, with the digests of the whole release. `None` while
    /// some workload runs what has no mark.
    pub(super) admitted: Option<Admitted>,
    /// The payload digest of the release that was meant, where other admission changed a part of it.
    pub(super) variant_of: Option<String>,
}

impl Whole {
    pub(super) fn of(case: &Case<'_>) -> Self {
        let workloads = &case.seen.workloads;
        let parts = parts_of(workloads);
        if parts.is_empty() {
            return Self::default();
        }
        let payload = release_payload(&parts);
        let images = images::of_parts(&parts);
        let stamps: Option<Vec<_>> =
            running(workloads).map(|it| Some((it.admitted()?, it.change_label.as_deref()))).collect();
        let admitted = stamps.and_then(|stamps| {
            let group = newest_change(case, stamps);
            let first = group.first()?;
            Some(Admitted { template: release_digest(&parts), payload: payload.clone(), ..(*first).clone() })
        });
        let mut meant = parts;
        for (part, workload) in meant.iter_mut().zip(running(workloads)) {
            part.payload = workload.variant_of().unwrap_or(&part.payload).to_owned();
        }
        let variant_of = Some(release_payload(&meant)).filter(|meant| *meant != payload);
        Self { payload, images, admitted, variant_of }
    }
}

/// What the workloads run, a part for each.
pub(super) fn parts_of(workloads: &[Workload]) -> Vec<ReleasePart> {
    running(workloads).map(part_of).collect()
}

fn part_of(workload: &Workload) -> ReleasePart {
    ReleasePart {
        kind: workload.reference.kind,
        name: workload.reference.name.clone(),
        template: workload.template.clone(),
        payload: workload.payload.clone(),
        images: workload.images_of(&workload.payload),
    }
}

/// A release as a later one refers to it; `None` where nothing runs.
pub(super) fn replaced(parts: &[ReleasePart]) -> Option<ReplacedRelease> {
    (!parts.is_empty()).then(|| ReplacedRelease { payload: release_payload(parts), images: images::of_parts(parts) })
}

/// What ran before a change, by the snapshots of the workloads that it moved: the one that was not seen to stop yet, else the
/// one that stopped last. `None` where one of them ran nothing before.
pub(super) fn replaced_by(change: &str, workloads: &[Workload]) -> Option<ReplacedRelease> {
    let before = |workload: &Workload| {
        if workload.admitted().is_none_or(|stamp| stamp.change != change) {
            return Some(part_of(workload));
        }
        let others = workload.snapshots.iter().filter(|snapshot| snapshot.payload != workload.payload);
        let last = others.max_by_key(|it| (it.last_running_at.is_none(), it.last_running_at, it.revision))?;
        let (template, payload, images) = (last.template.clone(), last.payload.clone(), last.images.clone());
        Some(ReleasePart { template, payload, images, ..part_of(workload) })
    };
    running(workloads).map(before).collect::<Option<Vec<_>>>().and_then(|parts| replaced(&parts))
}

/// Those that run anything: of what was created held no pod was made.
pub(super) fn running(workloads: &[Workload]) -> impl Iterator<Item = &Workload> {
    workloads.iter().filter(|workload| !workload.payload.is_empty())
}

/// The marks of the newest change, oldest first. Changes so close to the first, or named alike by people, are one;
/// an adoption, an act or the end of its bake ends a change.
fn newest_change<'a>(case: &Case<'_>, mut stamps: Vec<(&'a Admitted, Option<&str>)>) -> Vec<&'a Admitted> {
    stamps.sort_by_key(|(stamp, _)| stamp.at);
    let mut group: Vec<(&Admitted, Option<&str>)> = Vec::new();
    for (stamp, label) in stamps {
        let joins = group.first().is_some_and(|(first, named)| {
            let is_named_alike = label.is_some() && label == *named;
            let is_close = is_within(first.at, stamp.at, case.declaration.group_within);
            origin(first) == origin(stamp) && (is_named_alike || is_close) && !was_through_before(case, first, stamp.at)
        });
        if !joins {
            group.clear();
        }
        group.push((stamp, label));
    }
    group.into_iter().map(|(stamp, _)| stamp).collect()
}

/// Whether the change that a mark was a part of had been watched to its end by then. Its record may bear the name of
/// another part's mark.
fn was_through_before(case: &Case<'_>, mark: &Admitted, at: Timestamp) -> bool {
    let recorded = case.seen.changes.iter().filter(|change| change.started_at <= mark.at && change.ran(&mark.payload));
    let mut completed = recorded.filter_map(|change| change.completed_at).filter(|completed| *completed >= mark.at);
    completed.any(|completed| at > completed + case.declaration.bake)
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

/// What kind of event brought a release: only changes that the guards admitted are grouped with each other, emergencies
/// only with emergencies, and what nobody admitted only with its like.
const fn origin(stamp: &Admitted) -> u8 {
    match stamp.verdict {
        AdmittedVerdict::Adopted => 0,
        AdmittedVerdict::Rollback => 1,
        AdmittedVerdict::Allow | AdmittedVerdict::Hold | AdmittedVerdict::Pin | AdmittedVerdict::Deny => 2,
        AdmittedVerdict::Override | AdmittedVerdict::BreakGlass => 3,
        AdmittedVerdict::Unauthorized => 4,
    }
}
