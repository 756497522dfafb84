//! Exceptions: which Overrides let a release through although guards refuse it, and what such a change owes.
//!
//! An Override speaks of one release and ends. It never lifts quarantine (Readmit does), the blast radius or a
//! containment, and never lets anybody delete a workload.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Case;
use super::naming::{name_of, unseen_release};
use super::people::is_service_account;
use super::people::may_loosen;
use super::plan::{DeclareEmergency, Effect};
use super::proposal::{Finding, GuardName, Judgement, Lifted, Proposal, Verdict};
use super::reasons::says_nothing;
use super::turn::Turn;
use crate::api::change_record::{ApprovalOwed, ChangeClass};
use crate::api::decision::{DecisionPhase, DecisionType};
use crate::api::incident::IncidentStage;
use crate::declaration::{Declaration, LONGEST_EXCEPTION};
use crate::observation::PilotDecision;
use crate::release::marks::{Admitted, AdmittedVerdict};

/// Parts what owners lifted from what still stands.
pub(super) fn part(case: &Case<'_>, proposal: &Proposal, findings: Vec<Finding>) -> (Vec<Lifted>, Vec<Finding>) {
    let (mut lifted, mut standing) = (Vec::new(), Vec::new());
    for finding in findings {
        let overrides = lifting(case, proposal, finding.guard);
        if overrides.is_empty() {
            standing.push(finding);
        } else {
            let by = overrides.iter().map(|it| describe(it)).collect::<Vec<_>>().join(" and ");
            lifted.push(Lifted { finding, by });
        }
    }
    (lifted, standing)
}

/// The Overrides that lift what a guard found; none where there are not enough.
fn lifting<'a>(case: &Case<'a>, proposal: &Proposal, guard: GuardName) -> Vec<&'a PilotDecision> {
    if proposal.ends_workload() {
        return Vec::new();
    }
    let overrides = overrides_of(case, &proposal.payload);
    match guard {
        GuardName::Incident => {
            let is_fix = |it: &&PilotDecision| it.fix && incident_takes_a_fix(case);
            overrides.into_iter().find(is_fix).into_iter().collect()
        }
        // One owner's fix is enough, also the requester's own; any other release needs four eyes.
        GuardName::Budget => match overrides.iter().find(|it| it.fix) {
            Some(fix) => vec![fix],
            None => four_eyes(overrides, proposal),
        },
        GuardName::Window | GuardName::DecisionDate | GuardName::Unauthorized => four_eyes(overrides, proposal),
        GuardName::Quarantine | GuardName::BlastRadius | GuardName::Containment | GuardName::Room => Vec::new(),
    }
}

/// Whether an open incident lets a fix through: not while it acts or finds out whether the act helped.
pub fn incident_takes_a_fix(case: &Case<'_>) -> bool {
    let stage = case.ledger.incident.as_ref().map(|incident| incident.stage);
    matches!(stage, Some(IncidentStage::DecisionWindow | IncidentStage::Continued | IncidentStage::Standing))
}

/// One owner who is not the requester; two where the requester is no person.
fn four_eyes<'a>(overrides: Vec<&'a PilotDecision>, proposal: &Proposal) -> Vec<&'a PilotDecision> {
    let needed = owners_needed(proposal);
    let by_owner = by_owner(overrides, proposal);
    if by_owner.len() < needed { Vec::new() } else { by_owner.into_values().take(needed).collect() }
}

/// The first Override of each owner who is not the requester.
fn by_owner<'a>(overrides: Vec<&'a PilotDecision>, proposal: &Proposal) -> BTreeMap<&'a str, &'a PilotDecision> {
    let mut by_owner: BTreeMap<&str, &PilotDecision> = BTreeMap::new();
    for decision in overrides {
        let owner = decision.by.as_ref().map_or("", |by| by.user.as_str());
        if owner != proposal.requester.user {
            by_owner.entry(owner).or_insert(decision);
        }
    }
    by_owner
}

/// The owners besides the requester who have let the proposed release through already.
pub fn owners_who_agreed<'a>(case: &Case<'a>, proposal: &Proposal) -> Vec<&'a str> {
    by_owner(overrides_of(case, &proposal.payload), proposal).into_keys().collect()
}

/// How many owners besides the requester have to agree.
pub fn owners_needed(proposal: &Proposal) -> usize {
    if is_service_account(&proposal.requester) { 2 } else { 1 }
}

/// The Overrides for a release that count now, oldest first.
pub(super) fn overrides_of<'a>(case: &Case<'a>, payload: &str) -> Vec<&'a PilotDecision> {
    let counts = |decision: &&PilotDecision| {
        decision.type_ == DecisionType::Override
            && !decision.is_record
            && decision.phase != Some(DecisionPhase::Refused)
            && decision.payload.as_deref() == Some(payload)
            && !says_nothing(&decision.reason)
            && end_of(decision, case.now).is_ok()
            && may_loosen(&case.declaration.owners, decision.by.as_ref()).is_ok()
    };
    case.seen.decisions.iter().filter(counts).collect()
}

/// The end of an exception, if it has one that is near enough and ahead.
pub(super) fn end_of(decision: &PilotDecision, now: Timestamp) -> Result<Timestamp, String> {
    let Some(until) = decision.until else {
        return Err(format!("{:?} needs an end: set until", decision.type_));
    };
    if until > decision.created_at + LONGEST_EXCEPTION {
        return Err("until lies more than 4h after the Decision was created".to_owned());
    }
    if until <= now {
        return Err("until has passed".to_owned());
    }
    Ok(until)
}

fn describe(decision: &PilotDecision) -> String {
    let owner = decision.by.as_ref().map_or("", |by| by.user.as_str());
    format!("Override {} of {owner} ({})", decision.name, decision.reason)
}

impl Judgement {
    /// Whether it passes only because owners made an exception.
    pub const fn is_emergency(&self) -> bool {
        !self.lifted.is_empty()
    }

    /// How the release appears in its stamp.
    pub const fn stamped(&self) -> AdmittedVerdict {
        match self.enforced_verdict {
            Verdict::Allow if self.is_emergency() => AdmittedVerdict::Override,
            Verdict::Allow => AdmittedVerdict::Allow,
            Verdict::Hold => AdmittedVerdict::Hold,
            Verdict::Pin => AdmittedVerdict::Pin,
            Verdict::Deny => AdmittedVerdict::Deny,
        }
    }

    /// What is written down: what was lifted and by whom, then what still stood.
    pub fn reasons(&self) -> Vec<String> {
        let told = |finding: &Finding| format!("{}: {}", finding.guard.as_str(), finding.problem);
        let lifted = self.lifted.iter().map(|it| format!("{}; lifted by {}", told(&it.finding), it.by));
        lifted.chain(self.findings.iter().map(told)).collect()
    }
}

/// Whether a release came in by an exception.
pub(super) const fn is_emergency(verdict: AdmittedVerdict) -> bool {
    matches!(verdict, AdmittedVerdict::Override | AdmittedVerdict::BreakGlass)
}

/// The approval that a change owes which came in by an exception.
pub(super) fn approval_owed(declaration: &Declaration, admitted: &Admitted) -> Option<ApprovalOwed> {
    if !is_emergency(admitted.verdict) {
        return None;
    }
    let owners = declaration.owners.who_may_loosen();
    let from = owners.map(|(role, owner)| format!("{} ({role})", owner.name)).collect();
    let not_from = (admitted.verdict == AdmittedVerdict::Override).then(|| admitted.by.clone());
    Some(ApprovalOwed { from, not_from })
}

impl Turn<'_> {
    pub(super) fn weigh_override(&self, decision: &PilotDecision) -> Result<String, String> {
        let until = end_of(decision, self.case.now)?;
        let payload = decision.payload.as_deref().ok_or("Override needs the payload digest of a release")?;
        let release = name_of(&self.case, payload).unwrap_or_else(|| unseen_release(payload));
        let fix = if decision.fix { "an open incident, and " } else { "" };
        Ok(format!(
            "until {until:.0} {release} passes {fix}windows, a budget freeze and the decision date where someone else \
             applies it (a service account needs two owners)"
        ))
    }

    pub(super) fn weigh_approval(&self, decision: &PilotDecision) -> Result<String, String> {
        let named = decision.change.as_deref().unwrap_or_default();
        let mut changes = self.case.seen.changes.iter();
        let change = changes.find(|change| change.name == named);
        let is_given =
            change.and_then(|change| change.approval.as_ref()).is_some_and(|it| it.decision == decision.name);
        match change.and_then(|change| change.approval_owed.as_ref()) {
            None if is_given => Ok(format!("change {named} is approved")),
            None => Err(format!("change {named} owes no approval; {}", self.owing())),
            Some(owed) => {
                let by = decision.by.as_ref().map_or("", |by| by.user.as_str());
                if owed.not_from.as_deref() == Some(by) {
                    let from = owed.from.join(", ");
                    return Err(format!("{by} requested change {named} and cannot approve it; ask another of {from}"));
                }
                Ok(format!("change {named} is approved"))
            }
        }
    }

    /// Which changes an Approve could name.
    fn owing(&self) -> String {
        let owing = self.case.seen.changes.iter().filter(|change| change.approval_owed.is_some());
        let names: Vec<&str> = owing.map(|change| change.name.as_str()).collect();
        if names.is_empty() {
            "no change of this pilot does".to_owned()
        } else {
            format!("owing: {}", names.join(", "))
        }
    }

    /// A change that was recorded while it was held turns out to be an emergency when owners let it through.
    pub(super) fn declare_emergency(&mut self, admitted: &Admitted) {
        let Some(approval_owed) = approval_owed(self.case.declaration, admitted) else { return };
        let is_normal = |class| class == ChangeClass::Normal;
        let mut changes = self.case.seen.changes.iter();
        if changes.any(|change| change.name == admitted.change && is_normal(change.class)) {
            let change = admitted.change.clone();
            self.effects.push(Effect::DeclareEmergency(DeclareEmergency { change, approval_owed }));
        }
    }
}
