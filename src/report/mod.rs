//! What people see: pure projections of what was judged and decided. Nothing is judged here.

pub mod announcements;
pub mod calendars;
pub mod conditions;
mod conflicting_controller;
mod conflicts;
mod exceptions;
mod incidents;
pub mod invalid;
pub mod measuring;
mod other_admission;
pub mod projection;
pub mod refusal;
pub mod remedy;
mod storage;
pub mod surroundings;
