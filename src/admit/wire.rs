//! The AdmissionReview as it travels: read into a [`Request`], answered by an [`Answer`].
//!
//! Objects stay raw JSON, because typed structs drop fields that they do not know and a digest must cover
//! them. Reading never panics: whatever does not fit is [`Malformed`].

use json_patch::{Patch, PatchOperation};
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::decision::Requester;
use crate::release::marks::HeldVerdict;
use crate::violation::Violation;

const API_VERSION: &str = "admission.k8s.io/v1";

/// What the API server asks.
#[derive(Clone, Debug)]
pub struct Request {
    /// The name of this question; repeated in the answer.
    pub uid: String,
    /// `group/resource`, and `/subresource` where there is one. Example: `apps/deployments/scale`.
    pub target: String,
    /// What is to be done.
    pub operation: Verb,
    /// The object's namespace, empty for cluster-wide ones.
    pub namespace: String,
    /// The object's name; empty where the server is to choose one.
    pub name: String,
    /// Who asks.
    pub requester: Requester,
    /// Whether nothing will be stored.
    pub is_dry_run: bool,
    /// The object as it would be stored; null on DELETE.
    pub object: Value,
    /// The object as it is stored; null on CREATE.
    pub old_object: Value,
}

/// The verb of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Something new.
    Create,
    /// A change.
    Update,
    /// The end of something.
    Delete,
    /// Exec, attach, proxy.
    Connect,
}

/// A body that is no AdmissionReview that can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The uid of the question, if one was found; only then a well-formed answer is possible.
    pub uid: Option<String>,
    /// What is wrong.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    resource: GroupResource,
    #[serde(default)]
    sub_resource: Option<String>,
    operation: Verb,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    name: Option<String>,
    user_info: UserInfo,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

#[derive(Deserialize)]
struct GroupResource {
    #[serde(default)]
    group: String,
    resource: String,
}

#[derive(Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
    #[serde(default)]
    groups: Option<Vec<String>>,
}

impl Request {
    /// Reads the body of a call by the API server.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut review: Value = serde_json::from_slice(body)
            .map_err(|problem| Malformed { uid: None, problem: format!("the body is not JSON: {problem}") })?;
        let request = review.get_mut("request").map(Value::take).unwrap_or_default();
        let uid = request.get("uid").and_then(Value::as_str).filter(|uid| !uid.is_empty()).map(str::to_owned);
        let malformed = |problem: String| Malformed { uid: uid.clone(), problem };
        let of = |field: &str| review.get(field).and_then(Value::as_str).unwrap_or_default();
        if (of("apiVersion"), of("kind")) != (API_VERSION, "AdmissionReview") {
            return Err(malformed(format!("expected kind AdmissionReview of {API_VERSION}")));
        }
        let wire = Wire::deserialize(request)
            .map_err(|problem| malformed(format!("the AdmissionReview has no usable request: {problem}")))?;
        let target = match &wire.sub_resource {
            Some(sub) if !sub.is_empty() => format!("{}/{}/{sub}", wire.resource.group, wire.resource.resource),
            _ => format!("{}/{}", wire.resource.group, wire.resource.resource),
        };
        let requester = Requester { user: wire.user_info.username, groups: wire.user_info.groups.unwrap_or_default() };
        let in_object = |object: &Value| object.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            target,
            operation: wire.operation,
            namespace: wire.namespace.unwrap_or_default(),
            name: wire
                .name
                .filter(|name| !name.is_empty())
                .or_else(|| in_object(&wire.object))
                .or_else(|| in_object(&wire.old_object))
                .unwrap_or_default(),
            requester,
            is_dry_run: wire.dry_run.unwrap_or_default(),
            object: wire.object,
            old_object: wire.old_object,
            uid: uid.ok_or_else(|| Malformed { uid: None, problem: "request.uid is missing".to_owned() })?,
        })
    }
}

/// What the API server is told.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It may happen.
    Allowed {
        /// What is changed on the way.
        patch: Vec<PatchOperation>,
        /// What the requester is told, one line each.
        warnings: Vec<String>,
    },
    /// It is accepted and does not happen now.
    PutOff {
        /// In which way.
        verdict: HeldVerdict,
        /// What is changed on the way.
        patch: Vec<PatchOperation>,
        /// What the requester is told, short enough for a warning.
        warning: String,
        /// The same for an Event, which has more room.
        note: String,
    },
    /// It may not.
    Denied(Denial),
}

/// Why something may not happen, as a Kubernetes Status.
#[derive(Clone, Debug, PartialEq)]
pub struct Denial {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, as in the Kubernetes API.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The fields that are wrong.
    pub causes: Vec<Violation>,
}

impl Answer {
    /// It may happen, as it is.
    pub const fn untouched() -> Self {
        Self::Allowed { patch: Vec::new(), warnings: Vec::new() }
    }

    /// It may happen, and the requester is told something.
    pub const fn warned(warnings: Vec<String>) -> Self {
        Self::Allowed { patch: Vec::new(), warnings }
    }

    /// A guard says no.
    pub const fn forbidden(message: String) -> Self {
        Self::Denied(Denial { code: 403, reason: "Forbidden", message, causes: Vec::new() })
    }

    /// Nobody can say yet; the same request may succeed in a moment.
    pub const fn unavailable(message: String) -> Self {
        Self::Denied(Denial { code: 503, reason: "ServiceUnavailable", message, causes: Vec::new() })
    }

    /// The request makes no sense to this endpoint.
    pub const fn bad_request(message: String) -> Self {
        Self::Denied(Denial { code: 400, reason: "BadRequest", message, causes: Vec::new() })
    }

    /// The object cannot be used as written.
    pub fn invalid(kind: &str, name: &str, causes: Vec<Violation>) -> Self {
        let list = listed(&causes);
        let message = format!("{kind} {name:?} is invalid:{list}");
        Self::Denied(Denial { code: 422, reason: "Invalid", message, causes })
    }

    /// The AdmissionReview that answers the question `uid`.
    pub fn into_review(self, uid: &str) -> Value {
        let response = match self {
            Self::Allowed { patch, warnings } => allowed(uid, patch, &warnings),
            Self::PutOff { patch, warning, .. } => allowed(uid, patch, &[warning]),
            Self::Denied(denial) => json!({"uid": uid, "allowed": false, "status": denial.into_status()}),
        };
        json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})
    }
}

fn allowed(uid: &str, patch: Vec<PatchOperation>, warnings: &[String]) -> Value {
    let mut response = json!({"uid": uid, "allowed": true});
    if !patch.is_empty() {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(ByteString(json!(Patch(patch)).to_string().into_bytes()));
    }
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    response
}

/// One violation a line, each after a line break.
pub fn listed(violations: &[Violation]) -> String {
    violations.iter().flat_map(|violation| ["\n- ".to_owned(), violation.to_string()]).collect()
}

impl Denial {
    fn into_status(self) -> Status {
        let causes = self.causes.into_iter().map(|cause| Cause {
            reason: "FieldValueInvalid",
            message: format!("{}; {}", cause.problem, cause.hint),
            field: cause.path,
        });
        Status {
            outcome: "Failure",
            code: self.code,
            reason: self.reason,
            message: self.message,
            details: Details { causes: causes.collect() },
        }
    }
}

#[derive(Serialize)]
struct Status {
    #[serde(rename = "status")]
    outcome: &'static str,
    code: u16,
    reason: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Details::is_empty")]
    details: Details,
}

#[derive(Serialize)]
struct Details {
    causes: Vec<Cause>,
}

impl Details {
    const fn is_empty(&self) -> bool {
        self.causes.is_empty()
    }
}

#[derive(Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}
