//! The guard of the error budget: while too little of it remains, changes are held.
//!
//! Whether it holds is found at every evaluation and kept in the status, so that admission answers from memory. It blames
//! nobody and does nothing to what runs; triggers do that.

use super::Case;
use super::proposal::{Finding, GuardName, Proposal, Until};
use super::turn::Turn;
use crate::api::slo::NoDataChanges;
use crate::api::status::{BudgetFreezeStatus, BudgetVerdict};
use crate::declaration::Declaration;
use crate::observation::Reading;

impl Turn<'_> {
    /// Finds out whether the budget holds changes.
    pub(super) fn weigh_budget(&mut self) {
        let declared = self.case.declaration;
        let Some(freeze) = &declared.budget_freeze else {
            self.ledger.budget_freeze = None;
            return;
        };
        let Some(slo) = declared.slo(&freeze.slo) else { return };
        let (budget, reason) = match self.budget(slo, self.whole_window(slo), None) {
            // Only what is certain holds anything.
            Reading::Fresh(budget) if budget.remaining_at_most < freeze.remaining_below => (BudgetVerdict::Spent, None),
            Reading::Fresh(_) => (BudgetVerdict::Enough, None),
            Reading::Unknown(why) => (BudgetVerdict::Unknown, Some(why.as_str().to_owned())),
        };
        let before = self.ledger.budget_freeze.take();
        let is_same =
            |it: &BudgetFreezeStatus| it.definition == freeze.definition && it.budget == budget && it.reason == reason;
        self.ledger.budget_freeze = Some(before.filter(is_same).unwrap_or_else(|| BudgetFreezeStatus {
            definition: freeze.definition.clone(),
            budget,
            reason: reason.clone(),
            since: self.case.now,
        }));
    }
}

/// Never about the first release: there is none yet that users would be spared from another.
pub(super) fn budget(case: &Case<'_>, _: &Proposal) -> Option<Finding> {
    case.ledger.release.as_ref()?;
    Some(Finding {
        guard: GuardName::Budget,
        mode: case.declaration.enforcement.changes,
        problem: budget_problem(case.declaration, case.ledger.budget_freeze.as_ref())?,
        until: Until::Someone("enough of it remains again, or an owner lets a fix through".to_owned()),
    })
}

/// Why the budget holds changes, if it does.
pub fn budget_problem(declared: &Declaration, known: Option<&BudgetFreezeStatus>) -> Option<String> {
    let freeze = declared.budget_freeze.as_ref()?;
    let slo = declared.slo(&freeze.slo)?;
    // What was found for another declaration says nothing about this one.
    let known = known.filter(|known| known.definition == freeze.definition);
    let reason = match known.map(|known| (known.budget, &known.reason)) {
        Some((BudgetVerdict::Enough, _)) => return None,
        Some((BudgetVerdict::Spent, _)) => {
            let limit = freeze.remaining_below * 100.0;
            return Some(format!("less than {limit:.0} % of the error budget of {} remains", slo.name));
        }
        Some((BudgetVerdict::Unknown, reason)) => reason.as_deref().unwrap_or("Unknown"),
        None => "not evaluated yet",
    };
    let holds = slo.no_data == NoDataChanges::Hold;
    holds.then(|| format!("the error budget of {} is unknown ({reason}), and its noData.changes is Hold", slo.name))
}
