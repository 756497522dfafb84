//! One evaluation of one pilot while it is being decided: the case, and what has been concluded so far.
//!
//! Each step of [`super::pilot::decide`] reads the case and adds to the turn; none of them does anything in
//! the world.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::inquiry::Inquiry;
use super::plan::{Effect, Plan, SloFigures, Waiting};
use super::whole::{Whole, running};
use super::{Case, Ledger};
use crate::observation::Workload;

/// A pilot that measures nothing is looked at so often even where no watch reports anything.
pub(super) const RESYNC: SignedDuration = SignedDuration::from_mins(5);

pub(super) struct Turn<'a> {
    pub(super) case: Case<'a>,
    pub(super) inquiry: Inquiry<'a>,
    pub(super) ledger: Ledger,
    pub(super) effects: Vec<Effect>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) figures: Vec<SloFigures>,
    pub(super) whole: Whole,
    /// Names of the Decisions that an incident's record says were followed.
    pub(super) followed: BTreeSet<&'a str>,
    /// An SLO or a trigger has another definition, or other data, than at the last evaluation, or there was none.
    pub(super) has_forgotten: bool,
    evaluate_again: Option<Timestamp>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(case: Case<'a>) -> Self {
        let records = case.seen.decisions.iter().filter(|decision| decision.is_record);
        Self {
            case,
            inquiry: Inquiry::new(case.seen),
            ledger: case.ledger.clone(),
            effects: Vec::new(),
            waiting: Vec::new(),
            figures: Vec::new(),
            whole: Whole::of(&case),
            followed: records.filter_map(|record| record.follows.as_deref()).collect(),
            has_forgotten: false,
            evaluate_again: None,
        }
    }

    /// What was learned under one definition of an SLO or a trigger, or from one source's data, counts for no other. An
    /// edited trigger fires anew; the evidence of an open incident stays. Latches outlive an edit of the source: one new
    /// address must not make the triggers of many pilots fire again.
    pub(super) fn forget_what_was_edited(&mut self) {
        let declared = self.case.declaration;
        let definitions = declared.slos.iter().map(|slo| &slo.definition);
        let definitions: BTreeSet<String> =
            definitions.chain(declared.triggers.iter().map(|trigger| &trigger.definition)).cloned().collect();
        let joined = self.ledger.incident.iter().flat_map(|incident| self.triggers_of(incident));
        let known = &self.ledger.memory.definitions;
        let is_incident_edited = joined.into_iter().any(|trigger| !known.contains(&trigger.definition));
        let is_redefined = definitions.iter().any(|definition| !known.contains(definition));
        let memory = &mut self.ledger.memory;
        let reads_other_data = self.case.source.data.is_some_and(|data| memory.data.is_some_and(|known| known != data));
        memory.data = self.case.source.data.or(memory.data);
        self.has_forgotten = is_redefined || reads_other_data;
        if reads_other_data {
            memory.first_samples.clear();
            memory.timers.clear();
        }
        memory.first_samples.retain(|definition, _| definitions.contains(definition));
        memory.timers.retain(|definition, _| definitions.contains(definition));
        if is_incident_edited || reads_other_data {
            memory.well_since = None;
            memory.clear_since = None;
            memory.available_since = None;
        }
        memory.definitions = definitions;
        self.ledger.latches.retain_mut(|latch| {
            let Some(trigger) = declared.trigger(&latch.trigger) else { return false };
            // A latch that was stored by an older version tells no definition.
            *latch.definition.get_or_insert_with(|| trigger.definition.clone()) == trigger.definition
        });
    }

    /// Whose data the metrics source reads, as an incident stores it.
    pub(super) fn source_digest(&self) -> Option<String> {
        self.case.source.data.map(|data| format!("{data:016x}"))
    }

    pub(super) fn workloads(&self) -> &'a [Workload] {
        &self.case.seen.workloads
    }

    /// The payload digest of the release that the pilot runs; empty where nothing runs.
    pub(super) fn payload(&self) -> &str {
        &self.whole.payload
    }

    /// Those that run anything: what was created held is no part of the release yet.
    pub(super) fn running(&self) -> impl Iterator<Item = &'a Workload> {
        running(&self.case.seen.workloads)
    }

    /// Whether anything runs, and all of it completely.
    pub(super) fn is_complete(&self) -> bool {
        self.running().next().is_some() && self.running().all(|workload| workload.is_complete)
    }

    pub(super) fn is_contained(&self) -> bool {
        self.workloads().iter().any(|workload| workload.marks.contained.is_some())
    }

    /// Makes sure that the pilot is looked at again at this instant, if it lies ahead.
    pub(super) fn evaluate_again_at(&mut self, instant: Timestamp) {
        if instant > self.case.now {
            self.evaluate_again = Some(self.evaluate_again.map_or(instant, |earlier| earlier.min(instant)));
        }
    }

    pub(super) fn finish(mut self) -> Plan {
        let asks_metrics = self.case.declaration.asks_metrics();
        let interval = if asks_metrics { self.case.source.evaluation_interval } else { RESYNC };
        // What protects users does not wait behind what is written down.
        self.effects.sort_by_key(|effect| !effect.is_destructive());
        let wait = self.evaluate_again.map_or(interval, |instant| instant.duration_since(self.case.now).min(interval));
        let wait = wait.max(SignedDuration::from_millis(10));
        self.ledger.memory.last_evaluation = Some(self.case.now);
        self.ledger.memory.due = self.case.now.checked_add(wait).ok();
        let (ask, rehearse) = self.inquiry.into_missing();
        Plan {
            ask,
            rehearse,
            ledger: self.ledger,
            figures: self.figures,
            effects: self.effects,
            waiting: self.waiting,
            evaluate_again: wait,
        }
    }
}
