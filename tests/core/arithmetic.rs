//! Figures of the objectives against an independent calculation (Python), asked through the
//! same door as everything else: what one evaluation finds.

use jiff::SignedDuration;
use pilotguard::api::decimal::Decimal;
use pilotguard::api::status::SloStatus;
use pilotguard::decide::plan::SloFigures;
use serde_json::{Value, json};

use crate::operator::Operator;
use crate::pilots::{duration, pilot, source, zero};
use crate::world::World;

/// The status and the figures of the objective after one look at a service that had `per_second` events for `history` and then
/// one batch of `total` events of which `bad` failed.
fn look_at(slo: &Value, history: &str, per_second: f64, (total, bad): (f64, f64)) -> (SloStatus, SloFigures) {
    let triggers = json!([
        {"name": "fast", "when": {"burnRate": {"slo": "availability", "long": "1h", "short": "5m", "factor": "13.4"}}, "action": "Notify"},
        {"name": "slow", "when": {"burnRate": {"slo": "availability", "long": "6h", "short": "30m", "factor": "3.5"}}, "action": "Notify"},
    ]);
    let mut slo = slo.clone();
    let ratio = json!({"ratio": {"bad": "requests_total{code=\"500\"}", "total": "requests_total"}});
    json_patch::merge(&mut slo, &json!({"name": "availability", "indicator": ratio}));
    let start = (zero() - SignedDuration::from_hours(24 * 400)).to_string();
    let over = json!({"slos": [slo], "triggers": triggers, "intent": {"start": start}});
    let mut world = World::new(&pilot(&over), source(15, 0), zero(), zero() - duration(history));
    world.now = zero() - duration(history);
    world.create_deployment("checkout", "v1", 3);
    world.per_second = per_second;
    world.settle();
    world.now = zero();
    world.traffic.burst(zero(), total, bad);
    let mut plan = Operator::default().look(&mut world).plan;
    (world.status.slos.remove(0), plan.figures.remove(0))
}

/// To two digits.
fn text(figure: f64) -> String {
    Decimal::rounded(figure, 2).map_or("-".to_owned(), |figure| figure.to_string())
}

#[test]
fn figures_match_an_independent_calculation() {
    let week = json!({"target": "99.5", "window": {"rolling": "7d"}});
    let month = json!({"target": "99.9", "window": {"rolling": "28d"}});
    let three = json!({"target": "95", "window": {"rolling": "3d"}});
    // objective, history, events per second, (total, bad); error ratio, remaining budget, burn over 5m, 30m, 1h and 6h.
    let rows = [
        // A full week of 1/s is 604 800 events, of which 3 024 may fail.
        (&week, "10d", 1.0, (100.0, 100.0), ["0.00017", "0.97"], ["50", "11", "5.4", "0.92"]),
        (&week, "10d", 1.0, (2000.0, 1512.0), ["0.0025", "0.5"], ["130", "80", "54", "13"]),
        (&week, "10d", 1.0, (6100.0, 6100.0), ["0.01", "-1"], ["190", "150", "130", "44"]),
        // Seven of 28 days: 605 800 events stand for 2 423 200, of which 2 423 may fail; unprojected 60 % would remain.
        (&month, "7d", 1.0, (1000.0, 242.0), ["0.0004", "0.9"], ["190", "86", "53", "11"]),
        (&three, "10d", 0.0, (200.0, 10.0), ["0.05", "0"], ["1", "1", "1", "1"]),
        (&three, "10d", 0.0, (200.0, 13.0), ["0.065", "-0.3"], ["1.3", "1.3", "1.3", "1.3"]),
    ];
    for (slo, history, per_second, burst, [ratio, budget], burns) in rows {
        let (_, figures) = look_at(slo, history, per_second, burst);
        let windows: Vec<&str> = figures.burn.iter().map(|(window, _)| window.as_str()).collect();
        assert_eq!(windows, ["5m", "30m", "1h", "6h"]);
        let burn: Vec<String> = figures.burn.iter().map(|(_, rate)| text(*rate)).collect();
        let figures = (text(figures.error_ratio.unwrap()), text(figures.budget_remaining.unwrap()), burn);
        let expected = (ratio.to_owned(), budget.to_owned(), burns.map(str::to_owned).to_vec());
        assert_eq!(figures, expected, "{slo} {history} {per_second}/s {burst:?}");
    }
}

#[test]
fn verdicts_need_certainty_and_say_what_they_lack() {
    let slo = json!({"target": "99", "window": {"rolling": "7d"}});
    // Lower Wilson bounds at z = 2.326: 2/60 is 0.75 %, 3/60 is 1.43 %, 6/60 is 4.07 %.
    for (batch, verdict) in [((60.0, 2.0), "Ok"), ((60.0, 3.0), "Breach"), ((60.0, 6.0), "Breach"), ((60.0, 0.0), "Ok")]
    {
        let (status, _) = look_at(&slo, "10d", 0.0, batch);
        assert_eq!((format!("{:?}", status.verdict).as_str(), status.reason), (verdict, None), "{batch:?}");
    }
    let (quiet, _) = look_at(&slo, "10d", 0.0, (49.0, 49.0));
    assert_eq!(quiet.reason.as_deref(), Some("LowTraffic"));
    assert_eq!(
        look_at(&json!({"target": "99", "window": {"rolling": "7d"}, "minEvents": 49}), "10d", 0.0, (49.0, 49.0))
            .0
            .reason,
        None
    );
    let warm = json!({"target": "99", "window": {"rolling": "7d"}, "warmup": "500d"});
    assert_eq!(look_at(&warm, "10d", 1.0, (0.0, 0.0)).0.reason.as_deref(), Some("WarmingUp"));
}
