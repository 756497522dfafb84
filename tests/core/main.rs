//! The decision core against a simulated world: timelines as data, invariants under random faults, and tables
//! of single judgements. No cluster, no Prometheus, no clock.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod arithmetic;
mod clocks;
mod decisions;
mod edits;
mod effects;
mod history;
mod judging;
mod kept_out;
mod operator;
mod origins;
mod pilots;
mod properties;
mod quiet;
mod scenarios;
mod story;
mod trace;
mod traffic;
mod verdicts;
mod world;
