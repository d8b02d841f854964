//! A caller's request, checked before anything is contacted, and what came back.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drain_protocol::B256;
use drain_protocol::demand::Credential;
use drain_protocol::text::one_line;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, StatusCode, Url};

use crate::api::Body;
use crate::error::{Code, Failure};
use crate::http_client::{HttpClient, HttpError, RequestLimits, host_and_port};
use crate::policy::repeat::sha256;

/// Headers of a caller's own.
const MOST_HEADERS: usize = 32;
const LONGEST_HEADER: usize = 8 * 1024;
const LONGEST_URL: usize = 8 * 1024;

/// What only the connection or a payment says.
const RESERVED: [&str; 19] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
    "proxy-authorization",
    "proxy-connection",
    "payment-authorization",
    "payment-signature",
    "x-payment",
    "accept-payment",
    "x-drain-voucher",
    "x-payment-protocol",
    "referer",
];

/// A request that may be sent.
#[derive(Clone, Debug)]
pub struct WebRequest {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

/// A whole answer, or what came of it.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as far as it came.
    pub body: Vec<u8>,
    /// Why the body is not whole.
    pub cut: Option<HttpError>,
}

impl WebRequest {
    /// Checks every part. Whether the address may be contacted is the HTTP client's to say (M14).
    pub fn new(
        url: &str,
        method: &str,
        headers: &BTreeMap<String, String>,
        body: Option<&str>,
        longest_body: usize,
    ) -> Result<Self, Failure> {
        if url.len() > LONGEST_URL {
            return Err(Failure::argument("url", format!("it is longer than {LONGEST_URL} bytes")));
        }
        let mut url: Url = url.trim().parse().map_err(|error| Failure::argument("url", error))?;
        // The same host to a name server, and another one to the operator's lists.
        if url.host_str().is_some_and(|host| host.ends_with('.')) {
            return Err(Failure::argument("url", "its host ends with a dot; write it without"));
        }
        // What stands behind # is never sent.
        url.set_fragment(None);
        let method = match method.trim().to_ascii_uppercase().as_str() {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            _ => return Err(Failure::argument("method", "it is GET, POST, PUT, PATCH or DELETE")),
        };
        if method == Method::GET && body.is_some() {
            return Err(Failure::argument("body", "GET has none; use POST"));
        }
        if body.is_some_and(|body| body.len() > longest_body) {
            return Err(Failure::argument("body", format!("it is longer than {longest_body} bytes")));
        }
        let mut request = Self { url, method, headers: own_headers(headers)?, body: body.map(|body| body.into()) };
        if let Some(body) = &request.body
            && !request.headers.contains_key(CONTENT_TYPE)
        {
            let json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
            let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
            request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        Ok(request)
    }

    /// Where it goes.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The host, and its port where that is not the usual one; lower case.
    pub fn host(&self) -> String {
        host_and_port(&self.url)
    }

    /// Method and path, for records: a query may hold secrets.
    pub fn what(&self) -> String {
        one_line(&format!("{} {}", self.method, self.url.path()), 200)
    }

    /// SHA-256 of method, URL and body: what a person's yes is for.
    pub fn hash(&self) -> B256 {
        let head = format!("{}\n{}\n", self.method, self.url);
        sha256([head.as_bytes(), self.body.as_deref().unwrap_or_default()].concat())
    }

    /// Whether the caller sends a header of this name itself.
    pub fn has(&self, header: &str) -> bool {
        self.headers.contains_key(header)
    }

    /// Sends it, without or with a payment, and reads what comes within the limits. Sent once; no redirect is followed. A
    /// payment goes to this host only, and appears in no log and no error.
    pub async fn send(
        &self,
        http: &HttpClient,
        payment: Option<&Credential>,
        limits: RequestLimits,
    ) -> Result<Answer, HttpError> {
        let mut request = Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        if let Some(payment) = payment {
            let unsendable =
                || HttpError::Other { cause: "the payment does not fit into a header".into(), before_sent: true };
            let mut value = HeaderValue::from_str(&payment.value).map_err(|_| unsendable())?;
            value.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_static(payment.header), value);
        }
        *request.body_mut() = self.body.clone().map(Into::into);
        let (fetched, cut) = http.fetch_prefix(request, limits).await?;
        Ok(Answer { status: fetched.status, headers: fetched.headers, body: fetched.body, cut })
    }
}

fn own_headers(headers: &BTreeMap<String, String>) -> Result<HeaderMap, Failure> {
    let wrong = |what: String| Failure::argument("headers", what);
    if headers.len() > MOST_HEADERS {
        return Err(wrong(format!("there are more than {MOST_HEADERS}")));
    }
    let mut own = HeaderMap::new();
    for (name, value) in headers {
        let shown = one_line(name, 60);
        let key: HeaderName = name.trim().parse().map_err(|_| wrong(format!("{shown} is no header's name")))?;
        if RESERVED.contains(&key.as_str()) || key.as_str().starts_with("x-drain-") {
            return Err(wrong(format!("{shown} is not the caller's to set")));
        }
        if value.len() > LONGEST_HEADER {
            return Err(wrong(format!("{shown} is longer than {LONGEST_HEADER} bytes")));
        }
        let value = HeaderValue::from_str(value).map_err(|_| wrong(format!("{shown} holds a control character")))?;
        own.insert(key, value);
    }
    Ok(own)
}

impl Answer {
    /// The values of a header, by its lower-case name. One that is no text is one that cannot be read, and not none.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let text = |value| std::str::from_utf8(value).unwrap_or("\u{fffd}");
        self.headers.get_all(name).iter().map(|value| text(value.as_bytes())).collect()
    }

    /// The body as text where it is text.
    pub fn shown(&self) -> Body {
        match std::str::from_utf8(&self.body) {
            Ok(text) => Body::Text(text.to_owned()),
            Err(_) => Body::Base64(STANDARD.encode(&self.body)),
        }
    }

    /// What kind it says it is.
    pub fn content_type(&self) -> Option<String> {
        self.values("content-type").first().map(|kind| one_line(kind, 100))
    }
}

/// A failure to get any answer to a request that carried no payment.
pub fn unreachable(host: &str, error: &HttpError) -> Failure {
    match error {
        HttpError::Refused(_) => Failure::unspent(
            Code::UrlRefused,
            format!("{}: {error}", one_line(host, 100)),
            "Use an https URL of a public address. A person allows others with DRAIN_ALLOW_INSECURE.",
        ),
        HttpError::Redirect { .. } => Failure::unspent(
            Code::UrlRefused,
            format!("{}: {error}", one_line(host, 100)),
            "Ask for the URL that it leads to, if that is the one to pay.",
        ),
        _ => Failure::unspent(
            Code::ProviderUnreachable,
            format!("{}: {error}", one_line(host, 100)),
            "Check the URL, or call again in a while.",
        ),
    }
}

/// The limits of one exchange.
pub const fn limits(timeout: Duration, longest_answer: usize) -> RequestLimits {
    RequestLimits::new(timeout, longest_answer)
}
