//! Who owns which field of a workload, as `metadata.managedFields` tells it.
//!
//! An act puts fields of a release back and becomes their owner; until they are given back to those who owned them when
//! that release was applied, the next server-side apply meets a conflict, and what it leaves out stays. Nothing here
//! takes a field away from anybody but pilotguard, except where a write is answered with what was stored before it.

use serde_json::{Map, Value, json};

/// The field manager of everything that pilotguard writes.
pub const FIELD_MANAGER: &str = "pilotguard";

/// Where kubectl keeps what was applied last: it decides what the next client-side apply removes.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What is released, as paths into managed fields: a pod template, or the content of a ConfigMap.
pub const RELEASED: [&[&str]; 3] = [&["f:spec", "f:template"], &["f:data"], &["f:binaryData"]];
/// The replicas.
pub const REPLICAS: &[&str] = &["f:spec", "f:replicas"];

/// What is never ours: what is released, all else of the spec, and the record of what was applied last. Of replicas nobody is made the owner again, because an owner who has stopped to
/// declare them since would, with the next apply, set them to 1.
const FOREIGN: [&[&str]; 4] = [&["f:spec"], &["f:data"], &["f:binaryData"], &LAST_APPLIED_FIELD];
const LAST_APPLIED_FIELD: [&str; 3] =
    ["f:metadata", "f:annotations", "f:kubectl.kubernetes.io/last-applied-configuration"];

/// Whether pilotguard owns fields of the object that belong to others.
pub fn owes_fields(object: &Value) -> bool {
    entries(managed(object))
        .filter(|entry| is_ours(entry))
        .any(|entry| fields(entry).is_some_and(|ours| FOREIGN.iter().any(|path| at(ours, path).is_some())))
}

/// The managed fields of the object after all that is not pilotguard's is given back to those who owned it when
/// `former` were the managed fields; what nobody owned then is nobody's again.
pub fn given_back(object: &Value, former: &Value) -> Value {
    let mut owed = Map::new();
    let mut given: Vec<Value> = entries(managed(object)).cloned().collect();
    for entry in given.iter_mut().filter(|entry| is_ours(entry)) {
        let Some(ours) = entry.get_mut("fieldsV1").and_then(Value::as_object_mut) else { continue };
        for path in RELEASED.into_iter().chain([LAST_APPLIED_FIELD.as_slice()]) {
            if let Some(subtree) = at(ours, path) {
                put(&mut owed, path, subtree.clone());
            }
        }
        for path in FOREIGN {
            remove(ours, path);
        }
    }
    for owner in entries(Some(former)).filter(|owner| !is_ours(owner)) {
        give(&mut given, owner, fields(owner).map(|theirs| intersection(&owed, theirs)).unwrap_or_default());
    }
    given.retain(owns_something);
    Value::Array(given)
}

/// The managed fields of a write into which the fields at `paths` are put back as they were stored: of these everyone
/// owns what they owned before, of all else what the write says.
pub fn with_owners_of(new: &Value, old: &Value, paths: &[&[&str]]) -> Value {
    let mut kept: Vec<Value> = entries(managed(new)).cloned().collect();
    for fields in kept.iter_mut().filter_map(|entry| entry.get_mut("fieldsV1")?.as_object_mut()) {
        for path in paths {
            remove(fields, path);
        }
    }
    for owner in entries(managed(old)) {
        let mut share = Map::new();
        for path in paths {
            if let Some(subtree) = fields(owner).and_then(|theirs| at(theirs, path)) {
                put(&mut share, path, subtree.clone());
            }
        }
        give(&mut kept, owner, share);
    }
    kept.retain(owns_something);
    Value::Array(kept)
}

/// What was applied last, of which the release is another's: `applied` is what kubectl wrote down, the release is taken
/// from what it had written down when that was applied. `None` where one of them is not what kubectl writes.
pub fn last_applied_with_release(applied: &str, of: &str) -> Option<String> {
    let mut applied: Value = serde_json::from_str(applied).ok()?;
    let of: Value = serde_json::from_str(of).ok()?;
    if of["kind"] == "ConfigMap" {
        let applied = applied.as_object_mut()?;
        for field in ["data", "binaryData"] {
            match of.get(field) {
                Some(entries) => drop(applied.insert(field.to_owned(), entries.clone())),
                None => drop(applied.remove(field)),
            }
        }
    } else {
        *applied.pointer_mut("/spec/template")? = of.pointer("/spec/template")?.clone();
    }
    // As kubectl ends it: else the next apply would find that something has changed.
    Some(format!("{}\n", as_go_escapes(&applied)))
}

/// JSON as Go's encoder writes it, which escapes some characters that ours does not. They occur in strings only.
fn as_go_escapes(value: &Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        match character {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
    text
}

fn managed(object: &Value) -> Option<&Value> {
    object.pointer("/metadata/managedFields")
}

fn entries(managed: Option<&Value>) -> impl Iterator<Item = &Value> {
    managed.and_then(Value::as_array).into_iter().flatten()
}

fn fields(entry: &Value) -> Option<&Map<String, Value>> {
    entry.get("fieldsV1").and_then(Value::as_object)
}

fn owns_something(entry: &Value) -> bool {
    fields(entry).is_some_and(|fields| !fields.is_empty())
}

fn is_ours(entry: &Value) -> bool {
    entry["manager"] == FIELD_MANAGER && entry["operation"] == "Update" && entry.get("subresource").is_none()
}

/// Adds fields to those of an owner, who is added where there is no such owner yet.
fn give(all: &mut Vec<Value>, owner: &Value, share: Map<String, Value>) {
    let key = |entry: &Value| {
        let part = |field: &str| entry.get(field).cloned().unwrap_or_default();
        ["manager", "operation", "apiVersion", "subresource"].map(part)
    };
    if share.is_empty() {
        return;
    }
    if let Some(entry) = all.iter_mut().find(|entry| key(entry) == key(owner)) {
        entry["fieldsV1"] = fields(entry).map_or(share.clone(), |theirs| union(theirs, &share)).into();
    } else {
        let mut entry = owner.clone();
        entry["fieldsV1"] = share.into();
        all.push(entry);
    }
}

fn at<'a>(fields: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let next = fields.get(*first)?;
    if rest.is_empty() { Some(next) } else { at(next.as_object()?, rest) }
}

fn put(fields: &mut Map<String, Value>, path: &[&str], subtree: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        fields.insert((*first).to_owned(), subtree);
    } else if let Some(next) = fields.entry(*first).or_insert_with(|| json!({})).as_object_mut() {
        put(next, rest, subtree);
    }
}

/// Removes a subtree, and what is empty without it.
fn remove(fields: &mut Map<String, Value>, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        fields.remove(*first);
    } else if let Some(next) = fields.get_mut(*first).and_then(Value::as_object_mut)
        && !next.is_empty()
    {
        remove(next, rest);
        if next.is_empty() {
            fields.remove(*first);
        }
    }
}

/// A node is itself owned where it has nothing below it or says so by `.`.
fn is_owned(node: &Map<String, Value>) -> bool {
    node.is_empty() || node.contains_key(".")
}

fn intersection(one: &Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    let mut common = Map::new();
    for (key, node) in one {
        let (Some(node), Some(twin)) = (node.as_object(), other.get(key).and_then(Value::as_object)) else { continue };
        let below = intersection(node, twin);
        if !below.is_empty() {
            common.insert(key.clone(), Value::Object(below));
        } else if is_owned(node) && is_owned(twin) {
            common.insert(key.clone(), json!({}));
        }
    }
    common
}

fn union(one: &Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    let mut all = one.clone();
    for (key, node) in other {
        let Some(node) = node.as_object() else { continue };
        let joined = match all.get(key).and_then(Value::as_object) {
            None => node.clone(),
            Some(twin) => {
                let mut joined = union(twin, node);
                // An owned node without children would be lost among the children of the other.
                if !joined.is_empty() && (is_owned(twin) || is_owned(node)) {
                    joined.insert(".".to_owned(), json!({}));
                }
                joined
            }
        };
        all.insert(key.clone(), Value::Object(joined));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "time": "2026-11-18T10:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn object(entries: &[Value]) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    fn template(containers: &Value) -> Value {
        json!({"f:template": {"f:spec": {"f:containers": containers}}})
    }

    fn marks() -> Value {
        json!({"f:annotations": {"f:pilotguard.dev/admitted": {}}})
    }

    /// What an API server stored after `kubectl apply --server-side` of two releases and a rollback to the first: the
    /// second lacked the container `side`.
    #[test]
    fn what_a_rollback_put_back_belongs_to_those_who_applied_it() {
        let side = json!({".": {}, "f:image": {}, "f:name": {}});
        let web = |fields: &Value| json!({"k:{\"name\":\"web\"}": fields});
        let applied = template(&json!({
            "k:{\"name\":\"side\"}": side, "k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:name": {}}}));
        let former = [
            entry("kubectl", "Apply", &json!({"f:spec": applied})),
            entry("someone-else", "Update", &json!({"f:spec": template(&web(&json!({"f:command": {}})))})),
        ];
        let side_with_defaults = json!({".": {}, "f:image": {}, "f:name": {}, "f:imagePullPolicy": {}});
        let ours = template(&json!({
            "k:{\"name\":\"side\"}": side_with_defaults, "k:{\"name\":\"web\"}": {"f:image": {}}}));
        let now = object(&[
            entry("kubectl", "Apply", &json!({"f:spec": template(&web(&json!({".": {}, "f:name": {}})))})),
            entry(FIELD_MANAGER, "Update", &json!({"f:metadata": marks(), "f:spec": ours})),
        ]);
        assert!(owes_fields(&now));
        let after = given_back(&now, &json!(former));
        assert_eq!(
            after,
            json!([former[0], entry(FIELD_MANAGER, "Update", &json!({"f:metadata": marks()}))]),
            "nobody owns a default, and nobody gets what is not owed"
        );
        assert!(!owes_fields(&object(after.as_array().unwrap())), "once");
    }

    #[test]
    fn an_owner_who_is_gone_comes_back_with_what_is_owed_to_him() {
        let last_applied = json!({"f:annotations": {".": {}, format!("f:{LAST_APPLIED}"): {}}});
        let image = template(&json!({"k:{\"name\":\"web\"}": {"f:image": {}}}));
        let replicas = json!({"f:replicas": {}, "f:template": image["f:template"]});
        let former =
            entry("kubectl-client-side-apply", "Update", &json!({"f:metadata": last_applied, "f:spec": replicas}));
        let ours = json!({"f:annotations": {format!("f:{LAST_APPLIED}"): {}}});
        let now = object(&[entry(FIELD_MANAGER, "Update", &json!({"f:metadata": ours, "f:spec": replicas}))]);
        let theirs = json!({"f:annotations": {format!("f:{LAST_APPLIED}"): {}}});
        let wanted = entry("kubectl-client-side-apply", "Update", &json!({"f:metadata": theirs, "f:spec": image}));
        assert_eq!(given_back(&now, &json!([former])), json!([wanted]), "of replicas nobody is made the owner");
    }

    #[test]
    fn what_is_not_known_to_have_had_an_owner_is_nobodys() {
        let now = object(&[
            entry("kube-controller-manager", "Update", &json!({"f:spec": {"f:replicas": {}}})),
            entry(FIELD_MANAGER, "Update", &json!({"f:metadata": marks(), "f:spec": {"f:replicas": {}}})),
        ]);
        let wanted = json!([
            entry("kube-controller-manager", "Update", &json!({"f:spec": {"f:replicas": {}}})),
            entry(FIELD_MANAGER, "Update", &json!({"f:metadata": marks()})),
        ]);
        assert_eq!(given_back(&now, &Value::Null), wanted);
        for not_ours in [
            entry(FIELD_MANAGER, "Apply", &json!({"f:spec": {"f:replicas": {}}})),
            entry(FIELD_MANAGER, "Update", &json!({"f:metadata": marks()})),
            entry("kubectl", "Update", &json!({"f:spec": {"f:replicas": {}}})),
        ] {
            assert!(!owes_fields(&object(std::slice::from_ref(&not_ours))), "{not_ours}");
        }
    }

    #[test]
    fn a_write_that_was_answered_with_the_old_template_moves_no_owner_of_it() {
        let of = |container: &str| template(&json!({format!("k:{{\"name\":\"{container}\"}}"): {".": {}}}));
        let labelled = |spec: &Value| json!({"f:metadata": {"f:labels": {"f:team": {}}}, "f:spec": spec});
        let old = object(&[
            entry("argocd-controller", "Apply", &json!({"f:spec": of("side")})),
            entry("kubectl-edit", "Update", &json!({"f:spec": of("web")})),
        ]);
        let new = object(&[entry("argocd-controller", "Apply", &labelled(&of("evil")))]);
        let wanted = json!([
            entry("argocd-controller", "Apply", &labelled(&of("side"))),
            entry("kubectl-edit", "Update", &json!({"f:spec": of("web")})),
        ]);
        assert_eq!(with_owners_of(&new, &old, &RELEASED), wanted);
        assert_eq!(with_owners_of(&old, &old, &[RELEASED[0], REPLICAS]), json!(old["metadata"]["managedFields"]));
    }

    #[test]
    fn of_what_was_applied_last_only_the_template_goes_back() {
        let applied = |image: &str, team: &str| json!({"metadata": {"labels": {"team": team}}, "spec": {"replicas": 3, "template": {"image": image}}});
        let (bad, good) = (applied("web:2", "new").to_string(), applied("web:1", "old").to_string());
        let both = last_applied_with_release(&bad, &good).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&both).unwrap(), applied("web:1", "new"));
        let odd = applied("<a&b>\u{2028}\u{2029}\u{1}\n\"🚀", "new").to_string();
        let written_by_go = r#""\u003ca\u0026b\u003e\u2028\u2029\u0001\n\"🚀""#;
        let both = last_applied_with_release(&bad, &odd).unwrap();
        assert!(both.contains(written_by_go), "{both}");
        assert_eq!(last_applied_with_release("{}", &good), None);
        assert_eq!(last_applied_with_release(&bad, "no JSON"), None);
    }
}
