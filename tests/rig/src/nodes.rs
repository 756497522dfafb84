//! The nodes of the cluster: objects only, played by kwok, with room for any number of pods.

use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

/// Registers `count` nodes named `node-0` and up.
pub(crate) async fn create(client: &Client, count: u32) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    for number in 0..count {
        let node = node(&format!("node-{number}")).map_err(kube::Error::SerdeError)?;
        nodes.create(&PostParams::default(), &node).await?;
    }
    Ok(())
}

fn node(name: &str) -> Result<Node, serde_json::Error> {
    let room = json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
    serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "type": "kwok",
            },
        },
        "status": {"allocatable": room, "capacity": room},
    }))
}

/// Succeeds once `count` nodes take pods; else tells how many do.
pub(crate) async fn take_pods(client: &Client, count: u32) -> Result<(), String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let listed = nodes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    let ready = listed.iter().filter(|node| is_open(node)).count();
    if ready >= count as usize { Ok(()) } else { Err(format!("{ready} of {count} nodes take pods")) }
}

fn is_open(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let is_tainted = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_some_and(|taints| !taints.is_empty());
    is_ready && !is_tainted
}
