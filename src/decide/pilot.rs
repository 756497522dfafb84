//! What becomes of this pilot now? The steps of one evaluation, in the order in which they depend on each other.

use super::Case;
use super::plan::Plan;
use super::turn::Turn;

/// Decides a pilot. Total: every case gets a plan. The plan counts only once it asks nothing more.
pub fn decide(case: &Case<'_>) -> Plan {
    let mut turn = Turn::new(*case);
    if case.seen.claimed.is_some() {
        // A workload is another pilot's: nothing here is ours to judge, to stamp or to act on.
        return turn.finish();
    }
    turn.forget_what_was_edited();
    turn.pause_timers();
    turn.remember_first_samples();
    turn.report_slos();
    turn.weigh_budget();
    turn.note_unknown();
    turn.choose_target();
    let firing = turn.read_triggers();
    turn.advance_release();
    let word = turn.weigh_decisions();
    turn.undo_what_was_never_admitted();
    turn.revert_what_did_not_finish();
    turn.advance_incident(&firing, word);
    turn.keep_contained();
    turn.release_what_waits();
    turn.keep_records();
    turn.give_fields_back();
    turn.put_off_refused_storage();
    turn.watch_the_calendar();
    turn.finish()
}

impl Turn<'_> {
    /// Conditions speak of windows, so the pilot is looked at again at the next edge.
    fn watch_the_calendar(&mut self) {
        let (calendar, now) = (&self.case.declaration.calendar, self.case.now);
        let edge = if calendar.opening_at(now).open { calendar.next_close(now) } else { calendar.next_open(now) };
        if let Some(edge) = edge {
            self.evaluate_again_at(edge);
        }
    }
}
