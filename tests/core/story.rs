//! Timelines as data: what happens and when, told in YAML; what the core made of it, told as a trace.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pilotguard::api::change_record::{ChangeClass, Outcome};
use pilotguard::api::decision::{DecisionPhase, DecisionType};
use pilotguard::api::incident::{DecidedBy, IncidentStage};
use pilotguard::api::status::{PilotStatus, ReleaseState};
use pilotguard::decide::proposal::Verdict;
use pilotguard::declaration::Condition;
use pilotguard::observation::Unknown;
use pilotguard::release::foreign::Foreign;
use serde::Deserialize;
use serde_json::Value;

use crate::history::{past_changes, past_decisions};
use crate::operator::{Fault, Look, Operator};
use crate::pilots::{duration, pilot, source, zero};
use crate::trace::Teller;
use crate::traffic::Weather;
use crate::world::{GITOPS, World, payload_of};

/// One timeline.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Story {
    pub title: String,
    /// What happens and what is right, for people.
    #[serde(rename = "story")]
    pub telling: String,
    /// Laid over the small pilot's spec.
    #[serde(default)]
    pub pilot: Value,
    /// How long before zero the service had traffic.
    #[serde(default = "ten_days")]
    pub history: String,
    /// In seconds.
    #[serde(default = "fifteen")]
    pub evaluation_interval: i64,
    /// In seconds.
    #[serde(default)]
    pub query_offset: i64,
    /// After so many looks each, what goes wrong.
    #[serde(default)]
    pub faults: Vec<(usize, Fault)>,
    pub timeline: Vec<Event>,
    pub until: String,
    pub expect: Expectation,
}

/// What must have come of it, whatever the trace says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    #[serde(default)]
    pub rollbacks: usize,
    #[serde(default)]
    pub scale_downs: usize,
    #[serde(default)]
    pub restores: usize,
    /// How many incidents opened.
    #[serde(default)]
    pub incidents: usize,
    /// How many times people were called.
    #[serde(default)]
    pub pages: usize,
    /// How many proposals admission refused.
    #[serde(default)]
    pub refusals: usize,
    /// The release that runs at the end.
    pub runs: Option<String>,
    pub replicas: Option<i32>,
    #[serde(default)]
    pub quarantined: BTreeSet<String>,
    /// The stage of the incident at the end; absent where none is open.
    pub incident: Option<IncidentStage>,
    /// The outcome of the newest change to each release.
    #[serde(default)]
    pub outcomes: BTreeMap<String, Outcome>,
    /// What became of people's Decisions, in their order.
    #[serde(default)]
    pub decisions: Vec<DecisionPhase>,
    /// The class of the newest change to each release.
    #[serde(default)]
    pub classes: BTreeMap<String, ChangeClass>,
    /// The releases whose changes owe an approval at the end.
    #[serde(default)]
    pub owing: BTreeSet<String>,
    /// What the operator recorded, in order.
    #[serde(default)]
    pub records: Vec<DecisionType>,
    /// How far the release has come at the end.
    pub release: Option<ReleaseState>,
    /// When the last act happened, since zero.
    pub acted_at: Option<String>,
    /// When the last incident opened, since zero.
    pub opened_at: Option<String>,
    /// What remains of the budget of the first SLO at the end, as a band.
    pub budget_remaining: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is something that happens, by its own name")]
pub struct Event {
    pub at: String,
    /// Events per second.
    pub traffic: Option<f64>,
    /// The share of failing events by release, or for `all`.
    pub errors: Option<BTreeMap<String, f64>>,
    /// Single requests: good and bad.
    pub requests: Option<(f64, f64)>,
    /// Values of expressions.
    pub values: Option<BTreeMap<String, f64>>,
    pub metrics: Option<Metrics>,
    /// The Pilot's spec is edited: values by JSON pointer.
    pub edit: Option<BTreeMap<String, Value>>,
    /// The series that the SLOs select begin now: nothing is known of before.
    #[serde(default)]
    pub series_begin: bool,
    /// The workload that the event speaks of; the first where it is absent.
    pub workload: Option<String>,
    /// The specs of all ChangeCalendars that there are from now on; the pilot's namespace has no labels.
    pub calendars: Option<BTreeMap<String, Value>>,
    /// The value of the annotation that says which changes belong together, from now on.
    pub change_label: Option<String>,
    /// Another controller drives the workload from now on.
    pub driven_by: Option<Driver>,
    /// A release is applied through admission.
    pub deploy: Option<String>,
    /// A release is applied through admission by someone else than dev.
    pub deploy_as: Option<(String, String)>,
    /// A release is applied through admission by a GitOps tool.
    pub sync: Option<String>,
    /// A release appears without having been admitted.
    pub bypass: Option<String>,
    /// A release is applied by break-glass for this reason; the operator may be down.
    pub break_glass: Option<(String, String)>,
    /// Somebody scales the Deployment.
    pub scale: Option<i32>,
    /// Whether the API server refuses to store releases from now on.
    pub refuse_snapshots: Option<bool>,
    /// Whether the API server refuses the operator's patches from now on.
    pub refuse_patches: Option<bool>,
    /// From now on other admission adds this to the name of every release that is restored.
    pub mutation: Option<String>,
    /// This release never becomes available.
    pub stuck: Option<String>,
    /// The annotation of the release that runs.
    #[serde(rename = "unsafe")]
    pub unsafe_reason: Option<String>,
    pub decide: Option<Word>,
    pub fault: Option<Fault>,
    /// From now on evaluations come at least so far apart.
    pub late: Option<String>,
    #[serde(default)]
    pub crash: bool,
    /// The Pilot is deleted and created again.
    #[serde(default)]
    pub lose_status: bool,
    /// All snapshots are those of an older version, which could note nothing on them.
    #[serde(default)]
    pub legacy_snapshots: bool,
    #[serde(default)]
    pub delete: bool,
    /// The Deployment is created anew with this release.
    pub create: Option<String>,
    /// A year of changes and Decisions came before; which is drawn from this number.
    #[serde(skip)]
    pub past: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Word {
    #[serde(rename = "type")]
    pub type_: DecisionType,
    pub by: String,
    #[serde(rename = "for")]
    pub lasts: Option<String>,
    pub release: Option<String>,
    #[serde(default)]
    pub fix: bool,
    /// Why; where it is absent, a reason that says something.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metrics {
    Up,
    Down,
    NaN,
    Partial,
    Silent,
    /// What is asked a second time is not answered.
    Flickering,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub enum Driver {
    ArgoRollouts,
    Flagger,
}

/// What came of a story.
pub struct Outturn {
    pub trace: String,
    pub world: World,
    pub incidents: usize,
    pub pages: usize,
    pub refusals: usize,
    pub acted_at: Option<Timestamp>,
    pub opened_at: Option<Timestamp>,
}

pub fn play(story: &Story) -> Outturn {
    let facts = source(story.evaluation_interval, story.query_offset);
    let mut world = World::new(&pilot(&story.pilot), facts, zero(), zero() - duration(&story.history));
    let mut operator = Operator::default();
    operator.faults.extend(story.faults.iter().copied());
    let mut teller = Teller::new();
    let mut events: Vec<(Timestamp, &Event)> =
        story.timeline.iter().map(|event| (zero() + duration(&event.at), event)).collect();
    events.sort_by_key(|(at, _)| *at);
    let until = zero() + duration(&story.until);
    world.now = zero() - duration(&story.history);
    for (index, workload) in world.declaration.workloads.clone().iter().enumerate() {
        let release = if index == 0 { "v1".to_owned() } else { format!("{}1", workload.name) };
        world.create_deployment(&workload.name, &release, if workload.kind.has_pods() { 3 } else { 0 });
    }
    world.per_second = 10.0;
    world.settle();
    world.now = zero();
    let mut events = events.into_iter().peekable();
    loop {
        let next_event = events.peek().map_or(until, |(at, _)| *at);
        let next_evaluation = operator.next_evaluation.unwrap_or(world.now).max(world.now);
        let rollout = world.rollout_ends().unwrap_or(until);
        let next = next_event.min(next_evaluation).min(rollout).min(until);
        world.pass_to(next);
        if next == until {
            break;
        }
        while let Some((_, event)) = events.next_if(|(at, _)| *at <= next) {
            happen(event, &mut world, &mut operator, &mut teller);
        }
        world.settle();
        let look = operator.look(&mut world);
        teller.tell(&world, &look);
        check_status(&world);
        settled_evaluations_repeat_nothing(&mut operator, &mut world, &look);
    }
    Outturn {
        trace: teller.lines.join("\n"),
        world,
        incidents: teller.incidents,
        pages: teller.pages,
        refusals: teller.refusals,
        acted_at: teller.acted_at,
        opened_at: teller.opened_at,
    }
}

/// Looking again at a world that has not changed does nothing and writes nothing.
fn settled_evaluations_repeat_nothing(operator: &mut Operator, world: &mut World, look: &Look) {
    if !look.is_settled {
        return;
    }
    let (ledger, again) = operator.plan_again(world);
    assert!(again.effects.is_empty(), "at {} a second look plans {:?}", world.now, again.effects);
    let stored = crate::operator::store(&ledger);
    let written = crate::operator::store(&again.ledger);
    assert_eq!(stored, written, "at {} a second look writes", world.now);
}

/// What must hold of everything that is stored.
fn check_status(world: &World) {
    let Some(incident) = &world.status.incident else { return };
    for intent in incident.intent.iter().flat_map(|intent| &intent.workloads) {
        assert!(intent.to.as_ref().is_none_or(|to| !intent.quarantine.contains(to)), "the target is to be quarantined");
    }
    let recovered = incident.closing.as_ref().is_some_and(|closing| closing.decided_by == DecidedBy::Recovery);
    let at = incident.closing.as_ref().map(|closing| closing.at);
    let is_measured =
        incident.evidence.iter().filter_map(|e| world.declaration.trigger(&e.trigger)).any(|trigger| {
            !matches!(trigger.when, Condition::Workload(_) | Condition::ConsecutiveFailedChanges { .. })
        });
    let on_nothing = recovered && at == Some(world.now) && world.traffic.is_unknown();
    assert!(!(on_nothing && is_measured), "unknown data closed an incident");
}

#[expect(clippy::too_many_lines, reason = "a list of the kinds of events")]
fn happen(event: &Event, world: &mut World, operator: &mut Operator, teller: &mut Teller) {
    if let Some(per_second) = event.traffic {
        world.per_second = per_second;
        teller.say(world, &format!("traffic is {per_second} per second"));
    }
    if let Some(errors) = &event.errors {
        world.failing.extend(errors.clone());
        teller.say(world, &format!("errors: {errors:?}"));
    }
    if let Some((good, bad)) = event.requests {
        world.traffic.burst(world.now, good + bad, bad);
        teller.say(world, &format!("{good} good and {bad} bad requests"));
    }
    if let Some(seed) = event.past {
        world.changes = past_changes(&world.declaration.workloads, 700, seed);
        world.decisions = past_decisions(700, seed);
    }
    if let Some(replicas) = event.scale {
        world.scale(replicas);
        teller.say(world, &format!("somebody scales to {replicas}"));
    }
    if let Some(refuses) = event.refuse_patches {
        world.refuses_patches = refuses;
        teller.say(world, if refuses { "a policy refuses patches" } else { "patches are accepted" });
    }
    if let Some(mutation) = &event.mutation {
        world.mutation.clone_from(mutation);
        teller.say(world, &format!("other admission adds {mutation} to what is restored"));
    }
    if let Some(refuses) = event.refuse_snapshots {
        world.refuses_snapshots = refuses;
        teller.say(world, if refuses { "no release can be stored" } else { "releases can be stored" });
    }
    for (query, value) in event.values.iter().flatten() {
        world.traffic.set_value(query, world.now, *value);
        teller.say(world, &format!("{query} is {value}"));
    }
    if let Some(metrics) = event.metrics {
        world.traffic.set_weather(match metrics {
            Metrics::Up => Weather::Fair,
            Metrics::Down => Weather::All(Unknown::SourceUnavailable),
            Metrics::NaN => Weather::All(Unknown::NotFinite),
            Metrics::Partial => Weather::All(Unknown::Partial),
            Metrics::Flickering => Weather::Flickering,
            Metrics::Silent => Weather::SilentSince(world.now),
        });
        teller.say(world, &format!("metrics: {metrics:?}"));
    }
    if let Some(release) = &event.stuck {
        world.stuck.insert(release.clone());
    }
    if let Some(edits) = &event.edit {
        world.edit(edits);
        teller.say(world, &format!("the Pilot is edited: {edits:?}"));
    }
    if event.series_begin {
        world.traffic.begin(world.now);
        teller.say(world, "the selected series begin");
    }
    move_workload(event, world, teller);
    if let Some(word) = &event.decide {
        let detail = (word.release.clone(), word.lasts.as_deref().map(duration), word.fix);
        let name = world.decide(word.type_, &word.by, detail);
        if let (Some(reason), Some(decision)) = (&word.reason, world.decisions.last_mut()) {
            decision.reason.clone_from(reason);
        }
        teller.say(world, &format!("{} writes {name}: {:?}", word.by, word.type_));
    }
    happen_to_operator(event, world, operator, teller);
    if let Some(fault) = event.fault {
        operator.fault = Some(fault);
        teller.say(world, &format!("the next evaluation meets {fault:?}"));
    }
}

fn forget_notes(event: &Event, world: &mut World, teller: &mut Teller) {
    if event.legacy_snapshots {
        for snapshot in world.deployments.iter_mut().flat_map(|deployment| &mut deployment.snapshots) {
            snapshot.is_legacy = true;
            (snapshot.known_good_at, snapshot.last_running_at) = (None, None);
            snapshot.known_good_in.clear();
        }
        teller.say(world, "all snapshots are those of an older version");
    }
}

fn happen_to_operator(event: &Event, world: &mut World, operator: &mut Operator, teller: &mut Teller) {
    if let Some(apart) = &event.late {
        operator.apart = duration(apart);
        teller.say(world, &format!("evaluations come {apart} apart"));
    }
    if event.crash {
        operator.crash();
        teller.say(world, "the operator restarts");
    }
    if event.lose_status {
        world.status = PilotStatus::default();
        teller.last = PilotStatus::default();
        operator.crash();
        teller.say(world, "the Pilot is created anew");
    }
}

fn apply(name: &str, release: &str, (who, user): (&str, &str), world: &mut World, teller: &mut Teller) {
    match world.apply(name, release, user) {
        Ok(Verdict::Allow) => teller.say(world, &format!("{who} applies {release}: admitted")),
        Ok(verdict) => teller.say(world, &format!("{who} applies {release}: {}", verdict.as_str())),
        Err(findings) => {
            teller.refusals += 1;
            teller.say(world, &format!("{who} applies {release}: refused, {}", findings.join("; ")));
        }
    }
}

fn move_workload(event: &Event, world: &mut World, teller: &mut Teller) {
    let name = world.workload_named(event.workload.as_ref());
    if let Some(calendars) = &event.calendars {
        world.narrow(calendars);
    }
    if let Some(label) = &event.change_label
        && let Some(deployment) = world.deployment_mut(&name)
    {
        deployment.change_label = Some(label.clone());
    }
    if let Some(driver) = event.driven_by {
        let foreign = match driver {
            Driver::ArgoRollouts => Foreign::ArgoRollouts,
            Driver::Flagger => Foreign::Flagger,
        };
        if let Some(deployment) = world.deployment_mut(&name) {
            deployment.foreign = Some(foreign);
        }
        teller.say(world, &format!("{} takes the workload over", foreign.as_str()));
    }
    if let Some(release) = &event.deploy {
        apply(&name, release, ("dev", "dev"), world, teller);
    }
    if let Some((release, user)) = &event.deploy_as {
        apply(&name, release, (user, user), world, teller);
    }
    if let Some(release) = &event.sync {
        apply(&name, release, ("a GitOps tool", GITOPS), world, teller);
    }
    if let Some(release) = &event.bypass {
        world.roll_out(&name, release);
        teller.say(world, &format!("{release} is applied past admission"));
    }
    if let Some((release, reason)) = &event.break_glass {
        if let Some(deployment) = world.deployment_mut(&name) {
            deployment.break_glass = Some(reason.clone());
        }
        world.roll_out(&name, release);
        teller.say(world, &format!("{release} is applied by break-glass: {reason}"));
    }
    if let Some(reason) = &event.unsafe_reason {
        if let Some(deployment) = world.deployment_mut(&name) {
            deployment.unsafe_reason = Some(reason.clone());
        }
        teller.say(world, &format!("the release is annotated unsafe: {reason}"));
    }
    forget_notes(event, world, teller);
    if event.delete {
        world.deployments.retain(|deployment| deployment.name != name);
        teller.say(world, "the Deployment is deleted");
    }
    if let Some(release) = &event.create {
        world.create_deployment(&name, release, 3);
        teller.say(world, &format!("the Deployment is created anew with {release}"));
    }
}

impl Outturn {
    /// Holds what came of a story against what it expects.
    pub fn check(&self, expect: &Expectation) {
        let world = &self.world;
        let acts = |kind| world.acts.iter().filter(|((_, name), _)| *name == kind).count();
        assert_eq!(acts("RollBack"), expect.rollbacks, "rollbacks");
        assert_eq!(acts("ScaleDown"), expect.scale_downs, "scale-downs");
        assert_eq!(acts("RestoreReplicas"), expect.restores, "restores");
        assert_eq!(self.incidents, expect.incidents, "incidents");
        assert_eq!(self.pages, expect.pages, "pages");
        assert_eq!(self.refusals, expect.refusals, "refusals");
        assert_eq!(world.status.incident.as_ref().map(|incident| incident.stage), expect.incident, "incident");
        let deployment = world.deployments.first();
        if expect.runs.is_some() {
            let runs: Vec<&str> = world.deployments.iter().map(|deployment| deployment.runs.as_str()).collect();
            assert_eq!(Some(runs.join("+")), expect.runs.clone().filter(|_| !runs.is_empty()), "runs");
        }
        if expect.replicas.is_some() {
            assert_eq!(deployment.map(|deployment| deployment.replicas), expect.replicas, "replicas");
        }
        let quarantined: BTreeSet<String> =
            world.deployments.iter().flat_map(|deployment| deployment.marks.quarantined.clone()).collect();
        let expected: BTreeSet<String> = expect.quarantined.iter().map(|release| payload_of(release)).collect();
        assert_eq!(quarantined, expected, "quarantined: {:?}", expect.quarantined);
        for (release, outcome) in &expect.outcomes {
            let newest = world.changes.iter().rfind(|change| world.release_of(&change.payload) == *release);
            assert_eq!(newest.map(|change| change.outcome), Some(*outcome), "outcome of {release}");
        }
        for (release, class) in &expect.classes {
            let newest = world.changes.iter().rfind(|change| world.release_of(&change.payload) == *release);
            assert_eq!(newest.map(|change| change.class), Some(*class), "class of {release}");
        }
        let owing = world.changes.iter().filter(|change| change.approval_owed.is_some());
        let owing: BTreeSet<String> = owing.map(|change| world.release_of(&change.payload)).collect();
        assert_eq!(owing, expect.owing, "owing an approval");
        let (records, words): (Vec<_>, Vec<_>) = world.decisions.iter().partition(|decision| decision.is_record);
        let phases: Vec<_> = words.iter().filter_map(|decision| decision.phase).collect();
        assert_eq!(phases, expect.decisions, "decisions");
        let records: Vec<_> = records.iter().map(|decision| decision.type_).collect();
        assert_eq!(records, expect.records, "records");
        if expect.release.is_some() {
            let state = world.status.release.as_ref().map(|release| release.state);
            assert_eq!(state, expect.release, "release");
        }
        let since = |instant: Option<Timestamp>| instant.map(|instant| instant.duration_since(zero()));
        if let Some(acted_at) = &expect.acted_at {
            assert_eq!(since(self.acted_at), Some(duration(acted_at)), "acted at");
        }
        if let Some(opened_at) = &expect.opened_at {
            assert_eq!(since(self.opened_at), Some(duration(opened_at)), "opened at");
        }
        if let Some(remaining) = &expect.budget_remaining {
            let slo = world.status.slos.first().and_then(|slo| slo.budget_remaining.as_ref());
            assert_eq!(slo, Some(remaining), "budget remaining");
        }
    }
}

fn ten_days() -> String {
    "10d".to_owned()
}

fn fifteen() -> i64 {
    15
}
