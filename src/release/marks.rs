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

    /// The break-glass reason that the stamp knows of.
    pub fn known_break_glass(&self) -> Option<String> {
        self.admitted.as_ref()?.break_glass.clone()
    }

    /// The annotations that express these marks; a key of [`OURS`] that is missing here shall be absent.
    pub fn write(&self) -> BTreeMap<&'static str, String> {
        let json = |value: serde_json::Result<String>| value.unwrap_or_default();
        let mut annotations = BTreeMap::new();
        if let Some(admitted) = &self.admitted {
            annotations.insert(ADMITTED, json(serde_json::to_string(admitted)));
        }
        if let Some(held) = &self.held {
            annotations.insert(HELD, json(serde_json::to_string(held)));
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
