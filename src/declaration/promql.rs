//! PromQL as far as a declaration needs it: does it parse, and is it a plain selector?
//!
//! The parser knows less than the newest Prometheus, so this file refuses only what it is sure of; a live
//! query is the last judge.

use promql_parser::parser::{self, Expr};

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
