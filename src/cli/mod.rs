//! The subcommands of the command line.

pub mod crds;
