//! PromQL as far as a declaration needs it: does it parse, is it a plain selector, and how far back does it read?
//!
//! The parser knows less than the newest Prometheus, so this file refuses only what it is sure of; a live
//! query is the last judge.

use std::panic::catch_unwind;

use jiff::SignedDuration;
use promql_parser::parser::{self, Expr};

use super::literals::plain;
use super::metricsql;
use super::selectors::selectors;
use crate::violation::Violation;

/// Parses an expression, with its string literals as Prometheus reads them.
///
/// The parser is not ours, and panics at some numbers (`x[1e30]`). Everybody who may create a Pilot can write one, and no
/// Pilot may end the operator.
pub fn parse(text: &str) -> Result<Expr, String> {
    let text = plain(text)?;
    catch_unwind(|| parser::parse(&text))
        .unwrap_or_else(|_| Err("the parser fails at it, probably at a number that is too large".to_owned()))
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

/// Any expression that can yield one value: a range vector or a text cannot. One that calls functions of `MetricsQL` is
/// left to the source: which of the two it understands is not known here.
pub fn check_expression(text: &str, path: &str) -> Option<Violation> {
    match parse(text) {
        Err(_) if metricsql::is_meant(text) => metricsql::check(text, path),
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
    let Ok(expression) = parse(text) else {
        // Only what was declared is asked about.
        return metricsql::reach(text).unwrap_or(SignedDuration::ZERO);
    };
    let reads = selectors(&expression);
    let longest = |is_moved: bool| {
        let alike = reads.iter().filter(|read| read.is_moved == is_moved);
        alike.map(|read| read.span.saturating_add(read.shift)).max()
    };
    longest(false).or_else(|| longest(true)).unwrap_or(SignedDuration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_expression_ends_the_operator() {
        let numbers = ["-5", "nan", "inf", "1e30", "99999999999999999999", "1e309", "0x1p9999", "-1e30", "5e-324"];
        let frames =
            ["rate(x[N])", "x offset N", "x @ N", "median_over_time(x[N])", "max_over_time(x[1h:N])", "N", "x > N"];
        for (number, frame) in numbers.iter().flat_map(|number| frames.iter().map(move |frame| (number, frame))) {
            let text = frame.replace('N', number);
            let _ = (check_expression(&text, "query"), check_selector(&text, "bad"), reach(&text));
        }
        assert!(check_expression("rate(x[1e30])", "query").is_some());
        assert!(check_expression("median_over_time(x[-5])", "query").is_some());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_judged_without_harm(text in "[a-z_]{0,8}[({\\[]{0,2}[-+0-9.eEinfa:@ \"'`\\\\#]{0,12}[)}\\]]{0,2}") {
            let _ = (check_expression(&text, "query"), check_selector(&text, "bad"), reach(&text));
        }
    }

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
            // As Prometheus reads them, literals included.
            (r"rate(x{code=~`5\d\d`}[5m])", 300),
        ] {
            assert_eq!(reach(text), SignedDuration::from_secs(seconds), "{text}");
        }
    }
}
