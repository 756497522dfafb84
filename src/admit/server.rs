//! The HTTPS server that the API server calls.
//!
//! A handler takes a body in, judges in memory and answers; it never waits for anything else. How much is taken in at a time
//! is bounded in `intake.rs`. Whatever
//! is sent, the answer is well-formed: an AdmissionReview where the question had a uid, else HTTP 400.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsAcceptor;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::certificates::ServerIdentity;
use super::context::Context;
use super::intake::{Bounded, Intake};
use super::objects;
use super::paths::{OBJECTS, OBSERVED, SCALE, WORKLOADS};
use super::pilots::Guarded;
use super::review;
use super::wire::{Answer, Malformed, Request};
use super::witness::Witness;
use crate::observe::cluster::Cluster;

pub use super::intake::LARGEST_BODY;

/// A TLS handshake, or the answer to a ping, takes at most so long.
const OPENING: Duration = Duration::from_secs(5);

/// A connection without a request is closed, or asked whether it is alive, after so long. API servers keep theirs open.
const IDLE: Duration = Duration::from_secs(30);

/// So much of what was sent, and not asked for yet, is kept for one connection, in bytes.
const BUFFER: usize = 64 * 1024;
const WINDOW: u32 = 64 * 1024;

/// Maximum number of requests of one connection under way at a time.
const STREAMS: u32 = 64;

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
    let acceptor = RustlsAcceptor::new(identity.tls.clone()).handshake_timeout(OPENING);
    let mut server = axum_server::from_tcp(listener)?.acceptor(Bounded::new(acceptor)).handle(handle.clone());
    bound(server.http_builder());
    let serving = server.serve(router(admission).into_make_service());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = stop.cancelled() => handle.graceful_shutdown(Some(GRACE)),
    }
    Ok(serving.await?)
}

/// What one connection may take up: buffers, requests at a time, time to say what it wants.
fn bound(builder: &mut Builder<TokioExecutor>) {
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(BUFFER);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(IDLE).keep_alive_timeout(OPENING);
    http2.max_concurrent_streams(STREAMS).initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
}

/// The endpoints.
pub fn router(admission: Admission) -> Router {
    let shared = Shared { admission, intake: Intake::default() };
    Router::new()
        .route(WORKLOADS, post(workloads))
        .route(OBSERVED, post(observed))
        .route(SCALE, post(scale))
        .route(OBJECTS, post(own_objects))
        .with_state(shared)
}

/// What every handler has.
#[derive(Clone, Debug)]
struct Shared {
    admission: Admission,
    intake: Intake,
}

async fn workloads(State(shared): State<Shared>, request: HttpRequest) -> Response {
    shared.answer(request, review::of_workload, true).await
}

async fn observed(State(shared): State<Shared>, request: HttpRequest) -> Response {
    shared.answer(request, review::of_workload, false).await
}

async fn scale(State(shared): State<Shared>, request: HttpRequest) -> Response {
    shared.answer(request, review::of_scale, false).await
}

async fn own_objects(State(shared): State<Shared>, request: HttpRequest) -> Response {
    shared.answer(request, objects::of_own, false).await
}

/// How a kind of request is judged.
type Judge = fn(&Request, &Context<'_>) -> Answer;

impl Shared {
    async fn answer(&self, request: HttpRequest, judge: Judge, may_refuse_unknown: bool) -> Response {
        match self.intake.read(request).await {
            Ok(body) => self.admission.answer(&body.bytes, judge, may_refuse_unknown),
            Err(refused) => refused.into_response(),
        }
    }
}

impl Admission {
    fn answer(&self, body: &[u8], judge: Judge, may_refuse_unknown: bool) -> Response {
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
                // The operator's own dry-runs are refused on purpose, to show that the webhook is called.
                let is_probe = request.is_dry_run && *request.requester.user == *self.own_account;
                log(&request, &answer, is_probe);
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

fn log(request: &Request, answer: &Answer, is_probe: bool) {
    let Request { target, operation, namespace, name, requester, is_dry_run, .. } = request;
    let user = &requester.user;
    match answer {
        Answer::Denied(denial) if is_probe => {
            tracing::debug!(target_resource = %target, ?operation, %namespace, %name, message = %denial.message, "probed");
        }
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
