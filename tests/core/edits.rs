//! What is remembered belongs to the declaration that it was learned under: after an edit a running operator does what
//! one does that has just been started with the same objects.

use std::collections::BTreeMap;

use pilotguard::api::decision::DecisionType;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::story::{Event, Expectation, Metrics, Story, Word, play};
use crate::world::DATA;

fn pilot(trigger: &Value) -> Value {
    let ratio = json!({"bad": "requests_total{code=\"500\"}", "total": "requests_total"});
    let slo = json!({"name": "availability", "target": "99", "window": {"rolling": "1h"}, "minEvents": 50,
                     "warmup": "0s", "noData": {"after": "2m"}, "indicator": {"ratio": ratio}});
    json!({"metricsSource": "default", "slos": [slo], "triggers": [trigger],
           "changes": {"windows": [{"name": "always", "always": true}], "bake": "10m"}})
}

fn trigger() -> impl Strategy<Value = Value> {
    let burn = json!({"burnRate": {"slo": "availability", "long": "5m", "short": "1m", "factor": "10"}});
    let budget = json!({"errorBudget": {"slo": "availability", "remainingBelow": "50"}});
    let actions = vec![("Rollback", "HoldChanges"), ("ScaleDown", "HoldChanges"), ("HoldChanges", "Notify")];
    (prop::sample::select(vec![burn, budget]), prop::sample::select(actions)).prop_map(|(when, (action, otherwise))| {
        json!({"name": "burn", "when": when, "action": action, "otherwise": otherwise, "for": "2m",
                   "clearAfter": "2m", "decisionWindow": "3m", "shortWindow": "1m", "scaleDownTo": 0})
    })
}

/// One edit of anything that a figure, a timer or a latch depends on.
fn edit() -> impl Strategy<Value = (&'static str, Value)> {
    prop::sample::select(vec![
        ("/metricsSource", json!("other")),
        (DATA, json!(2)),
        ("/slos/0/indicator/ratio/total", json!("requests_total{app=\"checkout\"}")),
        ("/slos/0/indicator/ratio/bad", json!("requests_total{code=~\"5..\"}")),
        ("/slos/0/target", json!("98")),
        ("/slos/0/target", json!("99.5")),
        ("/slos/0/window/rolling", json!("7d")),
        ("/slos/0/window/rolling", json!("10m")),
        ("/slos/0/minEvents", json!(500)),
        ("/slos/0/warmup", json!("1m")),
        ("/slos/0/noData/after", json!("1m")),
        ("/triggers/0/for", json!("1m")),
        ("/triggers/0/clearAfter", json!("1m")),
        ("/triggers/0/decisionWindow", json!("1m")),
        ("/triggers/0/shortWindow", json!("2m")),
        ("/triggers/0/action", json!("ScaleDown")),
        ("/triggers/0/otherwise", json!("ScaleDown")),
        ("/triggers/0/scaleDownTo", json!(1)),
        ("/triggers/0/when", json!({"errorBudget": {"slo": "availability", "remainingBelow": "80"}})),
        ("/triggers/0/when", json!({"burnRate": {"slo": "availability", "long": "5m", "short": "1m", "factor": "5"}})),
    ])
}

fn step() -> impl Strategy<Value = Event> {
    let share = prop::sample::select(vec![0.0, 0.0, 0.02, 0.3, 1.0]);
    let release = prop::sample::select(vec!["v1", "v2", "v3"]);
    let weather = prop::sample::select(vec![Metrics::Up, Metrics::Up, Metrics::Down, Metrics::NaN, Metrics::Silent]);
    let word = prop::sample::select(vec![DecisionType::Continue, DecisionType::Resume, DecisionType::Rollback]);
    prop_oneof![
        3 => release.prop_map(|release| Event { deploy: Some(release.to_owned()), ..Event::default() }),
        5 => share.prop_map(|share| Event {
            errors: Some(BTreeMap::from([("all".to_owned(), share)])),
            ..Event::default()
        }),
        1 => weather.prop_map(|metrics| Event { metrics: Some(metrics), ..Event::default() }),
        1 => word.prop_map(|type_| Event {
            decide: Some(Word {
                type_,
                by: "ada".to_owned(),
                lasts: (type_ == DecisionType::Continue).then(|| "10m".to_owned()),
                release: None,
                fix: false,
                reason: None,
            }),
            ..Event::default()
        }),
    ]
}

/// A short life in which the Pilot is edited; with `restarts` the operator starts anew at that instant.
fn story(pilot: &Value, steps: &[(Event, i64)], (edit, at): (&(&str, Value), i64), restarts: bool) -> Story {
    let mut seconds = 600;
    let mut timeline = Vec::new();
    for (event, wait) in steps {
        timeline.push(Event { at: format!("{seconds}s"), ..event.clone() });
        seconds += wait * 15;
    }
    let at = format!("{}s", 600 + at * 15);
    let (pointer, value) = edit;
    let edits = BTreeMap::from([((*pointer).to_owned(), value.clone())]);
    timeline.push(Event { at, edit: Some(edits), crash: restarts, ..Event::default() });
    Story {
        title: String::new(),
        telling: String::new(),
        pilot: pilot.clone(),
        history: "20m".to_owned(),
        evaluation_interval: 15,
        query_offset: 0,
        faults: Vec::new(),
        timeline,
        until: format!("{}s", seconds + 2400),
        expect: Expectation::default(),
    }
}

fn told(story: &Story) -> String {
    let trace = play(story).trace;
    trace.lines().filter(|line| !line.ends_with("the operator restarts")).collect::<Vec<_>>().join("\n")
}

proptest! {
    #![proptest_config(crate::properties::bounded(30))]

    #[test]
    fn an_edited_pilot_is_treated_as_by_an_operator_that_has_just_started(
        trigger in trigger(),
        steps in prop::collection::vec((step(), 1..30_i64), 2..7),
        edit in edit(),
        at in 0..120_i64,
    ) {
        let pilot = pilot(&trigger);
        let (pointer, value) = &edit;
        prop_assume!(pilot.pointer(pointer) != Some(value), "what is written anew and the same is no edit");
        // A burn rate brings its own short window.
        let is_unused = *pointer == "/triggers/0/shortWindow" && !trigger["when"]["burnRate"].is_null();
        prop_assume!(!is_unused, "a field that means nothing for this trigger is no edit of it");
        let running = told(&story(&pilot, &steps, (&edit, at), false));
        let started = told(&story(&pilot, &steps, (&edit, at), true));
        prop_assert_eq!(running, started);
    }
}

/// The timers are gone, so nobody knows whether a condition has held for most of its `for`.
#[test]
fn no_bake_ends_at_once_on_other_data() {
    let trigger = json!({"name": "burn", "action": "HoldChanges", "for": "2m",
                         "when": {"burnRate": {"slo": "availability", "long": "5m", "short": "1m", "factor": "10"}}});
    // At 10:00, when the bake is about to end.
    let ends = |restarts| told(&story(&pilot(&trigger), &[], (&(DATA, json!(2)), 0), restarts));
    assert_eq!(ends(false), ends(true));
    assert!(ends(false).contains("0:12:00   release v1 KnownGood"), "{}", ends(false));
}

/// An owner lets a release keep running that fails 30 % of its requests, and the source reads other data from then on, on
/// which all requests fail. Whoever compares the two burn rates ends the Continue before its time.
#[test]
fn no_continue_ends_early_on_other_data() {
    let trigger = json!({"name": "burn", "action": "HoldChanges", "for": "2m", "decisionWindow": "3m",
                         "when": {"burnRate": {"slo": "availability", "long": "5m", "short": "1m", "factor": "10"}}});
    let errors = |share| Event { errors: Some(BTreeMap::from([("all".to_owned(), share)])), ..Event::default() };
    let word = Word {
        type_: DecisionType::Continue,
        by: "ada".to_owned(),
        lasts: Some("10m".to_owned()),
        release: None,
        fix: false,
        reason: None,
    };
    let word = Event { decide: Some(word), ..Event::default() };
    let steps = [(errors(0.3), 17), (word, 14), (errors(1.0), 1)];
    let other = (DATA, json!(2));
    for restarts in [false, true] {
        let told = told(&story(&pilot(&trigger), &steps, (&other, 17), restarts));
        assert!(told.contains("0:24:15   incident burn-566f06ed: DecisionWindow"), "{told}");
    }
    // On the same data it ends early.
    let (pointer, value) = ("/intent/summary", json!("Another"));
    let told = told(&story(&pilot(&trigger), &steps, (&(pointer, value), 17), true));
    assert!(told.contains("0:18:15   incident burn-566f06ed: DecisionWindow"), "{told}");
}

/// A team that edits something else now and then must not lose its timers.
#[test]
fn an_edit_of_something_else_forgets_nothing() {
    let trigger = json!({"name": "burn", "action": "HoldChanges", "for": "2m", "clearAfter": "2m", "decisionWindow": "0s",
                         "when": {"burnRate": {"slo": "availability", "long": "5m", "short": "1m", "factor": "10"}}});
    let steps = [(Event { errors: Some(BTreeMap::from([("all".to_owned(), 1.0)])), ..Event::default() }, 1)];
    let opened = |edit: &(&str, Value)| play(&story(&pilot(&trigger), &steps, (edit, 8), false)).opened_at;
    let unedited = opened(&("/slos/0/target", json!("99")));
    assert!(unedited.is_some());
    for edit in
        [("/intent/summary", json!("Another")), ("/changes/bake", json!("20m")), ("/rollback/maxAge", json!("8d"))]
    {
        assert_eq!(opened(&edit), unedited, "{edit:?}");
    }
    assert!(opened(&("/triggers/0/clearAfter", json!("3m"))) > unedited, "an edited trigger begins anew");
}
