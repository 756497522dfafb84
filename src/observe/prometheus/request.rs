//! One request to a source: a query at an instant, and what is known of it beside its text.

use std::sync::Arc;

use jiff::Timestamp;

use super::queries::{Counter, Measure};

/// One request: a query at an instant. A confirmation is never answered by the query that it confirms.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) query: String,
    pub(super) at: Timestamp,
    pub(super) confirm: bool,
    /// What the query measures, if others may ask the like.
    pub(super) measures: Option<(Arc<Counter>, Measure)>,
}

/// What tells requests apart: the query, its instant, and whether it confirms.
pub(super) type Key<'a> = (&'a str, Timestamp, bool);

/// When a counter is measured, and how.
#[derive(Clone, Copy)]
pub(super) struct Ask {
    pub(super) at: Timestamp,
    pub(super) confirm: bool,
    /// Others may ask the like.
    pub(super) is_shared: bool,
}

impl Ask {
    pub(super) fn of(self, counter: &Arc<Counter>, measure: Measure) -> Request {
        let measures = self.is_shared.then(|| (Arc::clone(counter), measure));
        Request { query: counter.query(measure), at: self.at, confirm: self.confirm, measures }
    }
}

impl Request {
    /// What tells it from others.
    pub(super) fn key(&self) -> Key<'_> {
        (&self.query, self.at, self.confirm)
    }
}
