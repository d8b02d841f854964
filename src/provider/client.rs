//! The calls to a provider that carry no money: prices, instructions, a sign of life, the close answer.

use std::time::Duration;

use drain_protocol::ChannelId;
use drain_protocol::close::CloseAnswer;
use drain_protocol::headers::Discovery;
use drain_protocol::pricing::PriceList;
use drain_protocol::text::untrusted;
use reqwest::Url;
use reqwest::header::HeaderMap;

use super::error::ProviderError;
use crate::http_client::{Fetched, HttpClient, HttpError, RequestLimits, get, join, post_json};

const PRICING: RequestLimits = RequestLimits::new(Duration::from_secs(10), 2 << 20);
const DISCOVERY: RequestLimits = RequestLimits::new(Duration::from_secs(10), 64 << 10);
const DOCS: RequestLimits = RequestLimits::new(Duration::from_secs(5), 64 << 10);
const CLOSE: RequestLimits = RequestLimits::new(Duration::from_secs(15), 64 << 10);

/// Instructions of a provider are cut to so many characters.
pub const MAX_DOCS_CHARS: usize = 4_000;

/// Where the paid call goes, below the provider's base URL.
pub(crate) const CHAT_PATH: &str = "/v1/chat/completions";

/// Talks to providers. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct ProviderClient {
    pub(super) http: HttpClient,
}

impl ProviderClient {
    /// Talks through `http`.
    pub const fn new(http: HttpClient) -> Self {
        Self { http }
    }

    /// The provider's price list, and its text as it came.
    pub async fn pricing(&self, base: &Url) -> Result<(PriceList, String), ProviderError> {
        const WHAT: &str = "prices";
        let fetched = self.fetch(WHAT, base, "/v1/pricing", PRICING).await?;
        let list = PriceList::parse(&fetched.body).map_err(|error| ProviderError::new(WHAT, base, error))?;
        Ok((list, String::from_utf8_lossy(&fetched.body).into_owned()))
    }

    /// What the provider says about payment when a request comes without a voucher; `None` when it says nothing.
    pub async fn discover(&self, base: &Url) -> Result<Option<Discovery>, ProviderError> {
        const BODY: &str = r#"{"model":"discovery","messages":[{"role":"user","content":"ping"}],"max_tokens":1}"#;
        let request = post_json(join(base, CHAT_PATH), BODY.into());
        let (fetched, _) = self.fetch_prefix("payment discovery", base, request, DISCOVERY).await?;
        if fetched.status != 402 {
            return Ok(None);
        }
        let discovery = Discovery::read(header_text(&fetched.headers));
        Ok((discovery != Discovery::default()).then_some(discovery))
    }

    /// The provider's instructions for agents, cleaned and cut to [`MAX_DOCS_CHARS`]. Untrusted all the same.
    pub async fn docs(&self, base: &Url) -> Result<String, ProviderError> {
        const WHAT: &str = "instructions";
        let (fetched, error) = self.fetch_prefix(WHAT, base, get(join(base, "/v1/docs")), DOCS).await?;
        // More than is shown anyway is no error.
        if let Some(error) = error.filter(|error| !matches!(error, HttpError::TooLarge { .. })) {
            return Err(ProviderError::new(WHAT, base, error));
        }
        success(WHAT, base, &fetched)?;
        Ok(untrusted(&String::from_utf8_lossy(&fetched.body), MAX_DOCS_CHARS))
    }

    /// Asks for the provider's signature to close `channel` now. Nothing in the answer is checked here (M6).
    pub async fn close(&self, base: &Url, channel: ChannelId) -> Result<CloseAnswer, ProviderError> {
        const WHAT: &str = "the close answer";
        let body = serde_json::json!({ "channelId": channel.to_string().to_ascii_lowercase() }).to_string();
        let request = post_json(join(base, "/v1/close-channel"), body.into_bytes());
        let fetched = self.http.fetch(request, CLOSE).await.map_err(|error| ProviderError::new(WHAT, base, error))?;
        success(WHAT, base, &fetched)?;
        CloseAnswer::parse(&fetched.body).map_err(|error| ProviderError::new(WHAT, base, error))
    }

    async fn fetch(
        &self,
        what: &'static str,
        base: &Url,
        path: &str,
        limits: RequestLimits,
    ) -> Result<Fetched, ProviderError> {
        let request = get(join(base, path));
        let fetched = self.http.fetch(request, limits).await.map_err(|error| ProviderError::new(what, base, error))?;
        success(what, base, &fetched)?;
        Ok(fetched)
    }

    async fn fetch_prefix(
        &self,
        what: &'static str,
        base: &Url,
        request: reqwest::Request,
        limits: RequestLimits,
    ) -> Result<(Fetched, Option<HttpError>), ProviderError> {
        self.http.fetch_prefix(request, limits).await.map_err(|error| ProviderError::new(what, base, error))
    }
}

fn success(what: &'static str, base: &Url, fetched: &Fetched) -> Result<(), ProviderError> {
    if fetched.status.is_success() {
        return Ok(());
    }
    Err(ProviderError::refused(what, base, fetched))
}

/// A header's text by its name. Of several with one name the first counts.
pub(super) fn header_text(headers: &HeaderMap) -> impl Fn(&str) -> Option<String> + '_ {
    |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
