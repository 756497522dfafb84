//! One HTTP conversation with a Prometheus-compatible API: bounded in time and size, never redirected. How many there
//! are at once, and whether one may begin, is decided elsewhere (`link.rs`).
//!
//! A failure says in one sentence what happened and what to look at. It never holds a credential, and never
//! more than a short piece of what the server wrote.

use std::error::Error as _;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use prometheus_http_query as library;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode};

use super::credentials::Credentials;
use super::envelope::{Envelope, QueryResult, decode};
use super::link::Transport;
use crate::api::metrics_source::MetricsSourceSpec;

/// An answer that is longer is given up: one number needs a few hundred bytes.
pub const MAX_BODY: usize = 1 << 20;

/// Maximum number of characters of a server's answer that a message quotes.
const MAX_EXCERPT: usize = 200;

/// A server that is there accepts a connection in far less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

const SCOPE_ORG_ID: HeaderName = HeaderName::from_static("x-scope-orgid");

/// Why a query was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub kind: FailureKind,
    /// What happened and what to look at, in one sentence without the source's name.
    pub message: String,
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The source is not there, or does not speak the query API.
    Unavailable,
    /// No answer in time: the source is slow, or the query is heavy.
    Late,
    /// The source does not accept the credentials.
    Unauthenticated,
    /// The source does not accept this query.
    Refused,
}

/// What a query yielded, and why it may be incomplete.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// What it yielded.
    pub result: QueryResult,
    /// The server's warnings. Empty: it vouches for the result.
    pub warnings: Vec<String>,
}

/// A client for one source.
pub struct Client {
    library: library::Client,
    credentials: Credentials,
    timeout: Duration,
}

impl Client {
    /// Makes a client; nothing is sent yet. The error says why the specification cannot be used.
    pub fn new(spec: &MetricsSourceSpec, credentials: Credentials) -> Result<Self, String> {
        let timeout = timeout(spec);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("pilotguard/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers(spec, &credentials)?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout.min(CONNECT_TIMEOUT))
            .timeout(timeout);
        if let Some(authorities) = credentials.authorities() {
            builder = builder.tls_certs_only(authorities.iter().cloned());
        } else if spec.url.starts_with("http:") {
            // Redirects are not followed, so no certificate is ever needed; an image may not even have the system's.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| root_cause(&error))?;
        let library = library::Client::from(http, spec.url.trim_end_matches('/')).map_err(|error| error.to_string())?;
        Ok(Self { library, credentials, timeout })
    }

    /// Asks for the value of a query at an instant.
    async fn post(&self, query: &str, at: Timestamp) -> Result<Reply, Failure> {
        let request = self
            .library
            .query(query)
            .query("time", seconds(at))
            .query("timeout", format!("{}ms", self.timeout.as_millis()))
            // Thanos: an answer without some of its stores, or from thinned-out samples, is worse than none.
            .query("partial_response", "false")
            .query("max_source_resolution", "0s");
        let response = match request.post_raw().await {
            Ok(response) => response,
            Err(library::error::Error::Client(error)) => {
                let cause = error.source().and_then(|cause| cause.downcast_ref::<reqwest::Error>());
                return Err(cause.map_or_else(|| unavailable(error.to_string()), |cause| self.explain(cause)));
            }
            Err(error) => return Err(unavailable(error.to_string())),
        };
        let mut failure = match self.receive(response).await {
            Ok(reply) => return Ok(reply),
            Err(failure) => failure,
        };
        failure.message = self.credentials.redact(&failure.message);
        Err(failure)
    }

    async fn receive(&self, response: Response) -> Result<Reply, Failure> {
        let status = response.status();
        let content = content_type(&response);
        if status.is_redirection() {
            return Err(unavailable(format!(
                "answered with a redirect ({}), which is not followed; name the final address in spec.url",
                http(status)
            )));
        }
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return Err(Failure {
                kind: FailureKind::Unauthenticated,
                message: format!("refused the credentials ({}); check spec.auth and its Secret", http(status)),
            });
        }
        let body = self.body(response).await?;
        if content != "application/json" {
            return Err(unavailable(not_json(status, &content, &body)));
        }
        match decode(&body) {
            Ok(Envelope::Success { result, warnings }) if status.is_success() => {
                let warnings = warnings.iter().map(|warning| self.credentials.redact(&excerpt(warning))).collect();
                Ok(Reply { result, warnings })
            }
            Ok(Envelope::Success { .. }) => Err(unavailable(format!("answered with success and {}", http(status)))),
            Ok(Envelope::Error { error_type, message }) => Err(refusal(status, &error_type, &message)),
            Err(malformed) => Err(unavailable(format!("answered with {malformed} ({})", http(status)))),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY => {
                    return Err(unavailable(format!(
                        "answered more than {} KiB where one number was expected; check that spec.url is the address of the query API",
                        MAX_BODY / 1024
                    )));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => return Err(self.explain(&error)),
            }
        }
    }

    fn explain(&self, error: &reqwest::Error) -> Failure {
        let cause = root_cause(error);
        if error.is_connect() {
            unavailable(format!("cannot be reached: {cause}"))
        } else if error.is_timeout() {
            late(format!("gave no answer within {:?}", self.timeout))
        } else {
            unavailable(format!("broke off: {cause}"))
        }
    }
}

impl Transport for Client {
    fn query<'a>(&'a self, query: &'a str, at: Timestamp) -> BoxFuture<'a, Result<Reply, Failure>> {
        self.post(query, at).boxed()
    }
}

/// How long a query may take.
pub fn timeout(spec: &MetricsSourceSpec) -> Duration {
    spec.timeout.as_signed().unsigned_abs().max(Duration::from_millis(1))
}

fn headers(spec: &MetricsSourceSpec, credentials: &Credentials) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    if let Some(tenant) = &spec.tenant {
        let tenant = HeaderValue::from_str(tenant).map_err(|_| "spec.tenant cannot be sent as a header".to_owned())?;
        headers.insert(SCOPE_ORG_ID, tenant);
    }
    if let Some(authorization) = credentials.authorization() {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    Ok(headers)
}

fn unavailable(message: String) -> Failure {
    Failure { kind: FailureKind::Unavailable, message }
}

/// A query that was not answered in time.
pub const fn late(message: String) -> Failure {
    Failure { kind: FailureKind::Late, message }
}

/// Only a client error that names the query itself is the query's fault; types that are not known are not.
fn refusal(status: StatusCode, error_type: &str, message: &str) -> Failure {
    let is_refused = !status.is_server_error() && matches!(error_type, "bad_data" | "execution");
    let kind = match error_type {
        _ if is_refused => FailureKind::Refused,
        // The server gave the query up itself.
        "timeout" => FailureKind::Late,
        _ => FailureKind::Unavailable,
    };
    let verb = if is_refused { "refused a query" } else { "could not answer" };
    Failure { kind, message: format!("{verb} ({}, {}): {}", http(status), excerpt(error_type), excerpt(message)) }
}

fn not_json(status: StatusCode, content: &str, body: &[u8]) -> String {
    let kind = if content.is_empty() { "no content type" } else { content };
    let status_text = http(status);
    if status == StatusCode::NOT_FOUND {
        return format!("has no query API at this address ({status_text}); check the path in spec.url");
    }
    if content == "text/html" && status.is_success() {
        return format!(
            "answered {kind} instead of JSON ({status_text}); check whether the address is that of a login page"
        );
    }
    match excerpt(&String::from_utf8_lossy(body)) {
        words if content == "text/plain" && !words.is_empty() => {
            format!("answered in plain text ({status_text}): {words}")
        }
        _ => format!("answered {} instead of JSON ({status_text})", excerpt(kind)),
    }
}

fn http(status: StatusCode) -> String {
    format!("HTTP {}", status.as_u16())
}

/// The content type without its parameters, in lower case.
fn content_type(response: &Response) -> String {
    let header = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// At most 200 characters, on one line.
fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The innermost error: the outer ones repeat the address.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    excerpt(&cause.to_string())
}

/// Unix time in seconds with milliseconds; what is before 1970 is asked at 1970.
fn seconds(at: Timestamp) -> String {
    let millis = at.as_millisecond().max(0);
    format!("{}.{:03}", millis / 1000, millis % 1000)
}
