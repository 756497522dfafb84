//! Evaluations that fail: how often in a row, and how long each pilot waits for the next attempt.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// After the first failure the next attempt waits so long, and after each further one twice as long…
const FIRST: Duration = Duration::from_secs(2);

/// … but never longer than this.
const LONGEST: Duration = Duration::from_mins(1);

/// After so many failures in a row it is no passing trouble, and people are told.
pub const PERSISTENT: u32 = 3;

/// The pilots whose last evaluation failed.
#[derive(Debug, Default)]
pub struct Failing(Mutex<HashMap<String, u32>>);

impl Failing {
    /// Counts a failure of the pilot with this uid; returns how many there were in a row.
    pub fn count(&self, uid: &str) -> u32 {
        let mut failures = self.lock();
        let count = failures.entry(uid.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// An evaluation succeeded, or the pilot is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// How many pilots have been failing for some time.
    pub fn persistent(&self) -> usize {
        self.lock().values().filter(|count| **count >= PERSISTENT).count()
    }

    /// How long the pilot waits for its next attempt.
    pub fn wait(&self, uid: &str) -> Duration {
        let failures = self.lock().get(uid).copied().unwrap_or(1);
        FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pilot_waits_ever_longer_for_itself() {
        let failing = Failing::default();
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                failing.count("a");
                failing.wait("a").as_secs()
            })
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        failing.count("b");
        assert_eq!((failing.wait("b"), failing.persistent()), (FIRST, 1));
        failing.forget("a");
        assert_eq!((failing.wait("a"), failing.persistent()), (FIRST, 0));
    }
}
