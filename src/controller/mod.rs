//! The loop: observe → decide → record → act → report.
//!
//! One pilot is looked at by one task at a time. What was decided is written down before it is done, and
//! whether it was done is seen, not remembered.

mod backoff;
mod calendars;
mod effects;
mod enforcement;
mod evaluation;
mod orphans;
mod proof;
mod rehearsal;
mod source_status;
mod supervisor;
mod suspects;
mod wakes;
mod watches;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

pub use backoff::Failing;
pub use effects::chain;
pub use enforcement::Enforcement;
pub use proof::prove;
pub use rehearsal::Rehearsals;
pub use supervisor::Watches;
pub use watches::{Watching, watch};

use crate::act::writer::{WriteError, Writer};
use crate::admit::pilots::{Guarded, WorkloadKey};
use crate::api::pilot::{Mode, Pilot};
use crate::api::status::PilotStatus;
use crate::decide::storage::storage;
use crate::decide::unmeasured::unmeasured;
use crate::decide::{Case, lateness};
use crate::declaration::{Declaration, PilotId};
use crate::observe::cluster::{Cluster, ObserveError};
use crate::observe::configuration;
use crate::observe::sources::Sources;
use crate::record::declared::{InForce, in_force};
use crate::record::events;
use crate::record::status::{Kept, RETRY, StatusError};
use crate::report::announcements::announce;
use crate::report::projection::project;
use crate::report::surroundings::{Enforced, OtherAdmission, Surroundings};
use crate::report::{invalid, measuring};
use crate::runtime::metrics::Metrics;
use crate::violation::Violation;
use backoff::PERSISTENT;
use evaluation::{Evaluation, observe_and_decide};

/// Everything that an evaluation needs from outside.
pub struct Context {
    /// Writes to the API server.
    pub writer: Writer,
    /// What the watches have seen.
    pub cluster: Arc<Cluster>,
    /// Which Pilot guards what.
    pub guarded: Arc<Guarded>,
    /// The metrics sources.
    pub sources: Sources,
    /// Whether the webhook is asked.
    pub enforcement: Enforcement,
    /// What other admission makes of our writes.
    pub rehearsals: Rehearsals,
    /// Our own metrics.
    pub metrics: Arc<Metrics>,
    /// The only clock.
    pub clock: fn() -> Timestamp,
    /// What is kept of each Pilot between evaluations, by uid.
    pub kept: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Kept>>>>>,
    /// The Pilots whose last evaluation failed.
    pub failing: Failing,
    /// The watches that ended by themselves.
    pub watches: Watches,
}

/// Why an evaluation came to nothing; the pilot is looked at again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The cluster could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The status could not be written, so nothing was done.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The Pilot could not be read.
    #[error(transparent)]
    Read(#[from] WriteError),
    /// The evaluation panicked; it begins anew from what is stored.
    #[error("the evaluation panicked; read the operator's log")]
    Panicked,
}

/// One evaluation of one pilot; what goes wrong with one is no other's trouble.
pub async fn reconcile(pilot: Arc<Pilot>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let evaluating = AssertUnwindSafe(evaluate(pilot.clone(), context.clone())).catch_unwind();
    let outcome = evaluating.await.unwrap_or(Err(ReconcileError::Panicked));
    match &outcome {
        Ok(_) => context.failing.forget(&pilot.uid().unwrap_or_default()),
        Err(error) => context.note_failure(&pilot, error).await,
    }
    if !context.guarded.knows(&PilotId::of(&pilot)) {
        // It was deleted meanwhile.
        context.forget(&pilot);
    }
    context.metrics.failing(context.failing.persistent());
    outcome
}

async fn evaluate(pilot: Arc<Pilot>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let place = context.place(&pilot);
    let mut place = place.lock().await;
    let kept = context.recall(&mut place, &pilot).await?;
    let now = (context.clock)();

    let stored = kept.status().declaration;
    let in_force = match in_force(&pilot, stored.as_ref(), context.guarded.zones()) {
        Ok(in_force) => in_force,
        Err(violations) => return context.report_invalid(kept, &pilot, &violations, now).await,
    };
    let declaration = context.cluster.calendars.narrow(&in_force.declaration);
    let mut evaluation = Box::pin(observe_and_decide(&context, &declaration, &kept.ledger, now)).await?; // observe, decide
    if let Some(error) = evaluation.unconfirmed.take() {
        effects::carry_out(&context, &declaration, &evaluation, now).await;
        return Err(error.into());
    }
    let enforced = context.enforced(&declaration, &evaluation).await;
    let other = context.rehearsals.of(&context.writer, &declaration.pilot.namespace, evaluation.own_workloads()).await;
    let status = context.report(kept, &pilot, (&declaration, &in_force), &evaluation, (&enforced, other), now);
    kept.write(&context.writer, status, evaluation.plan.ledger.clone()).await?; // record
    if evaluation.plan.ledger.incident.as_ref().is_some_and(|incident| incident.closing.is_some()) {
        // Once its record is seen an incident is forgotten; nobody would tell its end after that.
        context.tell(kept, &declaration, &evaluation, now).await;
    }
    let carried_out = effects::carry_out(&context, &declaration, &evaluation, now).await; // act
    kept.note_storage(carried_out.storage, now);
    context.tell(kept, &declaration, &evaluation, now).await; // report
    let is_settled = carried_out.all_well && !matches!(enforced, Enforced::No(_));
    kept.unsettled = if is_settled { 0 } else { kept.unsettled.saturating_add(1) };
    Ok(Action::requeue(wait(kept.unsettled, evaluation.plan.evaluate_again.unsigned_abs())))
}

/// How long a pilot waits until the next evaluation: as planned; sooner where something is to be done over, but ever
/// less soon, because every evaluation asks the metrics source as well.
fn wait(unsettled: u32, planned: Duration) -> Duration {
    match unsettled.checked_sub(1) {
        None => planned,
        Some(doublings) => RETRY.saturating_mul(2_u32.saturating_pow(doublings)).min(planned),
    }
}

/// How long a pilot waits whose evaluation failed.
#[expect(clippy::needless_pass_by_value, reason = "the controller calls it so")]
pub fn retry(pilot: Arc<Pilot>, error: &ReconcileError, context: Arc<Context>) -> Action {
    context.metrics.evaluation_failed();
    let (namespace, name) = (pilot.namespace().unwrap_or_default(), pilot.name_any());
    tracing::warn!(namespace, pilot = name, cause = chain(error), "an evaluation failed and will be retried");
    Action::requeue(context.failing.wait(&pilot.uid().unwrap_or_default()))
}

impl Context {
    fn place(&self, pilot: &Pilot) -> Arc<tokio::sync::Mutex<Option<Kept>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entry(pilot.uid().unwrap_or_default()).or_default().clone()
    }

    /// Forgets a Pilot that was deleted; what it did is written down in the cluster.
    pub(super) fn forget(&self, pilot: &Pilot) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&pilot.uid().unwrap_or_default());
        self.failing.forget(&pilot.uid().unwrap_or_default());
        self.metrics.forget(&PilotId::of(pilot));
        let is_governed =
            |namespace: &str, part: &_| self.guarded.guardian(&WorkloadKey::new(namespace, part)).is_some();
        configuration::forget(&self.cluster, is_governed);
    }

    /// What is kept of a Pilot; at first what the API server says now.
    async fn recall<'a>(&self, place: &'a mut Option<Kept>, pilot: &Pilot) -> Result<&'a mut Kept, WriteError> {
        let kept = match place.take() {
            Some(kept) => kept,
            None => Kept::read(&self.writer, &pilot.namespace().unwrap_or_default(), &pilot.name_any()).await?,
        };
        Ok(place.insert(kept))
    }

    /// Counts a failed evaluation; where it is no passing trouble, the Pilot says so, as far as it can be written.
    async fn note_failure(&self, pilot: &Pilot, error: &ReconcileError) {
        let failures = self.failing.count(&pilot.uid().unwrap_or_default());
        let place = self.place(pilot);
        let mut place = place.lock().await;
        if matches!(error, ReconcileError::Panicked) {
            *place = None;
        }
        if failures < PERSISTENT {
            return;
        }
        let now = (self.clock)();
        let Ok(kept) = self.recall(&mut place, pilot).await else { return };
        let before = kept.status();
        let conditions = measuring::failing(&chain(error), &before.conditions, pilot.metadata.generation, now);
        let (status, ledger) = (PilotStatus { conditions, ..before }, kept.ledger.clone());
        if let Err(error) = kept.write(&self.writer, status, ledger).await {
            tracing::debug!(cause = chain(&error), "writing the condition of a failing evaluation failed, too");
        }
    }

    /// Of a Pilot that was never valid there is nothing to judge.
    async fn report_invalid(
        &self,
        kept: &mut Kept,
        pilot: &Pilot,
        violations: &[Violation],
        now: Timestamp,
    ) -> Result<Action, ReconcileError> {
        let before = kept.status();
        let conditions = invalid::conditions(violations, &before.conditions, pilot.metadata.generation, now);
        let status = PilotStatus { conditions, observed_generation: pilot.metadata.generation, ..before };
        let ledger = kept.ledger.clone();
        kept.write(&self.writer, status, ledger).await?;
        Ok(Action::await_change())
    }

    /// Whether what the Pilot enforces really reaches the webhook.
    async fn enforced(&self, declaration: &Declaration, evaluation: &Evaluation) -> Enforced {
        let enforcement = declaration.enforcement;
        let binds = enforcement.changes == Mode::Enforce || enforcement.actions == Mode::Enforce;
        if binds && !evaluation.seen.workloads.is_empty() && evaluation.seen.claimed.is_none() {
            self.enforcement.of(&self.writer, &declaration.pilot.namespace, &evaluation.seen.workloads).await
        } else {
            Enforced::Unknown
        }
    }

    fn report(
        &self,
        kept: &Kept,
        pilot: &Pilot,
        (declaration, in_force): (&Declaration, &InForce),
        evaluation: &Evaluation,
        (enforced, other_admission): (&Enforced, OtherAdmission),
        now: Timestamp,
    ) -> PilotStatus {
        let surroundings = Surroundings {
            generation: pilot.metadata.generation,
            declaration: in_force.stored.clone(),
            rejected: in_force.rejected.clone(),
            conditions: kept.status().conditions,
            enforced: enforced.clone(),
            source: evaluation.source_state.clone(),
            broken_watches: self.watches.broken(),
            other_admission,
        };
        let case = Case { declaration, source: evaluation.source, seen: &evaluation.seen, ledger: &kept.ledger, now };
        self.metrics.late_by(lateness::lag(&case));
        let unmeasured = unmeasured(declaration, &evaluation.plan.ledger, now);
        self.metrics.unmeasured(&declaration.pilot, unmeasured.len());
        project(&case, &evaluation.plan.ledger, &surroundings)
    }

    async fn tell(&self, kept: &mut Kept, declaration: &Declaration, evaluation: &Evaluation, now: Timestamp) {
        self.metrics.looked(&declaration.pilot, &evaluation.plan);
        self.metrics.stored(&declaration.pilot, &storage(&evaluation.seen, &kept.ledger.memory));
        let case = Case { declaration, source: evaluation.source, seen: &evaluation.seen, ledger: &kept.ledger, now };
        let announcements = announce(&case, &evaluation.plan);
        // What is no longer to be told need not be remembered.
        kept.told.retain(|key| announcements.iter().any(|announcement| announcement.key == *key));
        for announcement in announcements {
            if kept.told.contains(&announcement.key) {
                continue;
            }
            match events::tell(&self.writer, declaration, &evaluation.seen.workloads, &announcement, now).await {
                Ok(is_news) => {
                    if is_news {
                        self.metrics.told(announcement.reason);
                    }
                    tracing::info!(
                        namespace = declaration.pilot.namespace,
                        pilot = declaration.pilot.name,
                        reason = announcement.reason,
                        "{}",
                        announcement.note
                    );
                    kept.told.insert(announcement.key);
                }
                Err(error) => tracing::warn!(cause = chain(&error), "writing an Event failed and will be retried"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_tried_ever_less_often() {
        let planned = Duration::from_secs(15);
        let waits: Vec<u128> = (0..8).map(|unsettled| wait(unsettled, planned).as_millis()).collect();
        assert_eq!(waits, [15_000, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        assert_eq!(wait(u32::MAX, planned), planned);
        assert_eq!(wait(1, Duration::from_millis(200)), Duration::from_millis(200), "a plan that is in a hurry");
    }
}
