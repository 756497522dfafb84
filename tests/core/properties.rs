//! What must hold in every history: random worlds, random words, and a shell that fails at random.
//!
//! Most of it is asserted where it happens: at each act (`world::check_act`), at each evaluation (`operator`), at each
//! write (`operator::store`, `story::check_status`). Here is what makes the histories, and how each must end.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use pilotguard::api::decision::DecisionType;
use pilotguard::api::incident::IncidentStage;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use crate::operator::Fault;
use crate::story::{Driver, Event, Expectation, Metrics, Story, Word, play};

fn burn(name: &str, action: &str, otherwise: &str, decision_window: &str) -> Value {
    let when = json!({"burnRate": {"slo": "availability", "long": "5m", "short": "1m", "factor": "10"}});
    json!({"name": name, "when": when, "action": action, "otherwise": otherwise, "decisionWindow": decision_window,
           "scaleDownTo": 1})
}

/// Pilots that differ in what they do and how fast.
fn pilots() -> impl Strategy<Value = Value> {
    let budget = json!({"name": "budget", "when": {"errorBudget": {"slo": "availability", "remainingBelow": "95"}},
                        "action": "Rollback", "otherwise": "HoldChanges", "for": "1m", "decisionWindow": "2m"});
    let slow = json!({"name": "slow", "when": {"burnRate": {"slo": "availability", "long": "1h", "short": "10m",
                      "factor": "3"}}, "action": "Rollback", "otherwise": "ScaleDown", "decisionWindow": "3m"});
    let stuck = json!({"name": "stuck", "when": {"workload": {"condition": "ProgressDeadlineExceeded"}},
                       "action": "Rollback", "for": "0s", "decisionWindow": "1m"});
    let failures = json!({"name": "failures", "when": {"consecutiveFailedChanges": {"count": 2}},
                          "action": "HoldChanges", "for": "0s", "decisionWindow": "0s"});
    let latency = json!({"name": "latency", "when": {"promql": {"query": "p99", "operator": "GT", "threshold": "2"}},
                         "action": "Rollback", "decisionWindow": "2m"});
    let sets = vec![
        json!([burn("burn", "Rollback", "HoldChanges", "4m"), budget, stuck]),
        json!([burn("burn", "Rollback", "ScaleDown", "0s"), slow, failures]),
        json!([burn("burn", "ScaleDown", "HoldChanges", "2m"), latency]),
        json!([burn("notice", "Notify", "HoldChanges", "10m"), latency, budget, failures]),
    ];
    let workloads = vec![
        json!([{"name": "checkout"}]),
        json!([{"name": "checkout"}]),
        json!([{"name": "checkout"}, {"name": "worker"}]),
        json!([{"name": "checkout"}, {"name": "worker", "kind": "StatefulSet"}]),
        json!([{"name": "checkout", "kind": "StatefulSet"}, {"name": "worker"}]),
        json!([{"name": "checkout"}, {"name": "worker"}, {"name": "cache"}]),
    ];
    let bakes = vec!["10m", "20m"];
    let unauthorized = prop::sample::select(vec!["Notify", "Rollback"]);
    let choices = (
        prop::sample::select(sets),
        prop::sample::select(bakes),
        any::<bool>(),
        prop::sample::select(workloads),
        unauthorized,
    );
    choices.prop_map(|(triggers, bake, depends, workloads, unauthorized)| {
        let dependencies = if depends { json!([{"name": "payments", "query": "payments_down"}]) } else { json!([]) };
        json!({"triggers": triggers, "workloads": workloads, "constraints": {"dependencies": dependencies},
                   "changes": {"windows": [{"name": "always", "always": true}], "bake": bake,
                               "unauthorized": unauthorized}})
    })
}

fn release() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["v1", "v2", "v3", "v4"]).prop_map(str::to_owned)
}

fn workload() -> impl Strategy<Value = Option<String>> {
    prop::sample::select(vec!["checkout", "checkout", "worker", "cache"]).prop_map(|name| Some(name.to_owned()))
}

fn word() -> impl Strategy<Value = Word> {
    let types = vec![
        DecisionType::Continue,
        DecisionType::Rollback,
        DecisionType::ScaleDown,
        DecisionType::HoldChanges,
        DecisionType::Resume,
        DecisionType::Resume,
        DecisionType::Readmit,
        DecisionType::Override,
        DecisionType::Approve,
    ];
    (prop::sample::select(types), prop::sample::select(vec!["ada", "grace"]), release()).prop_map(
        |(type_, by, release)| Word {
            type_,
            by: by.to_owned(),
            lasts: matches!(type_, DecisionType::Continue | DecisionType::Override).then(|| "20m".to_owned()),
            fix: type_ == DecisionType::Override && release != "v2",
            release: matches!(type_, DecisionType::Readmit | DecisionType::Override | DecisionType::Approve)
                .then_some(release),
            reason: None,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let blank = Event::default;
    let share = prop::sample::select(vec![0.0, 0.0, 0.05, 0.5, 1.0]);
    let scope = prop::sample::select(vec!["v1", "v2", "v2", "v3", "v4", "all"]);
    let metrics = prop::sample::select(vec![
        Metrics::Up,
        Metrics::Up,
        Metrics::Down,
        Metrics::NaN,
        Metrics::Partial,
        Metrics::Silent,
    ]);
    let value = prop::sample::select(vec![0.0, 1.0, 3.0]);
    prop_oneof![
        6 => (release(), workload()).prop_map(move |(release, workload)| Event {
            deploy: Some(release),
            workload,
            ..blank()
        }),
        8 => (scope, share).prop_map(move |(scope, share)| Event {
            errors: Some(BTreeMap::from([(scope.to_owned(), share)])),
            ..blank()
        }),
        3 => metrics.prop_map(move |metrics| Event { metrics: Some(metrics), ..blank() }),
        3 => word().prop_map(move |word| Event { decide: Some(word), ..blank() }),
        2 => (prop::sample::select(vec!["payments_down", "p99"]), value).prop_map(move |(query, value)| Event {
            values: Some(BTreeMap::from([(query.to_owned(), value)])),
            ..blank()
        }),
        1 => prop::sample::select(vec![0.0, 0.05, 10.0]).prop_map(move |rate| Event { traffic: Some(rate), ..blank() }),
        2 => past_admission(),
        1 => (release(), workload()).prop_map(move |(release, workload)| Event {
            stuck: Some(release.clone()).filter(|release| release != "v1"),
            deploy: Some(release),
            workload,
            ..blank()
        }),
        1 => workload().prop_map(move |workload| Event {
            unsafe_reason: Some("a migration".to_owned()),
            workload,
            ..blank()
        }),
        1 => workload().prop_map(move |workload| Event {
            driven_by: Some(Driver::Flagger),
            workload,
            ..blank()
        }),
        1 => Just(Event { crash: true, ..blank() }),
        1 => Just(Event { scale: Some(4), ..blank() }),
        1 => Just(Event { lose_status: true, ..blank() }),
        1 => workload().prop_map(move |workload| Event {
            delete: true,
            create: Some("v1".to_owned()),
            workload,
            ..blank()
        }),
    ]
}

/// A release that appears without having been judged, with or without a reason to it.
fn past_admission() -> impl Strategy<Value = Event> {
    (release(), workload(), prop::option::of(0..3_u8)).prop_map(|(release, workload, reason)| match reason {
        Some(reason) => {
            let break_glass = Some((release, format!("outage {reason}")));
            Event { workload, break_glass, ..Event::default() }
        }
        None => Event { bypass: Some(release), workload, ..Event::default() },
    })
}

fn fault() -> impl Strategy<Value = (usize, Fault)> {
    let fault = prop_oneof![
        Just(Fault::CrashBeforeWrite),
        Just(Fault::CrashAfterWrite),
        (0..3_usize).prop_map(Fault::CrashAfterEffects),
        (0..3_usize).prop_map(Fault::EffectLost),
        (0..3_usize).prop_map(Fault::AnswerLost),
        Just(Fault::Twice),
        Just(Fault::Reversed),
        (5..90_i64).prop_map(Fault::Stale),
    ];
    (0..12_usize, fault)
}

/// At least twelve steps and two faults, then an hour in which nothing more happens and everything is measured.
fn history() -> impl Strategy<Value = Story> {
    let steps = prop::collection::vec((event(), 1..40_i64), 12..22);
    let faults = prop::collection::vec(fault(), 2..30);
    let past = prop::option::of(any::<u64>());
    (pilots(), steps, faults, 0..2_i64, past).prop_map(|(pilot, steps, faults, offset, past)| {
        let mut seconds = 1500;
        let mut timeline = vec![Event { past, ..values_at_start() }];
        for (event, wait) in steps {
            timeline.push(Event { at: format!("{seconds}s"), ..event });
            seconds += wait * 15;
        }
        timeline.push(Event { at: format!("{seconds}s"), metrics: Some(Metrics::Up), ..Event::default() });
        Story {
            title: String::new(),
            telling: String::new(),
            pilot,
            history: "10d".to_owned(),
            evaluation_interval: 30,
            query_offset: offset * 10,
            faults,
            timeline,
            until: format!("{}s", seconds + 3600),
            expect: Expectation::default(),
        }
    })
}

fn values_at_start() -> Event {
    let values = BTreeMap::from([("payments_down".to_owned(), 0.0), ("p99".to_owned(), 1.0)]);
    Event { at: "0s".to_owned(), values: Some(values), ..Event::default() }
}

/// The same cases in each run, so that no change fails because of a fault that was there before; with `PROPTEST_CASES`, as
/// many new ones.
pub fn bounded(cases: u32) -> ProptestConfig {
    let config = ProptestConfig { max_shrink_time: 60_000, failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return config;
    }
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(1), ..config }
}

proptest! {
    #![proptest_config(bounded(60))]

    /// However the shell fails: each act is carried out once, upon a stored intent, to a release that is not
    /// quarantined; replicas come back only by a Resume; and once all is quiet every incident has come to rest.
    #[test]
    fn no_history_acts_twice_or_without_cause(story in history()) {
        let outturn = play(&story);
        let incident = outturn.world.status.incident.as_ref();
        let stage = incident.map(|incident| incident.stage);
        // A budget that is spent slowly may fire at the very end: what began shortly before that may still be under way.
        let lately = outturn.world.now - SignedDuration::from_mins(30);
        let is_just_open = incident.is_some_and(|incident| {
            incident.opened_at >= lately || incident.evidence.iter().any(|evidence| evidence.at >= lately)
        });
        prop_assert!(
            is_just_open || matches!(stage, None | Some(IncidentStage::Standing)),
            "after an hour of quiet: {stage:?}\n{}", outturn.trace
        );
        let undecided = outturn.world.decisions.iter().filter(|decision| decision.is_unjudged()).count();
        prop_assert_eq!(undecided, 0, "Decisions were left unjudged");
        for deployment in &outturn.world.deployments {
            prop_assert!(!deployment.owes_fields, "fields were not given back\n{}", outturn.trace);
            let most = deployment.contained.as_ref().map(|contained| contained.replicas);
            // What another controller makes of it is left to that.
            let is_kept = deployment.foreign.is_some() || most.is_none_or(|most| deployment.replicas <= most);
            prop_assert!(is_kept, "it grew\n{}", outturn.trace);
        }
        for (act, times) in &outturn.world.acts {
            prop_assert_eq!(*times, 1, "{:?}", act);
        }
    }

    /// Where no failure is ever measured, nothing is ever done, whatever is unknown and whatever the shell does.
    #[test]
    fn what_is_never_measured_is_never_acted_on(mut story in history(), why in prop::sample::select(
        vec![Metrics::Down, Metrics::NaN, Metrics::Partial, Metrics::Silent])) {
        for event in &mut story.timeline {
            event.decide = None;
            event.stuck = None;
            event.metrics = None;
            event.past = None;
            event.values = event.values.take().filter(|_| event.at == "0s");
        }
        story.pilot["changes"]["unauthorized"] = json!("Notify");
        story.timeline.push(Event { at: "1400s".to_owned(), metrics: Some(why), ..Event::default() });
        for trigger in story.pilot["triggers"].as_array_mut().unwrap() {
            trigger["for"] = json!("0s");
        }
        let outturn = play(&story);
        prop_assert!(outturn.world.acts.is_empty(), "{}", outturn.trace);
        prop_assert_eq!(outturn.incidents, 0, "{}", outturn.trace);
    }
}
