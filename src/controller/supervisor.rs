//! Keeps the watches alive: one that ends or panics is taken up again with backoff, and until it has been, everybody is
//! told: the pilots, the operator's own metrics, and `/healthz`.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// After the first end a watch is taken up again so soon, and after each further one half as soon…
const FIRST: Duration = Duration::from_secs(1);

/// … but at least this often.
const LONGEST: Duration = Duration::from_secs(30);

/// How long a watch runs before it counts as healthy.
const WELL: Duration = Duration::from_mins(1);

/// After so many ends in a row only a new process may help.
const HOPELESS: u32 = 5;

/// The watches that have ended and are not known to be well again.
#[derive(Clone, Debug, Default)]
pub struct Watches(Arc<Mutex<BTreeMap<&'static str, Ended>>>);

#[derive(Clone, Copy, Debug)]
struct Ended {
    times: u32,
    /// When it was taken up again; nothing while it waits for that.
    resumed_at: Option<Instant>,
}

impl Watches {
    /// Runs a watch on a kind for as long as the operator runs. `take_up` begins it, each time from a complete list.
    pub(super) fn keep<F>(&self, kind: &'static str, stop: &CancellationToken, take_up: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (watches, stop) = (self.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                let begun = Instant::now();
                let ended = AssertUnwindSafe(take_up()).catch_unwind().await;
                if stop.is_cancelled() {
                    return;
                }
                let wait = watches.note_end(kind, begun.elapsed());
                tracing::error!(kind, panicked = ended.is_err(), ?wait, "a watch ended unexpectedly; restarting it");
                if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                    return;
                }
                watches.note_resumed(kind);
            }
        });
    }

    /// What is not being watched as it should be, in words for people.
    pub fn broken(&self) -> Option<String> {
        let ended = self.lock();
        let kinds: Vec<&str> = ended.iter().filter(|(_, ended)| !ended.is_well()).map(|(kind, _)| *kind).collect();
        (!kinds.is_empty()).then(|| kinds.join(", "))
    }

    /// Which watch ends again and again.
    pub fn hopeless(&self) -> Option<&'static str> {
        let ended = self.lock();
        ended.iter().find(|(_, ended)| !ended.is_well() && ended.times >= HOPELESS).map(|(kind, _)| *kind)
    }

    fn note_end(&self, kind: &'static str, ran_for: Duration) -> Duration {
        let mut all = self.lock();
        let ended = all.entry(kind).or_insert(Ended { times: 0, resumed_at: None });
        ended.times = if ran_for >= WELL { 1 } else { ended.times.saturating_add(1) };
        ended.resumed_at = None;
        FIRST.saturating_mul(2_u32.saturating_pow(ended.times - 1)).min(LONGEST)
    }

    fn note_resumed(&self, kind: &'static str) {
        if let Some(ended) = self.lock().get_mut(kind) {
            ended.resumed_at = Some(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Ended>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    fn is_well(&self) -> bool {
        self.resumed_at.is_some_and(|at| at.elapsed() >= WELL)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A watch that panics each time before this.
    fn panicking(watches: &Watches, times: u32) -> Arc<AtomicU32> {
        let begun = Arc::new(AtomicU32::new(0));
        let count = begun.clone();
        watches.keep("Decision", &CancellationToken::new(), move || {
            let number = count.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(number >= times, "an object that nobody foresaw");
                std::future::pending::<()>().await;
            }
        });
        begun
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_panics_is_taken_up_again_and_told_of() {
        let watches = Watches::default();
        let begun = panicking(&watches, 2);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((begun.load(Ordering::SeqCst), watches.broken().as_deref()), (1, Some("Decision")));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!((begun.load(Ordering::SeqCst), watches.broken().is_some()), (3, true), "not proved well yet");
        tokio::time::sleep(WELL).await;
        assert_eq!((watches.broken(), watches.hopeless()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_again_and_again_is_hopeless() {
        let watches = Watches::default();
        let begun = panicking(&watches, u32::MAX);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(watches.hopeless(), None);
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(watches.hopeless(), Some("Decision"));
        assert!(begun.load(Ordering::SeqCst) < 30, "with backoff");
    }
}
