//! The subcommands of the command line.

pub mod file;
pub mod windows;
