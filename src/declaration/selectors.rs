//! What an expression reads: its selectors, each with the span that it reads and whether it reads the present.
//!
//! Pure; one walk serves both who asks how old samples are and who waits until a fault has left every range.

use std::convert::Infallible;

use jiff::SignedDuration;
use promql_parser::parser::{Expr, Offset, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};

/// A selector in an expression.
pub struct Read {
    /// The selector as it was written, its range aside.
    pub selector: VectorSelector,
    /// Its range and those of the subqueries around it.
    pub span: SignedDuration,
    /// How far offsets, its own and those of the subqueries around it, move that span into the past.
    pub shift: SignedDuration,
    /// Whether an `offset` or an `@` moves it away from the present.
    pub is_moved: bool,
}

/// Every selector of an expression, in the order in which they were written.
pub fn selectors(expression: &Expr) -> Vec<Read> {
    let mut walk = Walk::default();
    let Ok(_) = walk_expr(&mut walk, expression);
    walk.found
}

#[derive(Default)]
struct Walk {
    /// Of the subqueries around: range, offset, and whether it is moved.
    enclosing: Vec<(SignedDuration, SignedDuration, bool)>,
    found: Vec<Read>,
}

impl Walk {
    fn note(&mut self, selector: &VectorSelector, range: SignedDuration) {
        let offset = selector.offset.as_ref();
        let mut read = Read {
            selector: selector.clone(),
            span: range,
            shift: ago(offset),
            is_moved: offset.is_some() || selector.at.is_some(),
        };
        for (range, shift, is_moved) in &self.enclosing {
            read.span = read.span.saturating_add(*range);
            read.shift = read.shift.saturating_add(*shift);
            read.is_moved |= is_moved;
        }
        self.found.push(read);
    }
}

impl ExprVisitor for Walk {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        match expression {
            Expr::VectorSelector(selector) => self.note(selector, SignedDuration::ZERO),
            Expr::MatrixSelector(matrix) => self.note(&matrix.vs, signed(matrix.range)),
            Expr::Subquery(subquery) => {
                let offset = subquery.offset.as_ref();
                let is_moved = offset.is_some() || subquery.at.is_some();
                self.enclosing.push((signed(subquery.range), ago(offset), is_moved));
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
