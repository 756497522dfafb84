//! The wire types: what is written in YAML and stored by the API server.

pub mod duration;
pub mod window;
