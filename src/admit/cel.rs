//! The CEL in which the API server is told what to ask the webhook about.
//!
//! Only its words are here; what is asked about is decided where the conditions are put together.

use k8s_openapi::api::admissionregistration::v1::MatchCondition;

/// A condition that has to hold for a request to be sent.
pub(super) fn condition(name: &str, expression: &str) -> MatchCondition {
    MatchCondition { name: name.to_owned(), expression: expression.to_owned() }
}

/// A CEL text: JSON's escapes mean the same there.
pub(super) fn literal(text: impl AsRef<str>) -> String {
    serde_json::Value::String(text.as_ref().to_owned()).to_string()
}
