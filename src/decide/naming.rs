//! The name of a release by its payload digest, from whatever was seen of it. Judges nothing.

use super::Case;
use crate::api::workload::ReleasePart;
use crate::observation::Change;
use crate::release::images::{of_parts, release_name};

/// The name of a release of the pilot, or of the part that one workload runs; `None` if none of its images is known.
pub fn name_of(case: &Case<'_>, payload: &str) -> Option<String> {
    let of_change = |change: &Change| {
        let is_meant = |part: &&ReleasePart| change.payload == payload || part.payload == payload;
        of_parts(change.parts.iter().filter(is_meant))
    };
    let of_workloads = case.seen.workloads.iter().map(|workload| workload.images_of(payload));
    let of_changes = case.seen.changes.iter().rev().map(of_change);
    let images = of_workloads.chain(of_changes).find(|images| !images.is_empty())?;
    release_name(&images, payload)
}

/// What a release is called of which nothing was seen but the digest that somebody wrote.
pub fn unseen_release(payload: &str) -> String {
    format!("release {} (not seen yet)", payload.get(..12).unwrap_or(payload))
}

/// ` to ` and the name of a release, if it has one.
pub fn to_release(name: Option<String>) -> String {
    name.map(|name| format!(" to {name}")).unwrap_or_default()
}
