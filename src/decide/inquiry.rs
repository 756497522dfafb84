//! Looks up answers and notes what has not been asked yet.
//!
//! A rule asks for what it needs where it needs it; what is missing reads as Unknown until the shell has
//! asked and the case is decided again. So the rules name no round trips and cannot forget one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::observation::{Answer, Counts, Question, Reading, Unknown};

pub(super) struct Inquiry<'a> {
    answers: &'a BTreeMap<Question, Answer>,
    missing: RefCell<BTreeSet<Question>>,
}

impl<'a> Inquiry<'a> {
    pub(super) fn new(answers: &'a BTreeMap<Question, Answer>) -> Self {
        Self { answers, missing: RefCell::default() }
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

    /// What has to be asked before the decision counts.
    pub(super) fn into_missing(self) -> BTreeSet<Question> {
        self.missing.into_inner()
    }

    fn answer(&self, question: Question) -> Option<&'a Answer> {
        let answer = self.answers.get(&question);
        if answer.is_none() {
            self.missing.borrow_mut().insert(question);
        }
        answer
    }
}
