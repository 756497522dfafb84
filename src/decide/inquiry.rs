//! Looks up answers and notes what has not been asked yet.
//!
//! A rule asks for what it needs where it needs it; what is missing reads as Unknown until the shell has
//! asked and the case is decided again. So the rules name no round trips and cannot forget one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::observation::{Answer, Counts, Landing, Observation, Question, Reading, Rehearsal, Unknown};

pub(super) struct Inquiry<'a> {
    answers: &'a BTreeMap<Question, Answer>,
    missing: RefCell<BTreeSet<Question>>,
    landings: &'a BTreeMap<Rehearsal, Option<Landing>>,
    unrehearsed: RefCell<BTreeSet<Rehearsal>>,
}

impl<'a> Inquiry<'a> {
    pub(super) fn new(seen: &'a Observation) -> Self {
        Self {
            answers: &seen.answers,
            missing: RefCell::default(),
            landings: &seen.landings,
            unrehearsed: RefCell::default(),
        }
    }

    pub(super) fn counts(&self, slo: &str, span: SignedDuration, until: Timestamp, confirm: bool) -> Reading<Counts> {
        match self.answer(Question::Counts { slo: slo.to_owned(), span, until, confirm }) {
            Some(Answer::Counts(reading)) => reading.clone(),
            _ => Reading::Unknown(Unknown::SourceUnavailable),
        }
    }

    pub(super) fn first_sample(&self, slo: &str) -> Reading<Timestamp> {
        match self.answer(Question::FirstSample { slo: slo.to_owned() }) {
            Some(Answer::FirstSample(reading)) => reading.clone(),
            _ => Reading::Unknown(Unknown::SourceUnavailable),
        }
    }

    pub(super) fn value(&self, query: &str, at: Timestamp, confirm: bool) -> Reading<f64> {
        match self.answer(Question::Value { query: query.to_owned(), at, confirm }) {
            Some(Answer::Value(reading)) => reading.clone(),
            _ => Reading::Unknown(Unknown::SourceUnavailable),
        }
    }

    /// What would come of restoring a release; `None` where nobody knows.
    pub(super) fn landing(&self, rehearsal: Rehearsal) -> Option<&'a Landing> {
        let landing = self.landings.get(&rehearsal);
        if landing.is_none() {
            self.unrehearsed.borrow_mut().insert(rehearsal);
        }
        landing?.as_ref()
    }

    /// What has to be asked of the metrics source, and what rehearsed, before the decision counts.
    pub(super) fn into_missing(self) -> (BTreeSet<Question>, BTreeSet<Rehearsal>) {
        (self.missing.into_inner(), self.unrehearsed.into_inner())
    }

    fn answer(&self, question: Question) -> Option<&'a Answer> {
        let answer = self.answers.get(&question);
        if answer.is_none() {
            self.missing.borrow_mut().insert(question);
        }
        answer
    }
}
