//! Admission as a requester meets it: what is refused, what is stamped, what is said.
//!
//! Most of it runs in process on the JSON that an API server sends; `cluster` proves on a real one that the
//! registration calls the webhook exactly when it must.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod calendars;
mod changes;
mod cluster;
mod decisions;
mod endpoint;
mod exceptions;
mod fixtures;
mod index;
mod intake;
mod kinds;
mod last_valid;
mod objects;
mod refusals;
mod registration;
