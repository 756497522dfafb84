//! The conditions of a Pilot, as `kubectl wait` and kstatus read them.
//!
//! Types and reasons are API: [`Reason`] lists every reason, the documentation explains each, and a test
//! holds the two together.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::conflicting_controller::{act_that_is_not_possible, conflicting_controller};
use super::conflicts;
use super::incidents;
use super::invalid::not_in_force;
use super::measuring::{budget_healthy, evaluated_on_time, measured, metrics_available};
use super::other_admission;
use super::remedy::approve_command;
use super::storage::{lacks_room, releases_stored, rollback_is_endangered};
use super::surroundings::{Enforced, Surroundings};
use crate::api::pilot::Mode;
use crate::api::workload::PartReference;
use crate::calendar::{Opening, Reason as WindowReason};
use crate::decide::budget::budget_problem;
use crate::decide::judge::holds_changes;
use crate::decide::proposal::without_guard;
use crate::decide::{Case, Ledger};
use crate::observation::Workload;
use crate::release::configuration::is_generated_from;
use crate::release::images::release_name;
use crate::release::marks::{AdmittedVerdict, Held, HeldVerdict};

/// Every reason that a condition can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "docs/conditions.md explains each, and a test holds the two together")]
pub enum Reason {
    Guarding,
    Observing,
    InvalidDeclaration,
    ConflictingPilot,
    WorkloadNotFound,
    AwaitingAdoption,
    NotYetEnforced,
    Enforcing,
    RollingOut,
    Settled,
    Open,
    Closed,
    Frozen,
    CalendarUnusable,
    WithinBudget,
    OverBudget,
    Unmeasured,
    WarmingUp,
    NoObjectives,
    Admitted,
    UnauthorizedChange,
    ChangeHeld,
    ChangePinned,
    ReleaseQuarantined,
    NothingKeptOut,
    DecisionWindow,
    Continued,
    Acting,
    Verifying,
    Standing,
    Resuming,
    Closing,
    NoIncident,
    IncidentOpen,
    DecisionDatePassed,
    BudgetSpent,
    NothingHeld,
    Answering,
    SourceUnavailable,
    QueryRefused,
    SlowQuery,
    OnTime,
    EvaluationLate,
    EvaluationFailing,
    EverythingMeasured,
    NotMeasured,
    WatchBroken,
    WindowInThePast,
    WindowsCurrent,
    ApprovalOwed,
    NothingOwed,
    Narrowing,
    InvalidCalendar,
    ConflictingController,
    NoOtherController,
    AsWritten,
    AlteredByAdmission,
    NotIdempotent,
    DryRunRefused,
    NotYetRehearsed,
    Stored,
    NotYetStored,
    SnapshotRefused,
    SnapshotUnreadable,
    AnnotationsTooLarge,
}

impl Reason {
    /// The reason as it appears in the condition.
    pub fn as_str(self) -> String {
        format!("{self:?}")
    }
}

pub(super) struct Finding {
    type_: &'static str,
    pub(super) status: Truth,
    reason: Reason,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

pub(super) fn finding(type_: &'static str, status: Truth, reason: Reason, message: impl Into<String>) -> Finding {
    Finding { type_, status, reason, message: message.into() }
}

/// All conditions of a Pilot whose declaration is valid.
pub fn all(case: &Case<'_>, decided: &Ledger, surroundings: &Surroundings) -> Vec<Condition> {
    let findings = vec![
        ready(case, decided, surroundings),
        reconciling(case, decided),
        conflicts::stalled(case, surroundings),
        enforced(case, surroundings),
        window_open(case),
        windows_current(case),
        budget_healthy(decided),
        metrics_available(surroundings),
        evaluated_on_time(case),
        measured(case, decided),
        in_sync(case),
        up_to_date(case),
        releases_stored(case, decided),
        incidents::incident_open(case, decided),
        changes_held(case, decided),
        approvals_current(case),
        conflicting_controller(case),
        other_admission::writes_predictable(&surroundings.other_admission),
    ];
    stamped(findings, &surroundings.conditions, surroundings.generation, case.now)
}

pub(super) fn stamped(
    findings: Vec<Finding>,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let stamp = |finding: Finding| {
        let status = finding.status.as_str();
        let since = before
            .iter()
            .find(|condition| condition.type_ == finding.type_ && condition.status == status)
            .map_or_else(|| Time(now), |condition| condition.last_transition_time.clone());
        Condition {
            type_: finding.type_.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.as_str(),
            message: finding.message.chars().take(1024).collect(),
            last_transition_time: since,
            observed_generation: generation,
        }
    };
    findings.into_iter().map(stamp).collect()
}

fn is_observing(case: &Case<'_>) -> bool {
    let enforcement = case.declaration.enforcement;
    enforcement.changes == Mode::Observe && enforcement.actions == Mode::Observe
}

fn ready(case: &Case<'_>, decided: &Ledger, surroundings: &Surroundings) -> Finding {
    let not = |reason, message: String| finding("Ready", Truth::False, reason, message);
    if let Some(claimed) = &case.seen.claimed {
        return not(Reason::ConflictingPilot, conflicts::conflict(claimed));
    }
    if let Some(rejected) = &surroundings.rejected {
        return not(Reason::InvalidDeclaration, not_in_force(rejected, surroundings.generation));
    }
    if let Some(missing) = missing_workload(case) {
        return not(Reason::WorkloadNotFound, missing);
    }
    if let Some(incident) = &decided.incident {
        return not(
            Reason::IncidentOpen,
            format!("incident {} is open; IncidentOpen says what happens next", incident.id),
        );
    }
    let workloads = &case.seen.workloads;
    if workloads.iter().any(|workload| came_in_unseen(workload).is_some()) {
        return not(
            Reason::UnauthorizedChange,
            "the running release bypassed admission; an owner accepts it by an Override of that release, or restores the known-good one".into(),
        );
    }
    if let Some(message) = lacks_room(case) {
        return not(Reason::AnnotationsTooLarge, message);
    }
    if workloads.iter().any(|workload| workload.marks.admitted.is_none()) {
        return not(Reason::AwaitingAdoption, "the running release is adopted once it is completely available".into());
    }
    if let Some(message) = act_that_is_not_possible(case) {
        return not(Reason::ConflictingController, message);
    }
    if let Some(kinds) = &surroundings.broken_watches {
        let message = format!("changes of {kinds} may be missed; the watch is being restarted");
        return not(Reason::WatchBroken, message);
    }
    if let Some(finding) = other_admission::in_the_way_of_a_rollback(case, &surroundings.other_admission) {
        return Finding { type_: "Ready", ..finding };
    }
    if let Some((reason, message)) = rollback_is_endangered(case, decided) {
        return not(reason, message);
    }
    if is_observing(case) {
        return finding("Ready", Truth::True, Reason::Observing, "changes and actions are only recorded");
    }
    let measured = measured(case, decided);
    if measured.status == Truth::False {
        return Finding { type_: "Ready", ..measured };
    }
    match &surroundings.enforced {
        Enforced::Yes => finding("Ready", Truth::True, Reason::Guarding, ""),
        Enforced::No(why) => not(Reason::NotYetEnforced, why.clone()),
        Enforced::Unknown => {
            not(Reason::NotYetEnforced, "waiting for a dry-run to show that the API server calls the webhook".into())
        }
    }
}

/// Whether all that was asked for runs. Something that is kept out is nothing that the pilot lacks: its known-good release
/// serves. But a GitOps tool may look well meanwhile, although Git is ahead of the cluster.
fn up_to_date(case: &Case<'_>) -> Finding {
    match case.seen.workloads.iter().find_map(put_off) {
        Some((reason, message)) => finding("UpToDate", Truth::False, reason, message),
        None => finding("UpToDate", Truth::True, Reason::NothingKeptOut, ""),
    }
}

/// A change that is stored or asked for elsewhere and does not run.
fn put_off(workload: &Workload) -> Option<(Reason, String)> {
    let release = |held: &Held| {
        let name =
            release_name(&held.images, &held.payload).unwrap_or_else(|| format!("a change of {}", workload.reference));
        format!("{name}, applied by {},", held.by)
    };
    let why = |held: &Held| held.reasons.iter().map(|it| without_guard(it)).collect::<Vec<_>>().join("; ");
    if let Some(held) = &workload.waiting {
        let text = format!("{} waits and rolls out once it is allowed: {}", release(held), why(held));
        return Some((Reason::ChangeHeld, text));
    }
    let held = workload.marks.held.as_ref().filter(|held| held.verdict == HeldVerdict::Pin)?;
    let running = release_name(&workload.images_of(&workload.payload), &workload.payload);
    let running = running.unwrap_or_else(|| "what ran before".to_owned());
    let text = format!("{} is kept out: {}. {running} keeps running", release(held), why(held));
    let is_quarantined = workload.marks.quarantined.contains(&held.payload);
    Some((if is_quarantined { Reason::ReleaseQuarantined } else { Reason::ChangePinned }, text))
}

fn reconciling(case: &Case<'_>, decided: &Ledger) -> Finding {
    use crate::api::status::ReleaseState;
    let is_rolling = decided.release.as_ref().is_some_and(|release| release.state == ReleaseState::RollingOut);
    if let Some(missing) = missing_workload(case).filter(|_| case.seen.claimed.is_none()) {
        return finding("Reconciling", Truth::True, Reason::WorkloadNotFound, missing);
    }
    if is_rolling {
        return finding("Reconciling", Truth::True, Reason::RollingOut, "the release is not completely available yet");
    }
    finding("Reconciling", Truth::False, Reason::Settled, "")
}

/// What to do where a workload that is declared does not exist.
fn missing_workload(case: &Case<'_>) -> Option<String> {
    let declared = &case.declaration.workloads;
    // Of a ConfigMap that is generated under ever new names only the templates tell.
    let is_generated = |part: &PartReference| {
        let mut names = case.seen.workloads.iter().flat_map(|workload| &workload.generated);
        !part.kind.has_pods() && names.any(|name| is_generated_from(name, &part.name))
    };
    let missing: Vec<String> = declared
        .iter()
        .filter(|part| case.seen.workload(part).is_none() && !is_generated(part))
        .map(ToString::to_string)
        .collect();
    let list = missing.join(", ");
    let fields = if missing.iter().any(|part| part.starts_with("ConfigMap")) {
        "spec.workloads and spec.configuration"
    } else {
        "spec.workloads"
    };
    match missing.len() {
        0 => None,
        1 => Some(format!("{list} does not exist in this namespace; create it or correct {fields}")),
        _ => Some(format!("{list} do not exist in this namespace; create them or correct {fields}")),
    }
}

fn enforced(case: &Case<'_>, surroundings: &Surroundings) -> Finding {
    if is_observing(case) {
        return finding("Enforced", Truth::False, Reason::Observing, "enforcement is Observe");
    }
    match &surroundings.enforced {
        Enforced::Yes => finding("Enforced", Truth::True, Reason::Enforcing, "the webhook answered a dry-run"),
        Enforced::No(why) => finding("Enforced", Truth::False, Reason::NotYetEnforced, why.clone()),
        Enforced::Unknown => finding("Enforced", Truth::Unknown, Reason::NotYetEnforced, ""),
    }
}

fn window_open(case: &Case<'_>) -> Finding {
    let calendar = &case.declaration.calendar;
    opening(&calendar.opening_at(case.now), || calendar.next_open(case.now))
}

/// What is said of windows that are open or not.
pub(super) fn opening(opening: &Opening, next_open: impl FnOnce() -> Option<Timestamp>) -> Finding {
    let closed = |reason, message: String| finding("WindowOpen", Truth::False, reason, message);
    let names = opening.reasons.iter().map(WindowReason::name).collect::<Vec<_>>().join(", ");
    if opening.open {
        return finding("WindowOpen", Truth::True, Reason::Open, names);
    }
    if !opening.unusable.is_empty() {
        let told = opening.unusable.iter().map(|unusable| format!("{unusable}; {}", unusable.remedy));
        return closed(Reason::CalendarUnusable, told.collect::<Vec<_>>().join(" · "));
    }
    let next = match next_open() {
        Some(instant) => format!("; the next window opens at {instant:.0}"),
        None => "; no window opens again".to_owned(),
    };
    if names.is_empty() {
        closed(Reason::Closed, format!("outside {}{next}", opening.outside_of()))
    } else {
        closed(Reason::Frozen, format!("in a freeze: {names}{next}"))
    }
}

fn windows_current(case: &Case<'_>) -> Finding {
    windows_are_current(&case.declaration.calendar.past_windows(case.now))
}

/// What is said of windows of which these are over.
pub(super) fn windows_are_current(past: &[&str]) -> Finding {
    if past.is_empty() {
        return finding("WindowsCurrent", Truth::True, Reason::WindowsCurrent, "");
    }
    let message = format!("over and without effect: {}; remove them when convenient", past.join(", "));
    finding("WindowsCurrent", Truth::False, Reason::WindowInThePast, message)
}

fn in_sync(case: &Case<'_>) -> Finding {
    if let Some(message) = case.seen.workloads.iter().find_map(came_in_unseen) {
        return finding("InSync", Truth::False, Reason::UnauthorizedChange, message);
    }
    if let Some(missing) = missing_workload(case) {
        return finding("InSync", Truth::Unknown, Reason::WorkloadNotFound, missing);
    }
    if case.seen.workloads.iter().any(|workload| workload.marks.admitted.is_none()) {
        return finding("InSync", Truth::Unknown, Reason::AwaitingAdoption, "");
    }
    finding("InSync", Truth::True, Reason::Admitted, "")
}

fn came_in_unseen(workload: &Workload) -> Option<String> {
    let admitted = workload.marks.admitted.as_ref()?;
    if admitted.template != workload.template {
        return Some(format!("the stored template of {} was never admitted", workload.reference));
    }
    let is_unauthorized = admitted.verdict == AdmittedVerdict::Unauthorized;
    is_unauthorized.then(|| format!("change {} bypassed admission", admitted.change))
}

fn changes_held(case: &Case<'_>, decided: &Ledger) -> Finding {
    let enforcement = case.declaration.enforcement;
    let held_by = decided.incident.as_ref().filter(|incident| holds_changes(incident));
    if let Some(incident) = held_by.filter(|_| enforcement.actions == Mode::Enforce) {
        return incidents::hold(case, decided, incident);
    }
    if case.now >= case.declaration.decision_date && enforcement.changes == Mode::Enforce {
        let message = format!("the decision date {} has passed", case.declaration.decision_date);
        return finding("ChangesHeld", Truth::True, Reason::DecisionDatePassed, message);
    }
    let spent = budget_problem(case.declaration, decided.budget_freeze.as_ref()).filter(|_| decided.release.is_some());
    if let Some(message) = spent.filter(|_| enforcement.changes == Mode::Enforce) {
        return finding("ChangesHeld", Truth::True, Reason::BudgetSpent, message);
    }
    let unseen = case.seen.workloads.iter().find_map(came_in_unseen);
    if let Some(message) = unseen.filter(|_| enforcement.changes == Mode::Enforce) {
        return finding("ChangesHeld", Truth::True, Reason::UnauthorizedChange, message);
    }
    finding("ChangesHeld", Truth::False, Reason::NothingHeld, "")
}

/// Emergency changes are approved afterwards.
fn approvals_current(case: &Case<'_>) -> Finding {
    let owing: Vec<_> = case.seen.changes.iter().filter(|change| change.approval_owed.is_some()).collect();
    let Some(first) = owing.first() else {
        return finding("ApprovalsCurrent", Truth::True, Reason::NothingOwed, "");
    };
    let names = owing.iter().map(|change| change.name.as_str()).collect::<Vec<_>>().join(", ");
    let requester = first.approval_owed.as_ref().and_then(|owed| owed.not_from.as_ref());
    let who = requester.map_or("an owner".to_owned(), |requester| format!("an owner other than {requester}"));
    let how = match approve_command(case, &first.name) {
        Some(command) => format!("to approve {}, {who} can run: {command}", first.name),
        None => format!("{who} has to approve {}", first.name),
    };
    let message = format!("emergency changes owe an approval: {names}; {how}");
    finding("ApprovalsCurrent", Truth::False, Reason::ApprovalOwed, message)
}
