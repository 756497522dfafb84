//! Carrying an intent out: what is still to be done to the workload, and whether it helped.
//!
//! What has happened is told by the workload itself and never by the answer to a patch: an act is due until
//! the workload is seen to be as intended, and is given up where someone else has moved it elsewhere.

use jiff::{SignedDuration, Timestamp};

use super::ending::give_account;
use super::naming::to_release;
use super::plan::{Effect, RestoreReplicas, RollBack, ScaleDown};
use super::records::OPERATOR;
use super::slo::{Span, text};
use super::turn::Turn;
use crate::api::incident::{DecidedBy, Incident, IncidentStage, Intent, RollbackTarget, Verification, WorkloadIntent};
use crate::api::trigger::TriggerAction;
use crate::api::workload::ReleasePart;
use crate::declaration::{Condition, Trigger};
use crate::observation::{Landing, Reading, Rehearsal, Workload};
use crate::release::marks::{Admitted, AdmittedVerdict, Held, HeldVerdict, quarantine_of};
use crate::release::vector::release_payload;

/// An act that is not seen to be done after so long will not be: somebody has to look.
const LONGEST_ACT: SignedDuration = SignedDuration::from_mins(10);

/// A release that was rolled back to and is not completely available after so long does not help.
const LONGEST_ROLLOUT: SignedDuration = SignedDuration::from_mins(15);

/// Another controller appeared since the act was decided.
const TAKEN_OVER: &str = "another controller now drives the workload";

/// How far an act has come.
enum Progress {
    Done,
    Due(Box<Effect>),
    Overtaken(&'static str),
}

impl<'a> Turn<'a> {
    pub(super) fn act(&mut self, incident: &mut Incident) {
        self.note_landings(incident);
        let Some(intent) = incident.intent.as_ref().filter(|intent| !intent.workloads.is_empty()) else {
            return self.stand(incident, "there is nothing to act on");
        };
        let began = intent.at;
        let progress: Vec<Progress> = intent.workloads.iter().map(|part| self.progress(incident, part)).collect();
        let overtaken = progress.iter().find_map(|progress| match progress {
            Progress::Overtaken(why) => Some(*why),
            Progress::Done | Progress::Due(_) => None,
        });
        let done = already_done(intent, &progress);
        if let Some(why) = overtaken {
            return self.stand(incident, &format!("{why}{done}"));
        }
        let mut due: Vec<Effect> = progress.into_iter().filter_map(Progress::into_due).collect();
        // Pods that start anew find the configuration that belongs to them: they go back once that is seen to be back.
        if due.iter().any(puts_configuration_back) {
            due.retain(puts_configuration_back);
        }
        if due.is_empty() {
            let to = to_release(incident.target.as_ref().and_then(RollbackTarget::name));
            if let Some(intent) = &mut incident.intent {
                intent.done_at = Some(self.case.now);
                let done = account_of(intent, &to, self.case.now);
                give_account(incident, &done);
            }
            incident.stage = IncidentStage::Verifying;
            self.put_its_errors_aside(incident);
            self.ledger.memory.available_since = None;
        } else if self.case.now >= began + LONGEST_ACT {
            let why = "the API server refused the patch for 10 minutes; read the operator's log";
            self.stand(incident, &format!("{why}{done}"));
        } else {
            self.effects.extend(due);
        }
    }

    fn progress(&self, incident: &Incident, intent: &WorkloadIntent) -> Progress {
        let Some(workload) = self.workloads().iter().find(|workload| workload.uid == intent.uid) else {
            return Progress::Overtaken("the workload was deleted or replaced before it could be acted on");
        };
        // The marks belong to the act: a template that others put back does not quarantine what it replaced.
        let is_marked = intent.quarantine.iter().all(|payload| workload.marks.quarantined.contains(payload));
        match (&intent.to, intent.replicas) {
            (Some(to), _) if intent.lands_as.as_ref() == Some(&intent.from) && intent.from != *to => {
                Progress::Overtaken("other admission changes the rollback target into the running release")
            }
            (Some(_), _) if intent.lands_as.as_ref().is_some_and(|it| workload.marks.quarantined.contains(it)) => {
                Progress::Overtaken("other admission changes the rollback target into a quarantined release")
            }
            (Some(_), _) if has_arrived(incident, intent, workload) && is_marked => Progress::Done,
            (Some(_), _) if workload.payload != intent.from && !has_arrived(incident, intent, workload) => {
                Progress::Overtaken("another release was rolled out before this one could be rolled back")
            }
            (Some(_), _) if workload.foreign.is_some() => Progress::Overtaken(TAKEN_OVER),
            (Some(_), _) if is_target_lost(workload, intent) => {
                Progress::Overtaken("the snapshot of the rollback target is gone")
            }
            (Some(to), _) => Progress::Due(Box::new(Effect::RollBack(self.roll_back(incident, intent, to, workload)))),
            // An incident may scale down again, further, what it has contained before.
            (None, Some(replicas))
                if workload.replicas <= replicas
                    && workload.marks.contained.as_ref().is_some_and(|it| it.incident == incident.id) =>
            {
                Progress::Done
            }
            (None, Some(_)) if workload.foreign.is_some() => Progress::Overtaken(TAKEN_OVER),
            (None, Some(replicas)) => Progress::Due(Box::new(Effect::ScaleDown(ScaleDown {
                incident: incident.id.clone(),
                workload: workload.reference.clone(),
                uid: workload.uid.clone(),
                generation: workload.generation,
                replicas,
                parked: workload.marks.parked_replicas.unwrap_or(workload.replicas),
            }))),
            (None, None) => Progress::Overtaken("there is nothing to act on"),
        }
    }

    /// Notes as what the releases that are restored will run: other admission may change them in the same write.
    fn note_landings(&self, incident: &mut Incident) {
        let Some(mut intent) = incident.intent.take() else { return };
        for part in &mut intent.workloads {
            let workload = self.workloads().iter().find(|workload| workload.uid == part.uid);
            let Some(workload) = workload.filter(|workload| !has_arrived(incident, part, workload)) else { continue };
            let Some(landing) = self.landing(part, workload) else { continue };
            part.lands_as = (part.to.as_ref() != Some(&landing.payload)).then(|| landing.payload.clone());
            part.quarantine.retain(|payload| *payload != landing.payload);
        }
        incident.intent = Some(intent);
    }

    fn landing(&self, intent: &WorkloadIntent, workload: &Workload) -> Option<&'a Landing> {
        let is_in_reach = workload.foreign.is_none() && !is_target_lost(workload, intent);
        let snapshot = intent.revision.clone().filter(|_| is_in_reach)?;
        let (workload, uid) = (workload.reference.clone(), workload.uid.clone());
        self.inquiry.landing(Rehearsal { workload, uid, snapshot })
    }

    fn roll_back(&self, incident: &Incident, intent: &WorkloadIntent, to: &str, workload: &Workload) -> RollBack {
        let snapshot = workload.snapshot_of(to);
        let mut quarantined = quarantine_of(intent.quarantine.iter().chain(&workload.marks.quarantined));
        quarantined.remove(to);
        let target = incident.target.as_ref().map_or(to, |target| &target.payload);
        let stored = Admitted {
            template: snapshot.map(|snapshot| snapshot.template.clone()).unwrap_or_default(),
            payload: to.to_owned(),
            variant_of: None,
            by: OPERATOR.to_owned(),
            groups: Vec::new(),
            at: self.case.now,
            change: self.change_name(target, self.case.now),
            verdict: AdmittedVerdict::Rollback,
            reasons: vec![reason(incident)],
            break_glass: workload.marks.known_break_glass(),
        };
        let variant = self.landing(intent, workload).filter(|landing| landing.template != stored.template);
        let admitted = variant.map_or(stored.clone(), |variant| {
            let mut admitted = stored.of_variant(variant.template.clone(), variant.payload.clone());
            admitted.reasons.push(format!("other admission changed {}", variant.changed.join(", ")));
            admitted
        });
        RollBack {
            incident: incident.id.clone(),
            workload: workload.reference.clone(),
            uid: workload.uid.clone(),
            generation: workload.generation,
            snapshot: intent.revision.clone().unwrap_or_default(),
            variant: variant.map(|variant| variant.content.clone()),
            admitted,
            put_away: self
                .put_away(incident, workload)
                .filter(|note| quarantined.contains(&note.payload))
                .map(Box::new),
            quarantined,
        }
    }

    /// As if it had been applied again and pinned: a GitOps tool may not even try, and looks well.
    fn put_away(&self, incident: &Incident, workload: &Workload) -> Option<Held> {
        let admitted = workload.marks.admitted.as_ref().filter(|admitted| admitted.payload == workload.payload)?;
        Some(Held {
            verdict: HeldVerdict::Pin,
            template: admitted.template.clone(),
            payload: admitted.payload.clone(),
            by: admitted.by.clone(),
            groups: admitted.groups.clone(),
            at: self.case.now,
            change: admitted.change.clone(),
            was_paused: false,
            images: workload.images_of(&workload.payload),
            reasons: vec![format!("incident {} rolled it back", incident.id)],
        })
    }

    /// Did it help? A scale-down is verified by the count of replicas alone; a rollback by one short window of
    /// enough events after the release was available. Long budgets remember the incident and are not asked.
    pub(super) fn verify(&mut self, incident: &mut Incident) {
        if self.workloads().is_empty() {
            return self.stand(incident, "the workload no longer exists");
        }
        if let Some(intent) = incident.intent.as_ref().filter(|intent| intent.action == TriggerAction::ScaleDown) {
            // Not by availability: a release that never becomes available would leave the incident here for ever.
            if self.workloads().iter().all(|workload| is_scaled_down(workload, intent)) {
                incident.stage = IncidentStage::Standing;
            }
            return;
        }
        if self.workloads().iter().any(|workload| workload.progress_deadline_exceeded) {
            let why = "the restored release does not become available";
            return self.rollback_failed(incident, why);
        }
        if !self.is_complete() {
            self.ledger.memory.available_since = None;
            let done_at = incident.intent.as_ref().and_then(|intent| intent.done_at).unwrap_or(self.case.now);
            if self.case.now >= done_at + LONGEST_ROLLOUT {
                incident.verified = Some(Verification::Unhealthy);
                let why = "the restored release was not available within 15 minutes";
                give_account(incident, why);
                self.stand(incident, why);
            }
            return;
        }
        let since = *self.ledger.memory.available_since.get_or_insert(self.case.now);
        let triggers = self.triggers_behind_the_act(incident);
        let Some(span) = triggers.iter().map(|trigger| verification_span(trigger)).max() else {
            return self.rollback_succeeded(incident, "the restored release is available");
        };
        let asks_at = since + self.case.source.query_offset + span;
        if self.case.now < asks_at {
            return self.evaluate_again_at(asks_at);
        }
        self.put_its_errors_aside(incident);
        let answers: Vec<_> = triggers.iter().map(|trigger| self.still_suffers(trigger, since)).collect();
        let judged_by = triggers.iter().map(|trigger| trigger.name.as_str()).collect::<Vec<_>>().join(", ");
        match worst(answers) {
            Reading::Fresh(false) => {
                let over = if span.is_zero() { String::new() } else { format!(" over {}", text(span)) };
                self.rollback_succeeded(
                    incident,
                    &format!("the service is healthy again{over}, judged by {judged_by}"),
                );
            }
            Reading::Fresh(true) => {
                self.rollback_failed(incident, &format!("the service is still unhealthy, judged by {judged_by}"));
            }
            Reading::Unknown(why) => {
                // What is not known never takes the service away.
                incident.verified = Some(Verification::Unknown);
                let why = format!("whether the rollback helped is unknown ({})", why.as_str());
                give_account(incident, &why);
                self.stand(incident, &why);
            }
        }
    }

    /// The triggers that called for the act, or all that had joined by then where a person did.
    fn triggers_behind_the_act(&self, incident: &Incident) -> Vec<&'a Trigger> {
        let acted_at = incident.intent.as_ref().map_or(self.case.now, |intent| intent.at);
        let fired_before =
            |trigger: &&Trigger| incident.evidence.iter().any(|e| e.trigger == trigger.name && e.at <= acted_at);
        let all: Vec<&Trigger> = self.triggers_of(incident).filter(fired_before).collect();
        let strict: Vec<&Trigger> =
            all.iter().copied().filter(|trigger| trigger.action >= TriggerAction::Rollback).collect();
        if strict.is_empty() { all } else { strict }
    }

    fn still_suffers(&self, trigger: &Trigger, since: Timestamp) -> Reading<bool> {
        match &trigger.when {
            Condition::ErrorBudget { slo, .. } | Condition::BurnRate { slo, .. } => {
                let length = trigger.short_window.min(self.case.now.duration_since(since));
                let events = self.case.declaration.slo(slo).map_or(1.0, |slo| slo.min_events);
                // Exactly: a moment earlier the service may still have failed.
                let span = Span { confirm: true, ..Span::of(length, self.case.now) };
                self.short_burn(slo, span, events).map(|burn| burn >= 1.0)
            }
            Condition::PromQl { .. } => self.suffers(trigger),
            Condition::ConsecutiveFailedChanges { .. } | Condition::Workload(_) => Reading::Fresh(false),
        }
    }

    /// The rollback did not help, or nobody knows: people are paged and changes stay held. Scaling down follows
    /// only where it was declared.
    fn rollback_failed(&mut self, incident: &mut Incident, why: &str) {
        let scales_down = self
            .triggers_behind_the_act(incident)
            .iter()
            .any(|trigger| trigger.action == TriggerAction::Rollback && trigger.otherwise == TriggerAction::ScaleDown);
        incident.verified = Some(Verification::Unhealthy);
        give_account(incident, why);
        self.stand(incident, why);
        if scales_down {
            self.start(incident, TriggerAction::ScaleDown, DecidedBy::Deadline, None);
        }
    }

    /// At the start and at the end of verification: the errors of the release that was rolled back fire no more.
    fn put_its_errors_aside(&mut self, incident: &Incident) {
        let intent = incident.intent.as_ref().filter(|intent| intent.action == TriggerAction::Rollback);
        let Some(intent) = intent.filter(|intent| !intent.workloads.is_empty()) else { return };
        match &incident.suspect {
            Some(suspect) => self.latch_what_remains_of(&suspect.payload),
            None => self.latch_what_remains_of(&release_before(intent)),
        }
    }

    fn rollback_succeeded(&mut self, incident: &mut Incident, how: &str) {
        incident.verified = Some(Verification::Healthy);
        give_account(incident, how);
        if self.is_contained() {
            // Scaled down before it was rolled back: only an owner's Resume ends that.
            incident.stage = IncidentStage::Standing;
            return;
        }
        let intent = incident.intent.as_ref();
        let decided_by = intent.map_or(DecidedBy::Deadline, |intent| intent.decided_by);
        let decision = intent.and_then(|intent| intent.decision.clone());
        self.close(incident, decided_by, decision.as_deref(), "");
    }

    /// Restores the parked replicas; due until the workload is seen not to be contained.
    pub(super) fn resume(&mut self, incident: &mut Incident) {
        let began = incident.closing.as_ref().map_or(self.case.now, |closing| closing.at);
        if !self.is_contained() {
            incident.stage = IncidentStage::Closing;
        } else if self.case.now >= began + LONGEST_ACT {
            incident.closing = None;
            let why = "the API server refused to restore the replicas; read the operator's log";
            self.stand(incident, why);
        } else {
            let contained = self.workloads().iter().filter(|workload| workload.marks.contained.is_some());
            self.effects.extend(contained.map(|workload| {
                Effect::RestoreReplicas(RestoreReplicas {
                    workload: workload.reference.clone(),
                    uid: workload.uid.clone(),
                    generation: workload.generation,
                    replicas: workload.marks.parked_replicas.unwrap_or(workload.replicas),
                })
            }));
        }
    }
}

impl Progress {
    fn into_due(self) -> Option<Effect> {
        match self {
            Self::Due(effect) => Some(*effect),
            Self::Done | Self::Overtaken(_) => None,
        }
    }
}

/// What was done before the rest of an act became impossible: people have to know that a mixture runs.
fn already_done(intent: &Intent, progress: &[Progress]) -> String {
    let done = intent.workloads.iter().zip(progress).filter(|(_, progress)| matches!(progress, Progress::Done));
    let names: Vec<String> = done.map(|(part, _)| part.workload.to_string()).collect();
    if names.is_empty() { String::new() } else { format!("; done so far: {}", names.join(", ")) }
}

/// An act that is done, in words.
fn account_of(intent: &Intent, to: &str, at: Timestamp) -> String {
    let moved = |part: &&WorkloadIntent| part.replicas.is_some() || part.to.as_ref() != Some(&part.from);
    let names: Vec<String> = intent.workloads.iter().filter(moved).map(|part| part.workload.to_string()).collect();
    let names = if names.is_empty() { "nothing that had to move".to_owned() } else { names.join(", ") };
    match intent.workloads.iter().find_map(|part| part.replicas) {
        Some(replicas) => format!("scaled {names} down to {replicas} at {at:.0}"),
        None => format!("rolled back {names}{to} at {at:.0}"),
    }
}

/// Whether a workload runs what it was to go back to, or what other admission made of that in the act's own write.
fn has_arrived(incident: &Incident, intent: &WorkloadIntent, workload: &Workload) -> bool {
    let Some(to) = &intent.to else { return false };
    let is_of_act = |stamp: &&Admitted| {
        stamp.verdict == AdmittedVerdict::Rollback && stamp.reasons.first() == Some(&reason(incident))
    };
    let came_by_act = workload.admitted().filter(is_of_act).and_then(|stamp| stamp.variant_of.as_ref());
    workload.payload == *to || intent.lands_as.as_ref() == Some(&workload.payload) || came_by_act == Some(to)
}

/// What the stamp of an act says first.
fn reason(incident: &Incident) -> String {
    format!("incident {}", incident.id)
}

fn puts_configuration_back(effect: &Effect) -> bool {
    matches!(effect, Effect::RollBack(act) if !act.workload.kind.has_pods())
}

fn is_target_lost(workload: &Workload, intent: &WorkloadIntent) -> bool {
    !workload.snapshots.iter().any(|snapshot| Some(&snapshot.name) == intent.revision.as_ref())
}

fn is_scaled_down(workload: &Workload, intent: &Intent) -> bool {
    let of = intent.workloads.iter().find(|part| part.uid == workload.uid);
    of.and_then(|part| part.replicas).is_none_or(|wanted| workload.replicas <= wanted)
}

/// The release that ran when an intent was written.
fn release_before(intent: &Intent) -> String {
    let part = |part: &WorkloadIntent| ReleasePart {
        kind: part.workload.kind,
        name: part.workload.name.clone(),
        template: String::new(),
        payload: part.from.clone(),
        images: Vec::new(),
    };
    release_payload(&intent.workloads.iter().map(part).collect::<Vec<_>>())
}

/// Suffering anywhere is suffering; well is only what is well everywhere.
fn worst(answers: Vec<Reading<bool>>) -> Reading<bool> {
    let mut worst = Reading::Fresh(false);
    for answer in answers {
        match answer {
            Reading::Fresh(true) => return Reading::Fresh(true),
            Reading::Fresh(false) => {}
            Reading::Unknown(why) => worst = Reading::Unknown(why),
        }
    }
    worst
}

fn verification_span(trigger: &Trigger) -> SignedDuration {
    match trigger.when {
        // Both remember what was before the rollback; there is nothing to wait for.
        Condition::ConsecutiveFailedChanges { .. } | Condition::Workload(_) => SignedDuration::ZERO,
        // What the expression reads has to lie behind the act.
        Condition::PromQl { reach, .. } => trigger.short_window.max(reach),
        Condition::ErrorBudget { .. } | Condition::BurnRate { .. } => trigger.short_window,
    }
}
