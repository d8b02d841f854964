//! The one place that talks HTTP to strangers (M14); the operator's own RPC endpoints are asked by `chain`.
//!
//! Every request to a provider or to the marketplace leaves through [`HttpClient`]: https to public addresses only
//! (unless the [`UrlPolicy`] says otherwise), no redirects, no cookies, no proxies, a deadline over the whole exchange
//! and a limit on what is read. An [`HttpError`] says whether the request can have reached the server, because that
//! decides what happened to the money (M15).

mod address;
mod body;
mod call;
mod error;
mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Request, Response, StatusCode, Url};
use tokio::sync::OnceCell;
use tokio::time::Instant;

pub use address::{AddressClass, classify};
pub use body::{read_bounded, read_prefix, read_watched};
pub use call::{CallError, CallErrorReason, join, origin};
pub use error::HttpError;
pub use policy::{UrlError, UrlPolicy, check_url, host_and_port, is_loopback};

/// Longest wait for name, connection and TLS together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections are dropped after this. Node's servers, which most providers are, close theirs after 5 s without a
/// word; a request that meets such a close is lost with its outcome unknown, which costs more than a new handshake.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept per host: room for more than 50 channels to one provider.
const IDLE_PER_HOST: usize = 128;

/// What a whole exchange may take: from the first look-up to the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Longest time, the body included.
    pub timeout: Duration,
    /// Largest body that is read.
    pub max_bytes: usize,
}

impl RequestLimits {
    /// Limits from their parts.
    pub const fn new(timeout: Duration, max_bytes: usize) -> Self {
        Self { timeout, max_bytes }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The status; never a redirect.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most the limit.
    pub body: Vec<u8>,
}

/// Makes requests within the policy. Cheap to create and to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    policy: UrlPolicy,
    // Built at first use: reqwest's TLS set-up reads and parses every root certificate of the system, which takes
    // longer than all the rest of the start, and a process that only answers `tools/list` never needs them.
    secure: OnceCell<Client>,
    // For plain http, where the policy allows it: needs no root certificates, so a demo runs on a machine without any.
    plain: OnceCell<Client>,
}

impl HttpClient {
    /// A client that keeps to `policy`. Does no work before the first request.
    pub fn new(policy: UrlPolicy) -> Self {
        Self { inner: Arc::new(Inner { policy, secure: OnceCell::new(), plain: OnceCell::new() }) }
    }

    /// The policy in force.
    pub fn policy(&self) -> UrlPolicy {
        self.inner.policy
    }

    /// Sends `request` and waits for the head of the answer. A redirect is an error; the body is not read yet: give it
    /// to [`read_bounded`] with the same deadline.
    pub async fn send(&self, request: Request, deadline: Instant) -> Result<Response, HttpError> {
        check_url(request.url(), self.inner.policy).map_err(HttpError::Refused)?;
        let work = async {
            let client = self.client(request.url()).await?;
            client.execute(request).await.map_err(HttpError::from_reqwest)
        };
        // The deadline of the whole exchange may strike before or after the request left: assume that it left.
        let response =
            tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(HttpError::Timeout { before_sent: false }))?;
        if response.status().is_redirection() {
            return Err(HttpError::Redirect { status: response.status().as_u16() });
        }
        Ok(response)
    }

    /// Sends `request` and reads the whole answer.
    pub async fn fetch(&self, request: Request, limits: RequestLimits) -> Result<Fetched, HttpError> {
        match self.fetch_prefix(request, limits).await? {
            (fetched, None) => Ok(fetched),
            (_, Some(error)) => Err(error),
        }
    }

    /// Like [`HttpClient::fetch`], but keeps what was read of the body before it failed.
    pub async fn fetch_prefix(
        &self,
        request: Request,
        limits: RequestLimits,
    ) -> Result<(Fetched, Option<HttpError>), HttpError> {
        let deadline = deadline(limits.timeout);
        let response = self.send(request, deadline).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let (body, error) = read_prefix(response, limits.max_bytes, deadline).await;
        Ok((Fetched { status, headers, body }, error))
    }

    async fn client(&self, url: &Url) -> Result<&Client, HttpError> {
        let policy = self.inner.policy;
        if url.scheme() == "http" {
            return self.inner.plain.get_or_try_init(|| async { build(policy, false) }).await;
        }
        self.inner
            .secure
            .get_or_try_init(|| async {
                // Reading the certificates blocks for some milliseconds: not on a worker that others wait for.
                tokio::task::spawn_blocking(move || build(policy, true))
                    .await
                    .unwrap_or_else(|error| Err(HttpError::Other { cause: error::cause(&error), before_sent: true }))
            })
            .await
    }
}

/// The moment `timeout` from now; a timeout beyond what the clock can hold is a day.
pub fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(86_400))
}

/// A GET request.
pub fn get(url: Url) -> Request {
    Request::new(Method::GET, url)
}

/// A POST request with a JSON body.
pub fn post_json(url: Url, body: Vec<u8>) -> Request {
    let mut request = Request::new(Method::POST, url);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(body.into());
    request
}

fn build(policy: UrlPolicy, tls: bool) -> Result<Client, HttpError> {
    // One crypto provider per process; whoever came first is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("drain-mcp/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .https_only(tls)
        // By default reqwest repeats what an HTTP/2 server says it has not looked at. When no connection is made for the
        // repetition, its error would say of a voucher that left that it was never sent (M15).
        .retry(reqwest::retry::never())
        .dns_resolver(policy::Guard::new(policy));
    if !tls {
        builder = builder.tls_certs_only([]).http1_only();
    }
    builder.build().map_err(|error| HttpError::from_build(&error))
}
