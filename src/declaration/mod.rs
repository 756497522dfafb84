//! From the wire types to what the operator reasons with.

pub mod violation;
