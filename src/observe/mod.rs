//! Looking at the world: the cluster through watches and live readings, the metrics through their source.
//!
//! What is doubtful arrives as Unknown; nothing here judges.

pub mod calendars;
pub mod cluster;
pub mod index;
pub mod prometheus;
pub mod readable;
pub mod sources;
