//! What a write does to the release of a workload: the raw old object against the raw new one.
//!
//! Nothing is judged here.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::workload::PartKind;
use crate::observation::Workload;
use crate::release::digest::{all_images_are_pinned, template_digest};
use crate::release::workload;

/// The fields of an ownerReference that say which object it names.
pub(super) const OWNER_IDENTITY: [&str; 4] = ["apiVersion", "kind", "name", "uid"];

/// What an attempt does to the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Nothing: replicas, labels, status.
    Nothing,
    /// Other metadata of the template; with pinned images the same bytes run again.
    Relabels,
    /// Takes back a release that waits: what runs is asked for again.
    Withdraws,
    /// Lets a template roll out that was stored and kept from pods, as by a pause.
    Resumes,
    /// Another release, or a restart of images that may differ.
    Releases,
    /// The end of the workload.
    Deletes,
}

/// Whether a write adds an owner, or makes one another, which is a way to delete: the garbage collector removes what has
/// lost its last owner, and at once what names one that does not exist.
pub(super) fn gains_owner(old: &Value, new: &Value) -> bool {
    let owners = |object: &Value| -> BTreeSet<String> {
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let identity = |owner: &Value| OWNER_IDENTITY.map(|field| owner.get(field).cloned().unwrap_or_default());
        owners.into_iter().flatten().map(|owner| Value::from_iter(identity(owner)).to_string()).collect()
    };
    !owners(new).is_subset(&owners(old))
}

/// Raw old against raw new: what the update does to the release.
pub(super) fn move_of(kind: PartKind, old: &Value, new: &Value, stored: Option<&Workload>) -> Move {
    let (before, after) = (workload::template(kind, old), workload::template(kind, new));
    let (before, after) = (&*before.unwrap_or_default(), &*after.unwrap_or_default());
    let is_resumed = workload::is_resumed(kind, old, new);
    let is_same_template = before == after || template_digest(before) == template_digest(after);
    if is_same_template {
        return if is_resumed { Move::Resumes } else { Move::Nothing };
    }
    if let Some(stored) = stored.filter(|stored| stored.waiting.is_some()) {
        // What waits has not been admitted, so nothing of it is the same release as what runs.
        let asks_for_what_runs = stored.template == template_digest(after);
        return if asks_for_what_runs { Move::Withdraws } else { Move::Releases };
    }
    let runs_the_same =
        workload::payload(kind, before) == workload::payload(kind, after) && all_images_are_pinned(after);
    match (runs_the_same, is_resumed) {
        (true, false) => Move::Relabels,
        (true, true) | (false, _) => Move::Releases,
    }
}
