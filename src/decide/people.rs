//! Who somebody is to a pilot: a machine, or a person who holds a role that may loosen.

use std::collections::BTreeSet;

use crate::api::decision::Requester;
use crate::api::owners::{Identities, Owner, Owners};

/// Service accounts' user names begin so.
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Whether a requester is a machine by its name.
pub fn is_service_account(requester: &Requester) -> bool {
    requester.user.starts_with(SERVICE_ACCOUNT_PREFIX)
}

/// Whether someone is a person who holds a loosening role, directly or as a delegate.
pub fn may_loosen(owners: &Owners, by: Option<&Requester>) -> Result<(), String> {
    let Some(by) = by else {
        return Err("it does not show who decided: it was written with pilotguard's own account or while pilotguard was down; create it again, as a person".to_owned());
    };
    if is_service_account(by) {
        return Err(format!("{} is a service account; relaxing a guard needs a person", by.user));
    }
    let is_one_of = |identities: &Identities| {
        identities.users.contains(&by.user) || identities.groups.iter().any(|group| by.groups.contains(group))
    };
    let holds_a_role = owners.who_may_loosen().any(|(_, owner)| {
        is_one_of(&owner.identities) || owner.delegate.as_ref().is_some_and(|delegate| is_one_of(&delegate.identities))
    });
    if holds_a_role {
        return Ok(());
    }
    Err(format!("{} has no role that may relax guards; ask {}", by.user, who_may_loosen(owners)))
}

/// Who may relax guards, as people read it. Example: `Ada Lovelace (service owner, ada@example.com)`.
pub fn who_may_loosen(owners: &Owners) -> String {
    let named = owners.who_may_loosen().map(|(role, owner)| {
        let contact = owner.contacts.first().map(|contact| format!(", {contact}")).unwrap_or_default();
        format!("{} ({role}{contact})", owner.name)
    });
    named.collect::<Vec<_>>().join(", ")
}

/// The users who may relax guards, sorted; `None` where groups may, of which nobody here knows the members.
pub fn users_who_may_loosen<'a>(owners: &'a Owners) -> Option<BTreeSet<&'a str>> {
    let of_owner = |(_, owner): (_, &'a Owner)| {
        let delegate = owner.delegate.as_ref().map(|delegate| &delegate.identities);
        std::iter::once(&owner.identities).chain(delegate)
    };
    let identities: Vec<&Identities> = owners.who_may_loosen().flat_map(of_owner).collect();
    let users = identities.iter().flat_map(|it| &it.users).map(String::as_str);
    let is_person = |user: &&str| !user.starts_with(SERVICE_ACCOUNT_PREFIX);
    identities.iter().all(|it| it.groups.is_empty()).then(|| users.filter(is_person).collect())
}
