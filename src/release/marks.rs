//! The annotations on a guarded workload that must be right at the instant of a write.
//!
//! The webhook reads them from the stored object in the same review, so no cache can be stale. They are
//! written only at admission, at adoption and in the patch of an act; edits by others are put back.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who admitted the template that is stored, and how.
pub const ADMITTED: &str = "pilotguard.dev/admitted";
/// A change that was put off: stored while paused, or answered with what was stored before.
pub const HELD: &str = "pilotguard.dev/held";
/// Payload digests that may not come back until a person readmits them.
pub const QUARANTINED: &str = "pilotguard.dev/quarantined";
/// The workload is scaled down by an incident.
pub const CONTAINED: &str = "pilotguard.dev/contained";
/// The replicas that the workload had before it was scaled down.
pub const PARKED_REPLICAS: &str = "pilotguard.dev/parked-replicas";
/// Written by people: `unsafe: <reason>` forbids an automatic rollback across this release.
pub const ROLLBACK: &str = "pilotguard.dev/rollback";
/// Written by people in a request that passes all guards: why. Only a request in [`BREAK_GLASS_GROUP`] may write it.
pub const BREAK_GLASS_REASON: &str = "pilotguard.dev/break-glass-reason";
/// Whoever impersonates this group and says why passes all guards.
pub const BREAK_GLASS_GROUP: &str = "pilotguard:break-glass";
/// Written by people: changes with the same value are one change.
pub const CHANGE: &str = "pilotguard.dev/change";

/// Maximum size of the mark of an admitted or held change, in bytes. Findings, then groups are left out of a larger one.
pub const MOST_OF_A_MARK: usize = 4 << 10;

/// Maximum number of images that the mark of a held change lists.
const MOST_IMAGES: usize = 3;

/// Maximum number of payload digests that the mark of quarantined releases lists. The records of incidents know the others.
const MOST_QUARANTINED: usize = 64;

/// Maximum size of all our marks on one object, in bytes, keys included.
pub const ROOM_FOR_MARKS: usize = 14 << 10;

/// Maximum size of all annotations of one object, in bytes, that the API server stores.
pub const MOST_ANNOTATIONS: usize = 256 << 10;

/// More of a reason that people write into an annotation is not kept.
const LONGEST_REASON: usize = 256;

/// The annotations that only pilotguard writes.
pub const OURS: [&str; 5] = [ADMITTED, HELD, QUARANTINED, CONTAINED, PARKED_REPLICAS];

/// The annotations that a request which is judged cannot change: ours, and the one that only break-glass writes.
pub const KEPT: [&str; 6] = [ADMITTED, HELD, QUARANTINED, CONTAINED, PARKED_REPLICAS, BREAK_GLASS_REASON];

/// How the stored template came to be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// The digest of the admitted template as stored; what is matched.
    pub template: String,
    /// Its payload digest.
    pub payload: String,
    /// The payload digest of the release that was meant, where other admission changed it in the very write that put it
    /// here.
    #[serde(rename = "variantOf", default, skip_serializing_if = "Option::is_none")]
    pub variant_of: Option<String>,
    /// The user who asked.
    pub by: String,
    /// The user's groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// When.
    pub at: Timestamp,
    /// The change that it belongs to: the name of its ChangeRecord.
    pub change: String,
    /// `Allow`, `Override`, `BreakGlass`, `Adopted`, `Rollback` or `Unauthorized`; with enforcement Observe what it would have been
    /// (`Hold`, `Pin` or `Deny`).
    pub verdict: AdmittedVerdict,
    /// What the guards found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// The break-glass reason that was on the workload when the operator stamped it last: another one is news.
    #[serde(rename = "breakGlass", default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<String>,
}

impl Admitted {
    /// The same mark for what other admission made of its release.
    #[must_use]
    pub fn of_variant(&self, template: String, payload: String) -> Self {
        let meant = self.variant_of.as_ref().unwrap_or(&self.payload);
        let variant_of = (*meant != payload).then(|| meant.clone());
        Self { template, payload, variant_of, ..self.clone() }
    }
}

/// How a template came to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdmittedVerdict {
    /// All guards allowed it.
    Allow,
    /// It would have been held; enforcement is Observe.
    Hold,
    /// It would have been pinned; enforcement is Observe.
    Pin,
    /// It would have been refused; enforcement is Observe.
    Deny,
    /// Guards refused it and owners let it through.
    Override,
    /// It was let in by break-glass.
    BreakGlass,
    /// It ran before the Pilot existed.
    Adopted,
    /// The operator put it back.
    Rollback,
    /// It was seen running without having been admitted.
    Unauthorized,
}

/// A change that was put off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// In which way.
    pub verdict: HeldVerdict,
    /// The digest of the template that was asked for.
    pub template: String,
    /// Its payload digest.
    pub payload: String,
    /// The user who asked.
    pub by: String,
    /// The user's groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// When.
    pub at: Timestamp,
    /// The change that it will be: the name of its ChangeRecord.
    pub change: String,
    /// The first images that it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Somebody else had paused the rollout before, so releasing it does not un-pause it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_paused: bool,
    /// What the guards found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// How a change was put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldVerdict {
    /// Its template is stored while the rollout is paused.
    Hold,
    /// The template that was stored before was put back.
    Pin,
}

/// A workload that an incident scaled down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contained {
    /// The incident.
    pub incident: String,
    /// The replicas that it may have at most while contained.
    pub replicas: i32,
}

/// All our annotations on one workload, parsed. An annotation that does not parse counts as absent:
/// for `admitted` that means the release is judged unauthorized, never that it is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// How the stored template came to be admitted.
    pub admitted: Option<Admitted>,
    /// A change that was put off.
    pub held: Option<Held>,
    /// Payload digests that may not come back.
    pub quarantined: BTreeSet<String>,
    /// The workload is scaled down by an incident.
    pub contained: Option<Contained>,
    /// The replicas that it had before.
    pub parked_replicas: Option<i32>,
}

impl Admitted {
    /// The annotation, of bounded size.
    pub fn to_annotation(&self) -> String {
        let mut mark = self.clone();
        bounded(&mut mark, |mark| leave_out(&mut mark.reasons, &mut mark.groups))
    }
}

impl Held {
    /// The annotation, of bounded size.
    pub fn to_annotation(&self) -> String {
        let mut mark = self.clone();
        mark.images.truncate(MOST_IMAGES);
        bounded(&mut mark, |mark| leave_out(&mut mark.reasons, &mut mark.groups))
    }
}

/// Removes a finding, or a group where findings take little. Returns whether there was one.
fn leave_out(reasons: &mut Vec<String>, groups: &mut Vec<String>) -> bool {
    let is_long = reasons.iter().map(String::len).sum::<usize>() > MOST_OF_A_MARK / 4;
    let left_out = if is_long { reasons.pop() } else { groups.pop().or_else(|| reasons.pop()) };
    left_out.is_some()
}

/// The JSON of a mark from which things are left out until it is small enough.
fn bounded<T: Serialize>(mark: &mut T, leave_out: impl Fn(&mut T) -> bool) -> String {
    loop {
        // Marks are structs of text; their JSON always exists.
        let json = serde_json::to_string(mark).unwrap_or_default();
        if json.len() <= MOST_OF_A_MARK || !leave_out(mark) {
            return json;
        }
    }
}

/// The first releases of these that the mark of quarantined releases can list.
pub fn quarantine_of<'a>(payloads: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    let mut listed = BTreeSet::new();
    for payload in payloads {
        if listed.len() < MOST_QUARANTINED {
            listed.insert(payload.clone());
        }
    }
    listed
}

/// The size of all annotations that are not our marks, in bytes.
pub fn bytes_of_others(annotations: &BTreeMap<String, String>) -> usize {
    let others = annotations.iter().filter(|(key, _)| !OURS.contains(&key.as_str()));
    others.map(|(key, value)| key.len() + value.len()).sum()
}

/// What is wrong with annotations of others that leave too little room for our marks.
pub fn lacking_room(bytes_of_others: usize) -> Option<String> {
    let most = MOST_ANNOTATIONS - ROOM_FOR_MARKS;
    (bytes_of_others > most).then(|| {
        format!(
            "{} bytes too large: the API server stores at most {} KiB, of which a rollback needs {} KiB",
            bytes_of_others - most,
            MOST_ANNOTATIONS >> 10,
            ROOM_FOR_MARKS >> 10
        )
    })
}

impl Marks {
    /// Reads the marks from a workload's annotations.
    pub fn read(annotations: &BTreeMap<String, String>) -> Self {
        let text = |key| annotations.get(key).map(String::as_str);
        Self {
            admitted: text(ADMITTED).and_then(|json| serde_json::from_str(json).ok()),
            held: text(HELD).and_then(|json| serde_json::from_str(json).ok()),
            quarantined: text(QUARANTINED).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default(),
            contained: text(CONTAINED).and_then(|json| serde_json::from_str(json).ok()),
            parked_replicas: text(PARKED_REPLICAS).and_then(|number| number.parse().ok()),
        }
    }

    /// Whether more releases may be quarantined than the mark lists.
    pub fn quarantine_is_full(&self) -> bool {
        self.quarantined.len() >= MOST_QUARANTINED
    }

    /// The break-glass reason that the stamp knows of.
    pub fn known_break_glass(&self) -> Option<String> {
        self.admitted.as_ref()?.break_glass.clone()
    }

    /// The annotations that express these marks; a key of [`OURS`] that is missing here shall be absent.
    pub fn write(&self) -> BTreeMap<&'static str, String> {
        let json = |value: serde_json::Result<String>| value.unwrap_or_default();
        let mut annotations = BTreeMap::new();
        if let Some(admitted) = &self.admitted {
            annotations.insert(ADMITTED, admitted.to_annotation());
        }
        if let Some(held) = &self.held {
            annotations.insert(HELD, held.to_annotation());
        }
        if !self.quarantined.is_empty() {
            annotations.insert(QUARANTINED, json(serde_json::to_string(&self.quarantined)));
        }
        if let Some(contained) = &self.contained {
            annotations.insert(CONTAINED, json(serde_json::to_string(contained)));
        }
        if let Some(replicas) = self.parked_replicas {
            annotations.insert(PARKED_REPLICAS, replicas.to_string());
        }
        annotations
    }
}

/// The reason of the last break-glass request, if there was one.
pub fn break_glass(annotations: &BTreeMap<String, String>) -> Option<String> {
    let reason = annotations.get(BREAK_GLASS_REASON)?;
    (!reason.is_empty()).then(|| reason.chars().take(LONGEST_REASON).collect())
}

/// The reason behind `unsafe:` in the rollback annotation, if a person wrote one.
pub fn rollback_unsafe(annotations: &BTreeMap<String, String>) -> Option<String> {
    let text = annotations.get(ROLLBACK)?.trim();
    let reason = text.strip_prefix("unsafe")?.trim_start_matches(':').trim();
    Some(reason.chars().take(LONGEST_REASON).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_bounded_whatever_people_write() {
        let digest = || "f".repeat(64);
        // Every character takes six bytes of JSON.
        let long = |length| "\u{1}".repeat(length);
        let (groups, reasons) = (vec![long(256); 64], vec![long(512); 8]);
        let admitted = Admitted {
            template: digest(),
            payload: digest(),
            variant_of: Some(digest()),
            by: "x".repeat(512),
            groups: groups.clone(),
            at: Timestamp::UNIX_EPOCH,
            change: "c".repeat(253),
            verdict: AdmittedVerdict::Unauthorized,
            reasons: reasons.clone(),
            break_glass: Some(long(LONGEST_REASON)),
        };
        let held = Held {
            verdict: HeldVerdict::Hold,
            template: digest(),
            payload: digest(),
            by: "x".repeat(512),
            groups,
            at: Timestamp::UNIX_EPOCH,
            change: "c".repeat(253),
            images: vec!["i".repeat(256); 16],
            was_paused: true,
            reasons,
        };
        let before: Vec<String> = (0..1_000).map(|number| format!("{number:064}")).collect();
        let quarantined = quarantine_of([&digest()].into_iter().chain(&before));
        assert!(quarantined.contains(&digest()) && quarantined.len() == MOST_QUARANTINED, "the first are listed");
        let contained = Contained { incident: "i".repeat(253), replicas: i32::MIN };
        let marks = Marks {
            admitted: Some(admitted),
            held: Some(held),
            quarantined,
            contained: Some(contained),
            parked_replicas: Some(i32::MIN),
        };
        let written: BTreeMap<String, String> =
            marks.write().into_iter().map(|(key, text)| (key.to_owned(), text)).collect();
        assert_eq!(written.len(), OURS.len());
        let bytes: usize = written.iter().map(|(key, text)| key.len() + text.len()).sum();
        assert!(bytes <= ROOM_FOR_MARKS, "{bytes}");
        assert_eq!(bytes_of_others(&written), 0);
        let read = Marks::read(&written);
        assert_eq!(read.admitted.map(|it| it.payload), Some(digest()), "what is bounded is still a mark");
    }

    #[test]
    fn the_last_byte_counts() {
        let most = MOST_ANNOTATIONS - ROOM_FOR_MARKS;
        assert_eq!(lacking_room(most), None);
        assert!(lacking_room(most + 1).is_some_and(|problem| problem.starts_with("1 bytes too large")));
    }
}
