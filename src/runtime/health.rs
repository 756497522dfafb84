//! `/healthz`, `/readyz` and `/metrics` over plain HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// Whether the operator can answer the API server.
pub type Readiness = Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

/// Serves `/healthz` and `/readyz` until it is stopped.
pub async fn serve_health(
    address: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<(), std::io::Error> {
    let ready = move || {
        let answer = match readiness() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        };
        async { answer }
    };
    let router = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready));
    serve(address, router, stop).await
}

/// Serves `/metrics` until it is stopped.
pub async fn serve_metrics(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), std::io::Error> {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let answer = move || {
        let text = metrics.text();
        async move { ([(header::CONTENT_TYPE, content_type)], text).into_response() }
    };
    serve(address, Router::new().route("/metrics", get(answer)), stop).await
}

async fn serve(address: SocketAddr, router: Router, stop: CancellationToken) -> Result<(), std::io::Error> {
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
