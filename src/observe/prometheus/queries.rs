//! The queries that are asked, built from parsed selectors and expressions.
//!
//! A query is text that is only ever printed from a checked expression; a range is attached to a selector
//! that is known to have neither range nor offset. Nothing is sent from here.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use promql_parser::parser::{Expr, VectorSelector};

use super::matcher::{QueryError, Scope, confine, print};
use crate::api::metrics_source::Dialect;
use crate::declaration::selectors::selectors;

/// Samples of a `promql` expression that are older than this make its value stale.
pub const VALUE_STALE_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// A series whose last sample is older than this has ended.
const LAST_SAMPLE: SignedDuration = SignedDuration::from_mins(5);

/// A window is looked through at so many points for its first sample.
const POINTS_OF_A_WINDOW: i32 = 500;

/// The newest of them, which a window's points step over, is looked through at so many more.
const POINTS_OF_A_STEP: i32 = 60;

/// The time in which a vanished series still counts is looked through at so many points.
const POINTS_OF_AN_AGE: i32 = 24;

/// The label that keeps the parts of a search for the first sample apart.
pub const PART: &str = "pilotguard_part";

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A counter's selector, confined and without range, offset or `@`.
#[derive(Clone, Debug)]
pub struct Counter {
    selector: VectorSelector,
    text: String,
}

/// What is measured of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// The events within a span; a span below one second counts as one second.
    Increase(SignedDuration),
    /// The events within a span, from sample to sample: of adjoining spans none is counted twice or left out, also where
    /// a burst falls between two samples.
    Events(SignedDuration),
    /// The same for each slot of a span, which are multiples of the slot's length.
    History {
        /// The span.
        span: SignedDuration,
        /// The length of a slot.
        slot: SignedDuration,
    },
    /// The time of the newest sample that is not much older than this age.
    ///
    /// `timestamp()` alone forgets a series the moment its target is gone, and any series after five minutes, so a
    /// pod that was replaced a second ago would look like no data at all: the second half looks back over the age.
    Newest(SignedDuration),
    /// The time of the first sample within a window, late by at most a five-hundredth of it (at least one second).
    ///
    /// The points of a subquery are multiples of its step, so a series that began after the newest of them (up to 20
    /// minutes ago in a week) is stepped over: the second part looks there more finely, the third sees one that began
    /// just now. The labels keep the three apart, so that the oldest of them counts.
    Oldest(SignedDuration),
}

impl Counter {
    /// Parses a selector and confines it.
    pub fn parse(text: &str, scope: &Scope) -> Result<Self, QueryError> {
        match confine(text, scope)? {
            Expr::VectorSelector(selector) if selector.offset.is_none() && selector.at.is_none() => {
                Ok(Self { text: bare(&selector)?, selector })
            }
            _ => Err(QueryError::NotASelector(text.to_owned())),
        }
    }

    /// Its selector, parsed.
    pub const fn selector(&self) -> &VectorSelector {
        &self.selector
    }

    /// Its selector, as it is printed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The query that measures it alone: it yields one number, or nothing.
    pub fn query(&self, measure: Measure) -> String {
        measure.query(&self.text, &[])
    }
}

impl Measure {
    /// The query for a selector: one number for each combination of values that these labels have.
    pub fn query(self, selector: &str, labels: &[&str]) -> String {
        let by = if labels.is_empty() { String::new() } else { format!(" by ({}) ", labels.join(", ")) };
        match self {
            Self::Increase(span) => format!("sum{by}(increase({selector}[{}]))", range(span.max(SECOND))),
            Self::Events(span) => events(selector, span, &by),
            Self::History { span, slot } => {
                format!("({})[{}:{}]", events(selector, slot, &by), range(span), range(slot))
            }
            Self::Newest(age) => newest(selector, age, &by),
            Self::Oldest(window) => oldest(selector, window, &by),
        }
    }
}

/// An expression that yields one value, and how to ask for the age of what it reads.
#[derive(Clone, Debug)]
pub struct Expression {
    /// The expression itself.
    pub query: String,
    /// One query for each selector in it; each yields the time of the newest sample, or nothing where there is none.
    pub newest: BTreeSet<String>,
}

impl Expression {
    /// Parses an expression and confines it. Without a scope it is sent as it was written; in MetricsQL then also where it
    /// cannot be parsed, and no age is asked for.
    pub fn parse(text: &str, scope: &Scope, dialect: Dialect) -> Result<Self, QueryError> {
        let expression = match confine(text, scope) {
            Err(QueryError::Unparsable { .. }) if scope.is_none() && dialect == Dialect::MetricsQl => {
                return Ok(Self { query: text.to_owned(), newest: BTreeSet::new() });
            }
            confined => confined?,
        };
        let query = if scope.is_some() { print(&expression)? } else { text.to_owned() };
        let newest = selectors(&expression).into_iter().map(|read| age_of(&read.selector, read.span));
        Ok(Self { query, newest: newest.collect::<Result<_, _>>()? })
    }
}

/// Asks for the newest sample now, also of a selector that is read at another time: `x / x offset 1w` is alive if `x`
/// is. Where a range is read, series that ended within it still make up the value, so they count as old and not as none.
fn age_of(selector: &VectorSelector, reads: SignedDuration) -> Result<String, QueryError> {
    let selector = bare(selector)?;
    if reads.is_zero() {
        return Ok(format!("max(timestamp({selector}))"));
    }
    let newest = newest(&selector, VALUE_STALE_AFTER, "");
    Ok(format!("{newest} or 0 * count(count_over_time({selector}[{}]))", range(reads)))
}

/// From the last sample before the span to the last one in it, unless the counter was reset in between or is new: then from
/// the first sample in the span, or from 0 where there is only one.
fn events(selector: &str, span: SignedDuration, by: &str) -> String {
    let (span, reach) = (range(span.max(SECOND)), range(LAST_SAMPLE));
    let (last, before) =
        (format!("last_over_time({selector}[{reach}])"), format!("last_over_time({selector}[{reach}] offset {span})"));
    let steady = format!("({last} - {before} >= 0 unless resets({selector}[{span}]) > 0)");
    format!("sum{by}({steady} or increase({selector}[{span}]) or ({last} and {before}))")
}

fn newest(selector: &str, age: SignedDuration, by: &str) -> String {
    let (age, step) = (age.max(SECOND), range((age / POINTS_OF_AN_AGE).max(SECOND)));
    let times = format!("timestamp({selector})");
    format!("max{by}({times}) or max{by}(max_over_time({times}[{}:{step}]))", range(age))
}

fn oldest(selector: &str, window: SignedDuration, by: &str) -> String {
    let coarse = (window / POINTS_OF_A_WINDOW).max(SECOND);
    let fine = (coarse / POINTS_OF_A_STEP).max(SECOND);
    let first = |length: SignedDuration, step: SignedDuration| {
        format!("min{by}(min_over_time(timestamp({selector})[{}:{}]))", range(length), range(step))
    };
    let part = |query: String, number| format!(r#"label_replace({query}, "{PART}", "{number}", "", "")"#);
    let (in_window, in_step) = (part(first(window.max(SECOND), coarse), 1), part(first(coarse, fine), 2));
    format!("min{by}({in_window} or {in_step} or min{by}(timestamp({selector})))")
}

fn bare(selector: &VectorSelector) -> Result<String, QueryError> {
    print(&Expr::VectorSelector(VectorSelector { offset: None, at: None, ..selector.clone() }))
}

/// A duration as every version of Prometheus reads it: one number, one unit.
fn range(duration: SignedDuration) -> String {
    let millis = duration.as_millis().max(1);
    if millis % 1000 == 0 { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::prometheus::matcher::LabelValue;

    fn counter(selector: &str) -> Counter {
        Counter::parse(selector, &None).unwrap()
    }

    #[test]
    fn a_range_goes_behind_the_selector_whatever_it_contains() {
        let cases = [
            ("x", "sum(increase(x[300s]))"),
            ("x{}", "sum(increase(x[300s]))"),
            (r#"x{a="}"}"#, r#"sum(increase(x{a="}"}[300s]))"#),
            (r#"x{a="[5m]"} # all"#, r#"sum(increase(x{a="[5m]"}[300s]))"#),
            (r#"{"http.requests"}"#, r#"sum(increase({__name__="http.requests"}[300s]))"#),
        ];
        for (selector, expected) in cases {
            assert_eq!(counter(selector).query(Measure::Increase(SignedDuration::from_mins(5))), expected);
        }
    }

    #[test]
    fn spans_are_written_as_one_number_and_one_unit() {
        let cases = [(0, "[1s]"), (400, "[1s]"), (1000, "[1s]"), (1500, "[1500ms]"), (604_800_000, "[604800s]")];
        for (millis, expected) in cases {
            let query = counter("x").query(Measure::Increase(SignedDuration::from_millis(millis)));
            assert!(query.contains(expected), "{query}");
        }
    }

    #[test]
    fn the_first_sample_is_looked_for_at_500_points_and_more_finely_behind_the_newest() {
        let week = counter("x").query(Measure::Oldest(SignedDuration::from_hours(168)));
        let parts = [
            r#"label_replace(min(min_over_time(timestamp(x)[604800s:1209600ms])), "pilotguard_part", "1", "", "")"#,
            r#"label_replace(min(min_over_time(timestamp(x)[1209600ms:20160ms])), "pilotguard_part", "2", "", "")"#,
            "min(timestamp(x))",
        ];
        assert_eq!(week, format!("min({})", parts.join(" or ")));
        let minute = counter("x").query(Measure::Oldest(SignedDuration::from_secs(60)));
        assert!(minute.contains("timestamp(x)[60s:1s]"), "{minute}");
    }

    #[test]
    fn only_a_plain_selector_is_a_counter() {
        for text in ["rate(x[5m])", "x[5m]", "x offset 5m", "x @ 0", "1"] {
            assert!(matches!(Counter::parse(text, &None), Err(QueryError::NotASelector(_))), "{text}");
        }
    }

    #[test]
    fn each_selector_of_an_expression_is_asked_for_its_age() {
        let parsed = Expression::parse("x / x offset 1w + rate(y[30m])", &None, Dialect::PromQl).unwrap();
        assert_eq!(parsed.query, "x / x offset 1w + rate(y[30m])");
        let alive =
            "max(timestamp(y)) or max(max_over_time(timestamp(y)[120s:5s])) or 0 * count(count_over_time(y[1800s]))";
        assert_eq!(parsed.newest, BTreeSet::from(["max(timestamp(x))".to_owned(), alive.to_owned()]));
    }

    #[test]
    fn a_subquery_reads_as_far_back_as_it_says() {
        let parsed = Expression::parse("max_over_time(rate(x[5m])[1h:1m]) + x", &None, Dialect::PromQl).unwrap();
        let newest: Vec<_> = parsed.newest.iter().collect();
        assert_eq!(newest.len(), 2);
        assert_eq!(newest[0], "max(timestamp(x))");
        assert!(newest[1].ends_with("count_over_time(x[3900s]))"), "{}", newest[1]);
    }

    #[test]
    fn questions_of_age_are_confined_too() {
        let scope = Some(LabelValue { label: "namespace".to_owned(), value: "mine".to_owned() });
        let parsed = Expression::parse("x offset 1h or vector(0)", &scope, Dialect::PromQl).unwrap();
        assert_eq!(parsed.query, r#"x{namespace="mine"} offset 1h or vector(0)"#);
        assert_eq!(parsed.newest, BTreeSet::from([r#"max(timestamp(x{namespace="mine"}))"#.to_owned()]));
        let counter = Counter::parse("x", &scope).unwrap();
        assert_eq!(
            counter.query(Measure::Increase(SignedDuration::from_secs(60))),
            r#"sum(increase(x{namespace="mine"}[60s]))"#
        );
    }

    #[test]
    fn what_cannot_be_parsed_is_sent_only_in_metricsql_and_only_where_no_label_is_forced() {
        let scope = Some(LabelValue { label: "namespace".to_owned(), value: "mine".to_owned() });
        let (own, both) = ("median_over_time(p99[5m])", "rate(x[5m])");
        let sent = Expression::parse(own, &None, Dialect::MetricsQl).unwrap();
        assert_eq!((sent.query.as_str(), sent.newest.len()), (own, 0));
        for (scope, dialect) in [(&None, Dialect::PromQl), (&scope, Dialect::PromQl), (&scope, Dialect::MetricsQl)] {
            let refused = Expression::parse(own, scope, dialect);
            assert!(matches!(refused, Err(QueryError::Unparsable { .. })), "{scope:?} {dialect:?}");
        }
        assert_eq!(Expression::parse(both, &None, Dialect::MetricsQl).unwrap().newest.len(), 1);
    }
}
