//! Connections of an HTTP listener, the fleet's and the metrics': how many, how long one may take to say what it wants, and
//! their end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub IpAddr);

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// The largest head.
const HEAD_BYTES: usize = 32 * 1024;
/// After the system refused a connection: it has no more files.
const PAUSE: Duration = Duration::from_millis(100);

const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ndrain-not-begun: 1\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// Connections that are told so at once; more are just closed.
const TOLD: usize = 64;
const TELLING: Duration = Duration::from_secs(1);

/// Takes connections until `closed`, at most so many at once.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    most: usize,
    closed: CancellationToken,
    connections: TaskTracker,
) {
    let (free, told) = (Arc::new(Semaphore::new(most)), Arc::new(Semaphore::new(TOLD)));
    loop {
        let (stream, peer) = tokio::select! {
            () = closed.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        // Without it small answers wait for the other side's acknowledgement: 27 ms in place of 4.
        let _ = stream.set_nodelay(true);
        let Ok(permit) = free.clone().try_acquire_owned() else {
            if let Ok(permit) = told.clone().try_acquire_owned() {
                connections.spawn(async move {
                    let _ = tokio::time::timeout(TELLING, tell_busy(stream)).await;
                    drop(permit);
                });
            }
            continue;
        };
        let router = router.clone().layer(Extension(Peer(peer.ip())));
        let closed = closed.clone();
        connections.spawn(async move {
            connection(stream, router, HEAD_TIME, closed).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, router: Router, head_time: Duration, closed: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_time).max_buf_size(HEAD_BYTES);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closed.cancelled() => {
            // What is being answered is answered.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Answers, and reads what comes until the other side has read that: else its system throws the answer away.
async fn tell_busy(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(BUSY).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::routing::get;

    use super::*;

    /// Who says nothing, or only the half of it, holds no connection; between two requests too.
    #[tokio::test]
    async fn a_head_that_does_not_come_ends_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for said in ["", "GET / HTTP/1.1\r\nhost: x\r\nx-", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let router = Router::new().route("/", get(async || "here"));
            let served = connection(stream, router, Duration::from_millis(100), CancellationToken::new());
            let asks = async {
                client.write_all(said.as_bytes()).await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                answer
            };
            let ((), answer) =
                tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(served, asks) }).await.unwrap();
            assert_eq!(answer.contains("here"), said.ends_with("\r\n\r\n"), "{said:?}: {answer}");
        }
    }
}
