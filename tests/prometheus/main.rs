//! Reading figures from a Prometheus-compatible API: what is asked, what is believed, and what is not.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod asking;
mod envelope;
mod fake;
mod faults;
mod history;
mod live;
mod pilot;
mod running;
mod secrets;
mod sharing;
