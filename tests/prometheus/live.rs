//! Figures of a real Prometheus, compared with what truly happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use pilotguard::api::metrics_source::{Dialect, MetricsSourceSpec};
use pilotguard::declaration::Declaration;
use pilotguard::observation::{Answer, Counts, Question, Reading, Unknown};
use pilotguard::observe::prometheus::{Credentials, Source};
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{Rig, RigOptions, Target, Tool, Tools};

use crate::history::{Events, History};
use crate::pilot::{ask, first_sample, pilot, problem, source_at, value};
use crate::{running, secrets};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_is_read_right() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let history = History::before(Timestamp::now());
    let directory = tempfile::tempdir().unwrap();
    let tools = tokio::task::spawn_blocking(Tools::ready).await.unwrap().unwrap();
    history.write(&tools.path(Tool::Promtool), directory.path());
    let options = RigOptions { history: Some(directory.path().join("blocks")), nodes: 1, ..RigOptions::default() };
    let rig = Rig::start(options).await.unwrap();

    counts_are_those_that_happened(&rig, &history).await;
    a_young_service_is_known_at_once(&rig, &history).await;
    pilots_that_ask_alike_get_their_own(&rig, &history).await;
    running::counts_are_those_that_happened(&rig, &history).await;
    the_namespace_label_keeps_others_out(&rig, &history).await;
    expressions_are_judged_by_what_they_read(&rig, &history).await;
    another_dialect_is_left_to_the_source(&rig, &history).await;
    literals_mean_the_same_written_and_rewritten(&rig, &history).await;
    a_target_that_goes_becomes_stale(&rig).await;
    a_source_that_goes_and_comes_back(&rig, &history).await;
    secrets::are_read_and_read_again(&rig).await;
}

fn source(rig: &Rig, namespace_label: Option<&str>) -> Source {
    let mut spec = source_at(rig.prometheus_url().unwrap());
    spec.namespace_label = namespace_label.map(str::to_owned);
    Source::new("prometheus", &spec, Credentials::default()).unwrap()
}

async fn ask_one(source: &Source, declaration: &Declaration, question: Question, now: Timestamp) -> Answer {
    let answers = ask(source, declaration, &BTreeSet::from([question.clone()]), now).await;
    answers.into_values().next().unwrap()
}

fn counts(span: SignedDuration, until: Timestamp) -> Question {
    Question::Counts { slo: "availability".to_owned(), span, until, confirm: false }
}

const SPANS: [SignedDuration; 3] =
    [SignedDuration::from_mins(30), SignedDuration::from_hours(6), SignedDuration::from_hours(24)];

/// At least 300 bad and 2,000 events in all; extrapolation at the two ends of a window costs less than 1 %.
#[track_caller]
fn assert_near(read: &Answer, history: &History, span: SignedDuration, until: Timestamp, factor: f64) {
    let Answer::Counts(Reading::Fresh(Counts { bad, total })) = read else { panic!("{span:#}: {read:?}") };
    for (read, events) in [(*bad, Events::Bad), (*total, Events::All)] {
        let truth = history.truth(events, span, until) * factor;
        assert!(truth >= 100.0, "{span:#}: too few events to compare: {truth}");
        let off = (read - truth).abs() / truth;
        println!("{span:#}: read {read:.1}, true {truth:.1}, off by {:.3} %", off * 100.0);
        assert!(off < 0.01, "{span:#}: read {read}, but {truth} happened");
    }
}

async fn counts_are_those_that_happened(rig: &Rig, history: &History) {
    let source = source(rig, None);
    let declaration = pilot(r#"errors_total{namespace="shop"}"#, r#"requests_total{namespace="shop"}"#);
    let (now, until) = (Timestamp::now(), history.asked());
    for span in SPANS {
        assert_near(&ask_one(&source, &declaration, counts(span, until), now).await, history, span, until, 1.0);
    }
    let half_an_hour = SPANS[0];
    let never_bad = pilot(r#"errors_total{namespace="shop",code="999"}"#, r#"requests_total{namespace="shop"}"#);
    let Answer::Counts(Reading::Fresh(read)) = ask_one(&source, &never_bad, counts(half_an_hour, until), now).await
    else {
        panic!("no bad event is not no data")
    };
    assert!(read.bad == 0.0 && read.total > 1000.0, "{read:?}");
    let unknown = |why| Answer::Counts(Reading::Unknown(why));
    let cases = [
        ("long after the last sample", half_an_hour, Timestamp::now(), unknown(Unknown::NoSeries)),
        ("no longer scraped, but within the span", SPANS[1], Timestamp::now(), unknown(Unknown::Stale)),
        ("a span with one sample", SignedDuration::from_millis(1), until, unknown(Unknown::NoSeries)),
    ];
    for (name, span, until, expected) in cases {
        assert_eq!(ask_one(&source, &declaration, counts(span, until), now).await, expected, "{name}");
    }
    // The first sample in the day before; the resolution is a five-hundredth of the day, and the sample interval.
    let from = history.asked();
    let Answer::FirstSample(Reading::Fresh(first)) = ask_one(&source, &declaration, first_sample(), from).await else {
        panic!("there is a first sample")
    };
    let begins = history.first().max(from - SignedDuration::from_hours(24));
    let late = first.duration_since(begins);
    assert!(late.abs() <= SignedDuration::from_secs(173 + 15), "{late:#} late");
}

/// However long the window: the points of a subquery lie up to 80 minutes apart in 28 days.
async fn a_young_service_is_known_at_once(rig: &Rig, history: &History) {
    let source = source(rig, None);
    let mut declaration = pilot("errors_total", "requests_total");
    let interval = SignedDuration::from_secs(15);
    for days in [1, 7, 28] {
        declaration.slos[0].window = SignedDuration::from_hours(24 * days);
        for age in [1, 20, 90, 600, 4000] {
            let at = history.first() + SignedDuration::from_secs(age);
            let read = ask_one(&source, &declaration, first_sample(), at).await;
            let Answer::FirstSample(Reading::Fresh(first)) = read else { panic!("{days}d, {age} s old: {read:?}") };
            let late = first.duration_since(history.first());
            let step = declaration.slos[0].window / 500;
            let is_young = SignedDuration::from_secs(age) <= step;
            let most = interval + if is_young { (step / 60).max(SignedDuration::from_secs(1)) } else { step };
            assert!((SignedDuration::ZERO..=most).contains(&late), "{days}d, {age} s old: {late:#} late");
        }
    }
    let before = history.first() - SignedDuration::from_secs(1);
    let read = ask_one(&source, &declaration, first_sample(), before).await;
    assert_eq!(read, Answer::FirstSample(Reading::Unknown(Unknown::NoSeries)));
}

/// Of the namespaces `shop` and `other` one query is made, where `other` has ten times as many events.
async fn pilots_that_ask_alike_get_their_own(rig: &Rig, history: &History) {
    let source = source(rig, None);
    let until = history.asked();
    let declared = |namespace: &str| {
        let selector = |name: &str| format!(r#"{name}{{namespace="{namespace}"}}"#);
        let mut declaration = pilot(&selector("errors_total"), &selector("requests_total"));
        namespace.clone_into(&mut declaration.pilot.namespace);
        declaration
    };
    let [shop, other, none] = ["shop", "other", "none"].map(declared);
    for span in SPANS {
        // As if it were now: what is asked at an instant of its own is not shared.
        let counts = counts(span, until);
        let (shop, other, none) = tokio::join!(
            ask_one(&source, &shop, counts.clone(), until),
            ask_one(&source, &other, counts.clone(), until),
            ask_one(&source, &none, counts.clone(), until),
        );
        assert_near(&shop, history, span, until, 1.0);
        assert_near(&other, history, span, until, 10.0);
        assert_eq!(none, Answer::Counts(Reading::Unknown(Unknown::NoSeries)));
    }
    let (shop, other) =
        tokio::join!(ask_one(&source, &shop, first_sample(), until), ask_one(&source, &other, first_sample(), until));
    assert!(matches!(shop, Answer::FirstSample(Reading::Fresh(_))) && shop == other, "{shop:?} {other:?}");
}

async fn the_namespace_label_keeps_others_out(rig: &Rig, history: &History) {
    let (now, until, span) = (Timestamp::now(), history.asked(), SPANS[0]);
    let declaration = pilot("errors_total", r#"requests_total{namespace=~".+"}"#);
    let confined = source(rig, Some("namespace"));
    assert_near(&ask_one(&confined, &declaration, counts(span, until), now).await, history, span, until, 1.0);
    let free = source(rig, None);
    assert_near(&ask_one(&free, &declaration, counts(span, until), now).await, history, span, until, 11.0);
    let others = value(r#"sum(requests_total{namespace="other"}) - sum(requests_total{namespace!="other"})"#, until);
    assert_eq!(ask_one(&confined, &declaration, others, now).await, Answer::Value(Reading::Fresh(0.0)));
}

async fn another_dialect_is_left_to_the_source(rig: &Rig, history: &History) {
    let declaration = pilot("errors_total", "requests_total");
    let until = history.asked();
    for (dialect, whose) in [(Dialect::PromQl, "set dialect: MetricsQL"), (Dialect::MetricsQl, "unknown function")] {
        let spec = MetricsSourceSpec { dialect, ..source_at(rig.prometheus_url().unwrap()) };
        let source = Source::new("prometheus", &spec, Credentials::default()).unwrap();
        let read = ask_one(&source, &declaration, value("median_over_time(requests_total[5m])", until), until).await;
        assert_eq!(read, Answer::Value(Reading::Unknown(Unknown::QueryRefused)), "{dialect:?}");
        let told = problem(&source).map(|problem| problem.message).unwrap_or_default();
        assert!(told.contains(whose), "{dialect:?}: {told}");
    }
}

async fn expressions_are_judged_by_what_they_read(rig: &Rig, history: &History) {
    let source = source(rig, None);
    let declaration = pilot("errors_total", "requests_total");
    let until = history.asked();
    let fresh = |value| Reading::Fresh(value);
    let unknown = Reading::Unknown;
    let cases = [
        ("scalar(vector(7))", fresh(7.0)),
        ("7 + 1", fresh(8.0)),
        ("count(requests_total)", fresh(2.0)),
        ("requests_total", unknown(Unknown::Ambiguous)),
        ("nothing_total", unknown(Unknown::NoSeries)),
        ("sum(nothing_total) or vector(0)", fresh(0.0)),
        ("0 / (sum(requests_total) * 0)", unknown(Unknown::NotFinite)),
        // It ended 3 minutes ago: Prometheus still shows it, for 5 minutes.
        ("young_total * 0", unknown(Unknown::Stale)),
        // It ended 10 minutes ago: no longer shown, but a range still holds it.
        ("old_total", unknown(Unknown::NoSeries)),
        ("old_total * 0 or vector(0)", fresh(0.0)),
        ("rate(old_total[30m]) * 0", unknown(Unknown::Stale)),
        ("max_over_time((old_total * 0)[30m:1m])", unknown(Unknown::Stale)),
        ("rate(old_total[5m]) * 0 or vector(0)", fresh(0.0)),
        // Alive now, so its past is as good as its present.
        ("count(requests_total offset 1h)", fresh(2.0)),
        ("\"text\"", unknown(Unknown::QueryRefused)),
        ("requests_total[5m]", unknown(Unknown::QueryRefused)),
        ("label_replace(requests_total, \"namespace\", \"\", \"\", \"\")", unknown(Unknown::QueryRefused)),
        ("sort_by_label(requests_total, \"namespace\")", unknown(Unknown::QueryRefused)),
        // A warning (the quantile is above 1) and an info (its name is not that of a counter).
        ("sum(quantile(2, requests_total)) * 0", unknown(Unknown::Partial)),
        ("sum(rate(up[5m])) * 0 or vector(3)", fresh(3.0)),
    ];
    for (query, expected) in cases {
        let read = ask_one(&source, &declaration, value(query, until), until).await;
        assert_eq!(read, Answer::Value(expected), "{query}: {:?}", problem(&source));
    }
}

/// What is sent as written, and what is parsed, confined and printed, mean the same to a real Prometheus; what it refuses is
/// refused here.
async fn literals_mean_the_same_written_and_rewritten(rig: &Rig, history: &History) {
    let (free, confined) = (source(rig, None), source(rig, Some("namespace")));
    let declaration = pilot("errors_total", "requests_total");
    let until = history.asked();
    let literals = [
        r"=~`sh\wp`",
        r#"=~"sh\\wp""#,
        r"=~'sh\\wp'",
        r#"="\x73hop""#,
        r#"="\163hop""#,
        r#"="\u0073hop""#,
        r#"="\U00000073hop""#,
        r#"!="\"""#,
        r"!='\''",
        r"!=`\`",
        r#"!="\xc3\xa9""#,
        r#"!="\a\b\f\n\r\t\v\\""#,
        r#"=~"s.{2}p""#,
        "!=`\n`",
        "=\"shop\" # it's \"`\n",
        r#"!="\d""#,
        r#"!="\'""#,
        r#"!="\400""#,
        r#"!="\08""#,
        r#"!="\ud800""#,
        "!=\"\n\"",
        r#"!="x"#,
        "!=`x",
    ];
    for literal in literals {
        let selector = format!("errors_total{{namespace=\"shop\",namespace{literal}}}");
        let by_prometheus = is_accepted(rig, &selector).await;
        let by_us = pilotguard::declaration::promql::check_selector(&selector, "query");
        assert_eq!(by_us.is_none(), by_prometheus, "{literal}: {by_us:?}");
        if !by_prometheus {
            continue;
        }
        let read = ask_one(&free, &declaration, value(&format!("count({selector})"), until), until).await;
        assert_eq!(read, Answer::Value(Reading::Fresh(1.0)), "{literal}: {:?}", problem(&free));
        // Another label, because that of the namespace is replaced; no series has it, so both ways find nothing or all.
        let rewritten = format!("count(errors_total{{zone{literal}}}) or vector(0)");
        let read = ask_one(&confined, &declaration, value(&rewritten, until), until).await;
        let is_negative = literal.starts_with('!');
        let expected = if is_negative { 1.0 } else { 0.0 };
        assert_eq!(read, Answer::Value(Reading::Fresh(expected)), "{literal}: {:?}", problem(&confined));
    }
}

/// Whether the real Prometheus parses a query.
async fn is_accepted(rig: &Rig, query: &str) -> bool {
    let mut url = reqwest::Url::parse(rig.prometheus_url().unwrap()).unwrap();
    url.set_path("/api/v1/format_query");
    url.query_pairs_mut().append_pair("query", query);
    reqwest::get(url).await.unwrap().status().is_success()
}

/// A counter of requests; a tenth of them are errors.
async fn service(requests: Arc<AtomicU64>) -> (String, tokio::task::JoinHandle<()>) {
    let metrics = move || {
        let requests = requests.fetch_add(10, Ordering::SeqCst);
        let errors = requests / 10;
        async move { format!("live_requests_total {requests}\nlive_errors_total {errors}\n") }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = Router::new().route("/metrics", get(metrics));
    (address, tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }))
}

async fn a_target_that_goes_becomes_stale(rig: &Rig) {
    let requests = Arc::new(AtomicU64::new(0));
    let (address, server) = service(requests.clone()).await;
    let target = Target { job: "live".to_owned(), address, labels: BTreeMap::new() };
    rig.scrape(&[target]).await.unwrap();
    let source = source(rig, None);
    let mut declaration = pilot("live_errors_total", "live_requests_total");
    declaration.slos[0].stale_after = SignedDuration::from_secs(6);
    let span = SignedDuration::from_mins(5);
    let read = async || {
        let now = Timestamp::now();
        match ask_one(&source, &declaration, counts(span, now), now).await {
            Answer::Counts(reading) => reading,
            other => panic!("{other:?}"),
        }
    };
    // Counted from its first sample on, so at most what was served; extrapolation adds at most one scrape.
    let enough = || async {
        match read().await {
            Reading::Fresh(counts) if counts.total >= 80.0 => Ok(counts),
            other => Err(format!("{other:?}")),
        }
    };
    let counts = wait::until("80 requests", PATIENCE, enough).await.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a handful of requests")]
    let served_requests = requests.load(Ordering::SeqCst) as f64;
    assert!(counts.total <= served_requests + 10.0, "{counts:?} of {served_requests}");
    assert!((counts.bad / counts.total - 0.1).abs() < 0.01, "{counts:?}");

    rig.scrape(&[]).await.unwrap();
    server.abort();
    let gone = Timestamp::now();
    let stale = || async {
        match read().await {
            Reading::Unknown(why) => Ok(why),
            known @ Reading::Fresh(_) => Err(format!("{known:?}")),
        }
    };
    assert_eq!(wait::until("stale samples", PATIENCE, stale).await.unwrap(), Unknown::Stale);
    let after = Timestamp::now().duration_since(gone);
    println!("unknown {after:#} after the target went");
    // A scrape may have been due up to a second before, and the age is read in steps of one second.
    assert!(after >= SignedDuration::from_secs(3) && after < SignedDuration::from_secs(10), "{after:#}");
}

async fn a_source_that_goes_and_comes_back(rig: &Rig, history: &History) {
    let source = source(rig, None);
    let declaration = pilot("errors_total", "requests_total");
    let question = counts(SPANS[0], history.asked());
    rig.stop_prometheus().unwrap();
    let read = ask_one(&source, &declaration, question.clone(), Timestamp::now()).await;
    assert_eq!(read, Answer::Counts(Reading::Unknown(Unknown::SourceUnavailable)));
    // The first requests may go out on connections that were still open, and break off.
    ask_one(&source, &declaration, question.clone(), Timestamp::now()).await;
    let told = problem(&source).unwrap();
    assert!(told.message.contains("cannot be reached"), "{}", told.message);
    rig.start_prometheus().await.unwrap();
    let read = ask_one(&source, &declaration, question, Timestamp::now()).await;
    assert!(matches!(read, Answer::Counts(Reading::Fresh(_))), "{read:?}");
    assert_eq!(problem(&source), None);
}
