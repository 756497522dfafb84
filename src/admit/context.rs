//! What an answer depends on besides the request.

use jiff::Timestamp;

use super::pilots::Guarded;
use crate::observe::cluster::Cluster;

/// What an answer depends on besides the request.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Which Pilot guards what.
    pub guarded: &'a Guarded,
    /// What is recorded of the past.
    pub cluster: &'a Cluster,
    /// The user name under which the operator itself acts.
    pub own_account: &'a str,
    /// The user names that the platform's admins declared to be GitOps tools, besides service accounts.
    pub gitops_users: &'a [String],
    /// Whether the caller's registration may refuse: false for workloads that are only observed.
    pub may_refuse_unknown: bool,
    /// The time.
    pub now: Timestamp,
}
