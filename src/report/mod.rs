//! What pilotguard says: pure projections of what was judged and decided, one value for every reader.

pub mod refusal;
