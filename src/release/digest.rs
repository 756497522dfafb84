//! Digests of a release, taken from raw JSON because typed structs drop fields that they do not know.
//!
//! The *template digest* covers a pod template exactly as it is stored. The *payload digest* covers what
//! runs: the template's spec and its `checksum/*` annotations, and ignores other template metadata such as
//! git hashes and dates. Both are SHA-256 over the RFC 8785 (JCS) form, in lower-case hexadecimal.

use serde_json::{Map, Value, json};

pub use crate::canonical::digest;

/// Annotations of a pod template with this prefix are part of the payload: charts put the digest of a
/// ConfigMap there so that its change rolls the pods.
const CHECKSUM_PREFIX: &str = "checksum/";

/// The digest of a pod template as stored.
pub fn template_digest(template: &Value) -> String {
    digest(template)
}

/// The digest of what a pod template runs.
pub fn payload_digest(template: &Value) -> String {
    let checksums: Map<String, Value> = template
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(CHECKSUM_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let spec = template.get("spec").unwrap_or(&Value::Null);
    digest(&json!({ "spec": spec, "checksums": checksums }))
}

/// Whether every image, of a container or of a volume, is named by digest, so that a restart runs the same
/// bytes again.
pub fn all_images_are_pinned(template: &Value) -> bool {
    let items = |path: &str| template.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let containers = ["/spec/containers", "/spec/initContainers"].into_iter().flat_map(items);
    let volumes = items("/spec/volumes").filter_map(|volume| volume.get("image").filter(|image| !image.is_null()));
    let images = containers.map(|container| container.get("image")).chain(volumes.map(|image| image.get("reference")));
    images.into_iter().all(|image| image.and_then(Value::as_str).is_some_and(|image| image.contains("@sha256:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_ignores_template_metadata_but_not_checksums() {
        let template =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}});
        let mut dated = template.clone();
        dated["metadata"]["annotations"] = json!({"git-sha": "abc", "kubectl.kubernetes.io/restartedAt": "now"});
        let mut configured = template.clone();
        configured["metadata"]["annotations"] = json!({"checksum/config": "1"});
        let mut unknown_field = template.clone();
        unknown_field["spec"]["fieldOfTheFuture"] = json!(1);

        assert_eq!(payload_digest(&template), payload_digest(&dated));
        assert_ne!(template_digest(&template), template_digest(&dated));
        assert_ne!(payload_digest(&template), payload_digest(&configured));
        assert_ne!(payload_digest(&template), payload_digest(&unknown_field));
    }

    #[test]
    fn digest_is_sha256_of_the_canonical_form() {
        // printf '{"a":1,"b":"é"}' | sha256sum
        assert_eq!(
            digest(&json!({"b": "é", "a": 1})),
            "09ad9fd2fb648cb2f62141215828ea00a62c299db05d20aa9ade2f527a301cc6"
        );
    }

    #[test]
    fn an_image_is_pinned_only_by_digest() {
        let pinned =
            json!({"spec": {"containers": [{"image": "web@sha256:00"}], "initContainers": [{"image": "a@sha256:11"}]}});
        let tagged =
            json!({"spec": {"containers": [{"image": "web@sha256:00"}], "initContainers": [{"image": "a:1"}]}});
        assert!(all_images_are_pinned(&pinned));
        assert!(!all_images_are_pinned(&tagged));
        let volume = |image: Value| {
            let mut template = pinned.clone();
            template["spec"]["volumes"] =
                json!([{"name": "scratch", "emptyDir": {}}, {"name": "model", "image": image}]);
            all_images_are_pinned(&template)
        };
        assert!(volume(json!({"reference": "model@sha256:22"})));
        assert!(!volume(json!({"reference": "model:1"})));
        assert!(!volume(json!({"pullPolicy": "Always"})), "what is to be mounted is unknown");
    }
}
