//! A process on the host that answers every HTTP request with one text, for Prometheus to scrape.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Serves until it is dropped.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    server: JoinHandle<()>,
}

impl Endpoint {
    pub(crate) async fn start(text: &'static str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
        let server = tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let _ = caller.read(&mut [0; 4096]).await;
                    let _ = caller.write_all(answer.as_bytes()).await;
                });
            }
        });
        Ok(Self { address, server })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}
