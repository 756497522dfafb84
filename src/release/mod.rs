//! What a workload runs: digests that name a release and the marks that say how it got there.

pub mod change;
pub mod configuration;
pub mod digest;
pub mod drift;
pub mod foreign;
pub mod images;
pub mod marks;
pub mod ownership;
pub mod vector;
pub mod workload;
