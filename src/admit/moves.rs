//! What a write does to the release of a workload: raw old against raw new, judged by nobody here.

use serde_json::Value;

use crate::api::workload::WorkloadKind;
use crate::observation::Workload;
use crate::release::digest::{all_images_are_pinned, payload_digest, template_digest};
use crate::release::workload;

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

/// Raw old against raw new: what the update does to the release.
pub(super) fn move_of(kind: WorkloadKind, old: &Value, new: &Value, stored: Option<&Workload>) -> Move {
    let (before, after) = (workload::template(old), workload::template(new));
    let (before, after) = (before.unwrap_or(&Value::Null), after.unwrap_or(&Value::Null));
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
    let runs_the_same = payload_digest(before) == payload_digest(after) && all_images_are_pinned(after);
    match (runs_the_same, is_resumed) {
        (true, false) => Move::Relabels,
        (true, true) | (false, _) => Move::Releases,
    }
}
