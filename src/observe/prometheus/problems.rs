//! What is wrong with a source, and with which pilot's queries: for the statuses of both.
//!
//! One pilot is never told of another's queries. A text stays as it is for as long as only figures in it would
//! change: every new text is a write of a status.

use std::collections::BTreeMap;

use super::client::{Failure, FailureKind};
use crate::declaration::PilotId;
use crate::observation::Unknown;

/// Complaints of more pilots than this are not kept; those that last are found again at the next look.
const MOST_COMPLAINTS: usize = 1000;

/// What last went wrong with a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `SourceUnavailable`, `QueryRefused` or `Partial`.
    pub reason: Unknown,
    /// The source, what happened and what to look at, in one sentence. It holds no credential.
    pub message: String,
}

impl Problem {
    /// Whether both say the same, whatever the figures in it.
    fn says_the_same(&self, other: &Self) -> bool {
        let words = |problem: &Self| problem.message.split(|c: char| c.is_ascii_digit()).collect::<String>();
        self.reason == other.reason && words(self) == words(other)
    }
}

/// What the latest looks found wrong.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// The source as a whole; ends with the first look that it answers.
    outage: Option<Problem>,
    is_unauthenticated: bool,
    /// Each pilot's queries; ends when that pilot has none to complain of.
    complaints: BTreeMap<PilotId, Problem>,
}

impl Problems {
    pub(super) const fn outage(&self) -> Option<&Problem> {
        self.outage.as_ref()
    }

    pub(super) fn complaint(&self, pilot: &PilotId) -> Option<&Problem> {
        self.complaints.get(pilot)
    }

    pub(super) const fn is_unauthenticated(&self) -> bool {
        self.is_unauthenticated
    }

    /// Takes up what one look found. `source` is what messages begin with.
    pub(super) fn remember(&mut self, source: &str, pilot: &PilotId, findings: Findings) {
        let Findings { has_answered, is_unauthenticated, mut failure, mut complaint } = findings;
        // A source that answers everything else is not out: the query is too heavy for it.
        if let Some((late, query)) = failure.take_if(|(failure, _)| has_answered && failure.kind == FailureKind::Late) {
            let message = format!("{}; the query was {query}", late.message);
            complaint.get_or_insert((Unknown::SourceUnavailable, message));
        }
        if has_answered || failure.is_some() {
            self.is_unauthenticated = is_unauthenticated;
            self.note_outage(source, failure.map(|(failure, _)| failure));
        }
        let Some((reason, message)) = complaint else {
            self.complaints.remove(pilot);
            return;
        };
        let whose = format!("(pilot {}/{})", pilot.namespace, pilot.name);
        let problem = Problem { reason, message: format!("{source}: {message} {whose}") };
        match self.complaints.get(pilot) {
            Some(before) if before.says_the_same(&problem) => return,
            None if self.complaints.len() >= MOST_COMPLAINTS => drop(self.complaints.pop_first()),
            _ => {}
        }
        self.complaints.insert(pilot.clone(), problem);
    }

    /// Logs an outage once when it begins or changes, and once when it ends.
    fn note_outage(&mut self, source: &str, failure: Option<Failure>) {
        let Some(failure) = failure else {
            if self.outage.take().is_some() {
                tracing::info!(source, "metrics source answers again");
            }
            return;
        };
        let problem = Problem { reason: Unknown::SourceUnavailable, message: format!("{source}: {}", failure.message) };
        let is_news = match &self.outage {
            // That an answer is late, in whichever way, says no more than what is known.
            Some(before) => failure.kind != FailureKind::Late && !before.says_the_same(&problem),
            None => true,
        };
        if is_news {
            tracing::warn!(problem = %problem.message, "metrics source is unavailable");
            self.outage = Some(problem);
        }
    }
}

/// What one look found wrong; of each kind the first.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) has_answered: bool,
    is_unauthenticated: bool,
    /// With the query that was not answered.
    failure: Option<(Failure, String)>,
    complaint: Option<(Unknown, String)>,
}

impl Findings {
    /// Whether a query was not answered.
    pub(super) const fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn fail(&mut self, failure: Failure, query: &str) {
        self.is_unauthenticated |= failure.kind == FailureKind::Unauthenticated;
        let says_more = |before: &Failure| before.kind == FailureKind::Late && failure.kind != FailureKind::Late;
        if self.failure.as_ref().is_none_or(|(before, _)| says_more(before)) {
            self.failure = Some((failure, query.to_owned()));
        }
    }

    pub(super) fn complain(&mut self, reason: Unknown, message: String) {
        self.complaint.get_or_insert((reason, message));
    }
}
