//! The house is in order: promises about the sources that the compiler does not keep for us.
//!
//! Reads files and parses them; runs nothing and starts nothing.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod code;
mod generated;
mod modules;
mod paths;
mod purity;
mod reasons;
mod size;
