//! Whatever a source answers, figures are believed or they are Unknown with the right reason.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use pilotguard::api;
use pilotguard::observation::{Answer, Counts, Reading, Unknown};
use pilotguard::observe::prometheus::{Credentials, Problem, Source};

use crate::fake::{Act, Fake, json, one, response, vector};
use crate::pilot::{NOW, ask, counts, first_sample, pilot, problem, source_at, value};

const FIGURE: &str = "1763800000";
/// Far above what any answer needs that is going to come.
const PATIENT: &str = "20s";
const HTML: &str = "<html><h1>Sign in</h1></html>";

/// Asks all kinds of questions of a source that answers each query alike.
async fn ask_all(url: &str, timeout: &str) -> (Vec<Answer>, Option<Problem>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut spec = source_at(url);
    spec.timeout = api::duration::Duration::parse(timeout).unwrap();
    let source = Source::new("prometheus", &spec, Credentials::default()).unwrap();
    let questions = BTreeSet::from([counts(NOW), first_sample(), value("x", NOW)]);
    let declaration = pilot("bad", "total");
    let asked = ask(&source, &declaration, &questions, NOW);
    let answers = tokio::time::timeout(Duration::from_mins(1), asked).await.expect("every wait has a deadline");
    assert_eq!(answers.keys().collect::<Vec<_>>(), questions.iter().collect::<Vec<_>>());
    (answers.into_values().collect(), problem(&source))
}

fn all(why: Unknown) -> Vec<Answer> {
    vec![
        Answer::Counts(Reading::Unknown(why)),
        Answer::FirstSample(Reading::Unknown(why)),
        Answer::Value(Reading::Unknown(why)),
    ]
}

fn error(status: &str, error_type: &str) -> Act {
    let body = format!(r#"{{"status":"error","errorType":"{error_type}","error":"because"}}"#);
    Act::Send(response(status, "application/json", &body))
}

/// A fault, what every question is answered, and what the message says.
type Case = (&'static str, Act, Unknown, &'static str);

async fn check(cases: Vec<Case>) {
    check_within(PATIENT, cases).await;
}

async fn check_within(timeout: &str, cases: Vec<Case>) {
    for (name, act, why, message) in cases {
        let fake = Fake::always(act).await;
        let (answers, problem) = ask_all(&fake.url, timeout).await;
        assert_eq!(answers, all(why), "{name}");
        let said = problem.map(|problem| problem.message).unwrap_or_default();
        assert!(said.contains(message), "{name}: {said:?} does not say {message:?}");
        assert!(message.is_empty() || said.starts_with(&format!("prometheus at {}: ", fake.url)), "{name}: {said:?}");
        assert!(said.chars().count() < 500, "{name}: the message is too long: {said:?}");
    }
}

#[tokio::test]
async fn an_answer_with_another_status_is_no_answer() {
    let send = |status, kind, body: &str| Act::Send(response(status, kind, body));
    let redirect = b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    let success = vector(&[FIGURE], "");
    let unhealthy = "no\nhealthy upstream";
    let cases = [
        ("redirect", Act::Send(redirect), "redirect (HTTP 302)"),
        ("401", send("401 Unauthorized", "text/plain", "no"), "refused the credentials (HTTP 401)"),
        ("403", send("403 Forbidden", "application/json", "{}"), "refused the credentials (HTTP 403)"),
        ("404", send("404 Not Found", "text/plain", "404 page not found"), "check the path in spec.url"),
        ("500", send("500 Internal Server Error", "text/html", HTML), "HTTP 500"),
        ("500 with success", send("500 Internal Server Error", "application/json", &success), "HTTP 500"),
        ("503", send("503 Service Unavailable", "text/plain", unhealthy), "text (HTTP 503): no healthy upstream"),
        ("503 of the API", error("503 Service Unavailable", "timeout"), "HTTP 503, timeout"),
        ("429", error("429 Too Many Requests", "too_many_requests"), "HTTP 429"),
    ];
    check(cases.map(|(name, act, message)| (name, act, Unknown::SourceUnavailable, message)).into()).await;
}

#[tokio::test]
async fn an_answer_in_another_form_is_no_answer() {
    let send = |kind, body: &str| Act::Send(response("200 OK", kind, body));
    let login = "answered text/html instead of JSON (HTTP 200); check whether the address is that of a login page";
    let cases = [
        ("HTML", send("text/html; charset=utf-8", HTML), login),
        ("plain text", send("text/plain", "ok"), "in plain text (HTTP 200): ok"),
        ("a long text", send("text/plain", &"long ".repeat(1000)), "long long …"),
        ("JSON by another name", send("application/octet-stream", &vector(&[FIGURE], "")), "application/octet-stream"),
        ("truncated JSON", json("{\"status\":\"success\",\"data\":{\"resultT"), "not an answer of the query API"),
        ("other JSON", json("{\"title\":\"dashboard\"}"), "not an answer of the query API"),
        ("success without data", json("{\"status\":\"success\"}"), "it has no data"),
        ("no number", one("seven"), "a value is not a number"),
    ];
    check(cases.map(|(name, act, message)| (name, act, Unknown::SourceUnavailable, message)).into()).await;
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_no_answer() {
    let long = "x".repeat(5 << 20);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let cut = format!("{head}Content-Length: 500\r\n\r\n{{\"status\":");
    let endless = format!("{head}\r\n{long}");
    let cases = [
        ("cut connection", Act::Send(cut.into_bytes()), "broke off"),
        ("closed connection", Act::Close, "broke off"),
        ("5 MiB", json(&long), "more than 1024 KiB"),
        ("5 MiB of unknown length", Act::Send(endless.into_bytes()), "more than 1024 KiB"),
    ];
    check(cases.map(|(name, act, message)| (name, act, Unknown::SourceUnavailable, message)).into()).await;
}

#[tokio::test]
async fn an_answer_that_comes_late_is_no_answer() {
    let whole = response("200 OK", "application/json", &vector(&[FIGURE], ""));
    let cases = [
        ("hangs", Act::Hang, "no answer within 300ms"),
        ("slow", Act::SendAfter(Duration::from_millis(800), whole.clone()), "no answer within 300ms"),
        ("slow in the body", Act::SendInHalves(Duration::from_millis(800), whole), "no answer within 300ms"),
    ];
    let cases = cases.map(|(name, act, message)| (name, act, Unknown::SourceUnavailable, message)).into();
    check_within("300ms", cases).await;
}

#[tokio::test]
async fn a_source_that_is_down_is_unavailable() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let (answers, problem) = ask_all(&url, PATIENT).await;
    assert_eq!(answers, all(Unknown::SourceUnavailable));
    let problem = problem.unwrap();
    assert_eq!(problem.reason, Unknown::SourceUnavailable);
    assert!(problem.message.starts_with(&format!("prometheus at {url}: cannot be reached: ")), "{}", problem.message);
}

#[tokio::test]
async fn a_query_that_the_source_refuses_is_refused() {
    check(vec![
        ("bad_data", error("400 Bad Request", "bad_data"), Unknown::QueryRefused, "refused a query (HTTP 400, bad_data): because; the query was"),
        ("execution", error("422 Unprocessable Entity", "execution"), Unknown::QueryRefused, "(HTTP 422, execution): because"),
        ("execution of a broken server", error("500 Internal Server Error", "execution"), Unknown::SourceUnavailable, "could not answer (HTTP 500, execution)"),
        ("a future type", error("400 Bad Request", "not_acceptable"), Unknown::SourceUnavailable, "could not answer (HTTP 400, not_acceptable)"),
        ("text", json(r#"{"status":"success","data":{"resultType":"string","result":[1763800000,"1763800000"]}}"#),
            Unknown::QueryRefused, "yields a string where one number is needed"),
        ("matrix", json(r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#), Unknown::QueryRefused, "yields a matrix"),
        ("a future result type", json(r#"{"status":"success","data":{"resultType":"tensor","result":7}}"#), Unknown::QueryRefused, "yields a tensor"),
        ("native histogram",
            json(r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1763800000,{"count":"5","sum":"9"}]}]}}"#),
            Unknown::QueryRefused, "native histogram; wrap it in histogram_count()"),
    ])
    .await;
}

#[tokio::test]
async fn doubtful_figures_are_unknown() {
    check(vec![
        ("NaN", one("NaN"), Unknown::NotFinite, ""),
        ("+Inf", one("+Inf"), Unknown::NotFinite, ""),
        ("-Inf", one("-Inf"), Unknown::NotFinite, ""),
        ("beyond a double", one("1e999"), Unknown::NotFinite, ""),
        (
            "scalar NaN",
            json(r#"{"status":"success","data":{"resultType":"scalar","result":[1763800000,"NaN"]}}"#),
            Unknown::NotFinite,
            "",
        ),
        ("empty", json(&vector(&[], "")), Unknown::NoSeries, ""),
        ("null", json(r#"{"status":"success","data":{"resultType":"vector","result":null}}"#), Unknown::NoSeries, ""),
        ("two rows", json(&vector(&[FIGURE, FIGURE], "")), Unknown::Ambiguous, ""),
        (
            "warnings",
            json(&vector(&[FIGURE], r#","warnings":["a store is missing"]"#)),
            Unknown::Partial,
            "answered with a warning: a store is missing (pilot shop/checkout)",
        ),
        (
            "warnings and nothing",
            json(&vector(&[], r#","warnings":["a store is missing"]"#)),
            Unknown::Partial,
            "a store is missing",
        ),
        ("VictoriaMetrics' mark", json(&vector(&[FIGURE], r#","isPartial":true"#)), Unknown::Partial, "isPartial"),
    ])
    .await;
}

#[tokio::test]
async fn infos_empty_warnings_and_unknown_fields_never_block() {
    let figures = vec![
        Answer::Counts(Reading::Fresh(Counts { bad: 1_763_800_000.0, total: 1_763_800_000.0 })),
        Answer::FirstSample(Reading::Fresh(Timestamp::from_second(1_763_800_000).unwrap())),
        Answer::Value(Reading::Fresh(1_763_800_000.0)),
    ];
    let bodies = [
        vector(&[FIGURE], ""),
        vector(&[FIGURE], r#","infos":["metric might not be a counter"]"#),
        vector(&[FIGURE], r#","warnings":[],"isPartial":false,"stats":{"timings":{}},"trace":null"#),
        format!(r#"{{"data":{{"result":[1763800000,"{FIGURE}"],"resultType":"scalar"}},"status":"success"}}"#),
    ];
    for body in bodies {
        let fake = Fake::always(json(&body)).await;
        assert_eq!(ask_all(&fake.url, PATIENT).await, (figures.clone(), None), "{body}");
    }
}
