//! The backstop: what becomes of a release that runs without having been judged at admission.
//!
//! It was there before the pilot, was let in by break-glass, or came in past the guards. It is stamped as what it is,
//! so that it is seen once; what came in past the guards holds further changes, and is put back where that is declared
//! or where it had been rolled back before.

use super::Case;
use super::exceptions::overrides_of;
use super::judge::rolled_back_before;
use super::plan::{Effect, Stamp};
use super::proposal::{Finding, GuardName, Proposal, Until};
use super::records::OPERATOR;
use super::turn::Turn;
use crate::api::changes::UnauthorizedPolicy;
use crate::api::decision::Requester;
use crate::api::incident::{DecidedBy, Incident, IncidentOrigin, IncidentStage, Suspect};
use crate::api::trigger::TriggerAction;
use crate::observation::{Rehearsal, Workload};
use crate::release::marks::{Admitted, AdmittedVerdict, BREAK_GLASS_GROUP};

/// Who is named where nobody saw who asked.
pub(super) const UNKNOWN: &str = "unknown";

/// Nothing is built on a release that nobody judged.
pub(super) fn unauthorized(case: &Case<'_>, _: &Proposal) -> Option<Finding> {
    let (of, stamp) = case.seen.workloads.iter().find_map(|seen| Some((&seen.reference, unauthorized_stamp(seen)?)))?;
    Some(Finding {
        guard: GuardName::Unauthorized,
        mode: case.declaration.enforcement.changes,
        problem: format!("the running release of {of} bypassed admission (change {})", stamp.change),
        until: Until::Someone("an owner accepts it, or the known-good release is restored".to_owned()),
    })
}

pub(super) fn unauthorized_stamp(workload: &Workload) -> Option<&Admitted> {
    workload.admitted().filter(|admitted| admitted.verdict == AdmittedVerdict::Unauthorized)
}

impl Turn<'_> {
    /// Stamps a workload of which the stamp does not tell all that was seen on it.
    pub(super) fn stamp_what_came_unseen(&mut self, workload: &Workload) {
        let is_acting = self.ledger.incident.as_ref().is_some_and(|incident| incident.stage == IncidentStage::Acting);
        if is_acting {
            return;
        }
        let admitted = match workload.admitted() {
            // Of what was created held no pod runs that could be taken over.
            None if workload.waiting.is_some() => None,
            None => self.variant(workload).or_else(|| self.arrival(workload)),
            Some(known) if workload.broken_glass().is_some() => Some(known.clone()),
            Some(known) => self.accepted(workload, known),
        };
        let Some(mut admitted) = admitted else { return };
        admitted.break_glass = workload.break_glass.clone().or(admitted.break_glass);
        self.effects.push(Effect::Stamp(Stamp {
            workload: workload.reference.clone(),
            uid: workload.uid.clone(),
            resource_version: workload.resource_version.clone(),
            admitted,
        }));
    }

    /// The stamp of a template that is the release which was stamped, changed by other admission in somebody's write: to
    /// restore that release would store this template again.
    fn variant(&self, workload: &Workload) -> Option<Admitted> {
        let stamp = workload.marks.admitted.as_ref()?;
        let snapshot = workload.snapshot_of(&stamp.payload).filter(|_| !self.is_quarantined(workload))?;
        let (reference, uid) = (workload.reference.clone(), workload.uid.clone());
        let rehearsal = Rehearsal { workload: reference, uid, snapshot: snapshot.name.clone() };
        let landing = self.inquiry.landing(rehearsal).filter(|landing| landing.template == workload.template)?;
        let mut variant = stamp.of_variant(landing.template.clone(), landing.payload.clone());
        let changed = format!("other admission changed {}", landing.changed.join(", "));
        if !variant.reasons.contains(&changed) {
            variant.reasons.push(changed);
        }
        Some(variant)
    }

    /// The stamp of a template that carries none of its own: it was there before the pilot, or nobody judged it.
    fn arrival(&self, workload: &Workload) -> Option<Admitted> {
        let is_known =
            workload.snapshot_of(&workload.payload).is_some_and(|snapshot| snapshot.template == workload.template);
        let is_first = workload.marks.admitted.is_none() && workload.snapshots.is_empty();
        let is_adopted = workload.marks.admitted.is_none() && (is_first || is_known) && !self.is_quarantined(workload);
        let (now, glass) = (self.case.now, workload.broken_glass());
        if glass.is_none() && is_adopted && !workload.is_complete {
            return None;
        }
        let change = self.change_name(&workload.payload, now);
        let unknown = Requester { user: UNKNOWN.to_owned(), groups: Vec::new() };
        let (verdict, change, by) = match glass {
            Some(_) => {
                let groups = vec![BREAK_GLASS_GROUP.to_owned()];
                (AdmittedVerdict::BreakGlass, change, Requester { groups, ..unknown })
            }
            None if is_adopted => {
                let operator = Requester { user: OPERATOR.to_owned(), groups: Vec::new() };
                (AdmittedVerdict::Adopted, String::new(), operator)
            }
            None => (AdmittedVerdict::Unauthorized, change, unknown),
        };
        Some(Admitted {
            template: workload.template.clone(),
            payload: workload.payload.clone(),
            variant_of: None,
            by: by.user,
            groups: by.groups,
            at: now,
            change,
            verdict,
            reasons: glass.map(|reason| format!("break-glass: {reason}")).into_iter().collect(),
            break_glass: workload.marks.known_break_glass(),
        })
    }

    /// By its marks; of a workload that has lost them, as one that is created anew while nobody is asked, by the records.
    fn is_quarantined(&self, workload: &Workload) -> bool {
        let was_rolled_back = || rolled_back_before(&self.case).contains(&workload.payload);
        workload.marks.quarantined.contains(&workload.payload) || (!workload.runs_what_was_good() && was_rolled_back())
    }

    /// The stamp of what came in past the guards, once it was told and an owner's Override names it, or at once where it is
    /// a known-good release: to go back to one is always allowed.
    fn accepted(&self, workload: &Workload, known: &Admitted) -> Option<Admitted> {
        if known.verdict != AdmittedVerdict::Unauthorized {
            return None;
        }
        if workload.runs_what_was_good() && !self.is_quarantined(workload) {
            let reasons = vec!["it was known-good".to_owned()];
            return Some(Admitted { verdict: AdmittedVerdict::Adopted, reasons, ..known.clone() });
        }
        let overrides = overrides_of(&self.case, &workload.payload);
        let decision = overrides.first()?;
        let owner = decision.by.as_ref().map_or(UNKNOWN, |by| by.user.as_str());
        let accepted = format!("accepted by Override {} of {owner} ({})", decision.name, decision.reason);
        Some(Admitted { verdict: AdmittedVerdict::Override, reasons: vec![accepted], ..known.clone() })
    }

    /// Puts back what came in past the guards, where that is declared or where it had been rolled back before.
    pub(super) fn undo_what_was_never_admitted(&mut self) {
        if self.ledger.incident.is_some() {
            return;
        }
        let unauthorized = |workload| Some((workload, unauthorized_stamp(workload)?));
        let mut found: Vec<(&Workload, &Admitted)> = self.workloads().iter().filter_map(unauthorized).collect();
        found.sort_by_key(|(workload, _)| !self.is_quarantined(workload));
        let opened = found.into_iter().find_map(|(workload, stamp)| {
            let because = self.why_it_is_undone(workload)?;
            let incident = self.open_by_policy(IncidentOrigin::Unauthorized, &stamp.change, because)?;
            Some(Incident { suspect: Some(self.blamed_for(stamp)), ..incident })
        });
        let Some(mut incident) = opened else { return };
        self.start(&mut incident, TriggerAction::Rollback, DecidedBy::Policy, None);
        self.ledger.incident = Some(incident);
    }

    fn why_it_is_undone(&self, workload: &Workload) -> Option<&'static str> {
        if self.is_quarantined(workload) {
            return Some("a release that had been rolled back bypassed admission");
        }
        let is_declared = self.case.declaration.unauthorized == UnauthorizedPolicy::Rollback;
        let is_accepted = !overrides_of(&self.case, &workload.payload).is_empty();
        // Somebody went back by hand to what was good; that is allowed in any case.
        (is_declared && !is_accepted && !workload.runs_what_was_good())
            .then_some("a release bypassed admission, and changes.unauthorized is Rollback")
    }

    /// The change that a stamp names, with the release that runs now.
    fn blamed_for(&self, stamp: &Admitted) -> Suspect {
        Suspect {
            change: stamp.change.clone(),
            payload: self.payload().to_owned(),
            admitted_at: stamp.at,
            images: self.whole.images.clone(),
        }
    }
}
