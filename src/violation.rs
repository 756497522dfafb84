//! What is wrong with a declaration, where, and what to write instead.
//!
//! A violation is a value, not an error: a declaration is always read to its end and all of its violations are
//! reported together, by the webhook, in a condition, and by the command line alike.

use std::fmt;

/// One thing in a declaration that cannot be used as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, from the root of the object; elements of named lists by their key, for example
    /// `spec.changes.windows[name=nightly].timeZone`.
    pub path: String,
    /// What is wrong with it, naming the value that was found.
    pub problem: String,
    /// What to write instead.
    pub hint: String,
}

impl Violation {
    /// A violation at `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Violation { path: path.into(), problem: problem.into(), hint: hint.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.problem, self.hint)
    }
}
