//! A quiet pilot writes nothing: hours of live traffic, whose figures move at every evaluation, and the statuses that come
//! of it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use pilotguard::api::status::{BakePause, PilotStatus, ReleaseState};
use pilotguard::observation::Unknown;
use serde_json::{Value, json};

use crate::kept_out::projected;
use crate::operator::Operator;
use crate::pilots::{pilot, source, zero};
use crate::traffic::Weather;
use crate::world::World;

const INTERVAL: i64 = 15;

/// A pilot whose figures are watched at many edges, and which only notifies.
fn watched(bake: &str) -> Value {
    let burn = |name: &str, long: &str, short: &str, factor: &str| {
        let when = json!({"burnRate": {"slo": "availability", "long": long, "short": short, "factor": factor}});
        json!({"name": name, "when": when, "action": "Notify"})
    };
    let budget = json!({"name": "budget", "when": {"errorBudget": {"slo": "availability", "remainingBelow": "20"}},
                        "action": "Notify"});
    let latency = json!({"name": "latency", "when": {"promql": {"query": "p99", "operator": "GT", "threshold": "2"}},
                         "for": "10m", "action": "Notify"});
    let ratio = json!({"ratio": {"bad": "requests_total{code=\"500\"}", "total": "requests_total"}});
    json!({
        "slos": [{"name": "availability", "target": "99", "window": {"rolling": "1d"}, "indicator": ratio}],
        "triggers": [burn("fast", "1h", "5m", "13.4"), burn("slow", "6h", "30m", "6"), budget, latency],
        "changes": {"windows": [{"name": "always", "always": true}], "bake": bake},
    })
}

/// The pilot after two days of `failing` traffic, and every status that would have been written since.
struct Trial {
    world: World,
    operator: Operator,
    written: Vec<PilotStatus>,
    figures: BTreeMap<String, usize>,
    state: u64,
}

impl Trial {
    fn new(bake: &str, failing: f64, seed: u64) -> Self {
        Self::of_age(SignedDuration::from_hours(48), bake, failing, seed)
    }

    /// The service began so long ago.
    fn of_age(age: SignedDuration, bake: &str, failing: f64, seed: u64) -> Self {
        let began = zero() - age;
        let mut world = World::new(&pilot(&watched(bake)), source(INTERVAL, 0), began, began);
        world.create_deployment("checkout", "v1", 3);
        world.traffic.set_value("p99", began, 1.0);
        world.per_second = 20.0;
        world.failing.insert("all".to_owned(), failing);
        world.settle();
        world.now = zero();
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { world, operator: Operator::default(), written: Vec::new(), figures: BTreeMap::new(), state }
    }

    /// A number between -1 and 1 (xorshift).
    fn chance(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are a float's own precision")]
        let unit = (self.state >> 11) as f64 / (1_u64 << 53) as f64;
        unit * 2.0 - 1.0
    }

    /// Evaluates for so many minutes; before each evaluation the world moves.
    fn run(&mut self, minutes: i64, mut step: impl FnMut(&mut Self)) {
        for _ in 0..minutes * 60 / INTERVAL {
            step(self);
            self.world.settle();
            self.look();
            self.world.pass_to(self.world.now + SignedDuration::from_secs(INTERVAL));
        }
    }

    fn look(&mut self) {
        let look = self.operator.look(&mut self.world);
        let status = projected(&self.world, &look.plan.ledger, self.written.last());
        if self.written.last() != Some(&status) {
            self.written.push(status);
        }
        *self.figures.entry(format!("{:?}", look.plan.figures)).or_default() += 1;
    }

    /// How many statuses were written while `run` ran.
    fn writes(&mut self, minutes: i64, step: impl FnMut(&mut Self)) -> usize {
        let before = self.written.len();
        self.run(minutes, step);
        self.written.len() - before
    }

    fn last(&self) -> &PilotStatus {
        self.written.last().unwrap()
    }
}

/// Each minute the share of failing requests walks at random about `around`, and so does the traffic.
fn walk(around: f64, reach: f64) -> impl FnMut(&mut Trial) {
    let (mut walked, mut looks) = (0.0_f64, 0);
    move |trial| {
        looks += 1;
        if looks % 4 != 0 {
            return;
        }
        walked = (walked + trial.chance() * 0.2).clamp(-1.0, 1.0);
        let per_second = (trial.world.per_second * (1.0 + trial.chance() * 0.1)).clamp(5.0, 60.0);
        trial.world.per_second = per_second;
        trial.world.failing.insert("all".to_owned(), (around + walked * reach).max(0.0));
    }
}

#[test]
fn live_traffic_that_nobody_would_act_on_causes_no_writes() {
    // Of the 1 % that may fail: a little; half, which is an edge; nearly all, so that burn and budget hover at theirs.
    for (failing, most) in [(0.001, 0), (0.005, 8), (0.0097, 12)] {
        let mut trial = Trial::new("30m", failing, 1);
        trial.run(45, walk(failing, failing / 5.0));
        trial.figures.clear();
        let writes = trial.writes(6 * 60, walk(failing, failing / 5.0));
        assert!(trial.figures.len() > 1400, "the figures moved only {} times", trial.figures.len());
        assert!(writes <= most, "{failing} of all requests fail: {writes} writes, for example\n{:#?}", trial.last());
    }
}

#[test]
fn a_budget_that_is_spent_is_written_once_for_each_edge_that_it_passes() {
    let mut trial = Trial::new("30m", 0.0, 1);
    trial.run(45, walk(0.0, 0.0));
    let before = trial.written.len();
    trial.run(8 * 60, walk(0.08, 0.02));
    let bands = |statuses: &[PilotStatus]| {
        let mut bands: Vec<String> =
            statuses.iter().filter_map(|status| status.slos.first()?.budget_remaining.clone()).collect();
        bands.dedup();
        bands
    };
    let passed = bands(&trial.written[before - 1..]);
    assert_eq!(passed, ["75-100%", "50-75%", "25-50%", "20-25%", "10-20%", "0-10%", "<0%"]);
}

#[test]
fn a_bake_that_waits_for_figures_is_written_when_it_stops_and_when_it_goes_on() {
    let mut trial = Trial::new("1h", 0.001, 1);
    trial.run(10, walk(0.001, 0.0002));
    trial.world.traffic.set_weather(Weather::All(Unknown::NoSeries));
    let paused = trial.writes(120, walk(0.001, 0.0002));
    assert_eq!(paused, 2, "what is unknown, and later that it has been so for too long: {:#?}", trial.last());
    let release = trial.last().release.as_ref().unwrap();
    assert_eq!((release.bake_paused_by, release.bake_until), (Some(BakePause::SloUnknown), None));
    let remaining = release.bake_remaining.unwrap().as_signed().as_secs();
    assert!((49 * 60..=51 * 60).contains(&remaining), "{remaining} s");

    // A process that starts now knows it from the status.
    trial.operator.crash();
    trial.world.traffic.set_weather(Weather::Fair);
    let resumed_at = trial.world.now;
    let resumed = trial.writes(30, walk(0.001, 0.0002));
    assert_eq!(resumed, 2, "what is known again, and a minute later that the bake goes on: {:#?}", trial.last());
    let release = trial.last().release.as_ref().unwrap();
    let ends = release.bake_until.unwrap().duration_since(resumed_at).as_secs();
    assert!((remaining - 15..=remaining + 15).contains(&ends), "{ends} s after it went on");
    trial.run(30, walk(0.001, 0.0002));
    assert_eq!(trial.last().release.as_ref().unwrap().state, ReleaseState::KnownGood);
}

#[test]
fn a_condition_that_comes_and_goes_pauses_a_bake_once() {
    let mut trial = Trial::new("1h", 0.001, 5);
    trial.run(5, walk(0.001, 0.0002));
    let mut left = 0;
    let writes = trial.writes(40, |trial| {
        // It holds and is clear for one to three looks at a time.
        left -= 1;
        if left <= 0 {
            let before = trial.world.traffic.value("p99");
            let now = trial.world.now;
            trial.world.traffic.set_value("p99", now, if before > 2.0 { 1.0 } else { 3.0 });
            left = if trial.chance() > 0.0 { 3 } else { 1 };
        }
    });
    assert!(writes <= 1, "{writes} writes, for example\n{:#?}", trial.last());
    // The pauses counted all the same: half of the time is still missing.
    trial.world.traffic.set_value("p99", trial.world.now, 1.0);
    trial.run(5, |_| {});
    let left = trial.last().release.as_ref().unwrap().bake_until.unwrap().duration_since(trial.world.now);
    assert!((15 * 60..=40 * 60).contains(&left.as_secs()), "{left:?}");
}

#[test]
fn a_young_service_is_warming_up_and_bakes() {
    let mut trial = Trial::of_age(SignedDuration::from_secs(5), "10m", 0.0, 1);
    trial.world.traffic.set_weather(Weather::OneSample);
    trial.run(1, |_| {});
    let told = |trial: &Trial| {
        let budget = trial.last().conditions.iter().find(|condition| condition.type_ == "BudgetHealthy").unwrap();
        (budget.reason.clone(), trial.last().release.as_ref().and_then(|release| release.bake_paused_by))
    };
    assert_eq!(told(&trial), ("WarmingUp".to_owned(), None));
    // No second sample for longer than samples may be apart: somebody has to look.
    trial.run(3, |_| {});
    assert_eq!(told(&trial), ("Unmeasured".to_owned(), Some(BakePause::SloUnknown)));
    trial.world.traffic.set_weather(Weather::Fair);
    trial.run(3, |_| {});
    assert_eq!(told(&trial), ("WithinBudget".to_owned(), None));
}
