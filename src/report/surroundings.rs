//! What the shell knows besides the case, and people should see: whether the webhook is asked, whether the metrics source
//! answers, whether the newest spec can be used. It changes no decision.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::status::StoredDeclaration;
use crate::violation::Violation;

/// What the shell knows besides the case.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The Pilot's generation.
    pub generation: Option<i64>,
    /// The declaration that is judged, as the status keeps it.
    pub declaration: Option<StoredDeclaration>,
    /// A newer spec that cannot be used.
    pub rejected: Option<Rejected>,
    /// The conditions of before.
    pub conditions: Vec<Condition>,
    /// Whether the webhook was seen to enforce.
    pub enforced: Enforced,
    /// What other admission makes of our writes.
    pub other_admission: OtherAdmission,
    /// How the metrics source answers.
    pub source: SourceState,
    /// The kinds whose watches have ended and are not well again.
    pub broken_watches: Option<String>,
}

/// How a metrics source answers one pilot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceState {
    /// It does.
    #[default]
    Answering,
    /// It does, but slowly: what asks which query, and how long it takes.
    Slow(String),
    /// It refuses a query, or answers none that can be used: which, of what, and why.
    QueryRefused(String),
    /// It does not, or not everything, and why.
    Unavailable(String),
}

/// A spec that cannot be used, so that an older one stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// What is wrong with it.
    pub violations: Vec<Violation>,
    /// The generation of the spec that is in force.
    pub in_force: i64,
}

/// What other mutating admission was seen to make of our writes, the worst last.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OtherAdmission {
    /// Not found out yet.
    #[default]
    Unknown,
    /// They come out as written.
    Unaltered,
    /// They come out changed, in the same way each time: what is changed.
    Altered(String),
    /// A dry-run is refused: why.
    Refused(String),
    /// They come out changed, in another way each time: what is changed.
    Unstable(String),
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
