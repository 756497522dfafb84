//! Gathers what is seen: the shell's eyes.
//!
//! It asks, decodes and reports. It never judges what an answer means for a pilot, and never turns a
//! missing answer into a number.

pub mod prometheus;
pub mod sources;
