//! The API server calls a process on the host as a chart would have it called: through a Service.

use std::net::TcpListener;

use anyhow::ensure;
use axum::routing::post;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsConfig, from_tcp_rustls};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use pilotguard_rig::Rig;
use pilotguard_rig::wait::{self, PATIENCE};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;

/// Refuses every object with a text of its own, until it is dropped.
struct Webhook {
    port: u16,
    handle: Handle<std::net::SocketAddr>,
}

impl Webhook {
    async fn start(rig: &Rig, key: &CertifiedKey<rcgen::KeyPair>, text: &'static str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((rig.host_address()?, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (certificate, private) = (key.cert.pem().into_bytes(), key.signing_key.serialize_pem().into_bytes());
        let tls = RustlsConfig::from_pem(certificate, private).await?;
        let refuse = async move |Json(review): Json<AdmissionReview<DynamicObject>>| {
            let request: AdmissionRequest<DynamicObject> = review.try_into().unwrap();
            Json(AdmissionResponse::from(&request).deny(text).into_review())
        };
        let handle = Handle::new();
        let server = from_tcp_rustls(listener, tls)?.handle(handle.clone());
        tokio::spawn(server.serve(Router::new().route("/refuse", post(refuse)).into_make_service()));
        Ok(Self { port, handle })
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

pub(crate) async fn a_webhook_behind_a_service_reaches_replicas_on_the_host(rig: &Rig) -> anyhow::Result<()> {
    let namespace = rig.namespace("webhook").await?;
    let key = generate_simple_self_signed([format!("hook.{namespace}.svc")])?;
    install(rig, &namespace, &key.cert.pem()).await?;

    let first = Webhook::start(rig, &key, "refused by the first replica").await?;
    rig.expose(&namespace, "hook", &[first.port]).await?;
    refusal(rig, &namespace, "refused by the first replica").await?;

    let second = Webhook::start(rig, &key, "refused by the second replica").await?;
    rig.expose(&namespace, "hook", &[first.port, second.port]).await?;
    drop(first);
    refusal(rig, &namespace, "refused by the second replica").await
}

/// A Service without selector, and a webhook for `ConfigMap` objects of this namespace behind it.
async fn install(rig: &Rig, namespace: &str, authority: &str) -> anyhow::Result<()> {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "hook", "namespace": namespace},
        "spec": {"ports": [{"name": "https", "port": 443}]},
    });
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [{
            "name": "hook.rig.test",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 3,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            "clientConfig": {
                "service": {"name": "hook", "namespace": namespace, "path": "/refuse"},
                "caBundle": base64(authority),
            },
        }],
    });
    for object in [service, configuration] {
        let made = rig.admin().kubectl_with(&["apply", "-f", "-"], &object.to_string()).await?;
        ensure!(made.succeeded(), "{}", made.stderr);
    }
    Ok(())
}

fn base64(text: &str) -> serde_json::Value {
    json!(k8s_openapi::ByteString(text.as_bytes().to_vec()))
}

/// Waits until a write is refused with this text.
async fn refusal(rig: &Rig, namespace: &str, text: &str) -> anyhow::Result<()> {
    let write = ["create", "configmap", "refused", "--namespace", namespace];
    wait::until(text, PATIENCE, || async {
        let output = rig.admin().kubectl(&write).await.map_err(|error| error.to_string())?;
        if output.stderr.contains(text) { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .await?;
    Ok(())
}
