//! The pilot on whose behalf the tests ask.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::tz::TimeZoneDatabase;
use jiff::{SignedDuration, Timestamp};
use pilotguard::api::metrics_source::MetricsSourceSpec;
use pilotguard::api::pilot::Pilot;
use pilotguard::declaration::Declaration;
use pilotguard::observation::{Answer, Question};
use pilotguard::observe::prometheus::{Problem, Source};
use tokio::time::Instant;

/// A quarter of a second past a full one, so that lost milliseconds show.
pub const NOW: Timestamp = Timestamp::constant(1_763_800_000, 250_000_000);

/// A pilot in namespace `shop` whose SLO `availability` counts these selectors over a day and five minutes; stale after 2m.
pub fn pilot(bad: &str, total: &str) -> Declaration {
    let pilot: Pilot = serde_json::from_value(serde_json::json!({
        "apiVersion": "pilotguard.dev/v1alpha1",
        "kind": "Pilot",
        "metadata": {"name": "checkout", "namespace": "shop", "uid": "1"},
        "spec": {
            "intent": {"summary": "s", "hypothesis": "h", "decisionDate": "2030-01-01T00:00:00Z"},
            "owners": {"serviceOwner": {"name": "Sam"}},
            "workloads": [{"kind": "Deployment", "name": "checkout"}],
            "changes": {"windows": [{"name": "always", "kind": "Allow", "always": true}]},
            "metricsSource": "default",
            "triggers": [{
                "name": "burn", "action": "HoldChanges",
                "when": {"burnRate": {"slo": "availability", "long": "5m", "short": "1m", "factor": "14"}},
            }],
            "slos": [{
                "name": "availability",
                "target": "99",
                "window": {"rolling": "1d"},
                "indicator": {"ratio": {"bad": bad, "total": total}},
            }],
        },
    }))
    .unwrap();
    Declaration::parse(&pilot, &TimeZoneDatabase::bundled()).unwrap()
}

/// The specification of a source at this address.
pub fn source_at(url: &str) -> MetricsSourceSpec {
    serde_json::from_value(serde_json::json!({"url": url})).unwrap()
}

/// Asks for the counts of five minutes.
pub fn counts(until: Timestamp) -> Question {
    Question::Counts { slo: "availability".to_owned(), span: SignedDuration::from_mins(5), until, confirm: false }
}

/// Asks for the value of an expression.
pub fn value(query: &str, at: Timestamp) -> Question {
    Question::Value { query: query.to_owned(), at, confirm: false }
}

/// Asks for the first sample.
pub fn first_sample() -> Question {
    Question::FirstSample { slo: "availability".to_owned() }
}

/// Asks in one round, with more time than any source takes here.
pub async fn ask(
    source: &Source,
    declaration: &Declaration,
    questions: &BTreeSet<Question>,
    now: Timestamp,
) -> BTreeMap<Question, Answer> {
    let mut conversation = source.converse(declaration, Instant::now() + Duration::from_mins(1));
    let answers = conversation.ask(questions, now).await;
    conversation.end();
    answers
}

/// What the pilot of these tests is told.
pub fn problem(source: &Source) -> Option<Problem> {
    source.problem_for(&pilot("bad", "total").pilot)
}
