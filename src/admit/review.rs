//! What becomes of a request on a guarded workload. No I/O: everything comes from the request, the index of
//! Pilots and the time.
//!
//! What a Pilot cannot judge is refused where its rules bind and waved through with a warning where it only
//! observes; what no Pilot names is none of our business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use json_patch::PatchOperation;
use serde_json::Value;

use super::break_glass;
use super::context::Context;
use super::known::{judged, known, not_read_yet};
use super::moves::{Move, gains_owner, move_of};
use super::pilots::{Guardian, WorkloadKey};
use super::put_back::{put, put_back};
use super::scaled::scaled_workload;
use super::stamp::{self, Change};
use super::wire::{Answer, Request, Verb, listed};
use crate::api::workload::{PartKind, PartReference};
use crate::decide::Case;
use crate::decide::judge::rolled_back_before;
use crate::decide::proposal::{GitOps, Judgement, Operation, Proposal, Verdict};
use crate::observation::{Observation, Workload};
use crate::release::digest::template_digest;
use crate::release::images::images;
use crate::release::marks::{ADMITTED, HELD, HeldVerdict, bytes_of_others, quarantine_of};
use crate::release::ownership::{LAST_APPLIED, RELEASED, REPLICAS, last_applied_with_release, with_owners_of};
use crate::release::workload;
use crate::report::refusal::{LONGEST_LINE, LONGEST_NOTE, Refusal, shorten};

/// The annotation of a pod template by which the operator asks, in a dry-run, whether the webhook answers.
pub const PROBE: &str = "pilotguard.dev/probe";

/// A write to the status of a workload. It can change annotations, but neither template nor replicas.
const STATUS: &str = "status";

/// The kind of workload that a request is about, and the subresource, empty where it is about the whole.
pub(super) fn target(request: &Request) -> Option<(PartKind, &str)> {
    let (group, target) = request.target.split_once('/')?;
    let (resource, subresource) = target.split_once('/').unwrap_or((target, ""));
    Some((PartKind::of_resource(group, resource)?, subresource))
}

/// Judges a request on a workload. In one on its status only our marks are put back.
pub fn of_workload(request: &Request, context: &Context<'_>) -> Answer {
    let (kind, subresource) = match target(request) {
        Some(target @ (_, "" | STATUS)) if request.operation != Verb::Connect => target,
        _ => return Answer::bad_request(format!("{} is not reviewed here", request.target)),
    };
    let has_template = |object: &Value| workload::template(kind, object).is_some();
    let is_readable = match request.operation {
        Verb::Create => has_template(&request.object),
        Verb::Delete => has_template(&request.old_object),
        Verb::Update | Verb::Connect => has_template(&request.object) && has_template(&request.old_object),
    };
    if !is_readable {
        return Answer::bad_request(format!("the {} in the AdmissionReview has no spec.template", kind.as_str()));
    }
    let is_own = request.requester.user == context.own_account;
    let probe = probe(kind, &request.object).filter(|_| is_own && request.is_dry_run);
    if (is_own && probe.is_none()) || is_cleaning_up(request) {
        return Answer::untouched();
    }
    let attempt = Attempt::on_workload(request, (kind, subresource), context);
    let guardian = match guardian(request, &attempt.proposal.workload, context, attempt.is_critical()) {
        Ok(guardian) => guardian,
        Err(answer) => return answer,
    };
    if let Some(nonce) = probe {
        return Answer::forbidden(format!("pilotguard probe {nonce} answered"));
    }
    if subresource == STATUS && !attempt.proposal.gains_owner {
        return Answer::Allowed { patch: attempt.restored(), warnings: vec![] };
    }
    attempt.answer(&guardian, context)
}

/// Judges a request on the scale subresource of a workload.
pub fn of_scale(request: &Request, context: &Context<'_>) -> Answer {
    let kind = match target(request) {
        Some((kind, "scale")) if kind.has_replicas() && request.operation == Verb::Update => kind,
        _ => return Answer::bad_request(format!("{} is not reviewed here", request.target)),
    };
    if !request.object.is_object() || !request.old_object.is_object() {
        return Answer::bad_request("the AdmissionReview has no Scale, or not the old one".to_owned());
    }
    if request.requester.user == context.own_account {
        return Answer::untouched();
    }
    let workload = PartReference { kind, name: request.name.clone() };
    match guardian(request, &workload, context, false) {
        Ok(guardian) => Attempt::on_scale(request, workload, &guardian, context).answer(&guardian, context),
        Err(answer) => answer,
    }
}

/// Whoever removes what belongs to something that is gone cannot be talked to and must not be stopped.
pub fn is_collector(user: &str) -> bool {
    COLLECTORS.contains(&user)
}

/// The user names of Kubernetes' own collectors; the last is used where controllers share one account.
pub const COLLECTORS: [&str; 3] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",
];

fn is_cleaning_up(request: &Request) -> bool {
    request.operation == Verb::Delete && is_collector(&request.requester.user)
}

/// The Pilot that guards the workload, or the answer where there is none or nobody knows yet.
fn guardian(
    request: &Request,
    workload: &PartReference,
    context: &Context<'_>,
    is_critical: bool,
) -> Result<Arc<Guardian>, Answer> {
    if !context.guarded.is_ready() || !context.cluster.calendars.is_ready() {
        let message = "pilotguard has only just started and does not know the Pilots and ChangeCalendars yet; try again \
                       in a few seconds";
        let must_refuse = is_critical && context.may_refuse_unknown;
        return Err(if must_refuse {
            Answer::unavailable(message.to_owned())
        } else {
            Answer::warned(vec!["pilotguard has only just started and judged nothing".to_owned()])
        });
    }
    context.guarded.guardian(&WorkloadKey::new(&request.namespace, workload)).ok_or_else(Answer::untouched)
}

fn probe(kind: PartKind, object: &Value) -> Option<&str> {
    let of = if kind.has_pods() { object.pointer("/spec/template")? } else { object };
    of.pointer("/metadata/annotations")?.get(PROBE)?.as_str()
}

/// What someone wants to do to a workload, as it is seen in the request.
struct Attempt<'a> {
    request: &'a Request,
    what: String,
    proposal: Proposal,
    seen: Observation,
    move_: Move,
    now: Timestamp,
}

impl<'a> Attempt<'a> {
    fn on_workload(request: &'a Request, (kind, subresource): (PartKind, &str), context: &Context<'_>) -> Self {
        let stored = workload::read(kind, &request.old_object);
        let (operation, move_) = match request.operation {
            Verb::Create => (Operation::Create, Move::Releases),
            Verb::Delete => (Operation::Delete, Move::Deletes),
            Verb::Update if subresource == STATUS => (Operation::Update, Move::Nothing),
            Verb::Update | Verb::Connect => {
                (Operation::Update, move_of(kind, &request.old_object, &request.object, stored.as_ref()))
            }
        };
        let gains_owner = request.operation == Verb::Update && gains_owner(&request.old_object, &request.object);
        let is_there = |object: &'a Value| (!object.is_null()).then_some(object);
        let (before, after) = (is_there(&request.old_object), is_there(&request.object));
        let running = after.or(before).and_then(|object| workload::template(kind, object)).unwrap_or_default();
        let replicas_before = before.and_then(|object| workload::replicas(kind, object));
        let replicas_after = after.and_then(|object| workload::replicas(kind, object));
        let payload = workload::payload(kind, &running);
        let verb = match move_ {
            _ if operation == Operation::Create => "creating".to_owned(),
            _ if gains_owner => "adding an owner reference to".to_owned(),
            Move::Deletes => "deleting".to_owned(),
            Move::Resumes => "resuming the rollout of".to_owned(),
            Move::Withdraws => "withdrawing the waiting change of".to_owned(),
            Move::Nothing if replicas_before != replicas_after => "scaling".to_owned(),
            Move::Releases if stored.as_ref().is_some_and(|it| it.waiting.is_none() && it.payload == payload) => {
                "restarting".to_owned()
            }
            Move::Nothing | Move::Relabels | Move::Releases => "updating".to_owned(),
        };
        let reference = PartReference { kind, name: request.name.clone() };
        Self {
            request,
            what: format!("{verb} {reference}"),
            proposal: Proposal {
                workload: reference,
                operation,
                requester: request.requester.clone(),
                moves_release: matches!(move_, Move::Resumes | Move::Releases | Move::Deletes),
                gains_owner,
                template: template_digest(&running),
                payload,
                gitops: GitOps {
                    manages_workload: after.is_some_and(workload::is_managed_by_gitops),
                    is_named: context.gitops_users.contains(&request.requester.user),
                },
                one_live_release: match (before, after) {
                    (Some(before), _) => workload::has_one_live_release(kind, before),
                    // Of what is created held no pod is made.
                    (None, after) => after.is_some_and(|object| workload::is_pausable(kind, object)),
                },
                images: images(&running),
                annotations: after.map_or(0, |object| bytes_of_others(&workload::annotations(object))),
                replicas_before,
                replicas_after,
            },
            seen: Observation { workloads: stored.into_iter().collect(), ..Observation::default() },
            move_,
            now: context.now,
        }
    }

    fn on_scale(request: &'a Request, reference: PartReference, guardian: &Guardian, context: &Context<'_>) -> Self {
        let [before, after] = [&request.old_object, &request.object].map(workload::scale_replicas);
        Self {
            request,
            what: format!("scaling {reference} from {before} to {after} replicas"),
            proposal: Proposal {
                workload: reference.clone(),
                operation: Operation::Scale,
                requester: request.requester.clone(),
                moves_release: false,
                gains_owner: false,
                template: String::new(),
                payload: String::new(),
                gitops: GitOps::default(),
                one_live_release: false,
                annotations: 0,
                images: Vec::new(),
                replicas_before: Some(before),
                replicas_after: Some(after),
            },
            seen: Observation {
                workloads: vec![scaled_workload(request, reference, guardian, context.cluster)],
                ..Observation::default()
            },
            move_: Move::Nothing,
            now: context.now,
        }
    }

    /// The workload as it is stored; `None` where it is new.
    fn stored(&self) -> Option<&Workload> {
        self.seen.workloads.first()
    }

    /// Whether nobody may wave it through unseen: it touches the release or our marks.
    fn is_critical(&self) -> bool {
        self.move_ != Move::Nothing || self.proposal.gains_owner || !self.restored().is_empty()
    }

    fn answer(&self, guardian: &Guardian, context: &Context<'_>) -> Answer {
        let declaration = match &guardian.declaration {
            Ok(declaration) => &*context.cluster.calendars.narrow(declaration),
            Err(_) if !self.proposal.concerns_release() => {
                return Answer::Allowed { patch: self.restored(), warnings: vec![] };
            }
            Err(_) => return self.answer_unreadable(guardian),
        };
        let known = known(&self.seen, &self.proposal, (declaration, guardian), context.cluster);
        let Some(mut seen) = known else { return not_read_yet(context) };
        let (case, judgement) = judged((declaration, guardian), &mut seen, context, &self.proposal);
        let refusal = || Refusal::of(&case, &self.proposal, &judgement, self.what.clone());
        let change = Change {
            declaration,
            ledger: &guardian.ledger,
            kind: self.proposal.workload.kind,
            old: &self.request.old_object,
            new: &self.request.object,
            requester: &self.request.requester,
            quarantined: self.quarantined_before(&case),
            now: context.now,
        };
        match judgement.verdict {
            Verdict::Deny => self.denied(refusal().full()),
            Verdict::Hold => {
                let patch = self.keeping(&judgement, self.held(&change, &judgement));
                put_off(HeldVerdict::Hold, patch, &refusal(), "pilotguard holds this until it is allowed: ")
            }
            Verdict::Pin => {
                let patch = self.keeping(&judgement, self.pinned(&change, &judgement));
                put_off(HeldVerdict::Pin, patch, &refusal(), "pilotguard kept the stored release instead of: ")
            }
            Verdict::Allow => {
                let warnings =
                    said(&judgement).map(|prefix| refusal().line(&prefix, LONGEST_LINE)).into_iter().collect();
                let patch = self.keeping(&judgement, self.admitted(&change, &judgement));
                Answer::Allowed { patch, warnings }
            }
        }
    }

    /// Deleting and creating anew is no way around: what the records say was rolled back stays out of what comes next.
    fn quarantined_before(&self, case: &Case<'_>) -> BTreeSet<String> {
        if self.proposal.operation != Operation::Create {
            return BTreeSet::new();
        }
        quarantine_of(rolled_back_before(case).iter().filter(|payload| **payload != self.proposal.payload))
    }

    /// The answer where the Pilot's declaration means nothing to this version.
    fn answer_unreadable(&self, guardian: &Guardian) -> Answer {
        let violations =
            guardian.declaration.as_ref().err().map(|violations| violations.as_slice()).unwrap_or_default();
        let pilot = &guardian.id.name;
        if guardian.is_enforcing() {
            let list = listed(violations);
            let message = format!(
                "Refused: {}, because the spec of pilot {pilot}, which guards it, is invalid:{list}\nCorrect the Pilot, then try again.",
                self.what
            );
            return self.denied(message);
        }
        let first = violations.first().map(ToString::to_string).unwrap_or_default();
        let line =
            format!("pilotguard (observing): the spec of pilot {pilot} is invalid, so nothing was judged: {first}");
        Answer::Allowed { patch: self.restored(), warnings: vec![shorten(&line.replace('\n', " "), LONGEST_LINE)] }
    }

    fn denied(&self, message: String) -> Answer {
        Answer::forbidden(match break_glass::missing(self.request) {
            Some(hint) => format!("{message}\n{hint}"),
            None => message,
        })
    }

    /// What admits it: the stamp, and an end to what waited before it.
    fn admitted(&self, change: &Change<'_>, judgement: &Judgement) -> Vec<PatchOperation> {
        let admitted = match self.move_ {
            Move::Releases => Some(stamp::of_moved(change, judgement)),
            Move::Resumes => stamp::of_resumed(change, judgement),
            Move::Relabels => stamp::of_same_release(change),
            Move::Withdraws | Move::Nothing | Move::Deletes => None,
        };
        let mut wanted = self.kept();
        wanted.extend(change.of_namesake());
        if let Some(admitted) = admitted {
            wanted.insert(ADMITTED, admitted);
        }
        let moves_on = matches!(self.move_, Move::Releases | Move::Resumes | Move::Withdraws);
        let waiting = self.stored().and_then(|workload| workload.waiting.as_ref());
        let mut patch = Vec::new();
        if moves_on {
            wanted.remove(HELD);
            if waiting.is_some_and(|held| !held.was_paused) && workload::is_paused(&self.request.object) {
                patch.push(put(&["spec", "paused"], Value::Bool(false)));
            }
        }
        patch.extend(self.marked(&wanted));
        patch
    }

    /// What stores it while the rollout is paused.
    fn held(&self, change: &Change<'_>, judgement: &Judgement) -> Vec<PatchOperation> {
        let mut wanted = stamp::stored(&self.request.old_object);
        wanted.extend(change.of_namesake());
        wanted.insert(HELD, stamp::of_held(change, judgement, HeldVerdict::Hold));
        let mut patch = self.marked(&wanted);
        if !workload::is_paused(&self.request.object) {
            patch.push(put(&["spec", "paused"], Value::Bool(true)));
        }
        patch
    }

    /// What puts the stored template back into the write. A release that waits goes on waiting.
    fn pinned(&self, change: &Change<'_>, judgement: &Judgement) -> Vec<PatchOperation> {
        let old = &self.request.old_object;
        let mut wanted = stamp::stored(old);
        if self.stored().is_none_or(|workload| workload.waiting.is_none()) {
            wanted.insert(HELD, stamp::of_held(change, judgement, HeldVerdict::Pin));
        }
        let mut patch = self.marked(&wanted);
        let applied = |object: &Value| workload::annotations(object).remove(LAST_APPLIED);
        if let (Some(before), Some(now)) = (applied(old), applied(&self.request.object))
            && let Some(kept) = last_applied_with_release(&now, &before)
        {
            patch.push(put(&["metadata", "annotations", LAST_APPLIED], kept.into()));
        }
        patch.extend(put_back(self.proposal.workload.kind, old, &self.request.object));
        patch
    }

    /// What else puts back that is kept: replicas, and for all of it the owners, so that the next apply of any kind takes
    /// it for what it was and not for what was asked for. What nobody owns, and nobody seems to have applied, would stay.
    fn keeping(&self, judgement: &Judgement, mut patch: Vec<PatchOperation>) -> Vec<PatchOperation> {
        let (old, new) = (&self.request.old_object, &self.request.object);
        let mut kept = Vec::new();
        if let Some(count) = judgement.kept_replicas {
            patch.push(put(&["spec", "replicas"], count.into()));
            kept.push(REPLICAS);
        }
        if judgement.verdict == Verdict::Pin {
            kept.extend(RELEASED);
        }
        if !kept.is_empty() && new.pointer("/metadata/managedFields").is_some() {
            patch.push(put(&["metadata", "managedFields"], with_owners_of(new, old, &kept)));
        }
        patch
    }

    /// What puts our marks back to what is stored.
    fn restored(&self) -> Vec<PatchOperation> {
        self.marked(&self.kept())
    }

    /// The marks that are stored. That a change was pinned is only a note: it may be taken away, and it stays where an
    /// earlier pass over this very request wrote it, because another webhook has us asked a second time.
    fn kept(&self) -> BTreeMap<&'static str, String> {
        let mut wanted = stamp::stored(&self.request.old_object);
        let stored = self.stored().and_then(|workload| workload.marks.held.as_ref());
        if stored.is_some_and(|held| held.verdict != HeldVerdict::Pin) {
            return wanted;
        }
        if let Some(note) = stamp::noted_just_now(&self.request.object, &self.request.requester, self.now) {
            wanted.insert(HELD, note);
        } else if !workload::annotations(&self.request.object).contains_key(HELD) {
            wanted.remove(HELD);
        }
        wanted
    }

    fn marked(&self, wanted: &BTreeMap<&'static str, String>) -> Vec<PatchOperation> {
        if self.proposal.operation == Operation::Scale || self.request.object.is_null() {
            return Vec::new();
        }
        stamp::patch(&self.request.object, wanted)
    }
}

fn put_off(verdict: HeldVerdict, patch: Vec<PatchOperation>, refusal: &Refusal, prefix: &str) -> Answer {
    let [warning, note] = [LONGEST_LINE, LONGEST_NOTE].map(|most| refusal.line(prefix, most));
    Answer::PutOff { verdict, patch, warning, note }
}

/// How a requester is told of what was found, where the write happens.
fn said(judgement: &Judgement) -> Option<String> {
    let would_have = |done: &str| Some(format!("pilotguard (observing): would have {done}: "));
    match (judgement.enforced_verdict, judgement.kept_replicas, judgement.enforced_replicas) {
        (Verdict::Deny, ..) => would_have("refused"),
        (Verdict::Pin, ..) => would_have("pinned"),
        (Verdict::Hold, ..) => would_have("held"),
        (Verdict::Allow, Some(count), _) => {
            Some(format!("pilotguard kept replicas at {count} until an owner resumes: "))
        }
        (Verdict::Allow, None, Some(count)) => would_have(&format!("kept replicas at {count}")),
        (Verdict::Allow, None, None) => None,
    }
}
