//! Reads the API server's audit log: who wrote what, when, and with which answer.
//!
//! Requests that change something are logged, once answered; `dryRun` requests are among them and marked. So are the lists
//! of a pilot's records, which may be long.

use std::path::Path;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

/// The policy that the API server runs with.
pub(crate) const POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1",
  "kind": "Policy",
  "omitStages": ["RequestReceived", "ResponseStarted"],
  "rules": [
    {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
    {"level": "Metadata", "verbs": ["list"],
     "resources": [{"group": "pilotguard.dev", "resources": ["changerecords", "decisions"]}]},
    {"level": "None"}
  ]
}
"#;

/// Why the audit log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file could not be read.
    #[error("cannot read the audit log: {0}")]
    Read(#[from] std::io::Error),
    /// A whole line is not an audit event.
    #[error("unreadable audit event: {0}")]
    Parse(#[from] serde_json::Error),
}

/// One answered request that changed something or was meant to, or that listed records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// When the request arrived.
    pub at: Timestamp,
    /// When it was answered.
    pub answered: Timestamp,
    /// Who sent it, for example `alice` or `system:serviceaccount:kube-system:deployment-controller`.
    pub user: String,
    /// `create`, `update`, `patch`, `delete`, `deletecollection` or `list`.
    pub verb: String,
    /// The API group, empty for the core group.
    pub group: String,
    /// The plural resource name, for example `deployments`.
    pub resource: String,
    /// For example `status` or `scale`; empty for the resource itself.
    pub subresource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty where the server chose the name.
    pub name: String,
    /// The path and query, as sent.
    pub uri: String,
    /// The HTTP status code of the answer.
    pub code: u16,
    /// Whether the request asked not to be stored.
    pub dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    request_received_timestamp: Timestamp,
    /// Of the stage `ResponseComplete`, the only one that is logged.
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

/// All events so far, oldest first. An event that the server is still writing is left for the next read.
pub(crate) fn read(log: &Path) -> Result<Vec<AuditEvent>, AuditError> {
    let text = std::fs::read_to_string(log)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| Ok(serde_json::from_str::<Line>(line)?.into())).collect()
}

impl From<Line> for AuditEvent {
    fn from(line: Line) -> Self {
        Self {
            at: line.request_received_timestamp,
            answered: line.stage_timestamp,
            user: line.user.username,
            verb: line.verb,
            group: line.object_ref.api_group,
            resource: line.object_ref.resource,
            subresource: line.object_ref.subresource,
            namespace: line.object_ref.namespace,
            name: line.object_ref.name,
            code: line.response_status.code,
            dry_run: line.uri.contains("dryRun=All"),
            uri: line.uri,
        }
    }
}
