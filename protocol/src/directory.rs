//! The marketplace's list of providers, in every form that it has been seen in (protocol.md section 10).

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::Address;
use serde_json::Value;

use crate::deployment::POLYGON;
use crate::pricing::{MAX_MODEL_ID, Price};
use crate::shape::{self, ShapeError};
use crate::text::{is_unclean, one_line, quoted, untrusted};

/// Listings at most; the rest is dropped and counted.
pub const MAX_LISTINGS: usize = 10_000;
/// Models of one listing at most; the rest is dropped.
pub const MAX_LISTED_MODELS: usize = 2_000;
const MAX_URL: usize = 2_048;

/// What the directory answered.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// In the directory's order; ids are unique, wallets are not.
    pub listings: Vec<Listing>,
    /// The contract that the marketplace names: compared with ours, never used.
    pub contract: Option<Address>,
    /// Entries left out: unreadable, duplicate or too many.
    pub skipped: usize,
    /// Ids that several entries have with different addresses, wallets, chains or ways to pay. Which one counts would be
    /// the directory's whim, so none is listed.
    pub ambiguous: BTreeSet<String>,
}

/// How a provider is paid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListingProtocol {
    /// By vouchers; also when the listing does not say.
    #[default]
    Drain,
    /// Request by request, by HTTP 402.
    Mpp,
    /// Something newer.
    Other(String),
}

/// One provider's entry. Texts are sanitised and bounded.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Opaque, and exact: an id in which something could hide is left out instead.
    pub id: String,
    /// For people; the id when there is none.
    pub name: String,
    /// The provider's words.
    pub description: String,
    /// Base address without a trailing slash; empty for some [`ListingProtocol::Mpp`]. Not checked here.
    pub api_url: String,
    /// The provider's wallet; zero for some [`ListingProtocol::Mpp`].
    pub provider_address: Address,
    /// The chain; Polygon when the listing does not say.
    pub chain_id: u64,
    /// In lower case; `llm` when the listing does not say.
    pub category: String,
    /// How it is paid.
    pub protocol: ListingProtocol,
    /// `bittensor`, `community`.
    pub tier: Option<String>,
    /// The marketplace's score, usually 0 to 1.
    pub score: Option<f64>,
    /// The marketplace's measure of quality; 0 to 1 or 0 to 100, it has been seen as both.
    pub quality_score: Option<f64>,
    /// The provider's instructions.
    pub docs_url: Option<String>,
    /// Where an MPP provider answers.
    pub mpp_endpoint: Option<String>,
    /// Whether an MPP provider takes requests of a form of its own (`rest`) rather than conversations.
    pub mpp_rest: bool,
    /// Shortest channel it wants, in seconds. Nothing enforces it.
    pub min_duration: Option<u64>,
    /// Longest channel it wants, in seconds. Nothing enforces it.
    pub max_duration: Option<u64>,
    /// Whether the marketplace reaches it.
    pub online: Option<bool>,
    /// When the marketplace last looked, in milliseconds since 1970.
    pub last_checked_ms: Option<u64>,
    /// How long its answer took, in milliseconds.
    pub latency_ms: Option<u64>,
    /// What it offers.
    pub models: Vec<ListedModel>,
    /// True when the wallet is written in mixed case with a wrong checksum: perhaps a slip.
    pub bad_checksum: bool,
}

/// A model of a listing. Its price is the marketplace's word: the provider's own list counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModel {
    /// The provider's id of the model, exact.
    pub id: String,
    /// For people; the id when there is none.
    pub name: String,
    /// When both prices are readable.
    pub price: Option<Price>,
}

impl Catalogue {
    /// Reads `GET /api/mcp/providers` or `GET /api/directory/providers`: an object with `providers`, or a bare array.
    pub fn parse(body: &[u8]) -> Result<Self, ShapeError> {
        const WHAT: &str = "the directory";
        let answer = shape::json(WHAT, body)?;
        let Some(entries) = answer.as_array().or_else(|| answer.get("providers")?.as_array()) else {
            let said = shape::error_text(&answer)
                .map_or_else(|| "it has no list of providers".into(), |said| format!("it says {}", quoted(&said, 300)));
            return Err(ShapeError::new(WHAT, said));
        };
        let mut catalogue = Self {
            contract: answer
                .pointer("/_meta/contract")
                .and_then(Value::as_str)
                .and_then(|text| text.trim().parse().ok()),
            ..Self::default()
        };
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for entry in entries {
            let Some(listing) = Listing::read(entry) else {
                catalogue.skipped += 1;
                continue;
            };
            if let Some(first) = seen.get(&listing.id).and_then(|at| catalogue.listings.get(*at)) {
                if !first.same_party(&listing) {
                    catalogue.ambiguous.insert(listing.id);
                }
                catalogue.skipped += 1;
            } else if catalogue.listings.len() < MAX_LISTINGS {
                seen.insert(listing.id.clone(), catalogue.listings.len());
                catalogue.listings.push(listing);
            } else {
                catalogue.skipped += 1;
            }
        }
        let ambiguous = &catalogue.ambiguous;
        let before = catalogue.listings.len();
        catalogue.listings.retain(|listing| !ambiguous.contains(&listing.id));
        catalogue.skipped += before - catalogue.listings.len();
        Ok(catalogue)
    }
}

impl Listing {
    /// `None` without what a channel needs: an id, and unless it is paid by MPP an address and a wallet.
    fn read(entry: &Value) -> Option<Self> {
        let id = exact(entry.get("id")?, 200)?;
        let protocol = match shape::line(entry, "protocol", 40).map(|text| text.to_ascii_lowercase()) {
            None => ListingProtocol::Drain,
            Some(text) if text == "drain" => ListingProtocol::Drain,
            Some(text) if text == "mpp" => ListingProtocol::Mpp,
            Some(text) => ListingProtocol::Other(text),
        };
        let optional = protocol == ListingProtocol::Mpp;
        let wallet = entry.get("providerAddress").and_then(Value::as_str).and_then(wallet);
        let api_url = url(entry, "apiUrl");
        if !optional && (wallet.is_none() || api_url.is_none()) {
            return None;
        }
        let (provider_address, bad_checksum) = wallet.unwrap_or_default();
        let status = entry.get("status").unwrap_or(&Value::Null);
        let first = |values: [Option<&Value>; 2]| values.into_iter().flatten().find(|value| !value.is_null()).cloned();
        let score = |key: &str| {
            let score: f64 = shape::scalar(entry.get(key)?)?.trim().parse().ok()?;
            score.is_finite().then_some(score)
        };
        Some(Self {
            name: shape::line(entry, "name", 200).unwrap_or_else(|| id.clone()),
            description: entry
                .get("description")
                .and_then(Value::as_str)
                .map(|t| untrusted(t, 2_000))
                .unwrap_or_default(),
            api_url: api_url.unwrap_or_default(),
            provider_address,
            chain_id: entry.get("chainId").and_then(shape::whole).unwrap_or(POLYGON),
            category: shape::line(entry, "category", 60).map_or_else(|| "llm".into(), |text| text.to_lowercase()),
            tier: shape::line(entry, "tier", 60),
            score: score("score"),
            quality_score: score("qualityScore"),
            docs_url: url(entry, "docsUrl"),
            mpp_endpoint: url(entry, "mppEndpoint"),
            mpp_rest: entry
                .get("mppType")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind.eq_ignore_ascii_case("rest")),
            min_duration: entry.get("minDuration").and_then(shape::whole),
            max_duration: entry.get("maxDuration").and_then(shape::whole),
            online: first([status.get("online"), entry.get("isOnline")]).and_then(|value| value.as_bool()).or_else(
                || match status.as_str().map(str::to_ascii_lowercase).as_deref() {
                    Some("online") => Some(true),
                    Some("offline") => Some(false),
                    _ => None,
                },
            ),
            last_checked_ms: first([status.get("lastChecked"), entry.get("lastCheckedAt")]).and_then(|v| moment_ms(&v)),
            latency_ms: first([status.get("latencyMs"), entry.get("avgResponseTime")]).and_then(|value| {
                // An average need not be whole.
                shape::whole(&value)
                    .or_else(|| value.as_f64().filter(|ms| (0.0..1e12).contains(ms)).map(|ms| ms as u64))
            }),
            models: entry.get("models").and_then(Value::as_array).map(|models| read_models(models)).unwrap_or_default(),
            protocol,
            bad_checksum,
            id,
        })
    }

    /// Whether both lead prompts and money to the same place.
    fn same_party(&self, other: &Self) -> bool {
        let place = |listing: &Self| (listing.provider_address, listing.chain_id);
        place(self) == place(other) && self.api_url == other.api_url && self.protocol == other.protocol
    }

    /// Whether a channel of so many seconds is within what the listing asks for, if it asks for anything.
    pub fn suits_duration(&self, seconds: u64) -> bool {
        self.min_duration.is_none_or(|min| seconds >= min) && self.max_duration.is_none_or(|max| seconds <= max)
    }

    /// The model of this exact id.
    pub fn model(&self, id: &str) -> Option<&ListedModel> {
        self.models.iter().find(|model| model.id == id)
    }
}

fn read_models(entries: &[Value]) -> Vec<ListedModel> {
    let models = entries.iter().filter_map(|entry| {
        let id = match entry {
            Value::String(_) => exact(entry, MAX_MODEL_ID)?,
            _ => ["id", "modelId"].iter().find_map(|key| exact(entry.get(key)?, MAX_MODEL_ID))?,
        };
        let name = shape::line(entry, "name", 200).unwrap_or_else(|| id.clone());
        let price = entry.get("pricing").and_then(Price::read).or_else(|| Price::read(entry));
        Some(ListedModel { id, name, price })
    });
    models.take(MAX_LISTED_MODELS).collect()
}

/// An identifier exactly as sent; `None` when sanitising would change it, as two could then look the same.
fn exact(value: &Value, max: usize) -> Option<String> {
    shape::scalar(value).filter(|text| !is_unclean(text, max))
}

/// An address without blanks or anything hidden, and without trailing slashes.
fn url(entry: &Value, key: &str) -> Option<String> {
    let text = entry.get(key)?.as_str()?.trim().trim_end_matches('/');
    (!is_unclean(text, MAX_URL) && !text.contains(' ')).then(|| text.to_owned())
}

/// A wallet that is not zero, and whether its checksum is wrong.
fn wallet(text: &str) -> Option<(Address, bool)> {
    let text = text.trim();
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let address: Address = digits.parse().ok().filter(|address: &Address| !address.is_zero())?;
    let mixed = digits.contains(|c: char| c.is_ascii_lowercase()) && digits.contains(|c: char| c.is_ascii_uppercase());
    Some((address, mixed && address.to_checksum(None).get(2..) != Some(digits)))
}

/// Milliseconds since 1970 from such a number, or from `2026-03-26T10:00:00.000Z`.
fn moment_ms(value: &Value) -> Option<u64> {
    if let Some(ms) = shape::whole(value) {
        return Some(ms);
    }
    let text = one_line(value.as_str()?, 40);
    let rest = text.strip_suffix('Z')?;
    let (rest, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let (date, time) = rest.split_once('T')?;
    let part = |text: Option<&str>, digits: usize, range: std::ops::RangeInclusive<u64>| {
        let text = text.filter(|text| text.len() == digits && text.bytes().all(|b| b.is_ascii_digit()))?;
        text.parse::<u64>().ok().filter(|number| range.contains(number))
    };
    let (mut date, mut time) = (date.split('-'), time.split(':'));
    let (year, month) = (part(date.next(), 4, 1970..=9999)?, part(date.next(), 2, 1..=12)?);
    let day = part(date.next(), 2, 1..=31)?;
    let (hour, minute, second) =
        (part(time.next(), 2, 0..=23)?, part(time.next(), 2, 0..=59)?, part(time.next(), 2, 0..=60)?);
    if date.next().is_some() || time.next().is_some() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Days since 0000-03-01, in years that begin in March, so that the leap day is the last one.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    let seconds = (days.checked_sub(719_468)? * 24 + hour) * 3_600 + minute * 60 + second;
    let ms: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(seconds * 1_000 + ms)
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
