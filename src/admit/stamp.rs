//! The marks on a workload at the moment of its admission: what others did to them is put back, and an
//! admitted release is stamped.
//!
//! Old marks are taken from the stored object in the same review and put back as the very text that was
//! there. `kubectl rollout undo` rewrites annotations to those of an older ReplicaSet, so tampering need not
//! be malice.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation};
use serde_json::Value;

use crate::api::decision::Requester;
use crate::api::workload::PartKind;
use crate::decide::Ledger;
use crate::decide::proposal::Judgement;
use crate::declaration::Declaration;
use crate::release::change::change_name;
use crate::release::digest::template_digest;
use crate::release::images::images;
use crate::release::marks::{
    ADMITTED, Admitted, AdmittedVerdict, CHANGE, HELD, Held, HeldVerdict, KEPT, MOST_OF_A_MARK, Marks,
};
use crate::release::workload;
use crate::report::refusal::shorten;

/// Maximum number of groups of a requester that are kept; service accounts have three, people rarely more than twenty.
const MOST_GROUPS: usize = 64;

/// A group's name is kept up to so many bytes, which the schemas take; longer ones are left out, never cut into
/// another name.
const LONGEST_GROUP: usize = 256;

/// The longest reason that is kept, in bytes; ChangeRecords take up to 512.
const LONGEST_REASON: usize = 512;

/// No more reasons than there are guards.
const MOST_REASONS: usize = 9;

/// Two passes over one request lie at most so far apart: the API server gives up sooner.
const ONE_REQUEST: SignedDuration = SignedDuration::from_secs(30);

/// What an update is about.
pub struct Change<'a> {
    /// What was declared.
    pub declaration: &'a Declaration,
    /// What was decided before.
    pub ledger: &'a Ledger,
    /// The kind of the workload.
    pub kind: PartKind,
    /// The workload as it is stored; null where it is new.
    pub old: &'a Value,
    /// The workload as it would be stored.
    pub new: &'a Value,
    /// Who asks.
    pub requester: &'a Requester,
    /// Payload digests that a new workload may not move to, because its namesake was rolled back from them.
    pub quarantined: BTreeSet<String>,
    /// The time.
    pub now: Timestamp,
}

impl Change<'_> {
    /// The marks that a new workload takes over from a namesake.
    pub fn of_namesake(&self) -> BTreeMap<&'static str, String> {
        Marks { quarantined: self.quarantined.clone(), ..Marks::default() }.write()
    }
}

/// The annotations of [`KEPT`] as they are stored.
pub fn stored(old: &Value) -> BTreeMap<&'static str, String> {
    let annotations = workload::annotations(old);
    KEPT.iter().filter_map(|key| Some((*key, annotations.get(*key)?.clone()))).collect()
}

/// What has to be done to `new` so that of [`KEPT`] it carries exactly `wanted`.
pub fn patch(new: &Value, wanted: &BTreeMap<&'static str, String>) -> Vec<PatchOperation> {
    let found = new.pointer("/metadata/annotations").and_then(Value::as_object);
    let add = |path: &[&str], value: Value| {
        PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
    };
    let mut operations = Vec::new();
    if found.is_none() && !wanted.is_empty() {
        operations.push(add(&["metadata", "annotations"], Value::Object(serde_json::Map::new())));
    }
    for key in KEPT {
        let path = ["metadata", "annotations", key];
        let present = found.and_then(|annotations| annotations.get(key));
        match (wanted.get(key), present) {
            (Some(text), present) if present.and_then(Value::as_str) != Some(text) => {
                operations.push(add(&path, Value::String(text.clone())));
            }
            (None, Some(_)) => {
                operations.push(PatchOperation::Remove(RemoveOperation { path: PointerBuf::from_tokens(path) }));
            }
            _ => {}
        }
    }
    operations
}

/// The stamp of a release that moves and was let through.
pub fn of_moved(change: &Change<'_>, judgement: &Judgement) -> String {
    let (template, payload) = digests(change.kind, change.new);
    let joined = joined_change(change).filter(|_| !judgement.is_emergency());
    write(&Admitted {
        template,
        variant_of: None,
        by: change.requester.user.clone(),
        groups: kept_groups(change.requester),
        // A change begins with its first template: what joins it keeps that time.
        at: joined.as_ref().map_or(change.now, |first| first.at),
        change: joined
            .map_or_else(|| change_name(&change.declaration.pilot.name, &payload, change.now), |it| it.change),
        payload,
        verdict: judgement.stamped(),
        reasons: reasons(judgement),
        // What the operator has not told yet stays news.
        break_glass: Marks::read(&workload::annotations(change.old)).known_break_glass(),
    })
}

fn reasons(judgement: &Judgement) -> Vec<String> {
    judgement.reasons().iter().map(|text| shorten(text, LONGEST_REASON)).collect()
}

/// The mark of a change that is put off. One that is put off again keeps its time and its name.
pub fn of_held(change: &Change<'_>, judgement: &Judgement, verdict: HeldVerdict) -> String {
    let (template, payload) = digests(change.kind, change.new);
    let before = Marks::read(&workload::annotations(change.old)).held;
    let same = before.as_ref().filter(|held| held.verdict == verdict && held.template == template);
    let is_waiting = before.as_ref().is_some_and(|held| held.verdict == HeldVerdict::Hold);
    let held = Held {
        verdict,
        by: change.requester.user.clone(),
        groups: kept_groups(change.requester),
        at: same.map_or(change.now, |held| held.at),
        change: same
            .map_or_else(|| change_name(&change.declaration.pilot.name, &payload, change.now), |it| it.change.clone()),
        // What we paused ourselves does not count as paused by others.
        was_paused: match before.filter(|_| is_waiting) {
            Some(held) => held.was_paused,
            None => workload::is_paused(change.old),
        },
        reasons: reasons(judgement),
        images: workload::template(change.kind, change.new).map(|template| images(&template)).unwrap_or_default(),
        template,
        payload,
    };
    write_held(held)
}

/// The note that a change was pinned, where this requester's own write brings one that is only seconds old: an earlier pass
/// over the same request wrote it. People could write as much about themselves, which makes their Pilot look worse and
/// nothing better.
pub fn noted_just_now(new: &Value, requester: &Requester, now: Timestamp) -> Option<String> {
    let note = Marks::read(&workload::annotations(new)).held.filter(|held| held.verdict == HeldVerdict::Pin)?;
    // A long list of groups is written down shortened.
    let is_ours = note.by == requester.user && kept_groups(requester).starts_with(&note.groups);
    let is_new = now.duration_since(note.at).abs() <= ONE_REQUEST;
    let is_short = note.reasons.len() <= MOST_REASONS
        && (note.reasons.iter().chain(&note.images).chain([&note.template, &note.payload, &note.change]))
            .all(|text| text.len() <= LONGEST_REASON);
    // The room for our marks is counted in bytes of JSON: escaped text may take six times its length.
    (is_ours && is_new && is_short).then(|| write_held(note)).filter(|text| text.len() <= MOST_OF_A_MARK)
}

/// The stamp of a template that was stored while paused and is released now, unchanged: the same change, which
/// begins only now. `None` where it has proved itself already. What was never admitted is stamped anew.
pub fn of_resumed(change: &Change<'_>, judgement: &Judgement) -> Option<String> {
    let Some(mark) = matching_mark(change).filter(|mark| mark.verdict != AdmittedVerdict::Unauthorized) else {
        return Some(of_moved(change, judgement));
    };
    let is_proven = is_known_good(change.ledger, &mark);
    (!is_proven).then(|| {
        let (by, groups) = (change.requester.user.clone(), kept_groups(change.requester));
        let (verdict, reasons) = if judgement.is_emergency() {
            (judgement.stamped(), reasons(judgement))
        } else {
            (mark.verdict, mark.reasons.clone())
        };
        write(&Admitted { by, groups, at: change.now, verdict, reasons, ..mark })
    })
}

/// The stamp of a template that differs but runs the same: it moves on with the template. `None` where the
/// stored template carries no stamp of its own, which must not be made good in passing.
pub fn of_same_release(change: &Change<'_>) -> Option<String> {
    let mark = matching_mark(change)?;
    let (template, payload) = digests(change.kind, change.new);
    Some(write(&Admitted { template, payload, ..mark }))
}

/// The digest of what is released, and the payload digest.
fn digests(kind: PartKind, object: &Value) -> (String, String) {
    let template = workload::template(kind, object).unwrap_or_default();
    (template_digest(&template), workload::payload(kind, &template))
}

/// The stored stamp, if it speaks of the stored template.
fn matching_mark(change: &Change<'_>) -> Option<Admitted> {
    let stored = template_digest(&*workload::template(change.kind, change.old)?);
    let mark = Marks::read(&workload::annotations(change.old)).admitted?;
    (mark.template == stored).then_some(mark)
}

/// The change that this one is a part of: an admitted one that began a moment ago or carries the same name by
/// hand. An incident, an act or the end of the bake time ends it.
fn joined_change(change: &Change<'_>) -> Option<Admitted> {
    let annotations = workload::annotations(change.old);
    let mark = Marks::read(&annotations).admitted?;
    let was_admitted = matches!(
        mark.verdict,
        AdmittedVerdict::Allow | AdmittedVerdict::Hold | AdmittedVerdict::Pin | AdmittedVerdict::Deny
    );
    if !was_admitted || change.ledger.incident.is_some() || is_known_good(change.ledger, &mark) {
        return None;
    }
    let new_annotations = workload::annotations(change.new);
    let named =
        |annotations: &BTreeMap<String, String>| annotations.get(CHANGE).filter(|name| !name.is_empty()).cloned();
    let is_named_alike = named(&annotations).is_some_and(|name| named(&new_annotations) == Some(name));
    let is_recent = change.now.duration_since(mark.at).abs() <= change.declaration.group_within;
    (is_named_alike || is_recent).then_some(mark)
}

/// Whether the release that a mark belongs to has survived its bake. Of several workloads the release is the whole of
/// them, and its time is that of its newest change.
fn is_known_good(ledger: &Ledger, mark: &Admitted) -> bool {
    ledger.release.as_ref().is_some_and(|release| {
        let belongs = release.payload == mark.payload || mark.at <= release.admitted_at;
        belongs && release.state.is_baked()
    })
}

/// The groups of a requester that are written down, in a stamp or in a Decision.
pub fn kept_groups(requester: &Requester) -> Vec<String> {
    requester.groups.iter().filter(|group| group.len() <= LONGEST_GROUP).take(MOST_GROUPS).cloned().collect()
}

fn write(admitted: &Admitted) -> String {
    let marks = Marks { admitted: Some(admitted.clone()), ..Marks::default() };
    marks.write().remove(ADMITTED).unwrap_or_default()
}

fn write_held(held: Held) -> String {
    let marks = Marks { held: Some(held), ..Marks::default() };
    marks.write().remove(HELD).unwrap_or_default()
}
