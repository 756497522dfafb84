//! What is sent to a source: how many requests, with what in them.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pilotguard::observation::{Answer, Question, Reading, Unknown};
use pilotguard::observe::prometheus::{BreakerState, Credentials, Source};
use tokio::time::Instant;

use crate::fake::{Act, Fake, Request, json, one, response, vector};
use crate::pilot::{NOW, ask, counts, first_sample, pilot, problem, source_at, value};

fn source(spec: &pilotguard::api::metrics_source::MetricsSourceSpec, credentials: Credentials) -> Source {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Source::new("prometheus", spec, credentials).unwrap()
}

#[tokio::test]
async fn a_request_carries_all_that_was_declared() {
    let fake = Fake::always(one("1")).await;
    let mut spec = source_at(&format!("{}/prefix/", fake.url));
    spec.tenant = Some("team-a".to_owned());
    spec.query_offset = serde_json::from_str("\"1500ms\"").unwrap();
    let credentials = Credentials::default().bearer("token").unwrap();
    let source = source(&spec, credentials);
    ask(&source, &pilot("bad", "total"), &BTreeSet::from([value("vector(1)", NOW)]), NOW).await;
    let request = fake.requests().remove(0);
    assert_eq!(request.path, "/prefix/api/v1/query");
    for (name, expected) in [("x-scope-orgid", "team-a"), ("authorization", "Bearer token")] {
        assert_eq!(request.headers.get(name).map(String::as_str), Some(expected), "{name}");
    }
    let form = [
        ("query", "vector(1)"),
        ("time", "1763799998.750"),
        ("timeout", "5000ms"),
        ("partial_response", "false"),
        ("max_source_resolution", "0s"),
    ];
    for (name, expected) in form {
        assert_eq!(request.form.get(name).map(String::as_str), Some(expected), "{name}");
    }
}

#[tokio::test]
async fn an_instant_in_the_past_is_asked_in_the_past() {
    let fake = Fake::always(one("1763796400")).await;
    let source = source(&source_at(&fake.url), Credentials::default());
    let past = NOW - SignedDuration::from_hours(1);
    let answers = ask(&source, &pilot("bad", "total"), &BTreeSet::from([counts(past)]), NOW).await;
    assert!(matches!(answers[&counts(past)], Answer::Counts(Reading::Fresh(_))), "{answers:?}");
    assert!(fake.requests().iter().all(|request| request.form["time"] == "1763796400.250"));
    let answers = ask(&source, &pilot("bad", "total"), &BTreeSet::from([counts(NOW)]), NOW).await;
    assert_eq!(answers[&counts(NOW)], Answer::Counts(Reading::Unknown(Unknown::Stale)));
}

fn confirmed(question: Question) -> Question {
    match question {
        Question::Value { query, at, .. } => Question::Value { query, at, confirm: true },
        other => other,
    }
}

#[tokio::test]
async fn identical_queries_are_sent_once_but_a_confirmation_is_sent_again() {
    let fake = Fake::always(one("1763800000")).await;
    let source = source(&source_at(&fake.url), Credentials::default());
    // Both read x, and both ask for its age.
    let questions = BTreeSet::from([value("x", NOW), value("x + 0", NOW)]);
    ask(&source, &pilot("bad", "total"), &questions, NOW).await;
    let mut queries: Vec<_> = fake.requests().iter().map(|request| request.form["query"].clone()).collect();
    queries.sort();
    assert_eq!(queries, ["max(timestamp(x))", "x", "x + 0"]);
    let questions = BTreeSet::from([value("x", NOW), confirmed(value("x", NOW))]);
    ask(&source, &pilot("bad", "total"), &questions, NOW).await;
    assert_eq!(fake.requests().len(), 3 + 4);
}

#[tokio::test]
async fn few_requests_are_in_flight_and_fewer_of_one_pilot() {
    let pause = Duration::from_millis(50);
    let fake = Fake::always(Act::SendAfter(pause, response("200 OK", "application/json", &vector(&["1"], "")))).await;
    let source = source(&source_at(&fake.url), Credentials::default());
    let questions: BTreeSet<_> = (0..20).map(|number| value(&format!("vector({number})"), NOW)).collect();
    let declarations = ["one", "two", "three"].map(|name| {
        let mut declaration = pilot("bad", "total");
        declaration.pilot.name = name.to_owned();
        declaration
    });
    ask(&source, &declarations[0], &questions, NOW).await;
    assert_eq!((fake.requests().len(), fake.most_in_flight()), (20, 2));
    let asking = declarations.iter().map(|declaration| ask(&source, declaration, &questions, NOW));
    for answers in futures::future::join_all(asking).await {
        assert!(answers.values().all(|answer| *answer == Answer::Value(Reading::Fresh(1.0))), "{answers:?}");
    }
    assert_eq!((fake.requests().len(), fake.most_in_flight()), (80, 3), "the fourth is kept for confirmations");
    let confirmed: BTreeSet<_> = questions.into_iter().map(confirmed).collect();
    tokio::join!(ask(&source, &declarations[0], &confirmed, NOW), ask(&source, &declarations[1], &confirmed, NOW));
    assert_eq!(fake.most_in_flight(), 4);
}

#[tokio::test]
async fn a_stuck_source_holds_nobody_up_for_ever() {
    let fake = Fake::always(Act::Hang).await;
    let mut spec = source_at(&fake.url);
    spec.timeout = serde_json::from_str("\"300ms\"").unwrap();
    spec.evaluation_interval = serde_json::from_str("\"1s\"").unwrap();
    let source = source(&spec, Credentials::default());
    let questions: BTreeSet<_> = (0..100).map(|number| value(&format!("vector({number})"), NOW)).collect();
    let started = std::time::Instant::now();
    let answers = ask(&source, &pilot("bad", "total"), &questions, NOW).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(answers.values().all(|answer| *answer == Answer::Value(Reading::Unknown(Unknown::SourceUnavailable))));
}

#[tokio::test]
async fn with_a_namespace_label_no_query_leaves_without_it() {
    let fake = Fake::always(one("1763800000")).await;
    let mut spec = source_at(&fake.url);
    spec.namespace_label = Some("namespace".to_owned());
    let source = source(&spec, Credentials::default());
    let declaration = pilot(r#"requests{code=~"5..",namespace="other"}"#, "requests");
    let unparsable = value("rate(x[5m] anchored)", NOW);
    let questions = BTreeSet::from([counts(NOW), first_sample(), value("x / y offset 1w", NOW), unparsable.clone()]);
    let answers = ask(&source, &declaration, &questions, NOW).await;
    let queries: BTreeSet<_> = fake.requests().iter().map(|request| request.form["query"].clone()).collect();
    let total = r#"requests{namespace="shop"}"#;
    assert_eq!(
        queries,
        BTreeSet::from([
            r#"sum(increase(requests{code=~"5..",namespace="shop"}[300s]))"#.to_owned(),
            format!("sum(increase({total}[300s]))"),
            format!("max(timestamp({total})) or max(max_over_time(timestamp({total})[120s:5s]))"),
            format!(
                r#"min(label_replace(min(min_over_time(timestamp({total})[86400s:172800ms])), "pilotguard_part", "1", "", "") or label_replace(min(min_over_time(timestamp({total})[172800ms:2880ms])), "pilotguard_part", "2", "", "") or min(timestamp({total})))"#
            ),
            r#"x{namespace="shop"} / y{namespace="shop"} offset 1w"#.to_owned(),
            r#"max(timestamp(x{namespace="shop"}))"#.to_owned(),
            r#"max(timestamp(y{namespace="shop"}))"#.to_owned(),
        ])
    );
    assert_eq!(answers[&unparsable], Answer::Value(Reading::Unknown(Unknown::QueryRefused)));
    let problem = problem(&source).unwrap();
    assert_eq!(problem.reason, Unknown::QueryRefused);
    assert!(problem.message.contains("rate(x[5m] anchored)"), "{}", problem.message);
}

#[tokio::test]
async fn a_problem_ends_when_the_source_answers_again() {
    let fake = Fake::start(|request: &Request| match request.form["time"].as_str() {
        "1763800000.250" => Act::Close,
        "1763800001.250" => Act::Send(response("401 Unauthorized", "text/plain", "Bearer s3cr3t-token is wrong")),
        _ => one("1"),
    })
    .await;
    let credentials = Credentials::default().bearer("s3cr3t-token").unwrap();
    let source = source(&source_at(&fake.url), credentials);
    let ask = async |at: Timestamp| {
        ask(&source, &pilot("bad", "total"), &BTreeSet::from([value("vector(1)", at)]), at).await;
    };
    ask(NOW).await;
    assert_eq!(
        (problem(&source).map(|problem| problem.reason), source.is_unauthenticated()),
        (Some(Unknown::SourceUnavailable), false)
    );
    ask(NOW + SignedDuration::from_secs(1)).await;
    assert!(source.is_unauthenticated());
    assert!(!problem(&source).unwrap().message.contains("s3cr3t"));
    ask(NOW + SignedDuration::from_secs(2)).await;
    assert_eq!((problem(&source), source.is_unauthenticated()), (None, false));
}

#[tokio::test]
async fn a_server_that_echoes_credentials_does_not_get_them_into_a_message() {
    let echo = json(r#"{"status":"error","errorType":"internal","error":"you sent Bearer s3cr3t-token"}"#);
    let fake = Fake::always(echo).await;
    let credentials = Credentials::default().bearer("s3cr3t-token").unwrap();
    let source = source(&source_at(&fake.url), credentials);
    ask(&source, &pilot("bad", "total"), &BTreeSet::from([value("vector(1)", NOW)]), NOW).await;
    assert!(problem(&source).unwrap().message.ends_with("you sent Bearer <redacted>"));
}

fn refused(message: &str) -> Act {
    let body = format!(r#"{{"status":"error","errorType":"bad_data","error":"{message}"}}"#);
    Act::Send(response("400 Bad Request", "application/json", &body))
}

#[tokio::test]
async fn one_pilots_bad_query_is_told_to_nobody_else() {
    let fake = Fake::start(|request: &Request| match request.form["query"].as_str() {
        "broken" => refused("because"),
        _ => one("1"),
    })
    .await;
    let source = source(&source_at(&fake.url), Credentials::default());
    let ours = pilot("bad", "total");
    let mut other = ours.clone();
    other.pilot.name = "other".to_owned();
    ask(&source, &ours, &[value("broken", NOW)].into(), NOW).await;
    ask(&source, &other, &[value("vector(1)", NOW)].into(), NOW).await;
    assert_eq!((source.problem_for(&other.pilot), source.outage()), (None, None));
    assert_eq!(problem(&source).map(|problem| problem.reason), Some(Unknown::QueryRefused));
    ask(&source, &ours, &[value("vector(1)", NOW)].into(), NOW).await;
    assert_eq!(problem(&source), None);
}

#[tokio::test]
async fn a_problem_of_an_earlier_round_is_told_at_the_end() {
    let fake = Fake::start(|request: &Request| match request.form["query"].as_str() {
        "broken" => refused("because"),
        _ => one("1"),
    })
    .await;
    let source = source(&source_at(&fake.url), Credentials::default());
    let declaration = pilot("bad", "total");
    let mut look = source.converse(&declaration, Instant::now() + Duration::from_mins(1));
    look.ask(&[value("broken", NOW)].into(), NOW).await;
    look.ask(&[value("vector(1)", NOW)].into(), NOW).await;
    assert_eq!(look.end().problem.map(|problem| problem.reason), Some(Unknown::QueryRefused));
}

#[tokio::test]
async fn a_problem_reads_alike_from_evaluation_to_evaluation() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let fake = Fake::start(move |request: &Request| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        match request.form["query"].as_str() {
            "broken" => refused(&format!("parse error after {number} ms")),
            _ => Act::Send(response("503 Service Unavailable", "text/plain", &format!("{number} are waiting"))),
        }
    })
    .await;
    let source = source(&source_at(&fake.url), Credentials::default());
    for query in ["broken", "vector(1)"] {
        ask(&source, &pilot("bad", "total"), &[value(query, NOW)].into(), NOW).await;
        let first = problem(&source).unwrap();
        ask(&source, &pilot("bad", "total"), &[value(query, NOW)].into(), NOW).await;
        assert_eq!(problem(&source).unwrap(), first);
    }
    assert_eq!(source.outage().unwrap().reason, Unknown::SourceUnavailable);
}

#[tokio::test]
async fn a_source_that_hangs_is_found_out_and_not_waited_for() {
    let fake = Fake::always(Act::Hang).await;
    let mut spec = source_at(&fake.url);
    spec.timeout = serde_json::from_str("\"300ms\"").unwrap();
    let source = source(&spec, Credentials::default());
    let declaration = pilot("bad", "total");
    let questions: BTreeSet<_> = (0..20).map(|number| value(&format!("vector({number})"), NOW)).collect();
    let mut look = source.converse(&declaration, Instant::now() + Duration::from_mins(1));
    for _ in 0..2 {
        let answers = look.ask(&questions, NOW).await;
        assert_eq!(answers.len(), 20);
        assert!(answers.values().all(|answer| *answer == Answer::Value(Reading::Unknown(Unknown::SourceUnavailable))));
    }
    assert!(look.end().problem.unwrap().message.contains("no answer within 300ms"));
    assert_eq!(source.breaker(), BreakerState::Open);
    let asked = fake.requests().len();
    assert!(asked <= 6, "three in a row, what was in flight then, and a probe: {asked}");
    assert_eq!(source.outage().unwrap().reason, Unknown::SourceUnavailable);
    let mut other = declaration.clone();
    other.pilot.name = "other".to_owned();
    let answers = ask(&source, &other, &questions, NOW).await;
    assert!(answers.values().all(|answer| *answer == Answer::Value(Reading::Unknown(Unknown::SourceUnavailable))));
    assert!(source.problem_for(&other.pilot).unwrap().message.contains("no answer within 300ms"));
    assert_eq!(fake.requests().len(), asked, "what is known is not asked again");
}

#[tokio::test]
async fn an_evaluation_that_is_over_waits_for_no_answer() {
    let fake = Fake::always(Act::Hang).await;
    let mut spec = source_at(&fake.url);
    spec.timeout = serde_json::from_str("\"30s\"").unwrap();
    let source = source(&spec, Credentials::default());
    let declaration = pilot("bad", "total");
    let started = Instant::now();
    let mut look = source.converse(&declaration, started + Duration::from_millis(300));
    let answers = look.ask(&[counts(NOW), first_sample(), value("x", NOW)].into(), NOW).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(answers[&counts(NOW)], Answer::Counts(Reading::Unknown(Unknown::SourceUnavailable)));
    assert_eq!(answers.len(), 3);
    assert!(look.end().problem.unwrap().message.contains("look for slow queries"));
}

#[tokio::test]
async fn one_query_that_is_too_slow_is_no_outage() {
    let fake = Fake::start(|request: &Request| match request.form["query"].as_str() {
        "heavy" => Act::Hang,
        _ => one("1"),
    })
    .await;
    let mut spec = source_at(&fake.url);
    spec.timeout = serde_json::from_str("\"1s\"").unwrap();
    let source = source(&spec, Credentials::default());
    ask(&source, &pilot("bad", "total"), &[value("heavy", NOW), value("vector(1)", NOW)].into(), NOW).await;
    assert_eq!(source.outage(), None);
    let told = problem(&source).unwrap();
    assert!(told.message.contains("no answer within 1s; the query was "), "{}", told.message);
}
