//! What is told to people when something happens: Events on the Pilot and on its workload.
//!
//! Announcements follow from the state that was decided, each with a key that says what it speaks of, so that
//! telling them again at every evaluation, or after a crash, tells them once.

use jiff::Timestamp;

use super::exceptions;
use super::refusal::upper_first;
use crate::api::incident::{DecidedBy, Incident, IncidentStage, Intent, RollbackTarget, Verification};
use crate::api::trigger::TriggerAction;
use crate::decide::Case;
use crate::decide::naming::{name_of, to_release};
use crate::decide::outlook::follows;
use crate::decide::plan::{Effect, Plan, ScaleDown, Waiting};
use crate::release::marks::{AdmittedVerdict, Contained};

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What it speaks of; the same key is told once.
    pub key: String,
    /// Whether people should worry.
    pub is_warning: bool,
    /// One word.
    pub reason: &'static str,
    /// The whole, in at most 1,024 characters.
    pub note: String,
}

/// Everything that the decided state has to tell.
pub fn announce(case: &Case<'_>, plan: &Plan) -> Vec<Announcement> {
    let mut told = Vec::new();
    if let Some(incident) = &plan.ledger.incident {
        told.extend(of_incident(incident, case.now));
    }
    told.extend(plan.effects.iter().filter_map(|effect| exceptions::of(case, effect)));
    told.extend(plan.waiting.iter().map(of_waiting));
    for effect in &plan.effects {
        if let Effect::ScaleDown(act) = effect {
            told.extend(contained_again(case, act));
        }
        if let Effect::Release(release) = effect {
            told.push(Announcement {
                key: format!("{}-released", release.admitted.change),
                is_warning: false,
                reason: "HeldChangeReleased",
                note: format!(
                    "change {}{} of {} is allowed now and rolls out",
                    release.admitted.change,
                    to_release(name_of(case, &release.admitted.payload)),
                    release.admitted.by
                ),
            });
        }
        if let Effect::Stamp(stamp) = effect
            && stamp.admitted.verdict == AdmittedVerdict::Unauthorized
        {
            told.push(Announcement {
                key: stamp.admitted.change.clone(),
                is_warning: true,
                reason: "UnauthorizedChange",
                note: format!(
                    "a release bypassed admission; it is recorded as change {}{}",
                    stamp.admitted.change,
                    to_release(name_of(case, &stamp.admitted.payload))
                ),
            });
        }
    }
    told
}

/// A scale-down of what is contained already: somebody found a way past the guards.
fn contained_again(case: &Case<'_>, act: &ScaleDown) -> Option<Announcement> {
    let workload = case.seen.workload(&act.workload)?;
    let has_grown =
        |contained: &&Contained| contained.incident == act.incident && workload.replicas > contained.replicas;
    let contained = workload.marks.contained.as_ref().filter(has_grown)?;
    Some(Announcement {
        key: format!("{}-again-{}-{}", act.incident, act.workload.name, act.generation),
        is_warning: true,
        reason: "ContainedAgain",
        note: format!(
            "replicas of {} had grown to {} while pilotguard did not answer; {} again until an owner resumes incident {}",
            act.workload.name, workload.replicas, contained.replicas, act.incident
        ),
    })
}

/// Told anew whenever the time moves, as it does when a freeze is declared.
fn of_waiting(waiting: &Waiting) -> Announcement {
    let Waiting { change, release, by, problems, allowed_from } = waiting;
    let to = to_release(release.clone());
    let (moment, when) = match allowed_from {
        Some(from) => (from.as_second().to_string(), format!("rolls out automatically from {from:.0}")),
        None => ("open".to_owned(), "rolls out automatically once that has ended".to_owned()),
    };
    Announcement {
        key: format!("{change}-waits-{moment}"),
        is_warning: false,
        reason: "HeldChangeWaiting",
        note: format!("change {change}{to} of {by} waits: {}; it {when}", problems.join(", and ")),
    }
}

fn of_incident(incident: &Incident, now: Timestamp) -> Vec<Announcement> {
    let tell = |stage: &str, is_warning, reason, note| Announcement {
        key: format!("{}-{stage}", incident.id),
        is_warning,
        reason,
        note,
    };
    let mut told = Vec::new();
    // Also when its decision window is over: an operator that was down until then has not told it yet.
    if incident.stage == IncidentStage::DecisionWindow || !incident.evidence.is_empty() {
        let round = incident.deadline.as_millisecond();
        let evidence = incident.evidence.last().map_or("", |evidence| evidence.text.as_str());
        let follows = upper_first(&follows(incident));
        told.push(tell(
            &format!("opened-{round}"),
            true,
            "IncidentOpened",
            format!("{}: {evidence}; {}. {follows}.", incident.id, incident.because),
        ));
        let left = incident.deadline.duration_since(now);
        let half = incident.deadline.duration_since(incident.opened_at) / 2;
        if left <= half && !half.is_zero() && incident.stage == IncidentStage::DecisionWindow {
            told.push(tell(&format!("half-{round}"), true, "DecisionDue", format!("{}: {follows}", incident.id)));
        }
    }
    if let Some(continued) = &incident.continued {
        let note = format!("{}: an owner keeps the release running until {}", incident.id, continued.until);
        told.push(tell(&format!("continued-{}", continued.decision), false, "IncidentContinued", note));
    }
    let was_only_observed = incident.closing.as_ref().is_some_and(|closing| !closing.carried_out);
    if let Some(intent) = incident.intent.as_ref().filter(|_| !was_only_observed) {
        let stage = format!("intent-{:?}", intent.action);
        let (doing, why) = (doing(intent.action), why(intent));
        let to = to_target(incident, intent.action);
        let note = format!("{}: {doing}{to} because {why}; {}", incident.id, incident.because);
        told.push(tell(&stage, true, reason_of(intent.action), note));
    }
    if let Some(paged) = &incident.paged {
        told.push(tell("paged", true, "NeedsAttention", format!("{}: {paged}; changes stay held", incident.id)));
    }
    if incident.stage == IncidentStage::Standing && incident.verified == Some(Verification::Healthy) {
        told.push(tell("held-on", false, "ChangesHeld", format!("{}: {}", incident.id, incident.account)));
    }
    if let Some(closing) = &incident.closing {
        told.push(tell("closed", false, "IncidentClosed", format!("{}: {}", incident.id, closing.summary)));
    }
    told
}

/// The release that a rollback restores, after its verb.
fn to_target(incident: &Incident, action: TriggerAction) -> String {
    let target = incident.target.as_ref().filter(|_| action == TriggerAction::Rollback);
    to_release(target.and_then(RollbackTarget::name))
}

const fn doing(action: TriggerAction) -> &'static str {
    match action {
        TriggerAction::Notify => "telling people",
        TriggerAction::HoldChanges => "holding changes",
        TriggerAction::Rollback => "rolling back",
        TriggerAction::ScaleDown => "scaling down",
    }
}

fn why(intent: &Intent) -> String {
    match (intent.decided_by, &intent.decision) {
        (DecidedBy::Deadline, _) => "the decision window ended and nobody decided otherwise".to_owned(),
        (DecidedBy::Person, Some(decision)) => format!("Decision {decision} asks for it"),
        (DecidedBy::Person, None) => "a person decided so".to_owned(),
        (DecidedBy::Policy, _) => "the Pilot declares so".to_owned(),
        (DecidedBy::Recovery, _) => "the service recovered".to_owned(),
    }
}

const fn reason_of(action: TriggerAction) -> &'static str {
    match action {
        TriggerAction::Notify => "TriggerFired",
        TriggerAction::HoldChanges => "ChangesHeld",
        TriggerAction::Rollback => "RollingBack",
        TriggerAction::ScaleDown => "ScalingDown",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reasons(stage: &str, carried_out: Option<bool>) -> Vec<&'static str> {
        let at = "2026-11-23T09:00:00Z";
        let mut incident = json!({
            "id": "burn-1", "trigger": "burn", "openedAt": at, "stage": stage, "deadline": at, "declared": "Rollback",
            "action": "Rollback", "because": "change web-1 is blamed",
            "evidence": [{"trigger": "burn", "at": at, "text": "it burns"}],
            "intent": {"action": "Rollback", "decidedBy": "Deadline", "at": at},
        });
        if let Some(carried_out) = carried_out {
            incident["closing"] = json!({
                "action": "Rollback", "carriedOut": carried_out, "decidedBy": "Deadline", "at": at, "summary": "well",
            });
        }
        let incident = serde_json::from_value(incident).unwrap();
        of_incident(&incident, at.parse().unwrap()).iter().map(|told| told.reason).collect()
    }

    /// An operator that was down while it happened tells it when it is back.
    #[test]
    fn what_a_later_stage_implies_is_told_too() {
        assert_eq!(reasons("Verifying", None), ["IncidentOpened", "RollingBack"]);
        assert_eq!(reasons("Closing", Some(true)), ["IncidentOpened", "RollingBack", "IncidentClosed"]);
        assert_eq!(reasons("Closing", Some(false)), ["IncidentOpened", "IncidentClosed"], "only observed");
    }

    #[test]
    fn a_rollback_names_the_release_that_it_restores() {
        let at = "2026-11-23T09:00:00Z";
        let incident = serde_json::from_value(json!({
            "id": "burn-1", "trigger": "burn", "openedAt": at, "stage": "Acting", "deadline": at, "declared": "Rollback",
            "action": "Rollback", "because": "change web-2 to web:2 (ba9876543210) is blamed",
            "evidence": [{"trigger": "burn", "at": at, "text": "it burns"}],
            "intent": {"action": "Rollback", "decidedBy": "Deadline", "at": at},
            "target": {"payload": "0123456789abcdef", "knownGoodAt": at, "images": ["web:1"], "workloads": []},
        }))
        .unwrap();
        let [opened, acts] = of_incident(&incident, at.parse().unwrap()).try_into().unwrap();
        assert!(opened.note.contains(". A rollback to web:1 (0123456789ab) follows at 2026"), "{}", opened.note);
        assert!(acts.note.starts_with("burn-1: rolling back to web:1 (0123456789ab) because "), "{}", acts.note);
    }

    #[test]
    fn what_waits_is_told_anew_when_its_time_moves() {
        let told = |allowed_from: Option<&str>| {
            of_waiting(&Waiting {
                change: "web-2".to_owned(),
                release: Some("web:2 (0123456789ab)".to_owned()),
                by: "argocd".to_owned(),
                problems: vec!["in a freeze: migration of calendar platform".to_owned()],
                allowed_from: allowed_from.map(|at| at.parse().unwrap()),
            })
        };
        let (first, later) = (told(Some("2026-11-23T09:00:00Z")), told(Some("2026-11-24T09:00:00Z")));
        assert_eq!(
            first.note,
            "change web-2 to web:2 (0123456789ab) of argocd waits: in a freeze: migration of calendar platform; \
             it rolls out automatically from 2026-11-23T09:00:00Z"
        );
        assert!(told(None).note.ends_with("platform; it rolls out automatically once that has ended"));
        assert!(first.key != later.key && first.key == told(Some("2026-11-23T09:00:00Z")).key);
    }
}
