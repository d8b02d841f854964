//! A loopback HTTP server that can be cut: the whole server, or one connection in the middle of an answer.
//!
//! `axum::serve` only knows graceful ends. A provider that crashes is not graceful, so each connection carries a token
//! that turns its next read or write into a connection reset.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A running server. Dropping it cuts every connection.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    gate: Arc<Gate>,
    stop: CancellationToken,
}

impl Server {
    /// Serves `router` on a free port of 127.0.0.1.
    pub(crate) async fn start(router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Self::start_on(listener, router)
    }

    /// Serves `router` on a listener that exists already, for routes that need to know their own address.
    pub(crate) fn start_on(listener: TcpListener, router: Router) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let gate = Arc::new(Gate::default());
        let stop = CancellationToken::new();
        let listener = GatedListener { inner: listener, address, gate: Arc::clone(&gate) };
        let service = router.into_make_service_with_connect_info::<Connection>();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                result = axum::serve(listener, service) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "sandbox server ended");
                    }
                }
            }
        });
        Ok(Self { address, gate, stop })
    }

    /// `http://127.0.0.1:port`, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// While down, connections are reset: those that exist and those that arrive.
    pub(crate) fn set_down(&self, down: bool) {
        self.gate.set_down(down);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.gate.set_down(true);
    }
}

/// Open or shut; connections are children of the token of the period in which they arrived.
#[derive(Debug, Default)]
struct Gate {
    period: Mutex<CancellationToken>,
}

impl Gate {
    fn set_down(&self, down: bool) {
        let mut period = self.period.lock().unwrap_or_else(PoisonError::into_inner);
        if down {
            period.cancel();
        } else if period.is_cancelled() {
            *period = CancellationToken::new();
        }
    }

    fn admit(&self) -> CancellationToken {
        self.period.lock().unwrap_or_else(PoisonError::into_inner).child_token()
    }
}

/// What a handler may do to the connection that its request came on.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    token: CancellationToken,
}

impl Connection {
    /// Resets the connection, whatever was being written to it.
    pub(crate) fn cut(&self) {
        self.token.cancel();
    }
}

struct GatedListener {
    inner: TcpListener,
    address: SocketAddr,
    gate: Arc<Gate>,
}

impl Listener for GatedListener {
    type Io = GatedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (GatedStream, SocketAddr) {
        let (inner, peer) = Listener::accept(&mut self.inner).await;
        // Small answers must not wait for an acknowledgement.
        if let Err(error) = inner.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let token = self.gate.admit();
        let cut = Box::pin(token.clone().cancelled_owned());
        (GatedStream { inner, token, cut }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, GatedListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, GatedListener>) -> Self {
        Self { token: stream.io().token.clone() }
    }
}

struct GatedStream {
    inner: TcpStream,
    token: CancellationToken,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl GatedStream {
    /// An error once the connection is cut; registers the task to be woken then.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for GatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
