//! What has been Unknown for too long, and what cannot happen meanwhile. A guard that is blind must say so: an expression
//! on a metric that does not exist is Unknown for ever, and otherwise looks like one that never fires.

use jiff::{SignedDuration, Timestamp};

use super::condition::{Form, State};
use super::turn::Turn;
use super::{Ledger, UnknownSince};
use crate::declaration::{Condition, Declaration, Trigger};
use crate::observation::{Reading, Unknown};

/// How long what has no `noData.after` of its own may be Unknown.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// Something that is to be measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An SLO.
    Slo(String),
    /// A trigger.
    Trigger(String),
    /// A dependency.
    Dependency(String),
}

/// Something that has been Unknown for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmeasured {
    /// What.
    pub subject: Subject,
    /// Why.
    pub why: Unknown,
}

/// What has been Unknown for longer than it may be.
pub fn unmeasured(declaration: &Declaration, decided: &Ledger, now: Timestamp) -> Vec<Unmeasured> {
    let patience = |subject: &Subject| match subject {
        Subject::Slo(name) => declaration.slo(name).map_or(PATIENCE, |slo| slo.stale_after),
        Subject::Trigger(_) | Subject::Dependency(_) => PATIENCE,
    };
    let is_due = |(subject, unknown): &(&Subject, &UnknownSince)| now >= unknown.since + patience(subject);
    let due = decided.memory.unknown.iter().filter(is_due);
    due.map(|(subject, unknown)| Unmeasured { subject: subject.clone(), why: unknown.why }).collect()
}

impl Turn<'_> {
    /// Notes since when what is to be measured has been Unknown, other than for low traffic or warm-up.
    pub(super) fn note_unknown(&mut self) {
        let declared = self.case.declaration;
        let slos = declared.slos.iter().map(|slo| (Subject::Slo(slo.name.clone()), self.why_unmeasured(slo)));
        let triggers = declared.triggers.iter().filter(|trigger| is_measured(trigger));
        let triggers = triggers.map(|trigger| (Subject::Trigger(trigger.name.clone()), self.why_unknown(trigger)));
        let dependencies = declared.dependencies.iter().map(|dependency| {
            let why = match self.inquiry.value(&dependency.query, self.case.now, false) {
                Reading::Fresh(_) => None,
                Reading::Unknown(why) => Some(why),
            };
            (Subject::Dependency(dependency.name.clone()), why)
        });
        let unknown = slos.chain(triggers).chain(dependencies).filter_map(|(subject, why)| Some((subject, why?)));
        let unknown: Vec<_> = unknown.filter(|(_, why)| !why.is_benign()).collect();
        let before = std::mem::take(&mut self.ledger.memory.unknown);
        for (subject, why) in unknown {
            let since = before.get(&subject).map_or(self.case.now, |before| before.since);
            self.ledger.memory.unknown.insert(subject, UnknownSince { since, why });
        }
    }

    /// Why a trigger's condition is Unknown, where its SLO is not.
    fn why_unknown(&self, trigger: &Trigger) -> Option<Unknown> {
        if let Condition::ErrorBudget { slo, .. } | Condition::BurnRate { slo, .. } = &trigger.when {
            let slo = self.case.declaration.slo(slo)?;
            if self.why_unmeasured(slo).is_some() {
                return None;
            }
        }
        match self.condition(trigger, Form::at(self.case.now)) {
            State::Unknown(why) => Some(why),
            State::Holds(_) | State::Clear => None,
        }
    }
}

const fn is_measured(trigger: &Trigger) -> bool {
    !matches!(trigger.when, Condition::Workload(_) | Condition::ConsecutiveFailedChanges { .. })
}
