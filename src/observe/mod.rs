//! Looking at the world: the cluster through watches and live readings, the metrics through their source.

pub mod cluster;
pub mod index;
