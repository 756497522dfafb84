//! Confines a PromQL expression to one value of one label, so that one team cannot read another's series.
//!
//! It works on the parsed expression only: text is never edited, and what cannot be parsed, printed and
//! parsed again to the very same expression is refused instead of sent.

use std::convert::Infallible;

use promql_parser::label::{MatchOp, Matcher, Matchers};
use promql_parser::parser::Expr;
use promql_parser::util::visitor::{ExprVisitorMut, walk_expr_mut};

use crate::declaration::promql;

/// Why a query is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It is not PromQL as far as is known here.
    #[error(
        "{query:?} is not PromQL that can be checked: {problem}; write it with functions that are stable in Prometheus, or, if the source is VictoriaMetrics and its MetricsSource has no namespaceLabel, set dialect: MetricsQL there"
    )]
    Unparsable {
        /// The query.
        query: String,
        /// The parser's words.
        problem: String,
    },
    /// It is more than a selector.
    #[error("{0:?} is not a plain vector selector; write one without range, offset or function")]
    NotASelector(String),
    /// It could not be written down again unchanged.
    #[error("{0:?} cannot be rewritten without changing its meaning; write it in a simpler form")]
    NotPrintable(String),
    /// It reads series that no matcher can confine.
    #[error(
        "the function {0}() reads series of its own choice, which cannot be confined to a namespace; do without it"
    )]
    Unconfinable(&'static str),
}

/// What every selector is confined to; `None` confines nothing.
pub type Scope = Option<LabelValue>;

/// A label and the only value it may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelValue {
    /// The label's name.
    pub label: String,
    /// The value.
    pub value: String,
}

/// Parses an expression and confines every selector in it.
pub fn confine(query: &str, scope: &Scope) -> Result<Expr, QueryError> {
    let mut expression = parse(query)?;
    let mut visitor = Confine { scope: scope.as_ref(), unconfinable: None };
    let Ok(_) = walk_expr_mut(&mut visitor, &mut expression);
    match visitor.unconfinable {
        Some(function) => Err(QueryError::Unconfinable(function)),
        None => Ok(expression),
    }
}

/// Writes an expression down, and proves that what is written means the same.
pub fn print(expression: &Expr) -> Result<String, QueryError> {
    let text = expression.to_string();
    match promql::parse(&text) {
        Ok(again) if again == *expression => Ok(text),
        _ => Err(QueryError::NotPrintable(text)),
    }
}

fn parse(query: &str) -> Result<Expr, QueryError> {
    promql::parse(query).map_err(|problem| QueryError::Unparsable { query: query.to_owned(), problem })
}

struct Confine<'a> {
    scope: Option<&'a LabelValue>,
    unconfinable: Option<&'static str>,
}

impl ExprVisitorMut for Confine<'_> {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &mut Expr) -> Result<bool, Infallible> {
        match expression {
            Expr::VectorSelector(selector) => self.selector(&mut selector.matchers),
            Expr::MatrixSelector(selector) => self.selector(&mut selector.vs.matchers),
            // Joins the labels of target_info, which appears nowhere in the expression.
            Expr::Call(call) if self.scope.is_some() && call.func.name == "info" => self.unconfinable = Some("info"),
            _ => {}
        }
        Ok(true)
    }
}

impl Confine<'_> {
    fn selector(&self, matchers: &mut Matchers) {
        if let Some(scope) = self.scope {
            scope.force(matchers);
        }
        // They are printed in this order: in another one, what is printed would not compare equal.
        matchers.matchers.sort_by_cached_key(ToString::to_string);
    }
}

impl LabelValue {
    /// Groups joined by `or` select each for itself, so each of them needs the matcher.
    fn force(&self, matchers: &mut Matchers) {
        let Matchers { matchers: only, or_matchers: groups } = matchers;
        if groups.is_empty() || !only.is_empty() {
            self.replace(only);
        }
        for group in groups {
            self.replace(group);
        }
    }

    fn replace(&self, matchers: &mut Vec<Matcher>) {
        matchers.retain(|matcher| matcher.name != self.label);
        matchers.push(Matcher::new(MatchOp::Equal, &self.label, &self.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine() -> LabelValue {
        LabelValue { label: "namespace".to_owned(), value: "mine".to_owned() }
    }

    fn confined(query: &str) -> Result<String, QueryError> {
        print(&confine(query, &Some(mine()))?)
    }

    #[test]
    fn every_selector_is_confined() {
        let cases = [
            ("up", r#"up{namespace="mine"}"#),
            (r#"up{namespace="other"}"#, r#"up{namespace="mine"}"#),
            (r#"up{namespace!="mine"}"#, r#"up{namespace="mine"}"#),
            (r#"up{namespace=~".*",a="b"}"#, r#"up{a="b",namespace="mine"}"#),
            (r#"up{z="1",a="2"}"#, r#"up{a="2",namespace="mine",z="1"}"#),
            (r#"up{"namespace"="other"}"#, r#"up{namespace="mine"}"#),
            (r#"up{a="1" or b="2"}"#, r#"up{a="1", namespace="mine" or b="2", namespace="mine"}"#),
            (r#"up{namespace="mine" or namespace="other"}"#, r#"up{namespace="mine" or namespace="mine"}"#),
            (
                r#"rate(up{a="}"}[5m] offset 1h) / up offset -1m"#,
                r#"rate(up{a="}",namespace="mine"}[5m] offset 1h) / up{namespace="mine"} offset -1m"#,
            ),
            (
                "max_over_time(sum by (pod) (rate(a[1m]))[1h:30s]) > bool on () -b",
                r#"max_over_time(sum by (pod) (rate(a{namespace="mine"}[1m]))[1h:30s]) > bool on () -b{namespace="mine"}"#,
            ),
            (r#"{"up{x=\"y\"} or other"}"#, r#"{__name__="up{x=\"y\"} or other",namespace="mine"}"#),
            ("absent(a) unless topk(3, b)", r#"absent(a{namespace="mine"}) unless topk(3, b{namespace="mine"})"#),
            (r"up{a=~`5\d\d`}", r#"up{a=~"5\\d\\d",namespace="mine"}"#),
            // To a parser that takes the backslash for an escape, the whole middle would be one value.
            (r"up{a=`\`} or up{b=`c`}", r#"up{a="\\",namespace="mine"} or up{b="c",namespace="mine"}"#),
            ("sum(a) # namespace=\"other\"", r#"sum(a{namespace="mine"})"#),
            ("1 + vector(time())", "1 + vector(time())"),
        ];
        for (query, expected) in cases {
            assert_eq!(confined(query).as_deref(), Ok(expected), "{query}");
        }
    }

    #[test]
    fn a_value_is_never_taken_for_syntax() {
        let scope = Some(LabelValue { label: "namespace".to_owned(), value: "a\"} or up{b=\"\\".to_owned() });
        let text = print(&confine("up", &scope).unwrap()).unwrap();
        assert_eq!(text, r#"up{namespace="a\"} or up{b=\"\\"}"#);
    }

    #[test]
    fn what_cannot_be_confined_is_refused() {
        assert!(matches!(confined("up{"), Err(QueryError::Unparsable { .. })));
        assert!(matches!(confined("rate(up[5m] anchored)"), Err(QueryError::Unparsable { .. })));
        assert_eq!(confined("info(up)"), Err(QueryError::Unconfinable("info")));
        assert_eq!(confined("sum(1 + info(up))"), Err(QueryError::Unconfinable("info")));
        assert!(matches!(confined("a * ignoring () group_left (c) b"), Err(QueryError::NotPrintable(_))));
    }

    /// The longest expression that a Pilot can carry, in the shapes that nest deepest, on a runtime thread's stack.
    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let deep = |open: &str, close: &str| {
            let times = (2048 - 1) / (open.len() + close.len());
            format!("{}a{}", open.repeat(times), close.repeat(times))
        };
        for query in [deep("(", ")"), deep("-", ""), deep("abs(", ")"), deep("a+", ""), deep("a^", "")] {
            let run = move || confined(&query).is_ok();
            let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap();
            assert!(thread.join().unwrap());
        }
    }
}
