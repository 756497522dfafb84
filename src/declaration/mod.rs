//! From what was written to what is meant: a [`Pilot`]'s spec, parsed once.
//!
//! The webhook, the controller and the CLI call the same [`Declaration::parse`]; behind it only
//! validated values travel. It never looks at the present: what depends on the time of day is a
//! condition and not a violation.

pub mod change_calendar;
mod definition;
mod literals;
mod metricsql;
pub mod promql;
pub mod selectors;

use std::collections::BTreeSet;

use jiff::tz::TimeZoneDatabase;
use jiff::{SignedDuration, Timestamp};

use crate::api::change_calendar::CALENDAR_LABEL;
use crate::api::changes::{OnWindowClose, OutsideWindow, UnauthorizedPolicy};
use crate::api::owners::{Owner, Owners};
use crate::api::pilot::{Dependency, Enforcement, Pilot, PilotSpec};
use crate::api::slo::{NoDataChanges, Slo};
use crate::api::trigger::{Operator, Trigger as TriggerSpec, TriggerAction, WorkloadCondition};
use crate::api::workload::{PartReference, WorkloadKind, WorkloadReference};
use crate::calendar::Calendar;
use crate::violation::Violation;

/// The longest that a Continue or an Override may last.
pub const LONGEST_EXCEPTION: SignedDuration = SignedDuration::from_hours(4);

/// A pilot as it is meant.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Which pilot.
    pub pilot: PilotId,
    /// From when on it is judged.
    pub start: Timestamp,
    /// After this instant changes are refused until the date is moved.
    pub decision_date: Timestamp,
    /// Who answers for it.
    pub owners: Owners,
    /// What it guards, the parts of its release: at least one workload, and behind the workloads the configuration.
    pub workloads: Vec<PartReference>,
    /// The most replicas that the workload may ask for.
    pub max_replicas: Option<i32>,
    /// When it may change: its own windows; as it is judged by, narrowed by the ChangeCalendars that apply.
    pub calendar: Calendar,
    /// The ChangeCalendar that its label names.
    pub named_calendar: Option<String>,
    /// What becomes of a change that may not start now.
    pub outside_window: OutsideWindow,
    /// What becomes of a change that is still rolling out when its window closes.
    pub on_window_close: OnWindowClose,
    /// How much of a window must be left for a change to start in it.
    pub runway: SignedDuration,
    /// How long a change is watched.
    pub bake: SignedDuration,
    /// Which budget holds changes, and when.
    pub budget_freeze: Option<BudgetFreeze>,
    /// Changes so close together are one.
    pub group_within: SignedDuration,
    /// What becomes of a release that runs without having been admitted.
    pub unauthorized: UnauthorizedPolicy,
    /// A known-good release is a target only if it ran within this time.
    pub rollback_max_age: SignedDuration,
    /// The MetricsSource.
    pub metrics_source: String,
    /// What counts as good enough.
    pub slos: Vec<Objective>,
    /// What moves it back to safety.
    pub triggers: Vec<Trigger>,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// Whether rules bind or are only observed.
    pub enforcement: Enforcement,
}

/// Which pilot.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PilotId {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A parsed service level objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Its name.
    pub name: String,
    /// The digest of its definition: what is remembered of it is kept under this.
    pub definition: String,
    /// The share of bad events that is allowed, above 0 and below 1: one minus the target.
    pub allowed: f64,
    /// The rolling window.
    pub window: SignedDuration,
    /// The selector of the counter of bad events.
    pub bad: String,
    /// The selector of the counter of all events.
    pub total: String,
    /// Below so many events nothing is concluded.
    pub min_events: f64,
    /// Time after the start in which nothing is concluded.
    pub warmup: SignedDuration,
    /// Older samples are stale.
    pub stale_after: SignedDuration,
    /// What a freeze by its budget does while it is Unknown.
    pub no_data: NoDataChanges,
}

/// A parsed freeze of changes by an error budget. That the SLO exists was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetFreeze {
    /// The name of the SLO.
    pub slo: String,
    /// The digest of its definition and of its SLO's.
    pub definition: String,
    /// The share of the budget, at most 1, below which changes are held.
    pub remaining_below: f64,
}

/// A parsed trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The digest of its definition and of its SLO's: what is remembered of it is kept under this.
    pub definition: String,
    /// Its condition.
    pub when: Condition,
    /// For how long the condition must hold.
    pub hold_for: SignedDuration,
    /// For how long it must be false to count as clear.
    pub clear_after: SignedDuration,
    /// The window over which it is judged whether the service still suffers.
    pub short_window: SignedDuration,
    /// How long the owners may decide.
    pub decision_window: SignedDuration,
    /// What happens at the deadline.
    pub action: TriggerAction,
    /// What happens instead of a rollback that is not possible.
    pub otherwise: TriggerAction,
    /// The replicas that ScaleDown leaves.
    pub scale_down_to: i32,
}

/// A parsed condition. SLOs are named; that each name exists was checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Less than this share (0 to 1) of the budget remains.
    ErrorBudget {
        /// The SLO.
        slo: String,
        /// The share.
        remaining_below: f64,
    },
    /// The budget is spent too fast.
    BurnRate {
        /// The SLO.
        slo: String,
        /// The long window.
        long: SignedDuration,
        /// The short window.
        short: SignedDuration,
        /// The factor.
        factor: f64,
    },
    /// An expression compared with a threshold.
    PromQl {
        /// The expression.
        query: String,
        /// How it is compared.
        operator: Operator,
        /// With what.
        threshold: f64,
        /// How far back the expression reads.
        reach: SignedDuration,
    },
    /// Number of consecutive changes that failed.
    ConsecutiveFailedChanges {
        /// How many.
        count: usize,
    },
    /// A condition of the workload.
    Workload(WorkloadCondition),
}

impl Declaration {
    /// Parses a Pilot as the API server returned it. All violations are reported at once.
    pub fn parse(pilot: &Pilot, zones: &TimeZoneDatabase) -> Result<Self, Vec<Violation>> {
        let spec = &pilot.spec;
        let mut violations = Vec::new();
        let calendar = Calendar::parse(&spec.changes.windows, zones, "spec.changes.windows")
            .map_err(|mut found| violations.append(&mut found));
        let created = pilot.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let start = spec.intent.start.unwrap_or(created);
        let slos = parse_slos(spec, start, &mut violations);
        let triggers = parse_triggers(spec, &slos, &mut violations);
        let budget_freeze = parse_freeze(spec, &slos, &mut violations);
        for (index, dependency) in spec.constraints.dependencies.iter().enumerate() {
            let path = format!("spec.constraints.dependencies[{index}].query");
            violations.extend(promql::check_expression(&dependency.query, &path));
        }
        if spec.owners.service_owner.is_none() {
            violations.push(Violation::new(
                "spec.owners.serviceOwner",
                "is missing",
                "name who answers for availability, incidents and change control",
            ));
        }
        if spec.workloads.is_empty() {
            violations.push(Violation::new("spec.workloads", "is empty", "name what the pilot guards"));
        }
        let (Ok(calendar), true) = (calendar, violations.is_empty()) else {
            return Err(violations);
        };
        Ok(Self {
            pilot: PilotId::of(pilot),
            start,
            decision_date: spec.intent.decision_date,
            owners: spec.owners.clone(),
            workloads: parts(spec),
            max_replicas: spec.blast_radius.max_replicas,
            calendar,
            named_calendar: named_calendar(pilot).map(str::to_owned),
            outside_window: spec.changes.outside_window,
            on_window_close: spec.changes.on_window_close,
            runway: spec.changes.runway.as_signed(),
            bake: spec.changes.bake.as_signed(),
            unauthorized: spec.changes.unauthorized,
            budget_freeze,
            group_within: spec.changes.group_within.as_signed(),
            rollback_max_age: spec.rollback.max_age.as_signed(),
            metrics_source: spec.metrics_source.clone(),
            slos,
            triggers,
            dependencies: spec.constraints.dependencies.clone(),
            enforcement: spec.enforcement,
        })
    }

    /// Whether anything of it is measured.
    pub fn asks_metrics(&self) -> bool {
        !(self.slos.is_empty() && self.triggers.is_empty())
    }

    /// The objective of this name.
    pub fn slo(&self, name: &str) -> Option<&Objective> {
        self.slos.iter().find(|slo| slo.name == name)
    }

    /// The windows over which an objective's events are counted again and again.
    pub fn windows_of(&self, slo: &Objective) -> impl Iterator<Item = SignedDuration> {
        let of_triggers = self.triggers.iter().flat_map(|trigger| match &trigger.when {
            Condition::BurnRate { slo: of, long, short, .. } if *of == slo.name => {
                vec![*long, *short, trigger.short_window]
            }
            Condition::ErrorBudget { slo: of, .. } if *of == slo.name => vec![trigger.short_window],
            _ => Vec::new(),
        });
        std::iter::once(slo.window).chain(of_triggers)
    }

    /// The trigger of this name.
    pub fn trigger(&self, name: &str) -> Option<&Trigger> {
        self.triggers.iter().find(|trigger| trigger.name == name)
    }
}

/// The ChangeCalendar that a Pilot's label names.
pub fn named_calendar(pilot: &Pilot) -> Option<&str> {
    pilot.metadata.labels.as_ref()?.get(CALENDAR_LABEL).map(String::as_str)
}

impl PilotId {
    /// The identity of a Pilot as the API server returned it.
    pub fn of(pilot: &Pilot) -> Self {
        let meta = &pilot.metadata;
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }
}

impl Owners {
    /// The owners who may loosen, each with the name of the role.
    pub fn who_may_loosen(&self) -> impl Iterator<Item = (&'static str, &Owner)> {
        let roles = [
            ("service owner", &self.service_owner),
            ("on-call", &self.on_call),
            ("tech lead", &self.tech_lead),
            ("risk lead", &self.risk_lead),
            ("sponsor", &self.sponsor),
        ];
        roles.into_iter().filter_map(|(role, owner)| owner.as_ref().map(|owner| (role, owner)))
    }
}

/// The parts of the pilot's release.
pub fn parts(spec: &PilotSpec) -> Vec<PartReference> {
    let workloads = spec.workloads.iter().map(PartReference::from);
    workloads.chain(spec.configuration.iter().map(PartReference::from)).collect()
}

fn parse_slos(spec: &PilotSpec, start: Timestamp, violations: &mut Vec<Violation>) -> Vec<Objective> {
    let mut names = BTreeSet::new();
    let mut parsed = Vec::with_capacity(spec.slos.len());
    for slo in &spec.slos {
        let path = format!("spec.slos[name={}]", slo.name);
        if !names.insert(&slo.name) {
            violations.push(Violation::new(&path, "is declared twice", "give each SLO a name of its own"));
        }
        let target = slo.target.value();
        if !(target > 0.0 && target < 100.0) {
            violations.push(Violation::new(
                format!("{path}.target"),
                format!("{target} is not a target"),
                "write a percentage above 0 and below 100; at 100 there is no error budget to spend",
            ));
        }
        let window = slo.window.rolling.as_signed();
        if window < SignedDuration::from_secs(10) {
            violations.push(Violation::new(
                format!("{path}.window.rolling"),
                "is shorter than 10s",
                "use days: 3d to 28d suit most pilots",
            ));
        }
        let Some(ratio) = &slo.indicator.ratio else {
            violations.push(Violation::new(format!("{path}.indicator"), "is empty", "declare ratio {bad, total}"));
            continue;
        };
        violations.extend(promql::check_selector(&ratio.bad, &format!("{path}.indicator.ratio.bad")));
        violations.extend(promql::check_selector(&ratio.total, &format!("{path}.indicator.ratio.total")));
        #[expect(clippy::cast_precision_loss, reason = "the schema bounds minEvents far below 2^52")]
        let min_events = slo.min_events as f64;
        let mut objective = Objective {
            name: slo.name.clone(),
            definition: String::new(),
            allowed: 1.0 - target / 100.0,
            window,
            bad: ratio.bad.clone(),
            total: ratio.total.clone(),
            min_events,
            warmup: slo.warmup.as_signed(),
            stale_after: slo.no_data.after.as_signed(),
            no_data: slo.no_data.changes,
        };
        objective.definition = definition::of_objective(&objective, &spec.metrics_source, start);
        parsed.push(objective);
    }
    parsed
}

fn parse_freeze(spec: &PilotSpec, slos: &[Objective], violations: &mut Vec<Violation>) -> Option<BudgetFreeze> {
    let freeze = spec.changes.budget_freeze.as_ref()?;
    violations.extend(check_slo_name(&freeze.slo, &spec.slos, "spec.changes.budgetFreeze.slo"));
    let slo = slos.iter().find(|slo| slo.name == freeze.slo)?;
    let remaining_below = freeze.remaining_below.value() / 100.0;
    let definition = definition::of_freeze(slo, remaining_below);
    Some(BudgetFreeze { slo: freeze.slo.clone(), definition, remaining_below })
}

fn parse_triggers(spec: &PilotSpec, slos: &[Objective], violations: &mut Vec<Violation>) -> Vec<Trigger> {
    let mut names = BTreeSet::new();
    let mut parsed = Vec::with_capacity(spec.triggers.len());
    for trigger in &spec.triggers {
        let path = format!("spec.triggers[name={}]", trigger.name);
        if !names.insert(&trigger.name) {
            violations.push(Violation::new(&path, "is declared twice", "give each trigger a name of its own"));
        }
        match parse_condition(trigger, &spec.slos, &path) {
            Ok(when) => {
                let mut trigger = parsed_trigger(trigger, when);
                trigger.definition = definition::of_trigger(&trigger, slos, &spec.metrics_source);
                parsed.push(trigger);
            }
            Err(mut found) => violations.append(&mut found),
        }
        violations.extend(never_fires(trigger, &spec.workloads, &path));
    }
    parsed
}

fn parsed_trigger(trigger: &TriggerSpec, when: Condition) -> Trigger {
    let short_window = trigger.when.burn_rate.as_ref().map_or(trigger.short_window, |burn| burn.short);
    Trigger {
        name: trigger.name.clone(),
        definition: String::new(),
        when,
        hold_for: trigger.hold_for.as_signed(),
        clear_after: trigger.clear_after.as_signed(),
        short_window: short_window.as_signed(),
        decision_window: trigger.decision_window.as_signed(),
        action: trigger.action,
        otherwise: trigger.otherwise.into(),
        scale_down_to: trigger.scale_down_to,
    }
}

/// A condition that none of the workloads reports.
fn never_fires(trigger: &TriggerSpec, workloads: &[WorkloadReference], path: &str) -> Option<Violation> {
    let reports = |workload: &WorkloadReference| workload.kind == WorkloadKind::Deployment;
    (trigger.when.workload.is_some() && !workloads.iter().any(reports)).then(|| {
        let problem = "would never fire: only a Deployment reports ProgressDeadlineExceeded";
        Violation::new(format!("{path}.when.workload"), problem, "watch an SLO or a promql expression instead")
    })
}

fn parse_condition(trigger: &TriggerSpec, slos: &[Slo], path: &str) -> Result<Condition, Vec<Violation>> {
    let when = &trigger.when;
    let mut found = Vec::new();
    let mut violations = Vec::new();
    if let Some(budget) = &when.error_budget {
        violations.extend(check_slo_name(&budget.slo, slos, &format!("{path}.when.errorBudget.slo")));
        let remaining_below = budget.remaining_below.value() / 100.0;
        found.push(Condition::ErrorBudget { slo: budget.slo.clone(), remaining_below });
    }
    if let Some(burn) = &when.burn_rate {
        let path = format!("{path}.when.burnRate");
        violations.extend(check_slo_name(&burn.slo, slos, &format!("{path}.slo")));
        violations.extend(check_burn_rate(burn, slos, &path));
        found.push(Condition::BurnRate {
            slo: burn.slo.clone(),
            long: burn.long.as_signed(),
            short: burn.short.as_signed(),
            factor: burn.factor.value(),
        });
    }
    if let Some(promql) = &when.promql {
        violations.extend(promql::check_expression(&promql.query, &format!("{path}.when.promql.query")));
        found.push(Condition::PromQl {
            query: promql.query.clone(),
            operator: promql.operator,
            threshold: promql.threshold.value(),
            reach: promql::reach(&promql.query),
        });
    }
    if let Some(failed) = &when.consecutive_failed_changes {
        found.push(Condition::ConsecutiveFailedChanges { count: usize::try_from(failed.count).unwrap_or(1).max(1) });
    }
    if let Some(workload) = &when.workload {
        found.push(Condition::Workload(workload.condition));
    }
    let one = found.pop().filter(|_| found.is_empty());
    match one {
        Some(condition) if violations.is_empty() => Ok(condition),
        Some(_) => Err(violations),
        None => {
            violations.push(Violation::new(
                format!("{path}.when"),
                "needs exactly one condition",
                "choose one of errorBudget, burnRate, promql, consecutiveFailedChanges or workload",
            ));
            Err(violations)
        }
    }
}

fn check_slo_name(name: &str, slos: &[Slo], path: &str) -> Option<Violation> {
    if slos.iter().any(|slo| slo.name == name) {
        return None;
    }
    let known = slos.iter().map(|slo| slo.name.as_str()).collect::<Vec<_>>().join(", ");
    let hint = if known.is_empty() {
        "declare it under spec.slos".to_owned()
    } else {
        format!("the declared SLOs are: {known}")
    };
    Some(Violation::new(path, format!("no SLO is named {name:?}"), &hint))
}

fn check_burn_rate(burn: &crate::api::trigger::BurnRate, slos: &[Slo], path: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    if burn.short > burn.long {
        violations.push(Violation::new(format!("{path}.short"), "is longer than long", "use about a twelfth of long"));
    }
    if burn.short.as_signed() <= SignedDuration::ZERO {
        violations.push(Violation::new(format!("{path}.short"), "is not above 0", "use about a twelfth of long"));
    }
    let Some(slo) = slos.iter().find(|slo| slo.name == burn.slo) else {
        return violations;
    };
    // At 100 % errors the burn rate is 1 / (1 - target): a factor at or above it can never be exceeded.
    let highest = 1.0 / (1.0 - slo.target.value() / 100.0);
    if highest.is_finite() && burn.factor.value() >= highest {
        violations.push(Violation::new(
            format!("{path}.factor"),
            format!(
                "{} can never be exceeded: with every request failing the burn rate of {} is {highest:.1}",
                burn.factor, slo.name
            ),
            "lower the factor or raise the SLO's target",
        ));
    }
    violations
}
