//! Break-glass as admission sees it: which requests pass unjudged, and what is told to someone whose did not.
//!
//! Whoever impersonates the group and says why anew passes all guards, also while the operator is down; a static policy
//! keeps anyone else from saying so. Nothing here judges a change.

use k8s_openapi::api::admissionregistration::v1::MatchCondition;

use super::cel::{condition, literal};
use super::wire::{Request, Verb};
use crate::release::marks::{ADMITTED, BREAK_GLASS_GROUP, BREAK_GLASS_REASON};

/// Matches what the webhook has to judge. What is to be deleted says why beforehand: in a reason that the stamp does not
/// know yet, or that speaks of deleting, because an operator that runs has soon seen every other one.
pub(super) fn not_broken() -> MatchCondition {
    let (group, key) = (literal(BREAK_GLASS_GROUP), literal(BREAK_GLASS_REASON));
    let text = |object: &str, key: &str| {
        format!("({object} == null ? '' : {object}.metadata.?annotations[?{key}].orValue(''))")
    };
    let (before, after) = (text("oldObject", &key), text("object", &key));
    let stamp = text("oldObject", &literal(ADMITTED));
    // Of what JSON escapes, a reason has only these.
    let escaped = format!(r#"{before}.replace('\\', '\\\\').replace('"', '\\"')"#);
    let is_seen = format!(r#"{stamp}.contains('"breakGlass":"' + {escaped} + '"')"#);
    let may_delete = format!("({before}.startsWith('delete: ') || ({before} != '' && !{is_seen}))");
    let says_why = format!("(object == null ? {may_delete} : ({after} != '' && {after} != {before}))");
    condition("not-break-glass", &format!("!({group} in request.userInfo.?groups.orValue([]) && {says_why})"))
}

/// What was missing, for someone who means to break the glass and is judged like everybody.
pub(super) fn missing(request: &Request) -> Option<String> {
    if !request.requester.groups.iter().any(|group| group == BREAK_GLASS_GROUP) {
        return None;
    }
    let how = match request.operation {
        Verb::Delete => "before deleting, write one that begins with \"delete: \"",
        _ if request.target.ends_with("/scale") => "patch spec.replicas and write one in the same request",
        _ => "write a new one in the same request",
    };
    Some(format!("Break-glass needs a new reason in the annotation {BREAK_GLASS_REASON}: {how}."))
}
