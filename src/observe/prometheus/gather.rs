//! Questions of many pilots that one query answers: those that differ only in the values of labels are gathered for a
//! moment and asked together.
//!
//! A shared query is never worse for anybody than one of their own: whoever's evaluation did not go well asks alone the
//! next time, and a shared query that the source refuses, warns about or is late with is asked again by each alone. So one
//! bad selector spoils nobody else's figures, and after one evaluation nobody else's queries.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::client::{FailureKind, Reply};
use super::grouping::{Template, Values, template};
use super::link::{Asked, Link};
use super::problems::SLOW;
use super::queries::{Counter, Measure};
use super::slots::Urgency;
use crate::declaration::PilotId;

/// Maximum number of counters in one query.
const MOST: usize = 100;

/// Pilots that ask alone beyond this number are not remembered: their queries spoil a shared one, which is asked again.
const MOST_ALONE: usize = 10_000;

/// What is asked of a source by many.
pub(super) struct Gatherer {
    link: Arc<Link>,
    /// For how long questions are gathered.
    moment: Duration,
    gathered: Mutex<HashMap<Kind, Vec<Waiting>>>,
    /// Whose last evaluation did not go well.
    alone: Mutex<BTreeSet<PilotId>>,
    /// How many counters one query has at most now: half as many after one that failed, one more after one that did not.
    most: AtomicUsize,
}

/// Questions of one kind can be asked together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    template: Template,
    measure: Measure,
    at: Timestamp,
}

struct Waiting {
    pilot: PilotId,
    values: Values,
    /// Nothing is sent where the question has to be asked alone.
    answer: oneshot::Sender<Asked>,
}

impl Gatherer {
    pub(super) fn new(link: Arc<Link>, moment: Duration) -> Self {
        let (gathered, alone) = (Mutex::default(), Mutex::default());
        Self { link, moment, gathered, alone, most: AtomicUsize::new(MOST) }
    }

    /// Whether a pilot's questions are asked together with others'.
    pub(super) fn takes(&self, pilot: &PilotId) -> bool {
        !lock(&self.alone).contains(pilot)
    }

    /// Notes whether a pilot's evaluation went well, for the next one.
    pub(super) fn note(&self, pilot: &PilotId, went_well: bool) {
        let mut alone = lock(&self.alone);
        if went_well {
            alone.remove(pilot);
        } else if alone.len() < MOST_ALONE {
            alone.insert(pilot.clone());
        }
    }

    /// Measures a counter, together with whoever asks the like in the same moment.
    pub(super) async fn ask(
        self: &Arc<Self>,
        pilot: &PilotId,
        counter: &Counter,
        measure: Measure,
        at: Timestamp,
    ) -> Asked {
        let (template, values) = template(counter);
        let kind = Kind { template, measure, at };
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { pilot: pilot.clone(), values, answer };
        let is_first = {
            let mut gathered = lock(&self.gathered);
            let others = gathered.entry(kind.clone()).or_default();
            others.push(waiting);
            others.len() == 1
        };
        if is_first {
            tokio::spawn(Self::send(Arc::clone(self), kind));
        }
        match answered.await {
            Ok(asked) => asked,
            Err(_) => self.link.ask(pilot, Urgency::Ordinary, &counter.query(measure), at).await,
        }
    }

    /// Sends what has been gathered after a moment. Whoever does not wait any more is left out.
    async fn send(self: Arc<Self>, kind: Kind) {
        tokio::time::sleep(self.moment).await;
        let mut all = lock(&self.gathered).remove(&kind).unwrap_or_default();
        all.retain(|waiting| !waiting.answer.is_closed());
        all.sort_by(|one, other| one.values.cmp(&other.values));
        let mut all = all.into_iter().peekable();
        let mut queries = Vec::new();
        while all.peek().is_some() {
            let some: Vec<Waiting> = all.by_ref().take(self.most.load(Ordering::Relaxed)).collect();
            queries.push(self.ask_together(&kind, some));
        }
        futures::future::join_all(queries).await;
    }

    async fn ask_together(&self, kind: &Kind, all: Vec<Waiting>) {
        let members: Vec<&Values> = all.iter().map(|waiting| &waiting.values).collect();
        let (Some(joined), Some(first)) = (kind.template.join(&members, kind.measure), all.first()) else { return };
        let Asked { reply, took } = self.link.ask(&first.pilot, Urgency::Ordinary, &joined.query, kind.at).await;
        let is_own = all.len() == 1;
        let shared: Vec<_> = match reply {
            Ok(Reply { result, warnings }) if is_own || warnings.is_empty() => {
                let replies = joined.share(result, &members).into_iter();
                replies.map(|result| Ok(Reply { result, warnings: warnings.clone() })).collect()
            }
            Err(failure) if is_own || is_of_source(failure.kind) => vec![Err(failure); all.len()],
            _ => Vec::new(),
        };
        // A shared query that is slow was too large.
        self.learn(!shared.is_empty() && took.is_none_or(|took| took < SLOW));
        // Whose fault a slow query is, is known only of one's own.
        let took = took.filter(|_| is_own);
        for (waiting, reply) in all.into_iter().zip(shared) {
            // Who does not wait any more needs no answer.
            let _ = waiting.answer.send(Asked { reply, took });
        }
    }

    fn learn(&self, went_well: bool) {
        let next = |most: usize| if went_well { most.saturating_add(1).min(MOST) } else { (most / 2).max(1) };
        let _ = self.most.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |most| Some(next(most)));
    }
}

/// Whether a failure says nothing about the query.
const fn is_of_source(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Unavailable | FailureKind::Unauthenticated)
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
