//! What people see: pure projections of one decision. Nothing is judged here.

pub mod announcements;
pub mod conditions;
pub mod projection;
