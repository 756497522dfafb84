//! What other admission makes of our writes, found out by dry-runs.
//!
//! Before an act: what would be stored. From time to time, and first of all when a workload is met: whether our writes
//! come out as written, and come out alike each time. Nothing is stored here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::suspects::suspects;
use crate::act;
use crate::act::writer::{WriteError, Writer};
use crate::api::workload::PartReference;
use crate::observation::{Landing, Rehearsal, Workload};
use crate::observe::cluster::{RawWorkload, raw};
use crate::record::snapshots;
use crate::release::digest::template_digest;
use crate::release::drift::{changed_fields, differences};
use crate::release::workload;
use crate::report::surroundings::OtherAdmission;

/// Writes that came out as written are tried again after this time.
const GOOD_FOR: Duration = Duration::from_mins(30);

/// Others sooner.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// What the API server would store if a release were restored; `None` where it does not say.
pub async fn rehearse(writer: &Writer, namespace: &str, rehearsal: &Rehearsal) -> Option<Landing> {
    let Rehearsal { workload: reference, uid, snapshot } = rehearsal;
    let kind = reference.kind;
    let release = async {
        let revision: ControllerRevision = writer.read(namespace, snapshot).await?;
        let Some(release) = snapshots::release(&revision) else { return Ok(None) };
        let stored = read(writer, namespace, reference).await?;
        let patch = act::restore(kind, &stored, uid, &release.template);
        let answer = tried(writer, namespace, reference, patch).await?;
        Ok::<_, WriteError>(Some((release.template, answer)))
    };
    match release.await {
        Ok(found) => {
            let (restored, answer) = found?;
            let content = workload::template(kind, &answer)?.into_owned();
            Some(Landing {
                template: template_digest(&content),
                payload: workload::payload(kind, &content),
                changed: changed_fields(kind, &restored, &content),
                content,
            })
        }
        Err(error) => {
            tracing::warn!(namespace, workload = %reference, cause = super::chain(&error), "the dry-run of a rollback failed");
            None
        }
    }
}

/// Workloads that are tried at once. Who finds none of these places free keeps to what was found out last.
const SIDE_BY_SIDE: usize = 8;

/// What was found out last, by the uid of the workload.
#[derive(Debug)]
pub struct Rehearsals {
    known: Mutex<HashMap<String, Known>>,
    slots: Semaphore,
}

impl Default for Rehearsals {
    fn default() -> Self {
        Self { known: Mutex::default(), slots: Semaphore::new(SIDE_BY_SIDE) }
    }
}

/// What was found out about one workload.
#[derive(Debug)]
struct Known {
    at: Instant,
    /// The template that it had then, and whether it was stamped.
    of: (String, bool),
    found: OtherAdmission,
}

impl Rehearsals {
    /// What becomes of our writes to these workloads: the worst of it.
    pub async fn of(&self, writer: &Writer, namespace: &str, workloads: &[Workload]) -> OtherAdmission {
        let mut worst = OtherAdmission::default();
        for workload in workloads {
            worst = worst.max(self.of_one(writer, namespace, workload).await);
        }
        worst
    }

    async fn of_one(&self, writer: &Writer, namespace: &str, workload: &Workload) -> OtherAdmission {
        let known = self.known(workload);
        if let Some((found, true)) = known {
            return found;
        }
        let Ok(_slot) = self.slots.try_acquire() else {
            return known.map(|(found, _)| found).unwrap_or_default();
        };
        let found = survey(writer, namespace, workload).await;
        self.remember(workload, found.clone());
        found
    }

    /// What was found out last, and whether it still holds.
    fn known(&self, workload: &Workload) -> Option<(OtherAdmission, bool)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { at, of, found } = known.get(&workload.uid)?;
        let lasts = if *found == OtherAdmission::Unaltered { GOOD_FOR } else { ASK_AGAIN };
        Some((found.clone(), at.elapsed() < lasts && *of == state(workload)))
    }

    fn remember(&self, workload: &Workload, found: OtherAdmission) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Deleted workloads are forgotten when their time is over.
        known.retain(|_, known| known.at.elapsed() < 2 * GOOD_FOR);
        known.insert(workload.uid.clone(), Known { at: Instant::now(), of: state(workload), found });
    }
}

fn state(workload: &Workload) -> (String, bool) {
    (workload.template.clone(), workload.marks.admitted.is_some())
}

/// Tries a write that changes no more than a mark, twice; and where it comes out changed, to write that.
async fn survey(writer: &Writer, namespace: &str, seen: &Workload) -> OtherAdmission {
    let reference = &seen.reference;
    match surveyed(writer, namespace, seen).await {
        Ok(Survey { changed, .. }) if changed.is_empty() => OtherAdmission::Unaltered,
        Ok(Survey { changed, is_stable }) => {
            let by = suspects(writer.client(), reference.kind).await;
            let what = format!("{} of {reference} is changed by {by}", changed.join(", "));
            if is_stable { OtherAdmission::Altered(what) } else { OtherAdmission::Unstable(what) }
        }
        // Somebody else wrote in between, or it is gone: the next evaluation tells.
        Err(error) if error.is_conflict() || error.code() == Some(404) => OtherAdmission::Unknown,
        Err(error) => match error.message() {
            Some(message) => OtherAdmission::Refused(format!("{reference}: {message}")),
            None => OtherAdmission::Unknown,
        },
    }
}

struct Survey {
    changed: Vec<String>,
    is_stable: bool,
}

async fn surveyed(writer: &Writer, namespace: &str, seen: &Workload) -> Result<Survey, WriteError> {
    let (reference, kind) = (&seen.reference, seen.reference.kind);
    let stored = read(writer, namespace, reference).await?;
    let first = tried(writer, namespace, reference, act::rehearsal(&stored, &seen.uid)).await?;
    let changed = differences(kind, &stored, &first);
    if changed.is_empty() {
        return Ok(Survey { changed, is_stable: true });
    }
    let mut again = tried(writer, namespace, reference, act::rehearsal(&stored, &seen.uid)).await?;
    // What is not stamped yet may not be moved by us, not even to try.
    if kind.is_rolled_back()
        && seen.marks.admitted.is_some()
        && differences(kind, &first, &again).is_empty()
        && let Some(content) = workload::template(kind, &first)
    {
        again = tried(writer, namespace, reference, act::restore(kind, &stored, &seen.uid, &content)).await?;
    }
    let unstable = differences(kind, &first, &again);
    let is_stable = unstable.is_empty();
    Ok(Survey { changed: if is_stable { changed } else { unstable }, is_stable })
}

async fn read(writer: &Writer, namespace: &str, workload: &PartReference) -> Result<Value, WriteError> {
    Ok(raw(&writer.read_of::<RawWorkload>(&workload.kind, namespace, &workload.name).await?))
}

async fn tried(
    writer: &Writer,
    namespace: &str,
    workload: &PartReference,
    patch: json_patch::Patch,
) -> Result<Value, WriteError> {
    let place = (namespace, workload.name.as_str());
    Ok(raw(&writer.try_patch_of::<RawWorkload>(&workload.kind, place, patch).await?))
}
