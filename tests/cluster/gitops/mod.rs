//! A real Argo CD and pilotguard on one cluster: what becomes of commits, and what the two show meanwhile.
//!
//! Each outcome is a row of the table in `docs/gitops.md`, which says what is expected: the trials wait until the cluster
//! shows it.

mod application;
mod delivery;
mod health;
mod table;
mod trials;

/// What this module proves.
pub(crate) fn tests() -> Vec<crate::Test> {
    [trials::tests(), health::tests(), table::tests()].into_iter().flatten().collect()
}
