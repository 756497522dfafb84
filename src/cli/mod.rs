//! The subcommands of the command line.

pub mod crds;
pub mod file;
pub mod run;
pub mod windows;
