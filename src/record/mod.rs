//! What is written down: status, snapshots, ChangeRecords, Decisions and Events.
//!
//! Every object has a name that follows from what it records, so that writing it twice writes it once.

pub mod changes;
pub mod decisions;
pub mod declared;
pub mod events;
pub mod packed;
pub mod snapshots;
pub mod status;
