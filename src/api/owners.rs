//! Who owns a pilot, and which identities of the cluster they act under.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The people who answer for the pilot. Sponsor, service owner, tech lead, risk lead and on-call
/// may loosen (Continue, Resume, Readmit, Override); moving towards safety is open to anyone whom RBAC admits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.serviceOwner)").message("owners.serviceOwner is required: name who answers for availability, incidents and change control").field_path(".serviceOwner"))]
pub struct Owners {
    /// Owns the business outcome and the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sponsor: Option<Owner>,
    /// Owns the value hypothesis, scope and roadmap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_manager: Option<Owner>,
    /// Owns availability, incident response and change control. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_owner: Option<Owner>,
    /// Owns architecture and technical debt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tech_lead: Option<Owner>,
    /// Owns data quality, lineage and privacy obligations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_steward: Option<Owner>,
    /// Owns threat modelling and mitigations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_lead: Option<Owner>,
    /// Whoever carries the pager now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_call: Option<Owner>,
}

/// One owner: a name for people, identities for the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The name as people say it, shown in every refusal. Example: `Ada Lovelace`.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// How to reach the owner. Examples: `ada@example.com`, `#checkout-oncall`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 256)))]
    pub contacts: Vec<String>,
    /// The users and groups, as the API server sees them, under which the owner acts.
    #[serde(default, skip_serializing_if = "Identities::is_empty")]
    pub identities: Identities,
    /// Who stands in. Acts with the same rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<Delegate>,
}

/// A stand-in for an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delegate {
    /// The name as people say it.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// The users and groups under which the stand-in acts.
    #[serde(default, skip_serializing_if = "Identities::is_empty")]
    pub identities: Identities,
}

/// Users and groups as they appear in `kubectl auth whoami`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identities {
    /// User names. Example: `ada@example.com`. Service accounts are not people and never loosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub users: Vec<String>,
    /// Group names. Example: `checkout-oncall`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub groups: Vec<String>,
}

impl Identities {
    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}
