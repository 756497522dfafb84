//! Guarding a change where it happens: in the API server's admission chain.
//!
//! A call is read ([`wire`]), its workload's Pilot is looked up in memory ([`pilots`]), the change is judged
//! by [`crate::decide::judge`] and answered ([`review`], [`objects`]): allowed, stamped or refused. Around
//! that pure part stand the server ([`server`]), its certificate ([`certificates`]) and the registration with
//! the API server ([`registration`], [`keeper`]). Nothing here writes to a workload, asks a metrics source or
//! waits for the network while a request is open.

mod break_glass;
mod cel;
pub mod certificates;
pub mod context;
mod decisions;
mod intake;
pub mod keeper;
mod known;
mod moves;
pub mod objects;
pub mod paths;
pub mod pilots;
mod put_back;
pub mod registration;
pub mod review;
mod scaled;
pub mod server;
pub mod stamp;
pub mod wire;
pub mod witness;
