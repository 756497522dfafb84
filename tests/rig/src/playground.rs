//! What people find in a cluster that is kept for them: a namespace, a developer and an owner with ordinary rights, an
//! account for the operator, and the metrics of a service that follows its Deployment.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde::{Deserialize, Serialize};

use crate::access;
use crate::rig::{Rig, RigError};
use crate::service::{DemoService, ServiceOptions};
use crate::tools::Tool;
use crate::wait::{PATIENCE, within};

/// The namespace of the team, and the Deployment whose requests are counted.
const NAMESPACE: &str = "shop";
const DEPLOYMENT: &str = "checkout";

/// What the chart's roles give to those who have `edit`.
const PILOTS: &str = "pilot-team";

const REQUESTS_PER_SECOND: f64 = 50.0;

/// The owner whom the examples name.
const OWNER: &str = "ada@example.com";

/// Where people find themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// The kubeconfig of `dev`, who may edit namespace `shop` and nothing else.
    pub developer: PathBuf,
    /// The kubeconfig of the owner whom the examples name, with the same rights.
    pub owner: PathBuf,
    /// The kubeconfig of the account that the operator runs with.
    pub operator: PathBuf,
    /// The folder that holds `kubectl`.
    pub tools: PathBuf,
}

/// Makes namespace, people and service; the service counts requests until it is dropped.
pub(crate) async fn furnish(rig: &Rig) -> Result<(Accounts, DemoService), RigError> {
    let client = rig.client()?;
    let named = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata: named(NAMESPACE), ..Namespace::default() };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    within("namespace", PATIENCE, namespaces.create(&PostParams::default(), &namespace)).await??;
    rig.has_default_account(&client, NAMESPACE).await?;

    let role = ClusterRole { metadata: named(PILOTS), rules: Some(rules()), ..ClusterRole::default() };
    let roles: Api<ClusterRole> = Api::all(client.clone());
    within("role", PATIENCE, roles.create(&PostParams::default(), &role)).await??;
    let mut people = Vec::new();
    for name in ["dev", OWNER] {
        let person = rig.person(name, &[]).await?;
        for role in ["edit", PILOTS] {
            rig.grant(&person, NAMESPACE, role).await?;
        }
        people.push(person.kubeconfig);
    }
    let operator = rig.person("pilotguard", &[]).await?;
    within("binding", PATIENCE, access::make_cluster_admin(&client, &operator.name)).await??;

    let (namespace, deployment) = (NAMESPACE.to_owned(), DEPLOYMENT.to_owned());
    let options = ServiceOptions { namespace, deployment, requests_per_second: REQUESTS_PER_SECOND };
    let service = DemoService::start(client, options).await?;
    rig.scrape_also(service.target()).await?;
    let [developer, owner] = <[PathBuf; 2]>::try_from(people).unwrap_or_default();
    let tools = rig.tool(Tool::Kubectl).parent().map(PathBuf::from).unwrap_or_default();
    Ok((Accounts { developer, owner, operator: operator.kubeconfig, tools }, service))
}

fn rules() -> Vec<PolicyRule> {
    let rule = |resources: &[&str], verbs: &[&str]| PolicyRule {
        api_groups: Some(vec!["pilotguard.dev".to_owned()]),
        resources: Some(resources.iter().map(ToString::to_string).collect()),
        verbs: verbs.iter().map(ToString::to_string).collect(),
        ..PolicyRule::default()
    };
    vec![
        rule(&["pilots", "changerecords", "decisions"], &["get", "list", "watch"]),
        rule(&["pilots"], &["create", "update", "patch", "delete"]),
        rule(&["decisions"], &["create"]),
    ]
}
