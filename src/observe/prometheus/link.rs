//! The way to one source: known not to answer → refused at once; else a slot, then the query, in bounded time.
//!
//! Every source has its own, so that whatever one source does, nobody waits for it but those who ask it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::breaker::{Breaker, BreakerState, Passage};
use super::client::{Failure, FailureKind, Reply, late};
use super::slots::{Slots, Urgency};
use crate::declaration::PilotId;

/// What a probe asks: it reads no series, so whoever does not answer it answers nothing.
const PROBE: &str = "vector(1)";

/// An answer to a probe that takes longer is none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How queries reach a source: over HTTP, and in virtual time in tests.
pub trait Transport: Send + Sync {
    /// Asks for the value of a query at an instant, without bound in time or number.
    fn query<'a>(&'a self, query: &'a str, at: Timestamp) -> BoxFuture<'a, Result<Reply, Failure>>;
}

/// What came of a query, and how long the source took.
pub(super) struct Asked {
    pub(super) reply: Result<Reply, Failure>,
    /// Nothing where it was not sent, or not waited for to the end.
    pub(super) took: Option<Duration>,
}

pub(super) struct Link {
    transport: Box<dyn Transport>,
    timeout: Duration,
    slots: Slots,
    breaker: Mutex<Breaker>,
}

impl Link {
    pub(super) fn new(transport: Box<dyn Transport>, timeout: Duration) -> Self {
        Self { transport, timeout, slots: Slots::default(), breaker: Mutex::default() }
    }

    pub(super) fn state(&self) -> BreakerState {
        self.breaker().state()
    }

    /// Notes whether a pilot's queries are slow, for its next turns.
    pub(super) fn note(&self, pilot: &PilotId, is_slow: bool) {
        self.slots.note(pilot, is_slow);
    }

    /// Sends a query once it is the pilot's turn.
    pub(super) async fn ask(&self, pilot: &PilotId, urgency: Urgency, query: &str, at: Timestamp) -> Asked {
        let refused = |why| Asked { reply: Err(why), took: None };
        if let Some(why) = self.breaker().refuses(Instant::now()) {
            return refused(why);
        }
        let Some(_slot) = self.slots.acquire(pilot, urgency).await else {
            return refused(late("was not asked: its queue ended".to_owned()));
        };
        // What was not known yet when this query began to wait may be known now.
        if let Err(why) = self.pass(at).await {
            return refused(why);
        }
        let begun = Instant::now();
        let mut outcome = Outcome { breaker: &self.breaker, was_answered: false };
        let reply = timeout(self.timeout, self.transport.query(query, at))
            .await
            .unwrap_or_else(|_| Err(late(format!("gave no answer within {:?}", self.timeout))));
        outcome.was_answered = is_answer(&reply);
        Asked { reply, took: Some(begun.elapsed()) }
    }

    async fn pass(&self, at: Timestamp) -> Result<(), Failure> {
        let passage = self.breaker().ask(Instant::now());
        match passage {
            Passage::Pass => return Ok(()),
            Passage::Refuse(why) => return Err(why),
            Passage::Probe => {}
        }
        let mut probe = Probe { breaker: &self.breaker, outcome: None };
        let patience = self.timeout.min(PROBE_TIMEOUT);
        let reply = timeout(patience, self.transport.query(PROBE, at))
            .await
            .unwrap_or_else(|_| Err(late(format!("gave no answer within {patience:?}"))));
        let outcome = if is_answer(&reply) { Ok(()) } else { reply.map(drop) };
        probe.outcome = Some(outcome.clone());
        drop(probe);
        outcome
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.breaker)
    }
}

/// Whether the source is there, whatever it says.
fn is_answer(reply: &Result<Reply, Failure>) -> bool {
    match reply {
        Ok(_) => true,
        Err(failure) => matches!(failure.kind, FailureKind::Refused | FailureKind::Unauthenticated),
    }
}

/// Tells the breaker what came of a query, also of one that nobody waits for any more.
struct Outcome<'a> {
    breaker: &'a Mutex<Breaker>,
    was_answered: bool,
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        let mut breaker = lock(self.breaker);
        if self.was_answered { breaker.answered() } else { breaker.unanswered() }
    }
}

/// Tells the breaker what came of a probe.
struct Probe<'a> {
    breaker: &'a Mutex<Breaker>,
    outcome: Option<Result<(), Failure>>,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        lock(self.breaker).probed(self.outcome.take(), Instant::now());
    }
}

fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}
