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

/// What an endpoint says: all is well, or what is not.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Serves `/healthz` (does the process do its work, or should it be restarted?) and `/readyz` (can it answer the API
/// server?) until it is stopped.
pub async fn serve_health(
    address: SocketAddr,
    (is_alive, is_ready): (Check, Check),
    stop: CancellationToken,
) -> Result<(), std::io::Error> {
    let alive = move || {
        let answer = answer(&is_alive, "ok", "not well");
        async { answer }
    };
    let ready = move || {
        let answer = answer(&is_ready, "ready", "not ready");
        async { answer }
    };
    serve(address, Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)), stop).await
}

fn answer(check: &Check, well: &str, ill: &str) -> (StatusCode, String) {
    match check() {
        Ok(()) => (StatusCode::OK, format!("{well}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{ill}: {why}\n")),
    }
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
