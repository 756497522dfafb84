//! What opened an incident is data. Whatever a trigger is called, its incident lives and ends as that of any other.

use jiff::SignedDuration;
use pilotguard::api::incident::{Incident, IncidentOrigin, IncidentStage};
use serde_json::json;

use crate::pilots::zero;
use crate::story::{Event, Expectation, Outturn, Story, Word, play};

fn event(at: &str) -> Event {
    Event { at: at.to_owned(), ..Event::default() }
}

/// A bad release that is rolled back, applied again, and put there past admission; with a window that closes.
fn life(trigger: &str, words: &[(&str, &str)]) -> Outturn {
    let when = json!({"burnRate": {"slo": "availability", "long": "5m", "short": "1m", "factor": "10"}});
    let window = json!({"name": "mornings", "weekly": {"days": ["Mon"], "from": "08:00", "to": "11:00"}});
    let mut timeline = vec![
        Event { deploy: Some("v2".to_owned()), ..event("1h") },
        Event { errors: Some([("v2".to_owned(), 0.5)].into()), ..event("1h5m") },
        Event { deploy: Some("v2".to_owned()), ..event("1h40m") },
        Event { bypass: Some("v2".to_owned()), ..event("1h50m") },
    ];
    for (at, type_) in words {
        let type_ = serde_json::from_value(json!(type_)).unwrap();
        let word = Word { type_, by: "ada".to_owned(), lasts: None, release: None, fix: false, reason: None };
        timeline.push(Event { decide: Some(word), ..event(at) });
    }
    let story = Story {
        title: String::new(),
        telling: String::new(),
        pilot: json!({"triggers": [{"name": trigger, "when": when, "action": "Rollback"}],
                      "changes": {"windows": [window], "onWindowClose": "Revert", "unauthorized": "Rollback"}}),
        history: "10d".to_owned(),
        evaluation_interval: 15,
        query_offset: 0,
        faults: Vec::new(),
        timeline,
        until: "3h".to_owned(),
        expect: Expectation::default(),
    };
    play(&story)
}

#[test]
fn no_name_of_a_trigger_means_anything() {
    let words: [&[(&str, &str)]; 3] = [&[], &[("1h8m", "Rollback")], &[("1h20m", "HoldChanges"), ("1h25m", "Resume")]];
    for words in words {
        let plain = life("burn", words);
        for name in ["window-closed", "unauthorized", "person", "trigger", "incident", "policy"] {
            let life = life(name, words);
            let lines = |outturn: &Outturn| outturn.trace.lines().count();
            assert_eq!(lines(&life), lines(&plain), "{name}: {}\n{}", life.trace, plain.trace);
            let quarantined = |outturn: &Outturn| {
                outturn.world.deployments.iter().map(|it| it.quarantined.clone()).collect::<Vec<_>>()
            };
            assert_eq!(quarantined(&life), quarantined(&plain), "{name}");
            assert!(!quarantined(&life)[0].is_empty(), "{name}");
            assert_eq!((life.refusals, life.incidents), (plain.refusals, plain.incidents), "{name}");
        }
    }
}

fn stored(trigger: &str, evidence: &[&str]) -> Incident {
    let at = zero();
    let evidence: Vec<_> = evidence.iter().map(|name| json!({"trigger": name, "at": at, "text": "it burns"})).collect();
    let incident = json!({
        "id": "burn-1", "trigger": trigger, "openedAt": at, "stage": IncidentStage::Standing,
        "deadline": at + SignedDuration::from_mins(5), "declared": "Rollback", "action": "Rollback",
        "because": "change web-1 is blamed", "evidence": evidence,
    });
    serde_json::from_value(incident).unwrap()
}

#[test]
fn an_incident_of_an_older_version_is_read_by_its_evidence_first() {
    for (trigger, evidence, origin) in [
        ("burn", &["burn"][..], IncidentOrigin::Trigger),
        ("window-closed", &["window-closed"], IncidentOrigin::Trigger),
        ("person", &["person", "burn"], IncidentOrigin::Trigger),
        ("person", &[], IncidentOrigin::Person),
        ("person", &["burn"], IncidentOrigin::Person),
        ("window-closed", &[], IncidentOrigin::WindowClosed),
        ("unauthorized", &[], IncidentOrigin::Unauthorized),
        ("unauthorized", &["burn"], IncidentOrigin::Unauthorized),
    ] {
        assert_eq!(stored(trigger, evidence).origin(), origin, "{trigger} {evidence:?}");
    }
    let told = Incident { origin: Some(IncidentOrigin::WindowClosed), ..stored("burn", &["burn"]) };
    assert_eq!(told.origin(), IncidentOrigin::WindowClosed, "data counts, not names");
}

/// The record of a rollback says what was done, how verification went and why it ended.
#[test]
fn a_record_says_what_was_done_and_whether_it_helped() {
    let record = |outturn: &Outturn| {
        outturn.world.decisions.iter().filter(|it| it.is_record).map(|it| it.reason.clone()).next().unwrap()
    };
    let healthy = record(&life("burn", &[]));
    for part in [
        "rolled back Deployment checkout to shop/checkout:v1 (",
        "the service is healthy again over 1m, judged by burn",
        " to shop/checkout:v2 (",
    ] {
        assert!(healthy.contains(part), "{part:?} is missing: {healthy}");
    }
    let when = json!({"burnRate": {"slo": "availability", "long": "5m", "short": "1m", "factor": "10"}});
    let story = Story {
        title: String::new(),
        telling: String::new(),
        pilot: json!({"triggers": [{"name": "burn", "when": when, "action": "Rollback"}]}),
        history: "10d".to_owned(),
        evaluation_interval: 15,
        query_offset: 0,
        faults: Vec::new(),
        timeline: vec![
            Event { deploy: Some("v2".to_owned()), ..event("1h") },
            Event { errors: Some([("all".to_owned(), 0.5)].into()), ..event("1h5m") },
            Event { errors: Some([("all".to_owned(), 0.0)].into()), ..event("1h30m") },
        ],
        until: "2h".to_owned(),
        expect: Expectation::default(),
    };
    let late = record(&play(&story));
    for part in [
        "rolled back Deployment checkout to shop/checkout:v1 (",
        "the service is still unhealthy, judged by burn; its triggers are clear",
    ] {
        assert!(late.contains(part), "{part:?} is missing: {late}");
    }
}
