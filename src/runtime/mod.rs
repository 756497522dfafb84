//! What every long-running command needs: clients, logs, metrics, health.

pub mod clients;
pub mod clock;
pub mod health;
pub mod logs;
pub mod metrics;
