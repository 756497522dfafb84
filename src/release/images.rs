//! The images that a release runs, and the name of a release in texts: its images, with its payload digest beside them.
//!
//! The digest covers exactly what the images are listed of: the pilot's release, or the part that one workload runs.
//! A digest is never shown alone.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::incident::{RollbackTarget, Suspect};
use crate::api::workload::ReleasePart;

/// Maximum number of images that are kept of a release.
pub const MOST_IMAGES: usize = 16;

/// Maximum length of an image reference that is kept, in characters; a longer one is cut.
const LONGEST_IMAGE: usize = 256;

/// Maximum number of images that a name lists.
const IMAGES_NAMED: usize = 2;

/// Digits of a digest in a name.
const DIGITS_SHOWN: usize = 12;

/// The images of a pod template's containers, each once, in their order; none for the content of a ConfigMap.
pub fn images(template: &Value) -> Vec<String> {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let named = containers.filter_map(|container| container.get("image")?.as_str());
    once(named.map(|image| image.chars().take(LONGEST_IMAGE).map(shown).collect()))
}

/// The API server takes any text for an image; in ours it must not begin a line or turn the direction of writing.
const fn shown(character: char) -> char {
    if character.is_ascii_graphic() { character } else { '?' }
}

/// The first images of these, each once.
pub fn once(images: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    images.into_iter().filter(|image| seen.insert(image.clone())).take(MOST_IMAGES).collect()
}

/// The images of the parts of a release, each once.
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a ReleasePart>) -> Vec<String> {
    once(parts.into_iter().flat_map(|part| part.images.iter().cloned()))
}

/// The name of a release, for example `shop/checkout:2.0 (0123456789ab)`; `None` if none of its images is known.
pub fn release_name(images: &[String], payload: &str) -> Option<String> {
    let named: Vec<&str> = images.iter().take(IMAGES_NAMED).map(|image| short(image)).collect();
    let more = if images.len() > IMAGES_NAMED { " and more" } else { "" };
    let digest = payload.get(..DIGITS_SHOWN).unwrap_or(payload);
    (!named.is_empty()).then(|| format!("{}{more} ({digest})", named.join(", ")))
}

impl Suspect {
    /// The name of the release that is blamed.
    pub fn name(&self) -> Option<String> {
        release_name(&self.images, &self.payload)
    }
}

impl RollbackTarget {
    /// The name of the release that a rollback restores.
    pub fn name(&self) -> Option<String> {
        release_name(&self.images, &self.payload)
    }
}

/// An image without its registry and with at most the first digits of its digest.
fn short(image: &str) -> &str {
    const DIGEST: &str = "@sha256:";
    let is_host = |host: &str| host == "localhost" || host.contains(['.', ':']);
    let repository = image.split_once('/').filter(|(host, _)| is_host(host)).map_or(image, |(_, rest)| rest);
    let end = repository.find(DIGEST).map(|at| at + DIGEST.len() + DIGITS_SHOWN);
    end.and_then(|end| repository.get(..end)).unwrap_or(repository)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_release_is_named_by_its_images() {
        let digest = "0123456789abcdef".repeat(4);
        let name = |images: &[&str]| {
            let containers: Vec<Value> = images.iter().map(|image| json!({"image": image})).collect();
            release_name(&super::images(&json!({"spec": {"containers": containers}})), &digest)
        };
        for (images, expected) in [
            (vec!["shop/checkout:2.0"], Some("shop/checkout:2.0 (0123456789ab)")),
            (vec!["registry.example.com:5000/shop/checkout:2.0"], Some("shop/checkout:2.0 (0123456789ab)")),
            (vec!["localhost/web"], Some("web (0123456789ab)")),
            (vec!["web:1", "side:1", "web:1"], Some("web:1, side:1 (0123456789ab)")),
            (vec!["a", "b", "c", "d", "e"], Some("a, b and more (0123456789ab)")),
            (vec!["web:2\nNormal: safe\u{202e}"], Some("web:2?Normal:?safe? (0123456789ab)")),
            (vec![], None),
        ] {
            assert_eq!(name(&images).as_deref(), expected, "{images:?}");
        }
        let pinned = format!("shop/checkout@sha256:{digest}");
        assert_eq!(name(&[&pinned]).as_deref(), Some("shop/checkout@sha256:0123456789ab (0123456789ab)"));
    }

    #[test]
    fn names_are_bounded() {
        let long = "x".repeat(100_000);
        let containers: Vec<Value> = (0..100).map(|number| json!({"image": format!("{number}{long}")})).collect();
        let images = images(&json!({"spec": {"containers": containers}}));
        assert_eq!((images.len(), images[0].len()), (MOST_IMAGES, LONGEST_IMAGE));
    }
}
