//! The `pilotguard` command.
fn main() {}
