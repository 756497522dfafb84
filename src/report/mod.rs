//! What people see: pure projections of what was judged and decided. Nothing is judged here.

pub mod announcements;
pub mod calendars;
pub mod conditions;
pub mod projection;
pub mod refusal;
pub mod surroundings;
