//! Senders that never finish claim bounded memory, for a bounded time, and real reviews go on beside them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pilotguard::admit::server::LARGEST_BODY;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio_util::sync::CancellationToken;

use crate::endpoint::Served;
use crate::fixtures::*;

const SENDERS: usize = 100;

/// The chart gives the operator 256 MiB, for everything.
const MOST_MEMORY: usize = 128 * 1024 * 1024;

/// The memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A connection on which all but the last byte of the largest body was sent, as far as it was taken.
fn unfinished(served: &Served, sent: &AtomicUsize) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(served.authority.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let tcp = TcpStream::connect(served.base.trim_start_matches("https://")).unwrap();
    tcp.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
    let head = format!("POST /workloads HTTP/1.1\r\nHost: webhook\r\nContent-Length: {LARGEST_BODY}\r\n\r\n");
    let chunk = vec![b' '; 64 * 1024];
    let mut left = LARGEST_BODY - 1;
    let mut written = stream.write_all(head.as_bytes());
    while written.is_ok() && left > 0 {
        let length = left.min(chunk.len());
        written = stream.write_all(&chunk[..length]);
        left -= length;
        sent.fetch_add(length, Ordering::Relaxed);
    }
    stream
}

#[test]
fn senders_that_never_finish_are_given_up_and_reviews_go_on() {
    let served = Served::start(&CancellationToken::new());
    let review = update("grace", &with_image("web:2")).to_string();
    assert_eq!(served.post("/workloads", review.clone().into_bytes()).unwrap().0, 200);
    let before = resident();
    let (sent, closed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let mut stream = unfinished(&served, &sent);
                let mut rest = Vec::new();
                let ended = stream.read_to_end(&mut rest);
                let still_open =
                    ended.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                closed.fetch_add(usize::from(!still_open), Ordering::Relaxed);
            });
        }
        let deadline = Instant::now() + Duration::from_mins(1);
        let mut most = 0;
        while closed.load(Ordering::Relaxed) < SENDERS {
            let (status, answer) = served.post("/workloads", review.clone().into_bytes()).unwrap();
            assert_eq!(status, 200, "a review was not answered: {answer}");
            most = most.max(resident().saturating_sub(before));
            assert!(Instant::now() < deadline, "{} of {SENDERS} were given up", closed.load(Ordering::Relaxed));
        }
        assert!(sent.load(Ordering::Relaxed) > 0);
        assert!(most < MOST_MEMORY, "{most} bytes were taken up");
    });
}
