//! Pilots that ask alike: few queries, to everybody their own figures, and nobody suffers for another's selector.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures::future::join_all;
use jiff::SignedDuration;
use pilotguard::declaration::Declaration;
use pilotguard::observation::{Answer, Counts, Question, Reading, Unknown};
use pilotguard::observe::prometheus::{Credentials, Source};

use crate::fake::{Act, Fake, Request, json, response};
use crate::pilot::{NOW, ask, counts, first_sample, pilot, source_at};

/// The app whose series the source does not want to read.
const SICK: &str = "app-7";

/// What the sources of these tests do with a query that reads a sick series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sickness {
    Refused,
    Warned,
    Never,
    /// Not the query, but what running counts take is refused of every series.
    NoLastSample,
}

/// The values that a query selects of the label `app`.
fn apps(query: &str) -> Vec<String> {
    let from = |operator: &str| query.split_once(operator)?.1.split_once('"').map(|(values, _)| values);
    let values = from(r#"app=~""#).or_else(|| from(r#"app=""#)).unwrap();
    values.split('|').map(|value| value.replace(r"\\", "")).collect()
}

/// One row for each app; each counts as many events as its number.
fn rows(query: &str) -> String {
    let is_joined = query.contains("by (app)");
    let row = |app: &String| {
        let labels = if is_joined { format!(r#""app":"{app}""#) } else { String::new() };
        let number = app.trim_start_matches("app-");
        let value = if query.contains("timestamp(") { "1763800000" } else { number };
        format!(r#"{{"metric":{{{labels}}},"value":[1763800000,"{value}"]}}"#)
    };
    apps(query).iter().map(row).collect::<Vec<_>>().join(",")
}

fn answer(request: &Request, sickness: Option<Sickness>) -> Act {
    let query = &request.form["query"];
    if query == "vector(1)" {
        return crate::fake::one("1");
    }
    let is_sick = apps(query).iter().any(|app| app == SICK) || sickness == Some(Sickness::NoLastSample);
    let success = |more: &str| {
        let data = format!(r#"{{"resultType":"vector","result":[{}]}}"#, rows(query));
        json(&format!(r#"{{"status":"success","data":{data}{more}}}"#))
    };
    match sickness.filter(|_| is_sick) {
        Some(Sickness::NoLastSample) if !query.contains("last_over_time") => success(""),
        None => success(""),
        Some(Sickness::Warned) => success(r#","warnings":["mixed histograms"]"#),
        Some(Sickness::Refused | Sickness::NoLastSample) => {
            let body = r#"{"status":"error","errorType":"execution","error":"too many samples"}"#;
            Act::Send(response("422 Unprocessable Entity", "application/json", body))
        }
        Some(Sickness::Never) => Act::Hang,
    }
}

async fn source(sickness: Option<Sickness>) -> (Fake, Source) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fake = Fake::start(move |request| answer(request, sickness)).await;
    let mut spec = source_at(&fake.url);
    spec.timeout = serde_json::from_str("\"1s\"").unwrap();
    (fake, Source::new("prometheus", &spec, Credentials::default()).unwrap())
}

fn pilots(number: usize) -> Vec<Declaration> {
    let named = |number| {
        let mut declaration =
            pilot(&format!(r#"errors{{app="app-{number}"}}"#), &format!(r#"requests{{app="app-{number}"}}"#));
        declaration.pilot.name = format!("app-{number}");
        declaration
    };
    (1..=number).map(named).collect()
}

/// What each pilot is answered; all of them ask at once.
async fn ask_all(
    source: &Source,
    pilots: &[Declaration],
    questions: &BTreeSet<Question>,
) -> HashMap<String, Vec<Answer>> {
    let asked = pilots.iter().map(async |declaration| {
        let answers = ask(source, declaration, questions, NOW).await;
        (declaration.pilot.name.clone(), answers.into_values().collect())
    });
    join_all(asked).await.into_iter().collect()
}

fn own_counts(name: &str) -> Answer {
    let number = name.trim_start_matches("app-").parse().unwrap();
    Answer::Counts(Reading::Fresh(Counts { bad: number, total: number }))
}

#[tokio::test]
async fn what_many_pilots_ask_alike_is_asked_once() {
    let (fake, source) = source(None).await;
    let pilots = pilots(60);
    let answers = ask_all(&source, &pilots, &[counts(NOW), first_sample()].into()).await;
    assert_eq!(answers.len(), 60);
    for (name, answers) in &answers {
        assert_eq!(answers[0], own_counts(name), "{name}");
        assert!(matches!(answers[1], Answer::FirstSample(Reading::Fresh(_))), "{name}: {answers:?}");
    }
    // Newest sample, all and bad events, first sample.
    assert_eq!(fake.requests().len(), 4);
}

#[tokio::test]
async fn a_query_has_a_bounded_number_of_counters() {
    let (fake, source) = source(None).await;
    let pilots = pilots(250);
    ask_all(&source, &pilots, &[counts(NOW)].into()).await;
    assert_eq!(fake.requests().len(), 3 * 3);
    assert!(fake.requests().iter().all(|request| apps(&request.form["query"]).len() <= 100));
}

#[tokio::test]
async fn a_past_instant_and_a_confirmation_are_asked_by_each_alone() {
    let (fake, source) = source(None).await;
    let past = counts(NOW - SignedDuration::from_hours(1));
    let Question::Counts { slo, span, until, .. } = counts(NOW) else { unreachable!() };
    let confirmation = Question::Counts { slo, span, until, confirm: true };
    ask_all(&source, &pilots(5), &[past, confirmation].into()).await;
    assert_eq!(fake.requests().len(), 5 * 2 * 3);
    assert!(fake.requests().iter().all(|request| apps(&request.form["query"]).len() == 1));
}

#[tokio::test]
async fn one_sick_selector_spoils_nobody_elses_figures() {
    for (sickness, why) in [
        (Sickness::Refused, Unknown::QueryRefused),
        (Sickness::Warned, Unknown::Partial),
        (Sickness::Never, Unknown::SourceUnavailable),
    ] {
        let (fake, source) = source(Some(sickness)).await;
        let pilots = pilots(20);
        for round in 0..3 {
            let before = fake.requests().len();
            let begun = std::time::Instant::now();
            for (name, answers) in ask_all(&source, &pilots, &[counts(NOW)].into()).await {
                let expected = if name == SICK { Answer::Counts(Reading::Unknown(why)) } else { own_counts(&name) };
                assert_eq!(answers[0], expected, "{sickness:?}, round {round}: {name}");
            }
            let asked = fake.requests().len() - before;
            // From then on the sick one asks alone, the others together, for all that was found: in fewer at a time at first.
            let most = if round == 0 { 3 + 3 * 20 + 1 } else { 3 * 2 + 3 + 1 };
            assert!(asked <= most, "{sickness:?}, round {round}: {asked} queries in {:?}", begun.elapsed());
        }
        let told = |declaration: &Declaration| source.problem_for(&declaration.pilot).is_some();
        let complaining: Vec<_> = pilots.iter().filter(|it| told(it)).map(|it| it.pilot.name.as_str()).collect();
        assert_eq!(complaining, [SICK], "{sickness:?}");
    }
}

/// The whole window of the SLO.
fn day() -> Question {
    let Question::Counts { slo, until, confirm, .. } = counts(NOW) else { unreachable!() };
    Question::Counts { slo, span: SignedDuration::from_hours(24), until, confirm }
}

#[tokio::test]
async fn a_long_window_is_read_whole_where_the_source_refuses_what_a_running_count_takes() {
    let (fake, source) = source(Some(Sickness::NoLastSample)).await;
    let pilots = pilots(1);
    let questions = [day()].into();
    let first = ask_all(&source, &pilots, &questions).await;
    assert_eq!(first["app-1"][0], Answer::Counts(Reading::Unknown(Unknown::QueryRefused)));
    for _ in 0..3 {
        assert_eq!(ask_all(&source, &pilots, &questions).await["app-1"][0], own_counts("app-1"));
    }
    let whole = fake.requests().iter().filter(|request| request.form["query"].contains("[86400s]")).count();
    assert_eq!(whole, 3 * 2);
}

#[tokio::test]
async fn who_gives_up_waiting_is_not_asked_for() {
    let (fake, source) = source(None).await;
    let pilots = pilots(3);
    let questions = [counts(NOW)].into();
    let hurried = tokio::time::timeout(Duration::from_millis(20), ask(&source, &pilots[0], &questions, NOW));
    let (given_up, answers) = tokio::join!(hurried, ask_all(&source, &pilots[1..], &questions));
    assert!(given_up.is_err());
    assert_eq!(answers["app-2"][0], own_counts("app-2"));
    assert!(fake.requests().iter().all(|request| apps(&request.form["query"]) == ["app-2", "app-3"]));
}
