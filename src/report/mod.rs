//! What people see: pure projections of what was judged and decided. Nothing is judged here.

pub mod announcements;
pub mod calendars;
pub mod conditions;
mod exceptions;
<<<<<<< HEAD
pub mod invalid;
=======
mod measuring;
>>>>>>> adaae02 (Let a late evaluation or a silent source pause the timers of triggers instead of clearing them, and say when evaluations come late)
pub mod projection;
pub mod refusal;
pub mod remedy;
pub mod surroundings;
