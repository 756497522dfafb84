//! Everything that a Pilot's status has said, with the instant at which it was seen: read by a watch, so that nothing
//! passes unseen between two looks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use pilotguard::api::pilot::Pilot;
use pilotguard::api::status::PilotStatus;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// One status as it was seen.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) seen: Instant,
    pub(crate) status: PilotStatus,
}

/// What one Pilot's status has said since this was opened.
#[derive(Debug)]
pub(crate) struct Chronicle {
    entries: Arc<Mutex<Vec<Entry>>>,
    written: Arc<Notify>,
    watching: AbortHandle,
}

impl Chronicle {
    /// Begins to follow a Pilot, which need not exist yet.
    pub(crate) fn open(client: Client, namespace: &str, name: &str) -> Self {
        let (entries, written) = (Arc::<Mutex<Vec<Entry>>>::default(), Arc::new(Notify::new()));
        let pilots: Api<Pilot> = Api::namespaced(client, namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let (filled, told) = (entries.clone(), written.clone());
        let watching = tokio::spawn(async move {
            let mut events = watch(pilots, config).default_backoff().boxed();
            while let Some(event) = events.next().await {
                let (Ok(Event::Apply(pilot) | Event::InitApply(pilot)), seen) = (event, Instant::now()) else {
                    continue;
                };
                let entry = Entry { seen, status: pilot.status.unwrap_or_default() };
                filled.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                told.notify_waiters();
            }
        });
        Self { entries, written, watching: watching.abort_handle() }
    }

    /// The first status of all for which there is an answer, and when it was seen; waits for it.
    pub(crate) async fn first<T>(&self, answer: impl Fn(&PilotStatus) -> Option<T>) -> (Instant, T) {
        let mut read = 0;
        loop {
            let more = self.written.notified();
            {
                let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
                let found = entries[read..].iter().find_map(|entry| Some((entry.seen, answer(&entry.status)?)));
                if let Some(found) = found {
                    return found;
                }
                read = entries.len();
            }
            more.await;
        }
    }

    /// The newest status; empty before the first.
    pub(crate) fn now(&self) -> PilotStatus {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.last().map(|entry| entry.status.clone()).unwrap_or_default()
    }
}

impl Drop for Chronicle {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
