//! How much of what is sent to the webhook is taken in: connections, and bodies that are on their way.
//!
//! Any pod may reach the port, so nothing here trusts the sender. The memory that senders can claim is bounded in total,
//! whoever is slow is given up, and a review of ordinary size never waits behind large ones. No body is looked into.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tower::Layer;

/// The largest body that is read: an object of at most 1.5 MiB, old and new, with room for escapes.
pub const LARGEST_BODY: usize = 6 * 1024 * 1024;

/// A body of this size is ordinary: the room for so much is kept for each.
const ORDINARY_BODY: usize = 96 * 1024;

/// Maximum number of bodies read or judged at a time; 24 MiB if all are ordinary.
const BODIES: usize = 256;

/// Total number of further bytes taken in of larger bodies.
const EXCESS: usize = 24 * 1024 * 1024;

/// A body has arrived after this time: the API server waits 3 s for the answer.
const READING: Duration = Duration::from_secs(2);

/// More connections are closed at once. An API server needs one; where it speaks HTTP/1.1, one for each review at a time.
const CONNECTIONS: usize = 512;

/// The permits of all that is taken in.
#[derive(Clone, Debug)]
pub struct Intake {
    bodies: Arc<Semaphore>,
    excess: Arc<Semaphore>,
    judging: Arc<Semaphore>,
}

/// A body, and the room that it takes up until it is dropped.
#[derive(Debug)]
pub struct Body {
    /// What was sent.
    pub bytes: Vec<u8>,
    _room: Vec<OwnedSemaphorePermit>,
}

impl Default for Intake {
    fn default() -> Self {
        let of = |permits: usize| Arc::new(Semaphore::new(permits));
        // A parsed body is several times as large as its text, so of the large ones only one is judged at a time.
        Self { bodies: of(BODIES), excess: of(EXCESS), judging: of(1) }
    }
}

impl Intake {
    /// Reads the body of a request, within its time and the room that there is.
    pub async fn read(&self, request: Request) -> Result<Body, (StatusCode, &'static str)> {
        match timeout(READING, self.read_in_time(request)).await {
            Ok(read) => read,
            Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n")),
        }
    }

    async fn read_in_time(&self, request: Request) -> Result<Body, (StatusCode, &'static str)> {
        const TOO_LARGE: (StatusCode, &str) = (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n");
        const BUSY: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time\n");
        let declared = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if declared.is_some_and(|length: usize| length > LARGEST_BODY) {
            return Err(TOO_LARGE);
        }
        let mut room = vec![self.bodies.clone().acquire_owned().await.map_err(|_| BUSY)?];
        let mut bytes = Vec::new();
        let mut limit = ORDINARY_BODY;
        let mut stream = request.into_body().into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| (StatusCode::BAD_REQUEST, "the body did not arrive\n"))?;
            let length = bytes.len() + chunk.len();
            if length > LARGEST_BODY {
                return Err(TOO_LARGE);
            }
            if length > limit {
                // All that it may still need, at once: two that each wait for the rest of their room would wait for ever.
                limit = declared.unwrap_or(LARGEST_BODY).max(length);
                let excess = u32::try_from(limit - ORDINARY_BODY).unwrap_or(u32::MAX);
                room.push(self.excess.clone().acquire_many_owned(excess).await.map_err(|_| BUSY)?);
                bytes.reserve_exact(limit - bytes.len());
            }
            bytes.extend_from_slice(&chunk);
        }
        if bytes.len() > ORDINARY_BODY {
            room.push(self.judging.clone().acquire_owned().await.map_err(|_| BUSY)?);
        }
        Ok(Body { bytes, _room: room })
    }
}

/// Accepts so many connections and closes the others, before anything is spent on their handshakes.
#[derive(Clone, Debug)]
pub struct Bounded<A> {
    inner: A,
    connections: Arc<Semaphore>,
}

impl<A> Bounded<A> {
    /// Puts the bound in front of an acceptor.
    pub fn new(inner: A) -> Self {
        Self { inner, connections: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

/// Held for as long as a connection is served.
type Connection = Arc<OwnedSemaphorePermit>;

impl<A, I, S> Accept<I, S> for Bounded<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
    A::Service: Send,
    A::Stream: Send,
{
    type Stream = A::Stream;
    type Service = AddExtension<A::Service, Connection>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let Ok(permit) = self.connections.clone().try_acquire_owned() else {
            return async { Err(io::Error::other("too many connections")) }.boxed();
        };
        let accepted = self.inner.accept(stream, service);
        let connection: Connection = Arc::new(permit);
        async move {
            let (stream, service) = accepted.await?;
            Ok((stream, Extension(connection).layer(service)))
        }
        .boxed()
    }
}
