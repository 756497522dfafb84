//! The subcommands of the command line.

mod calendars;
pub mod crds;
pub mod file;
mod ics;
pub mod run;
pub mod windows;
