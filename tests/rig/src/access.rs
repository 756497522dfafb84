//! Rights: which RBAC bindings the rig makes, and when they have taken effect.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding, RoleRef, Subject};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// The roles that Kubernetes itself fills in a while after the API server serves.
const AGGREGATED: [&str; 3] = ["view", "edit", "admin"];

/// Gives these users the right to everything.
pub(crate) async fn make_cluster_admins(client: &Client, users: &[&str]) -> Result<(), kube::Error> {
    let binding = ClusterRoleBinding {
        metadata: ObjectMeta { name: Some("rig-admins".to_owned()), ..ObjectMeta::default() },
        role_ref: cluster_role("cluster-admin"),
        subjects: Some(users.iter().map(|user| subject(user)).collect()),
    };
    Api::all(client.clone()).create(&PostParams::default(), &binding).await.map(|_: ClusterRoleBinding| ())
}

/// Gives one more user the right to everything.
pub(crate) async fn make_cluster_admin(client: &Client, user: &str) -> Result<(), kube::Error> {
    let binding = ClusterRoleBinding {
        metadata: ObjectMeta { name: Some(format!("rig-admin-{user}")), ..ObjectMeta::default() },
        role_ref: cluster_role("cluster-admin"),
        subjects: Some(vec![subject(user)]),
    };
    Api::all(client.clone()).create(&PostParams::default(), &binding).await.map(|_: ClusterRoleBinding| ())
}

/// Gives a user a ClusterRole's rights in one namespace.
pub(crate) async fn grant(client: &Client, user: &str, namespace: &str, role: &str) -> Result<(), kube::Error> {
    let binding = RoleBinding {
        metadata: ObjectMeta { generate_name: Some(format!("{role}-")), ..ObjectMeta::default() },
        role_ref: cluster_role(role),
        subjects: Some(vec![subject(user)]),
    };
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &binding).await.map(|_: RoleBinding| ())
}

/// Succeeds once the API server grants this user the first right of the role: bindings take effect a moment after they
/// are stored.
pub(crate) async fn is_granted(client: &Client, user: &str, namespace: &str, role: &str) -> Result<(), String> {
    let role: ClusterRole = Api::all(client.clone()).get(role).await.map_err(|error| error.to_string())?;
    let Some(attributes) = first_right(&role, namespace) else {
        return Ok(());
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
    match answer.status {
        Some(status) if status.allowed => Ok(()),
        _ => Err(format!("{user} is not yet allowed in {namespace}")),
    }
}

/// Succeeds once the roles that are put together from others have their rules.
pub(crate) async fn roles_are_filled(client: &Client) -> Result<(), String> {
    let roles: Api<ClusterRole> = Api::all(client.clone());
    for name in AGGREGATED {
        let role = roles.get(name).await.map_err(|error| error.to_string())?;
        if role.rules.is_none_or(|rules| rules.is_empty()) {
            return Err(format!("ClusterRole {name} has no rules yet"));
        }
    }
    Ok(())
}

fn first_right(role: &ClusterRole, namespace: &str) -> Option<ResourceAttributes> {
    let rules = role.rules.iter().flatten().filter(|rule| rule.resource_names.is_none());
    rules.into_iter().find_map(|rule| {
        let resource = rule.resources.as_ref()?.first()?;
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (resource.as_str(), None),
        };
        Some(ResourceAttributes {
            namespace: Some(namespace.to_owned()),
            verb: rule.verbs.first().cloned(),
            group: rule.api_groups.as_ref()?.first().cloned(),
            resource: Some(resource.to_owned()),
            subresource,
            ..ResourceAttributes::default()
        })
    })
}

fn cluster_role(name: &str) -> RoleRef {
    RoleRef {
        api_group: Some("rbac.authorization.k8s.io".to_owned()),
        kind: "ClusterRole".to_owned(),
        name: name.to_owned(),
    }
}

fn subject(user: &str) -> Subject {
    Subject {
        api_group: Some("rbac.authorization.k8s.io".to_owned()),
        kind: "User".to_owned(),
        name: user.to_owned(),
        namespace: None,
    }
}
