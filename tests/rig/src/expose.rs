//! Connects a Service without selector to processes on this host, so that the API server reaches them as it reaches
//! pods.

use std::net::{IpAddr, UdpSocket};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};

/// Marks the slices that this module made.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "pilotguard-rig";

/// The host's address on its network: endpoints may not be loopback addresses.
///
/// Nothing is sent: connecting a datagram socket only asks the system which address it would send from.
pub(crate) fn host_address() -> std::io::Result<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect(("192.0.2.1", 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Makes these ports of the host, and no others, the Service's endpoints.
pub(crate) async fn expose(
    client: &Client,
    namespace: &str,
    service: &str,
    host: IpAddr,
    ports: &[u16],
) -> Result<(), kube::Error> {
    let names = port_names(&Api::<Service>::namespaced(client.clone(), namespace).get(service).await?);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let wanted: Vec<_> = ports.iter().map(|port| slice(service, host, *port, &names)).collect();
    for slice in &wanted {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        slices.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(slice)).await?;
    }
    let ours = ListParams::default().labels(&format!("kubernetes.io/service-name={service},{MANAGED_BY}={MANAGER}"));
    for old in slices.list_metadata(&ours).await? {
        let is_wanted = wanted.iter().any(|slice| slice.metadata.name == old.metadata.name);
        if let (false, Some(name)) = (is_wanted, &old.metadata.name) {
            slices.delete(name, &DeleteParams::default()).await?;
        }
    }
    Ok(())
}

/// An endpoint's port belongs to the Service's port of the same name.
fn port_names(service: &Service) -> Vec<String> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.map(|port| port.name.clone().unwrap_or_default()).collect()
}

fn slice(service: &str, host: IpAddr, port: u16, names: &[String]) -> EndpointSlice {
    let labels = [("kubernetes.io/service-name", service), (MANAGED_BY, MANAGER)];
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{service}-{port}")),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        address_type: if host.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![host.to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
            ..Endpoint::default()
        }]),
        ports: Some(
            names
                .iter()
                .map(|name| EndpointPort {
                    name: Some(name.clone()),
                    port: Some(port.into()),
                    protocol: Some("TCP".to_owned()),
                    ..EndpointPort::default()
                })
                .collect(),
        ),
    }
}
