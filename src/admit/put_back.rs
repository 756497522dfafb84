//! What makes a write release what is stored, and nothing else: the fields that decide what runs are put back.
//!
//! Who owns them afterwards is not said here, and no mark is written.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation};
use serde_json::Value;

use crate::api::workload::PartKind;
use crate::release::workload;

/// The operations on `new` after which it releases what `old` did.
pub(super) fn put_back(kind: PartKind, old: &Value, new: &Value) -> Vec<PatchOperation> {
    let fields: Vec<Vec<&str>> = match workload::brake(kind) {
        Some(brake) => vec![vec!["spec", "template"], vec!["spec", brake]],
        None => vec![vec!["data"], vec!["binaryData"], vec!["immutable"]],
    };
    let restored = fields.iter().filter_map(|path| match (at(old, path), at(new, path)) {
        (before, after) if before == after => None,
        (Some(before), _) => Some(put(path, before.clone())),
        (None, _) => Some(remove(path)),
    });
    restored.collect()
}

/// Adds or replaces a field.
pub(super) fn put(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}

fn remove(path: &[&str]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path: PointerBuf::from_tokens(path.iter().copied()) })
}

fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |part, key| part.get(*key))
}
