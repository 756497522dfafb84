//! What the shell knows besides the case, and people should see: whether the webhook is asked, whether the
//! metrics source answers. It changes no decision.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// What the shell knows besides the case.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The Pilot's generation.
    pub generation: Option<i64>,
    /// The conditions of before.
    pub conditions: Vec<Condition>,
    /// Whether the webhook was seen to enforce.
    pub enforced: Enforced,
    /// Why the metrics source cannot be read, if it cannot.
    pub source_problem: Option<String>,
}

/// Whether the webhook was seen to enforce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Enforced {
    /// It answered for this workload.
    Yes,
    /// The last attempt to find out says no, and why.
    No(String),
    /// Not found out yet.
    #[default]
    Unknown,
}
