//! The last valid spec of a Pilot, kept in its status: what stays in force while an edit cannot be used.
//!
//! It is written only when a valid spec is new, with the status that this spec leads to. The metadata (name, labels,
//! creation) is always the Pilot's own. Only pilotguard may write the status of a Pilot, so nobody else can have an older
//! spec judged.

use jiff::tz::TimeZoneDatabase;

use super::packed::{pack, unpack};
use crate::api::pilot::{Pilot, PilotSpec};
use crate::api::status::StoredDeclaration;
use crate::declaration::Declaration;
use crate::report::surroundings::Rejected;
use crate::violation::Violation;

/// The longest packed spec that a status has room for, as in its schema.
const LONGEST: usize = 32 * 1024;

/// What a Pilot is judged by.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The declaration.
    pub declaration: Declaration,
    /// As its status keeps it.
    pub stored: Option<StoredDeclaration>,
    /// A newer spec that cannot be used.
    pub rejected: Option<Rejected>,
}

/// The declaration in force: the Pilot's spec, or the last valid one where that cannot be used. The error says why not,
/// where there is no valid one either.
pub fn in_force(
    pilot: &Pilot,
    stored: Option<&StoredDeclaration>,
    zones: &TimeZoneDatabase,
) -> Result<InForce, Vec<Violation>> {
    let violations = match Declaration::parse(pilot, zones) {
        Ok(declaration) => return Ok(InForce { declaration, stored: stored_of(pilot, stored), rejected: None }),
        Err(violations) => violations,
    };
    let last_valid = stored.and_then(|stored| Some((stored, last_valid(pilot, stored, zones)?)));
    let Some((stored, declaration)) = last_valid else { return Err(violations) };
    let rejected = Some(Rejected { violations, in_force: stored.generation });
    Ok(InForce { declaration, stored: Some(stored.clone()), rejected })
}

/// What is wrong with a spec that is too large to be kept.
pub fn check_size(spec: &PilotSpec) -> Option<Violation> {
    let length = pack(spec).map_or(usize::MAX, |packed| packed.len());
    (length > LONGEST).then(|| {
        let problem = format!("is too large: compressed it takes more than {} KiB of the status", LONGEST >> 10);
        Violation::new("spec", problem, "shorten selectors and expressions, for example by recording rules")
    })
}

/// A valid spec as it is to be kept; packed only when it is new.
fn stored_of(pilot: &Pilot, known: Option<&StoredDeclaration>) -> Option<StoredDeclaration> {
    let generation = pilot.metadata.generation?;
    if let Some(known) = known.filter(|known| known.generation == generation) {
        return Some(known.clone());
    }
    let packed = pack(&pilot.spec).ok().filter(|packed| packed.len() <= LONGEST)?;
    Some(StoredDeclaration { generation, packed })
}

fn last_valid(pilot: &Pilot, stored: &StoredDeclaration, zones: &TimeZoneDatabase) -> Option<Declaration> {
    let spec: PilotSpec = unpack(&stored.packed).ok()?;
    let before = Pilot { metadata: pilot.metadata.clone(), spec, status: None };
    Declaration::parse(&before, zones).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pilot(generation: i64, query: &str) -> Pilot {
        let trigger = json!({"name": "slow", "action": "HoldChanges",
                             "when": {"promql": {"query": query, "operator": "GT", "threshold": "1"}}});
        let object = json!({
            "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Pilot",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": generation},
            "spec": {
                "intent": {"summary": "s", "decisionDate": "2030-01-01T00:00:00Z"},
                "owners": {"serviceOwner": {"name": "Sam"}}, "workloads": [{"name": "web"}],
                "changes": {"windows": [{"name": "always", "always": true}]}, "triggers": [trigger],
            },
        });
        serde_json::from_value(object).unwrap()
    }

    fn queries(found: &InForce) -> Vec<Value> {
        let triggers = &found.declaration.triggers;
        triggers.iter().map(|trigger| json!(format!("{:?}", trigger.when))).collect()
    }

    #[test]
    fn an_invalid_edit_leaves_the_last_valid_spec_in_force() {
        let zones = TimeZoneDatabase::bundled();
        let first = in_force(&pilot(1, "up < 5"), None, &zones).unwrap();
        assert!(first.rejected.is_none());
        let stored = first.stored.clone().unwrap();
        assert_eq!(stored.generation, 1);

        let edited = in_force(&pilot(2, "up < "), Some(&stored), &zones).unwrap();
        let rejected = edited.rejected.clone().unwrap();
        assert_eq!((rejected.in_force, edited.stored.as_ref()), (1, Some(&stored)), "nothing new is written");
        assert!(
            rejected.violations[0].to_string().starts_with("spec.triggers[name=slow].when.promql.query: is not PromQL")
        );
        assert_eq!(queries(&edited), queries(&first));

        let corrected = in_force(&pilot(3, "up < 6"), Some(&stored), &zones).unwrap();
        assert!(corrected.rejected.is_none());
        assert_eq!(corrected.stored.unwrap().generation, 3);
    }

    #[test]
    fn what_was_never_valid_is_not_judged() {
        let zones = TimeZoneDatabase::bundled();
        assert!(in_force(&pilot(1, "up <"), None, &zones).is_err());
        let damaged = StoredDeclaration { generation: 1, packed: "bm90aGluZw==".to_owned() };
        assert!(in_force(&pilot(2, "up <"), Some(&damaged), &zones).is_err());
    }

    #[test]
    fn a_spec_that_does_not_fit_is_found() {
        assert!(check_size(&pilot(1, "up").spec).is_none());
        let mut large = pilot(1, "up").spec;
        // Digests do not compress.
        large.intent.segments = (0..2000).map(|index| crate::canonical::digest(&json!(index))).collect();
        assert_eq!(check_size(&large).map(|violation| violation.path), Some("spec".to_owned()));
    }
}
