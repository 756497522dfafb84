//! What becomes of a Decision when it is created.
//!
//! The rule is the controller's own ([`judge_decision`]), asked with what memory knows: a person learns at once why a
//! Decision has no effect. Where memory may know too little the Decision is admitted and judged later; so is one that a
//! machine applies, because a refused object would fail the whole sync of a GitOps tool.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::context::Context;
use super::known::NO_SOURCE;
use super::objects::parse;
use super::stamp::kept_groups;
use super::wire::{Answer, Request};
use crate::api::decision::{Decision, RECEIVED_AT, Requester};
use crate::decide::Case;
use crate::decide::decisions::judge_decision;
use crate::decide::people::is_service_account;
use crate::decide::reasons::{WANTED, says_nothing};
use crate::declaration::LONGEST_EXCEPTION;
use crate::observation::PilotDecision;
use crate::observe::cluster::reduce_decision;
use crate::report::refusal::{LONGEST_LINE, shorten};
use crate::violation::Violation;

/// Maximum number of characters in the metadata of a Decision: before an act all unjudged ones are read. It leaves room for
/// `kubectl apply`, which repeats the whole object in an annotation. The chart's static policy has the same limit.
const LONGEST_METADATA: usize = 16 * 1024;

/// What is known of a Decision before it is stored.
enum Foresight {
    /// It may have an effect.
    Counts,
    /// It has none as far as memory can tell, and may have one later.
    Doubtful(String),
    /// It has none.
    Refused(String),
}

/// Judges the creation of a Decision.
pub(super) fn of_decision(request: &Request, context: &Context<'_>) -> Answer {
    let mut decision: Decision = match parse("Decision", &request.object) {
        Ok(decision) => decision,
        Err(answer) => return answer,
    };
    let violations = violations(&decision, context);
    if !violations.is_empty() {
        return Answer::invalid("Decision", &request.name, violations);
    }
    // Whatever the author wrote, `spec.by` is who sent the request.
    let by = Requester { user: request.requester.user.clone(), groups: kept_groups(&request.requester) };
    decision.spec.by = Some(by.clone());
    let mut patch = vec![add(&["spec", "by"], json!(by))];
    // The clock that stamps releases: only those two can be compared.
    if decision.metadata.annotations.is_none() {
        patch.push(add(&["metadata", "annotations"], json!({})));
    }
    patch.push(add(&["metadata", "annotations", RECEIVED_AT], json!(context.now)));
    let is_machine = is_service_account(&request.requester) || context.gitops_users.contains(&by.user);
    match foresee(request, &decision, context) {
        Foresight::Counts => Answer::Allowed { patch, warnings: Vec::new() },
        Foresight::Refused(why) if !is_machine => {
            Answer::forbidden(format!("Refused: {:?} for pilot {}.\n- {why}", decision.spec.type_, decision.spec.pilot))
        }
        Foresight::Refused(why) => {
            let text = format!("this Decision is stored, but will be refused in its status: {why}");
            Answer::Allowed { patch, warnings: vec![shorten(&text, LONGEST_LINE)] }
        }
        Foresight::Doubtful(why) => Answer::Allowed { patch, warnings: vec![shorten(&why, LONGEST_LINE)] },
    }
}

fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}

/// What is wrong with a Decision whatever it is about.
fn violations(decision: &Decision, context: &Context<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let length = metadata_length(&decision.metadata);
    if length > LONGEST_METADATA {
        let problem = format!("its labels, annotations, finalizers and ownerReferences have {length} characters");
        violations.push(Violation::new("metadata", problem, format!("shorten them to {LONGEST_METADATA} in total")));
    }
    if decision.spec.record.is_some() {
        violations.push(Violation::new("spec.record", "is reserved for pilotguard", "remove it"));
    }
    if says_nothing(&decision.spec.reason) {
        violations.push(Violation::new("spec.reason", "is empty or a placeholder", WANTED));
    }
    if let Some(until) = decision.spec.until {
        let latest = context.now.checked_add(LONGEST_EXCEPTION).unwrap_or(jiff::Timestamp::MAX);
        let hint = format!("an exception lasts at most 4h: write a time from now to {latest:.0}");
        if until > latest {
            violations.push(Violation::new("spec.until", format!("{until} is too far ahead"), hint));
        } else if until <= context.now {
            violations.push(Violation::new("spec.until", format!("{until} has passed"), hint));
        }
    }
    violations
}

/// Number of characters in the metadata that authors may write without a limit of its own.
fn metadata_length(metadata: &ObjectMeta) -> usize {
    let pairs = metadata.annotations.iter().chain(&metadata.labels).flatten();
    let owners = metadata.owner_references.iter().flatten();
    let texts = pairs
        .flat_map(|(key, value)| [key, value])
        .chain(metadata.finalizers.iter().flatten())
        .chain(owners.flat_map(|owner| [&owner.api_version, &owner.kind, &owner.name, &owner.uid]));
    texts.map(|text| text.chars().count()).sum()
}

fn foresee(request: &Request, decision: &Decision, context: &Context<'_>) -> Foresight {
    let named = &decision.spec.pilot;
    if !context.guarded.is_ready() {
        return Foresight::Counts;
    }
    if let Some(other) = incident_of_another(request, decision, context) {
        return Foresight::Refused(other);
    }
    let Some(guardian) = context.guarded.pilot(&request.namespace, named) else {
        // It may be created by the same apply.
        let pilots = context.guarded.pilots_of(&request.namespace);
        let known = pilots.iter().map(|pilot| pilot.id.name.as_str()).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none".to_owned() } else { known };
        return Foresight::Doubtful(format!(
            "Pilot {named} does not exist in namespace {} (existing Pilots: {known}); create it within a minute, or this \
             Decision is refused",
            request.namespace
        ));
    };
    let Ok(declaration) = &guardian.declaration else { return Foresight::Counts };
    let Some(seen) = context.cluster.observe_if_known(declaration) else { return Foresight::Counts };
    if seen.decisions.iter().any(|known| known.name == request.name) {
        // The API server says that it exists.
        return Foresight::Counts;
    }
    let case = Case { declaration, source: NO_SOURCE, seen: &seen, ledger: &guardian.ledger, now: context.now };
    let proposed = PilotDecision { created_at: context.now, ..reduce_decision(decision).kept };
    judge_decision(&case, &proposed).map_or_else(Foresight::Refused, |_| Foresight::Counts)
}

/// Why a Decision has no effect that names the open incident of another pilot.
fn incident_of_another(request: &Request, decision: &Decision, context: &Context<'_>) -> Option<String> {
    let incident = decision.spec.incident.as_ref()?;
    let pilots = context.guarded.pilots_of(&request.namespace);
    let is_open = |pilot: &str| {
        let mut of_pilot = pilots.iter().filter(|known| known.id.name == pilot);
        of_pilot.any(|known| known.ledger.incident.as_ref().is_some_and(|open| open.id == *incident))
    };
    if is_open(&decision.spec.pilot) {
        return None;
    }
    let other = pilots.iter().find(|known| is_open(&known.id.name))?;
    Some(format!("incident {incident} is open for pilot {}; name that one in spec.pilot", other.id.name))
}
