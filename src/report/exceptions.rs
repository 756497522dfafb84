//! What is told when an exception is made: an Override or a Readmit that counts, a broken glass, an emergency change.

use super::announcements::Announcement;
use crate::api::change_record::{ApprovalOwed, ChangeClass};
use crate::api::decision::{DecisionPhase, DecisionType};
use crate::decide::Case;
use crate::decide::naming::{name_of, to_release};
use crate::decide::plan::{Effect, Stamp};
use crate::release::digest;
use crate::release::images::{once, release_name};
use crate::release::vector::release_payload;

/// What an effect tells of an exception, if it is about one.
pub(super) fn of(case: &Case<'_>, effect: &Effect) -> Option<Announcement> {
    match effect {
        Effect::JudgeDecision { name, phase: DecisionPhase::Accepted, message } => of_decision(case, name, message),
        Effect::Stamp(stamp) => of_broken_glass(case, stamp),
        Effect::OpenChange(open) if open.class == ChangeClass::Emergency => {
            let found = open.findings.join("; ");
            let images = once(open.release.iter().flat_map(|part| part.images.clone()));
            let release = release_name(&images, &release_payload(&open.release));
            Some(of_emergency((&open.name, release), &open.requested_by.user, &found, open.approval_owed.as_ref()))
        }
        Effect::DeclareEmergency(emergency) => {
            let found = "it had been held";
            let owed = &emergency.approval_owed;
            let record = case.seen.changes.iter().find(|change| change.name == emergency.change);
            let release = record.and_then(|change| name_of(case, &change.payload));
            let by = owed.not_from.as_deref().unwrap_or_default();
            Some(of_emergency((&emergency.change, release), by, found, Some(owed)))
        }
        _ => None,
    }
}

fn of_decision(case: &Case<'_>, name: &str, message: &str) -> Option<Announcement> {
    let decision = case.seen.decisions.iter().find(|decision| decision.name == name)?;
    let reason = match decision.type_ {
        DecisionType::Override if decision.fix => "FixForwardAccepted",
        DecisionType::Override => "OverrideAccepted",
        DecisionType::Readmit => "ReleaseReadmitted",
        DecisionType::Approve => "ChangeApproved",
        _ => return None,
    };
    let by = decision.by.as_ref().map_or("", |by| by.user.as_str());
    let note = format!("Decision {name} of {by} ({}): {message}", decision.reason);
    Some(Announcement { key: format!("{name}-accepted"), is_warning: false, reason, note })
}

fn of_broken_glass(case: &Case<'_>, stamp: &Stamp) -> Option<Announcement> {
    let workload = case.seen.workload(&stamp.workload)?;
    let why = workload.broken_glass()?;
    let mut hash = digest::digest(&serde_json::json!([workload.uid, why]));
    hash.truncate(16);
    Some(Announcement {
        key: format!("break-glass-{hash}"),
        is_warning: true,
        reason: "BreakGlass",
        note: format!(
            "guards of {} were passed by break-glass: {why}; the API server's audit log says by whom",
            stamp.workload
        ),
    })
}

fn of_emergency(
    (change, release): (&str, Option<String>),
    by: &str,
    found: &str,
    owed: Option<&ApprovalOwed>,
) -> Announcement {
    let from = owed.map(|owed| owed.from.join(", ")).unwrap_or_default();
    let to = to_release(release);
    Announcement {
        key: format!("{change}-emergency"),
        is_warning: true,
        reason: "EmergencyChange",
        note: format!("change {change}{to} of {by} is an emergency and owes an approval by one of {from}; {found}"),
    }
}
