//! What is wrong with a source, and with which pilot's queries: for the statuses of both.
//!
//! One pilot is never told of another's queries. A text stays as it is for as long as only figures in it would
//! change: every new text is a write of a status.

use std::collections::BTreeMap;
use std::time::Duration;

use super::client::{Failure, FailureKind};
use crate::declaration::PilotId;
use crate::observation::Unknown;

/// Complaints of more pilots than this are not kept; those that last are found again at the next evaluation.
const MOST_COMPLAINTS: usize = 1000;

/// A query that takes longer is slow: one pilot in a hundred may have one, and waits behind the others.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// Durations are told in these steps, in seconds: an exact one would be a write at every evaluation.
const STEPS: [u64; 6] = [60, 30, 10, 5, 2, 1];

/// What an evaluation leaves to be said to its pilot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// An outage of the source, else what is wrong with the pilot's own queries.
    pub problem: Option<Problem>,
    /// The slowest of the pilot's queries, if one is slow: what asks it and how long it takes.
    pub slow: Option<String>,
}

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

/// What the latest evaluations found wrong.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// The source as a whole; ends with the first evaluation that it answers.
    outage: Option<Problem>,
    is_unauthenticated: bool,
    /// Each pilot's queries; ends when that pilot has none to complain of.
    complaints: BTreeMap<PilotId, Problem>,
    /// Each pilot's slow query, by what asks it; ends when that one is slow no more.
    slow: BTreeMap<PilotId, Slow>,
}

/// A slow query, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slow {
    subject: String,
    message: String,
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

    /// Takes up what one evaluation found. `source` is what messages begin with; `is_known_down` says whether the source was found
    /// not to answer at all.
    pub(super) fn remember(&mut self, source: &str, pilot: &PilotId, findings: Findings, is_known_down: bool) {
        let Findings { has_answered, is_unauthenticated, mut failure, mut complaint, .. } = findings;
        // A source that answers everything else is not out: the query is too heavy for it.
        let is_heavy = |(failure, _): &mut (Failure, String)| !is_known_down && failure.kind == FailureKind::Late;
        if let Some((late, query)) = failure.take_if(is_heavy) {
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
        // Whichever query was late this time.
        let is_late = |problem: &Problem| problem.reason == Unknown::SourceUnavailable;
        match self.complaints.get(pilot) {
            Some(before) if before.says_the_same(&problem) || (is_late(before) && is_late(&problem)) => return,
            None if self.complaints.len() >= MOST_COMPLAINTS => drop(self.complaints.pop_first()),
            _ => {}
        }
        self.complaints.insert(pilot.clone(), problem);
    }

    /// Takes up how long a pilot's queries took; returns what there is to be said of a slow one.
    pub(super) fn remember_slow(&mut self, pilot: &PilotId, findings: &Findings) -> Option<String> {
        let slowest = findings.took.iter().max_by_key(|(_, took)| **took).filter(|(_, took)| **took >= SLOW);
        match (self.slow.get(pilot), slowest) {
            (Some(before), _) if findings.may_still_be_slow(&before.subject) => {}
            (None, Some(_)) if self.slow.len() >= MOST_COMPLAINTS => {}
            (_, Some((subject, took))) => {
                let step = STEPS.iter().find(|step| took.as_secs() >= **step).unwrap_or(&1);
                let message = format!("a query of {subject} takes more than {step}s");
                self.slow.insert(pilot.clone(), Slow { subject: subject.clone(), message });
            }
            (_, None) => drop(self.slow.remove(pilot)),
        }
        self.slow.get(pilot).map(|slow| slow.message.clone())
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

/// What one evaluation found wrong; of each kind the first.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) has_answered: bool,
    is_unauthenticated: bool,
    /// With the query that was not answered.
    failure: Option<(Failure, String)>,
    complaint: Option<(Unknown, String)>,
    /// How long the slowest query took, by what asks it.
    took: BTreeMap<String, Duration>,
}

/// A query, with what asks it.
pub(super) fn asked(query: &str, subject: &str) -> String {
    if subject.is_empty() { query.to_owned() } else { format!("{query} (of {subject})") }
}

impl Findings {
    /// Whether the source failed a query, other than by being late with it.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.as_ref().is_some_and(|(failure, _)| failure.kind != FailureKind::Late)
    }

    /// Notes how long a query took that `subject` asks.
    pub(super) fn note_time(&mut self, subject: &str, took: Duration) {
        let slowest = self.took.entry(subject.to_owned()).or_default();
        *slowest = took.max(*slowest);
    }

    /// Whether all went well.
    pub(super) fn are_none(&self) -> bool {
        self.failure.is_none() && self.complaint.is_none() && !self.is_slow()
    }

    /// Whether a query was slow.
    pub(super) fn is_slow(&self) -> bool {
        self.took.values().any(|took| *took >= SLOW)
    }

    /// Whether nothing says that it is slow no more.
    fn may_still_be_slow(&self, subject: &str) -> bool {
        self.took.get(subject).is_none_or(|took| *took >= SLOW)
    }

    pub(super) fn fail(&mut self, failure: Failure, subject: &str, query: &str) {
        self.is_unauthenticated |= failure.kind == FailureKind::Unauthenticated;
        let says_more = |before: &Failure| before.kind == FailureKind::Late && failure.kind != FailureKind::Late;
        if self.failure.as_ref().is_none_or(|(before, _)| says_more(before)) {
            let asked = asked(query, subject);
            self.failure = Some((failure, asked));
        }
    }

    pub(super) fn complain(&mut self, reason: Unknown, message: String) {
        self.complaint.get_or_insert((reason, message));
    }
}
