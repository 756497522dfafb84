//! What becomes of a change that is still rolling out when its window closes, where the team wants it reverted.
//!
//! A window blames nobody: what goes back for its sake is not quarantined, and may come again in the next window.

use super::naming::to_release;
use super::turn::Turn;
use crate::api::changes::OnWindowClose;
use crate::api::incident::{DecidedBy, Incident, IncidentOrigin};
use crate::api::pilot::Mode;
use crate::api::status::ReleaseState;
use crate::api::trigger::TriggerAction;
use crate::observation::Workload;
use crate::release::images::release_name;
use crate::release::marks::{Admitted, AdmittedVerdict};

impl Turn<'_> {
    /// Puts the known-good release back where the change that runs did not finish in its window.
    pub(super) fn revert_what_did_not_finish(&mut self) {
        let declared = self.case.declaration;
        let is_wanted =
            declared.on_window_close == OnWindowClose::Revert && declared.enforcement.changes == Mode::Enforce;
        if !is_wanted || self.ledger.incident.is_some() || declared.calendar.opening_at(self.case.now).open {
            return;
        }
        let is_rolling = self.ledger.release.as_ref().is_some_and(|release| release.state == ReleaseState::RollingOut);
        let Some(admitted) = self.whole.admitted.as_ref().filter(|stamp| is_rolling && self.came_by_a_window(stamp))
        else {
            return;
        };
        let Some(target) = &self.ledger.rollback_target else { return };
        // Of what would move with it some may not depend on the window at all.
        let moves = |it: &&Workload| target.part_of(it).is_none_or(|part| part.payload != it.payload);
        let is_of_the_change =
            |it: &Workload| it.admitted().is_some_and(|stamp| stamp.at >= admitted.at && self.came_by_a_window(stamp));
        let is_alone = self.running().filter(moves).all(is_of_the_change);
        if !is_alone || self.cannot_roll_back(target).is_some() || self.unsafe_to_cross(target).is_some() {
            return;
        }
        let to = to_release(release_name(&self.whole.images, &admitted.payload));
        let because = format!("the window closed before change {}{to} was completely available", admitted.change);
        let Some(mut incident) = self.open_by_policy(IncidentOrigin::WindowClosed, &admitted.change, &because) else {
            return;
        };
        self.start(&mut incident, TriggerAction::Rollback, DecidedBy::Policy, None);
        self.ledger.incident = Some(incident);
    }

    /// What owners let through outside the windows does not depend on them.
    fn came_by_a_window(&self, stamp: &Admitted) -> bool {
        stamp.verdict == AdmittedVerdict::Allow && self.case.declaration.calendar.opening_at(stamp.at).open
    }
}

/// Whether what goes back is to be kept out: not where nobody found anything wrong with it.
pub(super) fn is_blameless(incident: &Incident) -> bool {
    incident.origin() == IncidentOrigin::WindowClosed
}
