//! An HTTP server that answers as a test tells it to: for what no real Prometheus does on demand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with these bytes and closes the connection.
    Send(Vec<u8>),
    /// Answers with these bytes after a while.
    SendAfter(Duration, Vec<u8>),
    /// Answers with half of these bytes, and with the rest after a while.
    SendInHalves(Duration, Vec<u8>),
    /// Never answers, and keeps the connection open.
    Hang,
    /// Closes the connection without a word.
    Close,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub form: BTreeMap<String, String>,
}

/// A running server; it ends with the test's runtime.
pub struct Fake {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    in_flight: Arc<InFlight>,
}

#[derive(Default)]
struct InFlight {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Fake {
    /// Starts a server that asks `script` what to do with each request.
    pub async fn start(script: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Self { url, requests: Arc::default(), in_flight: Arc::default() };
        let (script, requests, in_flight) = (Arc::new(script), fake.requests.clone(), fake.in_flight.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, requests, in_flight) = (script.clone(), requests.clone(), in_flight.clone());
                tokio::spawn(async move {
                    let mut stream = stream;
                    let Some(request) = read(&mut stream).await else { return };
                    let now = in_flight.now.fetch_add(1, Ordering::SeqCst) + 1;
                    in_flight.most.fetch_max(now, Ordering::SeqCst);
                    requests.lock().unwrap().push(request.clone());
                    act(&mut stream, script(&request), &in_flight).await;
                });
            }
        });
        fake
    }

    /// Starts a server that does the same with every request.
    pub async fn always(act: Act) -> Self {
        Self::start(move |_| act.clone()).await
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The most requests that were being answered at one time.
    pub fn most_in_flight(&self) -> usize {
        self.in_flight.most.load(Ordering::SeqCst)
    }
}

/// A whole HTTP response.
pub fn response(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A JSON response with HTTP 200.
pub fn json(body: &str) -> Act {
    Act::Send(response("200 OK", "application/json", body))
}

/// A vector of one sample.
pub fn one(value: &str) -> Act {
    json(&vector(&[value], ""))
}

/// A success with these samples and more top-level fields.
pub fn vector(values: &[&str], more: &str) -> String {
    let rows: Vec<_> =
        values.iter().map(|value| format!(r#"{{"metric":{{}},"value":[1763800000,"{value}"]}}"#)).collect();
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}{more}}}"#, rows.join(","))
}

async fn act(stream: &mut TcpStream, act: Act, in_flight: &InFlight) {
    let bytes = match act {
        Act::Send(bytes) => bytes,
        Act::SendAfter(pause, bytes) => {
            tokio::time::sleep(pause).await;
            bytes
        }
        Act::SendInHalves(pause, mut bytes) => {
            let rest = bytes.split_off(bytes.len() / 2);
            let _ = stream.write_all(&bytes).await;
            tokio::time::sleep(pause).await;
            rest
        }
        Act::Close => Vec::new(),
        Act::Hang => {
            // Until the other side gives up.
            let _ = stream.read(&mut [0; 1]).await;
            Vec::new()
        }
    };
    // Before the answer: its reader may send the next request at once.
    in_flight.now.fetch_sub(1, Ordering::SeqCst);
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let path = lines.next()?.split(' ').nth(1)?.to_owned();
            let headers: BTreeMap<_, _> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(Request { path, headers, form: form(body) });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn form(body: &str) -> BTreeMap<String, String> {
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
