//! pilotguard: a Kubernetes operator that makes pilots safe by declaration.

pub mod api;
pub mod calendar;
//pub mod cli;
pub mod declaration;
