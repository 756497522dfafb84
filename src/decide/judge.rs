//! May this proposed change happen? Every guard is a plain function over the same case; all run, all
//! findings are returned, the strictest wins.
//!
//! Metrics are never asked here: a judgement needs only what the last evaluation has already decided.

use jiff::Timestamp;

use super::Case;
use super::backstop::unauthorized;
use super::budget::budget;
use super::ending::is_held_by_a_person;
use super::exceptions::part;
use super::outlook::{end_of_hold, outlook};
use super::people::is_service_account;
use super::proposal::{Finding, GuardName, Judgement, Operation, Proposal, Until, Verdict};
use super::window::window;
use crate::api::changes::OutsideWindow;
use crate::api::decision::{DecisionPhase, DecisionType};
use crate::api::incident::{Incident, IncidentOrigin, IncidentStage};
use crate::api::pilot::Mode;
use crate::api::trigger::TriggerAction;
use crate::release::marks::lacking_room;

type Guard = fn(&Case<'_>, &Proposal) -> Option<Finding>;

/// The guards of a move to another release, in the order in which people read them.
const RELEASE_GUARDS: [Guard; 7] = [quarantine, incident, unauthorized, decision_date, budget, window, room];

/// The guards of the number of replicas.
const REPLICA_GUARDS: [Guard; 2] = [containment, blast_radius];

/// Judges a proposal. Total: every proposal gets an answer.
pub fn judge(case: &Case<'_>, proposal: &Proposal) -> Judgement {
    let goes_back = is_rollback_target(case, proposal) || takes_back_what_waits(case, proposal);
    let is_guarded = proposal.ends_workload() || (proposal.moves_release && !goes_back);
    let release_guards: &[Guard] = if is_guarded { &RELEASE_GUARDS } else { &[] };
    let found: Vec<Finding> =
        release_guards.iter().chain(&REPLICA_GUARDS).filter_map(|guard| guard(case, proposal)).collect();
    let (lifted, findings) = part(case, proposal, found);
    let counted =
        |binding_only: bool| findings.iter().filter(move |finding| !binding_only || finding.mode == Mode::Enforce);
    let strictest = |binding_only: bool| {
        let verdicts = counted(binding_only).map(|finding| answer(case, proposal, finding.guard));
        verdicts.max().unwrap_or(Verdict::Allow)
    };
    let kept = |binding_only: bool| {
        let keeps = counted(binding_only).any(|finding| keeps_replicas(proposal, finding.guard));
        proposal.replicas_before.filter(|_| keeps)
    };
    Judgement {
        verdict: strictest(true),
        enforced_verdict: strictest(false),
        kept_replicas: kept(true),
        enforced_replicas: kept(false),
        findings,
        lifted,
    }
}

/// Going back to the known-good release is always allowed, in any freeze. Deleting is never going back.
fn is_rollback_target(case: &Case<'_>, proposal: &Proposal) -> bool {
    !proposal.ends_workload()
        && case.ledger.rollback_target.as_ref().is_some_and(|target| {
            let mut parts = target.workloads.iter().filter(|part| proposal.workload.is(part.kind, &part.name));
            parts.any(|part| part.payload == proposal.payload)
        })
}

/// Going back to what runs, while another release waits, moves no pod.
pub fn takes_back_what_waits(case: &Case<'_>, proposal: &Proposal) -> bool {
    let waiting = case.seen.workload(&proposal.workload).filter(|workload| workload.waiting.is_some());
    proposal.operation == Operation::Update && waiting.is_some_and(|workload| workload.template == proposal.template)
}

/// A workload that is contained stays small whatever is written to it, and what else the write says happens: a manifest
/// with its ordinary count must not be refused as a whole. Whoever sets nothing but the count is told no.
fn keeps_replicas(proposal: &Proposal, guard: GuardName) -> bool {
    guard == GuardName::Containment && proposal.operation == Operation::Update && proposal.replicas_before.is_some()
}

/// What a finding makes of the proposal.
fn answer(case: &Case<'_>, proposal: &Proposal, guard: GuardName) -> Verdict {
    if keeps_replicas(proposal, guard) {
        return Verdict::Allow;
    }
    // Putting the release back would leave the rest of what was asked for, and with it what is wrong.
    let can_put_back = !matches!(guard, GuardName::BlastRadius | GuardName::Containment | GuardName::Room);
    if !can_put_back || proposal.ends_workload() || proposal.operation == Operation::Scale {
        return Verdict::Deny;
    }
    let is_machine = is_service_account(&proposal.requester) || proposal.gitops.is_named;
    let is_gitops = is_machine && proposal.gitops.manages_workload;
    let pins = match case.declaration.outside_window {
        OutsideWindow::Auto | OutsideWindow::Hold => is_gitops,
        OutsideWindow::Pin => is_machine,
        OutsideWindow::Deny => false,
    };
    // What waiting cannot mend is not stored.
    let holds = matches!(guard, GuardName::Window | GuardName::Budget)
        && match case.declaration.outside_window {
            OutsideWindow::Auto => is_gitops,
            OutsideWindow::Hold => true,
            OutsideWindow::Pin | OutsideWindow::Deny => false,
        };
    let is_new = proposal.operation == Operation::Create;
    if holds && proposal.one_live_release {
        return Verdict::Hold;
    }
    // What is rolling out cannot be kept by a pause; a machine is answered with it. Where nothing is stored yet there
    // is nothing to answer with.
    let puts_back = (pins || (holds && is_machine)) && !is_new;
    if puts_back { Verdict::Pin } else { Verdict::Deny }
}

fn quarantine(case: &Case<'_>, proposal: &Proposal) -> Option<Finding> {
    if !proposal.moves_release || proposal.operation == Operation::Delete {
        return None;
    }
    let is_quarantined = match case.seen.workload(&proposal.workload) {
        Some(workload) if workload.marks.quarantined.contains(&proposal.payload) => true,
        Some(workload) if !workload.marks.quarantine_is_full() => false,
        // A workload that is created anew has lost its marks, and a full mark does not list all; the records remember.
        _ => rolled_back_before(case).contains(&proposal.payload),
    };
    is_quarantined.then(|| Finding {
        guard: GuardName::Quarantine,
        mode: case.declaration.enforcement.actions,
        problem: format!(
            "this release was rolled back {} and stays blocked",
            by_which_incident(case, &proposal.payload)
        ),
        until: Until::Someone("an owner readmits it".to_owned()),
    })
}

/// The incident that rolled a release back last, as far as its record is known.
fn by_which_incident(case: &Case<'_>, payload: &String) -> String {
    let open = case.ledger.incident.as_ref();
    let of_open = open.and_then(|incident| {
        let intent = incident.intent.as_ref().filter(|intent| intent.put_away().any(|it| it == payload))?;
        Some((&incident.id, intent.at))
    });
    let mut records = case.seen.decisions.iter().filter(|it| it.is_record).rev();
    let of_record = || {
        let record = records.find(|record| record.quarantined.contains(payload))?;
        Some((record.incident.as_ref()?, record.created_at))
    };
    match of_open.or_else(of_record) {
        Some((incident, at)) => format!("by incident {incident} at {at:.0}"),
        None => "by an incident".to_owned(),
    }
}

/// What incidents put away and nobody has readmitted since, the newest first, by their records: a workload that is created
/// anew has lost the marks that say so.
pub fn rolled_back_before(case: &Case<'_>) -> Vec<String> {
    let records = case.seen.decisions.iter().filter(|decision| decision.is_record);
    let of_records = records.flat_map(|it| it.quarantined.iter().map(|payload| (it.created_at, payload)));
    let open = case.ledger.incident.as_ref().and_then(|incident| incident.intent.as_ref());
    let of_open = open.into_iter().flat_map(|intent| intent.put_away().map(|payload| (intent.at, payload)));
    let mut all: Vec<(Timestamp, &String)> = of_records.chain(of_open).collect();
    all.sort_by(|one, other| other.cmp(one));
    let mut payloads: Vec<String> = Vec::new();
    for (at, payload) in all {
        if !payloads.contains(payload) && !is_readmitted_since(case, payload, at) {
            payloads.push(payload.clone());
        }
    }
    payloads
}

fn is_readmitted_since(case: &Case<'_>, payload: &str, at: Timestamp) -> bool {
    case.seen.decisions.iter().any(|decision| {
        decision.type_ == DecisionType::Readmit
            && decision.phase == Some(DecisionPhase::Accepted)
            && decision.payload.as_deref() == Some(payload)
            && decision.created_at > at
    })
}

fn incident(case: &Case<'_>, _: &Proposal) -> Option<Finding> {
    let incident = case.ledger.incident.as_ref().filter(|incident| holds_changes(incident))?;
    let (problem, until) = match incident.stage {
        IncidentStage::Standing => {
            let problem = format!("incident {} holds changes{}", incident.id, by_whose_word(case, incident));
            (problem, end_of_hold(incident))
        }
        _ => (format!("incident {} is open; {}", incident.id, outlook(incident)), "the incident has closed"),
    };
    let mode = case.declaration.enforcement.actions;
    Some(Finding { guard: GuardName::Incident, mode, problem, until: Until::Someone(until.to_owned()) })
}

/// Who began an incident that no trigger opened, and why: whoever is refused has to know whom to ask.
fn by_whose_word(case: &Case<'_>, incident: &Incident) -> String {
    let is_a_persons = incident.origin() == IncidentOrigin::Person && incident.evidence.is_empty();
    if !is_a_persons && !is_held_by_a_person(incident) {
        return String::new();
    }
    let named = incident.intent.as_ref().and_then(|intent| intent.decision.as_ref());
    let decision = case.seen.decisions.iter().find(|decision| Some(&decision.name) == named);
    let who = decision.and_then(|decision| decision.by.as_ref()).map(|by| format!(", decided by {}", by.user));
    format!("{}: {}", who.unwrap_or_default(), incident.because)
}

/// Whether an incident holds changes: each does, unless all it declares is to tell people.
pub fn holds_changes(incident: &Incident) -> bool {
    incident.action != TriggerAction::Notify && incident.stage != IncidentStage::Closing
}

fn decision_date(case: &Case<'_>, _: &Proposal) -> Option<Finding> {
    let date = case.declaration.decision_date;
    (case.now >= date).then(|| Finding {
        guard: GuardName::DecisionDate,
        mode: case.declaration.enforcement.changes,
        problem: format!("the pilot's decision date {date} has passed"),
        until: Until::Someone("the owners decide to scale, iterate or stop, and move intent.decisionDate".to_owned()),
    })
}

/// A rollback writes annotations: without room for them the release could not be rolled back.
fn room(case: &Case<'_>, proposal: &Proposal) -> Option<Finding> {
    let problem = lacking_room(proposal.annotations).filter(|_| !proposal.ends_workload())?;
    Some(Finding {
        guard: GuardName::Room,
        mode: case.declaration.enforcement.changes,
        problem: format!("its annotations are {problem}"),
        until: Until::Someone("you remove or shorten annotations".to_owned()),
    })
}

fn blast_radius(case: &Case<'_>, proposal: &Proposal) -> Option<Finding> {
    let (most, after) = (case.declaration.max_replicas?, proposal.replicas_after?);
    // Fewer than before is towards safety even where it is still too many.
    let grows = proposal.replicas_before.is_none_or(|before| after > before);
    (after > most && grows).then(|| Finding {
        guard: GuardName::BlastRadius,
        mode: case.declaration.enforcement.changes,
        problem: format!("{after} replicas exceed blastRadius.maxReplicas ({most})"),
        until: Until::Someone("the owners raise blastRadius.maxReplicas".to_owned()),
    })
}

fn containment(case: &Case<'_>, proposal: &Proposal) -> Option<Finding> {
    let contained = case.seen.workload(&proposal.workload)?.marks.contained.as_ref()?;
    let after = proposal.replicas_after?;
    let grows = proposal.replicas_before.is_none_or(|before| after > before);
    (after > contained.replicas && grows).then(|| Finding {
        guard: GuardName::Containment,
        mode: case.declaration.enforcement.actions,
        problem: format!("incident {} scaled this workload down to {}", contained.incident, contained.replicas),
        until: Until::Someone("an owner resumes".to_owned()),
    })
}
