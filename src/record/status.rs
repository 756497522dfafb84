//! The write-ahead log: a Pilot's status, written before anything is done in the world.
//!
//! What this process decided last is its own truth, because a cache may lag behind its own writes. The status
//! is replaced under the resourceVersion that was read or written last; where someone else has written in
//! between, their incident is taken over and nothing is done until the next evaluation.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::act::writer::{WriteError, Writer};
use crate::api::pilot::Pilot;
use crate::api::status::PilotStatus;
use crate::decide::Ledger;

/// How long a refused write waits before the pilot is looked at again.
pub const RETRY: Duration = Duration::from_millis(500);

/// What is kept of one Pilot between evaluations.
#[derive(Debug)]
pub struct Kept {
    /// What was decided last.
    pub ledger: Ledger,
    /// What was told already, by key.
    pub told: HashSet<String>,
    /// How many evaluations in a row left something to be done over.
    pub unsettled: u32,
    /// The Pilot as it was read or written last; its spec is never used.
    stored: Pilot,
}

/// Why the status was not written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The write failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Someone else wrote an incident in between; theirs was taken over.
    #[error("another writer advanced the incident of {0}; its state was adopted")]
    Overtaken(String),
}

impl Kept {
    /// Begins with a live reading: what a cache says at start may be old.
    pub async fn read(writer: &Writer, namespace: &str, name: &str) -> Result<Self, WriteError> {
        let stored: Pilot = writer.read(namespace, name).await?;
        let ledger = stored.status.as_ref().map(Ledger::read).unwrap_or_default();
        Ok(Self { ledger, told: HashSet::new(), unsettled: 0, stored })
    }

    /// The status as it is stored.
    pub fn status(&self) -> PilotStatus {
        self.stored.status.clone().unwrap_or_default()
    }

    /// Remembers what became of writes of snapshots.
    pub fn note_storage(&mut self, outcomes: Vec<(String, Result<(), String>)>, now: Timestamp) {
        for (key, outcome) in outcomes {
            self.ledger.memory.note_storage(&key, outcome, now);
        }
    }

    /// Writes a status if it says something new, and keeps the ledger that it projects.
    pub async fn write(&mut self, writer: &Writer, status: PilotStatus, ledger: Ledger) -> Result<(), StatusError> {
        if status != self.status() {
            Box::pin(self.replace(writer, status)).await?;
        }
        self.ledger = ledger;
        Ok(())
    }

    async fn replace(&mut self, writer: &Writer, status: PilotStatus) -> Result<(), StatusError> {
        let namespace = self.stored.namespace().unwrap_or_default();
        let mut wanted = self.stored.clone();
        wanted.status = Some(status.clone());
        match writer.replace_status(&namespace, &wanted).await {
            Ok(stored) => {
                self.stored = stored;
                return Ok(());
            }
            Err(error) if error.code() == Some(409) => {}
            Err(error) => return Err(error.into()),
        }
        // Usually somebody edited the spec; the status is still what we wrote.
        let live: Pilot = writer.read(&namespace, &self.stored.name_any()).await?;
        let ours = self.status();
        let theirs = live.status.clone().unwrap_or_default();
        self.stored = live;
        if (&theirs.incident, &theirs.latches) != (&ours.incident, &ours.latches) {
            let memory = std::mem::take(&mut self.ledger.memory);
            self.ledger = Ledger { memory, ..Ledger::read(&theirs) };
            return Err(StatusError::Overtaken(self.stored.name_any()));
        }
        let mut wanted = self.stored.clone();
        wanted.status = Some(status);
        self.stored = writer.replace_status(&namespace, &wanted).await?;
        Ok(())
    }
}
