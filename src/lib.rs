//! pilotguard: a Kubernetes operator that makes pilots safe by declaration.
//!
//! What happens to a pilot is a function of its declaration, what was seen, what was decided before,
//! and the time.

pub mod act;
pub mod admit;
pub mod api;
pub mod calendar;
pub mod canonical;
pub mod cli;
pub mod controller;
pub mod decide;
pub mod declaration;
pub mod observation;
pub mod observe;
pub mod record;
pub mod release;
pub mod report;
pub mod runtime;
pub mod violation;
