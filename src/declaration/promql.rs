//! PromQL as far as a declaration needs it: does it parse, is it a plain selector, and how far back does it read?
//!
//! The parser knows less than the newest Prometheus, so this file refuses only what it is sure of; a live
//! query is the last judge.

use std::convert::Infallible;

use jiff::SignedDuration;
use promql_parser::parser::{self, Expr, Offset, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};

use super::literals::plain;
use crate::violation::Violation;

/// Parses an expression, with its string literals as Prometheus reads them.
pub fn parse(text: &str) -> Result<Expr, String> {
    parser::parse(&plain(text)?)
}

/// A vector selector such as `http_requests_total{code=~"5.."}`: no function, no range, no offset.
pub fn check_selector(text: &str, path: &str) -> Option<Violation> {
    let hint = "write a plain counter selector such as http_requests_total{code=~\"5..\"}; pilotguard adds the range and the sum itself";
    match parse(text) {
        Err(problem) => Some(Violation::new(path, format!("is not PromQL: {problem}"), hint)),
        Ok(Expr::VectorSelector(selector)) if selector.offset.is_none() && selector.at.is_none() => None,
        Ok(_) => Some(Violation::new(path, "is not a plain vector selector", hint)),
    }
}

/// Any expression that can yield one value: a range vector or a text cannot.
pub fn check_expression(text: &str, path: &str) -> Option<Violation> {
    match parse(text) {
        Err(problem) => Some(Violation::new(
            path,
            format!("is not PromQL: {problem}"),
            "correct the expression; try it in Prometheus first",
        )),
        Ok(Expr::MatrixSelector(_)) => {
            Some(Violation::new(path, "is a range, not a value", "wrap it in a function such as rate()"))
        }
        Ok(Expr::StringLiteral(_)) => {
            Some(Violation::new(path, "is a text, not a value", "write an expression that yields one number"))
        }
        Ok(_) => None,
    }
}

/// How far back an expression reads: the longest of its ranges, subqueries included. A selector with an offset counts
/// only where no other reads the present: in `x / x offset 1w` it is the past that the present is compared with.
pub fn reach(text: &str) -> SignedDuration {
    let Ok(expression) = parser::parse(text) else { return SignedDuration::ZERO };
    let mut reads = Reads::default();
    let Ok(_) = walk_expr(&mut reads, &expression);
    let Reads { present, past, .. } = reads;
    present.into_iter().max().or_else(|| past.into_iter().max()).unwrap_or(SignedDuration::ZERO)
}

/// How far back each selector of an expression reads.
#[derive(Default)]
struct Reads {
    /// Of the subqueries around: the range, and whether it is moved away from the present.
    enclosing: Vec<(SignedDuration, bool)>,
    present: Vec<SignedDuration>,
    past: Vec<SignedDuration>,
}

impl Reads {
    fn note(&mut self, selector: &VectorSelector, range: SignedDuration) {
        let around = self.enclosing.iter().fold(range, |sum, (range, _)| sum.saturating_add(*range));
        let moved = selector.at.is_some() || self.enclosing.iter().any(|(_, is_moved)| *is_moved);
        match &selector.offset {
            None if !moved => self.present.push(around),
            offset => self.past.push(around.saturating_add(ago(offset.as_ref()))),
        }
    }
}

impl ExprVisitor for Reads {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        match expression {
            Expr::VectorSelector(selector) => self.note(selector, SignedDuration::ZERO),
            Expr::MatrixSelector(matrix) => self.note(&matrix.vs, signed(matrix.range)),
            Expr::Subquery(subquery) => {
                let range = signed(subquery.range).saturating_add(ago(subquery.offset.as_ref()));
                self.enclosing.push((range, subquery.offset.is_some() || subquery.at.is_some()));
            }
            _ => {}
        }
        Ok(true)
    }

    fn post_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        if matches!(expression, Expr::Subquery(_)) {
            self.enclosing.pop();
        }
        Ok(true)
    }
}

fn ago(offset: Option<&Offset>) -> SignedDuration {
    match offset {
        Some(Offset::Pos(offset)) => signed(*offset),
        Some(Offset::Neg(_)) | None => SignedDuration::ZERO,
    }
}

fn signed(range: impl TryInto<SignedDuration>) -> SignedDuration {
    range.try_into().unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_reads_as_far_back_as_its_longest_range() {
        for (text, seconds) in [
            ("x", 0),
            ("1 + 1", 0),
            ("rate(x[30s])", 30),
            ("histogram_quantile(0.95, sum by (le) (rate(x_bucket[5m])))", 300),
            ("rate(x[30s]) / rate(y[2m])", 120),
            ("max_over_time(rate(x[5m])[1h:1m])", 3900),
            ("max_over_time(avg_over_time(rate(x[1m])[10m:1m])[1h:5m])", 4260),
            // The past that the present is compared with is not waited for.
            ("rate(x[5m]) / rate(x[5m] offset 1w)", 300),
            ("rate(x[5m]) / rate(x[5m] @ 0)", 300),
            // Nothing else is read.
            ("rate(x[5m] offset 5m)", 600),
            ("rate(x[5m] offset -5m)", 300),
            ("max_over_time(rate(x[5m])[1h:1m] offset 10m)", 4500),
        ] {
            assert_eq!(reach(text), SignedDuration::from_secs(seconds), "{text}");
        }
    }
}
