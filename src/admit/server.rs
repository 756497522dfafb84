//! The HTTPS server that the API server calls.
//!
//! A handler reads a bounded body, judges in memory and answers; it never waits for anything else. Whatever
//! is sent, the answer is well-formed: an AdmissionReview where the question had a uid, else HTTP 400.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::Handle;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::certificates::ServerIdentity;
use super::context::Context;
use super::objects;
use super::paths::{OBJECTS, OBSERVED, SCALE, WORKLOADS};
use super::pilots::Guarded;
use super::review;
use super::wire::{Answer, Malformed, Request};
use super::witness::Witness;
use crate::observe::cluster::Cluster;

/// The largest body that is read: an object of at most 1.5 MiB, old and new, with room for escapes.
pub const LARGEST_BODY: usize = 6 * 1024 * 1024;

/// So long open requests may take to end after the server was told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What the handlers answer from.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Which Pilot guards what.
    pub guarded: Arc<Guarded>,
    /// What is recorded of the past.
    pub cluster: Arc<Cluster>,
    /// The user name under which the operator itself acts.
    pub own_account: Arc<str>,
    /// The user names of GitOps tools that are no service accounts.
    pub gitops_users: Arc<[String]>,
    /// Who takes note of the answers.
    pub witness: Witness,
    /// Where the time comes from.
    pub clock: fn() -> Timestamp,
}

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The listener could not be used.
    #[error("the webhook's listener failed")]
    Listener(#[from] std::io::Error),
}

/// Serves on `listener` until `stop`, then lets open requests end.
pub async fn serve(
    listener: TcpListener,
    identity: &ServerIdentity,
    admission: Admission,
    stop: CancellationToken,
) -> Result<(), ServerError> {
    listener.set_nonblocking(true)?;
    let handle = Handle::new();
    let served = axum_server::from_tcp_rustls(listener, identity.tls.clone())?
        .handle(handle.clone())
        .serve(router(admission).into_make_service());
    tokio::pin!(served);
    tokio::select! {
        ended = &mut served => return Ok(ended?),
        () = stop.cancelled() => handle.graceful_shutdown(Some(GRACE)),
    }
    Ok(served.await?)
}

/// The endpoints.
pub fn router(admission: Admission) -> Router {
    Router::new()
        .route(WORKLOADS, post(workloads))
        .route(OBSERVED, post(observed))
        .route(SCALE, post(scale))
        .route(OBJECTS, post(own_objects))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(admission)
}

async fn workloads(State(admission): State<Admission>, body: Bytes) -> Response {
    admission.answer(&body, review::of_workload, true)
}

async fn observed(State(admission): State<Admission>, body: Bytes) -> Response {
    admission.answer(&body, review::of_workload, false)
}

async fn scale(State(admission): State<Admission>, body: Bytes) -> Response {
    admission.answer(&body, review::of_scale, false)
}

async fn own_objects(State(admission): State<Admission>, body: Bytes) -> Response {
    admission.answer(&body, objects::of_own, false)
}

impl Admission {
    fn answer(&self, body: &[u8], judge: fn(&Request, &Context<'_>) -> Answer, may_refuse_unknown: bool) -> Response {
        let context = Context {
            guarded: &self.guarded,
            cluster: &self.cluster,
            own_account: &self.own_account,
            gitops_users: &self.gitops_users,
            may_refuse_unknown,
            now: (self.clock)(),
        };
        let (uid, answer) = match Request::read(body) {
            Ok(request) => {
                let answer = judge(&request, &context);
                log(&request, &answer);
                self.witness.saw(&request, &answer, &self.guarded);
                (request.uid, answer)
            }
            Err(Malformed { uid: Some(uid), problem }) => (uid, Answer::bad_request(problem)),
            Err(Malformed { uid: None, problem }) => {
                tracing::warn!(%problem, "a malformed admission review was refused");
                return (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response();
            }
        };
        ([(CONTENT_TYPE, "application/json")], answer.into_review(&uid).to_string()).into_response()
    }
}

fn log(request: &Request, answer: &Answer) {
    let Request { target, operation, namespace, name, requester, is_dry_run, .. } = request;
    let user = &requester.user;
    match answer {
        Answer::Denied(denial) => {
            let (reason, message) = (denial.reason, &denial.message);
            tracing::info!(target_resource = %target, ?operation, %namespace, %name, %user, is_dry_run, reason, %message, "refused");
        }
        Answer::Allowed { warnings, .. } if !warnings.is_empty() => {
            tracing::info!(target_resource = %target, ?operation, %namespace, %name, %user, is_dry_run, ?warnings, "allowed with a warning");
        }
        Answer::PutOff { verdict, warning, .. } => {
            tracing::info!(target_resource = %target, ?operation, %namespace, %name, %user, is_dry_run, ?verdict, %warning, "put off");
        }
        Answer::Allowed { .. } => {
            tracing::debug!(target_resource = %target, ?operation, %namespace, %name, %user, is_dry_run, "allowed");
        }
    }
}
