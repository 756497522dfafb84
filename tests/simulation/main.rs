//! The operator's real loop in virtual time: many pilots, an API server in this process, and metrics sources that hang,
//! drop, dawdle or lie. No cluster, no network, and no waiting: an hour passes as fast as it is computed.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api_server;
mod blindness;
mod clock;
mod deletion;
mod failures;
mod history;
mod isolation;
mod manifests;
mod metrics;
mod operator;
mod sharing;
mod storms;
