//! What is known when a change is judged, beside the object itself: records of the past, and owners' exceptions.
//!
//! Both come from memory. Exceptions are looked up only where one may change the answer, so that an ordinary change
//! costs nothing more.

use jiff::SignedDuration;

use super::context::Context;
use super::pilots::Guardian;
use super::wire::Answer;
use crate::decide::judge::judge;
use crate::decide::proposal::{Judgement, Operation, Proposal};
use crate::decide::{Case, SourceFacts};
use crate::declaration::Declaration;
use crate::observation::Observation;
use crate::observe::cluster::Cluster;

/// Judging a change asks no metrics source.
pub(super) const NO_SOURCE: SourceFacts =
    SourceFacts { evaluation_interval: SignedDuration::ZERO, query_offset: SignedDuration::ZERO, data: None };

/// Without the records nobody can say whether the release was rolled back before, and without the other workloads whether
/// it would be built on what came in past the guards.
const NOT_READ_YET: &str =
    "pilotguard has just started and has not read workloads and records yet; try again in a few seconds";

/// What is known of a workload that is stored, or of one that does not exist yet, and of those beside it in the release;
/// `None` before they are read.
pub(super) fn known(
    stored: &Observation,
    proposal: &Proposal,
    (declaration, guardian): (&Declaration, &Guardian),
    cluster: &Cluster,
) -> Option<Observation> {
    let is_new = proposal.operation == Operation::Create;
    let needs_records = is_new || stored.workloads.iter().any(|workload| workload.marks.quarantine_is_full());
    let mut seen = if needs_records {
        Observation { workloads: stored.workloads.clone(), ..cluster.records(&guardian.id)? }
    } else {
        stored.clone()
    };
    if proposal.concerns_release() {
        seen.workloads.extend(cluster.beside(declaration, &proposal.workload)?);
    }
    Some(seen)
}

/// The answer until then.
pub(super) fn not_read_yet(context: &Context<'_>) -> Answer {
    if context.may_refuse_unknown {
        Answer::unavailable(NOT_READ_YET.to_owned())
    } else {
        Answer::warned(vec![NOT_READ_YET.to_owned()])
    }
}

/// Judges a proposal, with the exceptions that owners made where something was found.
pub(super) fn judged<'a>(
    (declaration, guardian): (&'a Declaration, &'a Guardian),
    seen: &'a mut Observation,
    context: &Context<'_>,
    proposal: &Proposal,
) -> (Case<'a>, Judgement) {
    let (ledger, now) = (&guardian.ledger, context.now);
    let judgement = judge(&Case { declaration, source: NO_SOURCE, seen, ledger, now }, proposal);
    if judgement.findings.is_empty() {
        return (Case { declaration, source: NO_SOURCE, seen, ledger, now }, judgement);
    }
    seen.decisions = context.cluster.decisions_of(&guardian.id);
    let case = Case { declaration, source: NO_SOURCE, seen, ledger, now };
    (case, judge(&case, proposal))
}
