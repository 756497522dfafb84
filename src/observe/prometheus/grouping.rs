//! One query for many counters that differ in nothing but the values of labels, and which row of its answer is whose.
//!
//! Only equality matchers are joined: what any other matcher selects cannot be told apart afterwards. Nobody gets a row
//! whose labels are not exactly their own. Pure; nothing is sent from here.

use std::collections::{BTreeMap, HashMap};

use promql_parser::label::{MatchOp, Matcher, Matchers};
use promql_parser::parser::token::T_EQL_REGEX;
use promql_parser::parser::{Expr, VectorSelector};

use super::envelope::{QueryResult, Samples, Series};
use super::matcher::print;
use super::queries::{Counter, Measure, PART};

/// The label of the metric's name, which stays with the selector.
const NAME: &str = "__name__";

/// What counters have in common that one query can read: the selector without the values of some labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    name: Option<String>,
    /// The matchers that are the same for all.
    fixed: Vec<Matcher>,
    /// Those that are joined by `or`.
    groups: Vec<Vec<Matcher>>,
    /// The labels whose values differ, in the order of [`Values`].
    open: Vec<String>,
}

/// The values of a template's labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Values(Vec<String>);

/// A query for several counters of one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The query.
    pub query: String,
    /// The labels that its rows have, each with its place among the template's.
    labels: Vec<(usize, String)>,
}

/// The template of a counter, and its values.
pub fn template(counter: &Counter) -> (Template, Values) {
    let VectorSelector { name, matchers, .. } = counter.selector();
    let Matchers { matchers: all, or_matchers: groups } = matchers;
    // Each of the groups selects for itself: such a selector is shared only with its like.
    let is_open = |matcher: &&Matcher| groups.is_empty() && is_open(matcher, all);
    let (mut open, fixed): (Vec<&Matcher>, Vec<&Matcher>) = all.iter().partition(is_open);
    open.sort_by(|one, other| one.name.cmp(&other.name));
    let values = open.iter().map(|matcher| matcher.value.clone()).collect();
    let template = Template {
        name: name.clone(),
        fixed: fixed.into_iter().cloned().collect(),
        groups: groups.clone(),
        open: open.iter().map(|matcher| matcher.name.clone()).collect(),
    };
    (template, Values(values))
}

/// Whether a matcher's value can be told from the rows: it is the label's only matcher, and a series that lacks the label
/// does not match it.
fn is_open(matcher: &Matcher, all: &[Matcher]) -> bool {
    let is_plain = |name: &str| {
        let mut characters = name.chars();
        characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    matcher.op == MatchOp::Equal
        && !matcher.value.is_empty()
        && !matcher.value.contains(char::is_control)
        && ![NAME, PART].contains(&matcher.name.as_str())
        && is_plain(&matcher.name)
        && all.iter().filter(|other| other.name == matcher.name).count() == 1
}

impl Template {
    /// The query that measures all of these; `None` where it cannot be written down.
    pub fn join(&self, members: &[&Values], measure: Measure) -> Option<Joined> {
        let mut matchers = self.fixed.clone();
        let mut labels = Vec::new();
        for (index, label) in self.open.iter().enumerate() {
            let mut values: Vec<&str> =
                members.iter().filter_map(|Values(values)| values.get(index)).map(String::as_str).collect();
            values.sort_unstable();
            values.dedup();
            if let [only] = values.as_slice() {
                matchers.push(Matcher::new(MatchOp::Equal, label, only));
            } else {
                let alternatives: Vec<String> = values.into_iter().map(regex::escape).collect();
                matchers.push(Matcher::new_matcher(T_EQL_REGEX, label.clone(), alternatives.join("|")).ok()?);
                labels.push((index, label.clone()));
            }
        }
        matchers.sort_by_cached_key(ToString::to_string);
        let matchers = Matchers::new(matchers).with_or_matchers(self.groups.clone());
        let selector = print(&Expr::VectorSelector(VectorSelector::new(self.name.clone(), matchers))).ok()?;
        let by: Vec<&str> = labels.iter().map(|(_, label)| label.as_str()).collect();
        Some(Joined { query: measure.query(&selector, &by), labels })
    }
}

impl Joined {
    /// What the answer says of each of these members.
    pub fn share(&self, answer: QueryResult, members: &[&Values]) -> Vec<QueryResult> {
        let unlabelled = BTreeMap::new;
        match answer {
            QueryResult::Vector(rows) => {
                let rows = self.sorted(rows, |row| &row.labels);
                let of = |sample| Series { labels: unlabelled(), sample };
                let own = |values| self.own(&rows, values).map(|row| of(row.sample)).collect();
                members.iter().map(|values| QueryResult::Vector(own(values))).collect()
            }
            QueryResult::Matrix(rows) => {
                let rows = self.sorted(rows, |row| &row.labels);
                let of = |points: &Vec<(f64, f64)>| Samples { labels: unlabelled(), points: points.clone() };
                let own = |values| self.own(&rows, values).map(|row| of(&row.points)).collect();
                members.iter().map(|values| QueryResult::Matrix(own(values))).collect()
            }
            other => vec![other; members.len()],
        }
    }

    /// The rows by the values of their labels.
    fn sorted<T>(
        &self,
        rows: Vec<T>,
        labels: impl Fn(&T) -> &BTreeMap<String, String>,
    ) -> HashMap<Vec<String>, Vec<T>> {
        let mut by_values: HashMap<Vec<String>, Vec<T>> = HashMap::new();
        for row in rows {
            let value = |(_, label): &(usize, String)| labels(&row).get(label).cloned().unwrap_or_default();
            by_values.entry(self.labels.iter().map(value).collect()).or_default().push(row);
        }
        by_values
    }

    fn own<'a, T>(
        &self,
        rows: &'a HashMap<Vec<String>, Vec<T>>,
        Values(values): &Values,
    ) -> impl Iterator<Item = &'a T> {
        let value = |(place, _): &(usize, String)| values.get(*place).cloned().unwrap_or_default();
        rows.get(&self.labels.iter().map(value).collect::<Vec<_>>()).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::super::envelope::Sample;
    use super::*;

    const MINUTE: Measure = Measure::Increase(SignedDuration::from_mins(1));

    fn counter(selector: &str) -> Counter {
        Counter::parse(selector, &None).unwrap()
    }

    fn joined(selectors: &[&str], measure: Measure) -> Joined {
        let found: Vec<_> = selectors.iter().map(|selector| template(&counter(selector))).collect();
        assert!(found.iter().all(|(other, _)| *other == found[0].0), "{found:?}");
        found[0].0.join(&found.iter().map(|(_, values)| values).collect::<Vec<_>>(), measure).unwrap()
    }

    #[test]
    fn what_differs_in_label_values_is_asked_at_once() {
        let cases = [
            (vec!["x"], "sum(increase(x[60s]))"),
            (vec![r#"x{a="1"}"#], r#"sum(increase(x{a="1"}[60s]))"#),
            (vec![r#"x{a="1"}"#, r#"x{a="2"}"#], r#"sum by (a) (increase(x{a=~"1|2"}[60s]))"#),
            // What is the same for all is no label of a row.
            (vec![r#"x{a="1",b="y"}"#, r#"x{b="y",a="2"}"#], r#"sum by (a) (increase(x{a=~"1|2",b="y"}[60s]))"#),
            (
                vec![r#"x{a="1",b="y",c=~"5.."}"#, r#"x{a="2",b="z",c=~"5.."}"#],
                r#"sum by (a, b) (increase(x{a=~"1|2",b=~"y|z",c=~"5.."}[60s]))"#,
            ),
            (vec![r#"x{a="a.b|c"}"#, r#"x{a="\\d"}"#], r#"sum by (a) (increase(x{a=~"\\\\d|a\\.b\\|c"}[60s]))"#),
        ];
        for (selectors, expected) in cases {
            assert_eq!(joined(&selectors, MINUTE).query, expected);
        }
        let age = joined(&[r#"x{a="1"}"#, r#"x{a="2"}"#], Measure::Newest(SignedDuration::from_mins(2))).query;
        let x = r#"timestamp(x{a=~"1|2"})"#;
        assert_eq!(age, format!("max by (a) ({x}) or max by (a) (max_over_time({x}[120s:5s]))"));
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_joined() {
        for (one, other) in [
            ("x", "y"),
            (r#"x{a="1"}"#, r#"x{b="1"}"#),
            (r#"x{a="1"}"#, r#"x{a!="1"}"#),
            (r#"x{a=~"1"}"#, r#"x{a=~"2"}"#),
            // A series without the label matches the empty value, too.
            (r#"x{a=""}"#, r#"x{a="1"}"#),
            (r#"x{a="1",a!="2"}"#, r#"x{a="2",a!="2"}"#),
            (r#"x{a="1" or b="2"}"#, r#"x{a="1" or b="3"}"#),
            (r#"{"a.b",c="1"}"#, r#"{"a.c",c="1"}"#),
        ] {
            assert_ne!(template(&counter(one)).0, template(&counter(other)).0, "{one} {other}");
        }
    }

    proptest! {
        /// Whatever the values are, the joined query reads the series of its members and no others, and each gets its own.
        #[test]
        fn nobody_gets_anothers_row(
            values in prop::collection::vec("[a-c.|()*+\\\\\"'{}^$ é-]{1,4}", 1..8),
            other in "[a-c.|()*+\\\\\"'{}^$ é-]{1,4}",
        ) {
            let selectors: Vec<String> = values.iter().map(|value| format!("x{{a={value:?},b=\"y\"}}")).collect();
            let found: Vec<_> = selectors.iter().map(|selector| template(&counter(selector))).collect();
            let members: Vec<&Values> = found.iter().map(|(_, values)| values).collect();
            let joined = found[0].0.join(&members, MINUTE).unwrap();
            let query = joined.query.strip_suffix("[60s]))").unwrap();
            let selector = counter(&query[query.find("x{").unwrap()..]);
            let reads = |value: &str| {
                let of_label = selector.selector().matchers.matchers.iter().filter(|matcher| matcher.name == "a");
                of_label.clone().count() == 1 && of_label.into_iter().all(|matcher| matcher.is_match(value))
            };
            prop_assert!(values.iter().all(|value| reads(value)), "{query}");
            prop_assert_eq!(reads(&other), values.contains(&other), "{}", query);

            let mut distinct = values.clone();
            distinct.sort();
            distinct.dedup();
            let row = |(index, value): (usize, &String)| Series {
                labels: BTreeMap::from([("a".to_owned(), value.clone())]),
                #[expect(clippy::cast_precision_loss, reason = "a few")]
                sample: Sample::Float(index as f64),
            };
            // With one value for all there is one row, and it has no label.
            if distinct.len() > 1 {
                let answer = QueryResult::Vector(distinct.iter().enumerate().map(row).collect());
                for (value, shared) in values.iter().zip(joined.share(answer, &members)) {
                    let mut expected = row((distinct.binary_search(value).unwrap(), value));
                    expected.labels.clear();
                    prop_assert_eq!(shared, QueryResult::Vector(vec![expected]));
                }
            }
        }
    }
}
