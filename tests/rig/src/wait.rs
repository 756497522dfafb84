//! Waiting for a thing that really happened: a probe is repeated until it succeeds or a deadline passes.
//!
//! It never waits without a deadline, and a probe that hangs counts as one that failed.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a thing may take that happens within seconds on a quiet machine: on a busy one nothing else fails for it.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Pause between two probes: short beside anything awaited here, long beside the cost of a probe.
const PAUSE: Duration = Duration::from_millis(50);

/// The deadline passed before the awaited thing happened.
#[derive(Debug, thiserror::Error)]
#[error("no {what} within {} s: {last}", limit.as_secs_f32())]
pub struct TimedOut {
    what: String,
    limit: Duration,
    last: String,
}

/// Repeats `probe` until it returns `Ok`, for at most `limit`; the error tells why the last probe failed.
pub async fn until<T, E, F, Fut>(what: &str, limit: Duration, mut probe: F) -> Result<T, TimedOut>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + limit;
    let mut last = String::from("the probe did not answer");
    // Asked of the clock as well: a probe that never has to wait would never be interrupted.
    while Instant::now() < deadline {
        match timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(why)) => last = why.to_string(),
            Err(_) => break,
        }
        sleep(PAUSE).await;
    }
    Err(TimedOut { what: what.to_owned(), limit, last })
}

/// Awaits `call` for at most `limit`.
pub async fn within<T>(what: &str, limit: Duration, call: impl Future<Output = T>) -> Result<T, TimedOut> {
    timeout(limit, call).await.map_err(|_| TimedOut {
        what: what.to_owned(),
        limit,
        last: String::from("the call did not return"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_that_always_fails_ends_at_the_deadline_with_its_reason() {
        let asked = until("success", Duration::from_millis(120), || async { Err::<(), _>("never") });
        let error = within("end", Duration::from_secs(5), asked).await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "no success within 0.12 s: never");
    }

    #[tokio::test]
    async fn a_probe_that_hangs_ends_at_the_deadline() {
        let asked = until("success", Duration::from_millis(120), std::future::pending::<Result<(), &str>>);
        let error = within("end", Duration::from_secs(5), asked).await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "no success within 0.12 s: the probe did not answer");
    }
}
