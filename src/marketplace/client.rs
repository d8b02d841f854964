//! The calls to the marketplace.

use std::sync::Arc;
use std::time::Duration;

use drain_protocol::directory::Catalogue;
use drain_protocol::marketplace::{
    FeeConfig, FeedbackBody, GasStationAnswer, GasStationBody, StatusHint, TelemetryBody, parse_status,
};
use drain_protocol::{Address, ChannelId, ShapeError};
use reqwest::Url;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::error::MarketplaceError;
use crate::config::MarketplaceConfig;
use crate::http_client::{CallErrorReason, Fetched, HttpClient, HttpError, RequestLimits, get, join, post_json};

const CATALOGUE_BYTES: usize = 16 << 20;
const SMALL_BYTES: usize = 256 << 10;
/// Longest wait for what nobody waits for.
const COURTESY: RequestLimits = RequestLimits::new(Duration::from_secs(5), 16 << 10);
/// Telemetry under way at once; more is dropped.
const COURTESIES: usize = 8;

/// Channels asked for in one URL.
const IDS_PER_URL: usize = 50;

/// The two spellings of the catalogue's path: the marketplace's, and the one in older documents.
const SPELLINGS: [&str; 2] = ["/api/mcp/providers", "/api/mcpproviders"];

/// Talks to the marketplace. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct MarketplaceClient {
    http: HttpClient,
    directory: Url,
    base: Url,
    timeout: Duration,
    courtesies: Arc<Semaphore>,
}

impl MarketplaceClient {
    /// Talks through `http` to what `config` names.
    pub fn new(http: HttpClient, config: &MarketplaceConfig) -> Self {
        Self {
            http,
            directory: config.directory_url.clone(),
            base: config.base_url.clone(),
            timeout: config.timeout,
            courtesies: Arc::new(Semaphore::new(COURTESIES)),
        }
    }

    /// The whole catalogue, offline providers included. Where the operator's spelling of the path answers 404 or
    /// something that is no catalogue, the other spelling is tried.
    pub async fn catalogue(&self) -> Result<Catalogue, MarketplaceError> {
        let first = match self.catalogue_at(&self.directory).await {
            Err(error) if may_be_misspelt(&error) => error,
            other => return other,
        };
        match other_spelling(&self.directory) {
            // The operator's own spelling explains more, if both fail.
            Some(other) => self.catalogue_at(&other).await.map_err(|_| first),
            None => Err(first),
        }
    }

    async fn catalogue_at(&self, url: &Url) -> Result<Catalogue, MarketplaceError> {
        let mut url = url.clone();
        if !url.query_pairs().any(|(key, _)| key == "online") {
            url.query_pairs_mut().append_pair("online", "false");
        }
        self.read("the list of providers", &url, CATALOGUE_BYTES, Catalogue::parse).await
    }

    /// Where a V1 session fee goes. Compared with the pinned wallet by the caller.
    pub async fn fee_config(&self) -> Result<FeeConfig, MarketplaceError> {
        let url = join(&self.base, "/api/directory/config");
        self.read("the marketplace's configuration", &url, SMALL_BYTES, FeeConfig::parse).await
    }

    /// What the marketplace believes about channels: hints to look at the chain. No request without ids.
    pub async fn channel_status(&self, ids: &[ChannelId]) -> Result<Vec<StatusHint>, MarketplaceError> {
        let mut hints = Vec::new();
        for some in ids.chunks(IDS_PER_URL) {
            let list: Vec<String> = some.iter().map(ToString::to_string).collect();
            let mut url = join(&self.base, "/api/channels/status");
            url.query_pairs_mut().append_pair("channelIds", &list.join(","));
            hints.extend(self.read("the channels' status", &url, SMALL_BYTES, parse_status).await?);
        }
        Ok(hints)
    }

    /// Asks the gas station for POL. A refusal in words is an answer, whatever its status.
    pub async fn request_gas(&self, address: Address) -> Result<GasStationAnswer, MarketplaceError> {
        const WHAT: &str = "gas";
        let url = join(&self.base, "/api/gas-station");
        let limits = RequestLimits::new(self.timeout, SMALL_BYTES);
        let fetched = self.post(WHAT, &url, &GasStationBody { address }, limits).await?;
        match GasStationAnswer::parse(&fetched.body) {
            Ok(mut answer) => {
                answer.success &= fetched.status.is_success();
                Ok(answer)
            }
            Err(error) if fetched.status.is_success() => Err(MarketplaceError::new(WHAT, &url, error)),
            Err(_) => Err(MarketplaceError::refused(WHAT, &url, &fetched)),
        }
    }

    /// Sends an agent's word on a provider.
    pub async fn feedback(&self, body: &FeedbackBody) -> Result<(), MarketplaceError> {
        const WHAT: &str = "feedback";
        let url = join(&self.base, "/api/feedback");
        let fetched = self.post(WHAT, &url, body, COURTESY).await?;
        success(WHAT, &url, &fetched)
    }

    /// Sends a measurement and waits for nothing. Dropped when too many are under way; errors are a debug line.
    /// Only for operators who switched it on; must be called within a runtime.
    pub fn telemetry(&self, body: TelemetryBody) {
        let Ok(permit) = Arc::clone(&self.courtesies).try_acquire_owned() else { return };
        let client = self.clone();
        tokio::spawn(async move {
            let url = join(&client.base, "/api/telemetry");
            if let Err(error) = client.post("telemetry", &url, &body, COURTESY).await {
                tracing::debug!(%error, "telemetry was not delivered");
            }
            drop(permit);
        });
    }

    async fn read<T>(
        &self,
        what: &'static str,
        url: &Url,
        max_bytes: usize,
        parse: impl FnOnce(&[u8]) -> Result<T, ShapeError>,
    ) -> Result<T, MarketplaceError> {
        let fetched = self.http.fetch(get(url.clone()), RequestLimits::new(self.timeout, max_bytes)).await;
        let fetched = fetched.map_err(|error| MarketplaceError::new(what, url, error))?;
        success(what, url, &fetched)?;
        parse(&fetched.body).map_err(|error| MarketplaceError::new(what, url, error))
    }

    async fn post(
        &self,
        what: &'static str,
        url: &Url,
        body: &impl Serialize,
        limits: RequestLimits,
    ) -> Result<Fetched, MarketplaceError> {
        let fail = |error| MarketplaceError::new(what, url, error);
        let body = serde_json::to_vec(body)
            .map_err(|error| fail(HttpError::Other { cause: error.to_string(), before_sent: true }))?;
        self.http.fetch(post_json(url.clone(), body), limits).await.map_err(fail)
    }
}

fn success(what: &'static str, url: &Url, fetched: &Fetched) -> Result<(), MarketplaceError> {
    if fetched.status.is_success() { Ok(()) } else { Err(MarketplaceError::refused(what, url, fetched)) }
}

fn may_be_misspelt(error: &MarketplaceError) -> bool {
    matches!(error.reason, CallErrorReason::Status { status: 404, .. } | CallErrorReason::Shape(_))
}

fn other_spelling(url: &Url) -> Option<Url> {
    let path = url.path().trim_end_matches('/');
    let [right, old] = SPELLINGS;
    let path = match (path.strip_suffix(right), path.strip_suffix(old)) {
        (Some(prefix), _) => format!("{prefix}{old}"),
        (None, Some(prefix)) => format!("{prefix}{right}"),
        (None, None) => return None,
    };
    let mut other = url.clone();
    other.set_path(&path);
    Some(other)
}
