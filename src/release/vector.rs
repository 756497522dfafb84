//! A release is what a pilot's workloads run together: a vector with one part for each.
//!
//! Its digests are taken over the parts in the order of kind and name. The digest of a release with a single
//! part is that part's own, so that a pilot with one workload speaks of one digest everywhere.

use serde_json::json;

use super::digest::digest;
use crate::api::workload::ReleasePart;

/// The digest of the templates as stored.
pub fn release_digest(parts: &[ReleasePart]) -> String {
    over(parts, |part| &part.template)
}

/// The digest of what runs.
pub fn release_payload(parts: &[ReleasePart]) -> String {
    over(parts, |part| &part.payload)
}

fn over(parts: &[ReleasePart], pick: impl Fn(&ReleasePart) -> &str) -> String {
    if let [part] = parts {
        return pick(part).to_owned();
    }
    let mut sorted: Vec<&ReleasePart> = parts.iter().collect();
    sorted.sort_by_key(|part| (part.kind, &part.name));
    let named: Vec<_> = sorted.iter().map(|part| json!([part.kind, part.name, pick(part)])).collect();
    digest(&json!(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::workload::PartKind;

    fn part(name: &str, payload: &str) -> ReleasePart {
        ReleasePart {
            kind: PartKind::Deployment,
            name: name.to_owned(),
            template: format!("t-{payload}"),
            payload: payload.to_owned(),
            images: Vec::new(),
        }
    }

    #[test]
    fn one_part_speaks_for_itself_and_several_are_told_apart() {
        assert_eq!(release_payload(&[part("web", "a")]), "a");
        assert_eq!(release_digest(&[part("web", "a")]), "t-a");
        let both = release_payload(&[part("web", "a"), part("worker", "b")]);
        assert_eq!(both, release_payload(&[part("worker", "b"), part("web", "a")]), "order does not matter");
        assert_ne!(both, release_payload(&[part("web", "b"), part("worker", "a")]), "who runs what does");
        // printf '[["Deployment","web","a"],["Deployment","worker","b"]]' | sha256sum
        assert_eq!(both, "8f4fbc76b17a7f271519de9eb4c4bc1eef69106559dd5216328dab8400c1ed8d");
    }
}
