//! Owners of a pilot, and the users and groups under which they act.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Owners of the pilot, by role. Sponsor, service owner, tech lead, risk lead and on-call may relax guards (Continue,
/// Resume, Readmit, Override). Rollback, ScaleDown and HoldChanges are open to anyone who may create Decisions.
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
    /// Carries the pager now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_call: Option<Owner>,
}

/// One owner: a name for people, and identities for the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Name of the person, shown in every refusal. Example: `Ada Lovelace`.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Contacts of the owner. Examples: `ada@example.com`, `#checkout-oncall`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 256)))]
    pub contacts: Vec<String>,
    /// Users and groups under which the owner acts, as the API server authenticates them.
    #[serde(default, skip_serializing_if = "Identities::is_empty")]
    pub identities: Identities,
    /// Deputy with the same rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<Delegate>,
}

/// A deputy of an owner, with the same rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delegate {
    /// Name of the person.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Users and groups under which the delegate acts.
    #[serde(default, skip_serializing_if = "Identities::is_empty")]
    pub identities: Identities,
}

/// Users and groups, as shown by `kubectl auth whoami`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identities {
    /// User names. Service accounts are not people and never relax guards. Example: `ada@example.com`.
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
