//! Waiting for a thing that really happened: a probe is repeated until it succeeds or a deadline passes.
//!
//! It never waits without a deadline, and a probe that hangs counts as one that failed.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

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
    loop {
        match timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(why)) => last = why.to_string(),
            Err(_) => return Err(TimedOut { what: what.to_owned(), limit, last }),
        }
        sleep(PAUSE).await;
    }
}

/// Awaits `call` for at most `limit`.
pub async fn within<T>(what: &str, limit: Duration, call: impl Future<Output = T>) -> Result<T, TimedOut> {
    timeout(limit, call).await.map_err(|_| TimedOut {
        what: what.to_owned(),
        limit,
        last: String::from("the call did not return"),
    })
}
