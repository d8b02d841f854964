//! What a search for this wallet's channels on chain has found, and how far it came (M10).

use drain_protocol::{Address, ChannelId};
use rusqlite::{OptionalExtension, params};

use super::row::address;
use super::row::column;
use super::{IntentId, Journal, JournalError};

/// Its row among the flags.
const SEARCHED: &str = "searched";

/// Whom a foreign channel pays, by a person's word.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The directory's id.
    pub provider_id: String,
    /// Its name.
    pub provider_name: String,
    /// Where it is reached.
    pub api_url: String,
    /// Its category.
    pub category: String,
    /// Its prices, pinned.
    pub prices: String,
}

impl Journal {
    /// How many openings on this contract are recorded, whatever became of them.
    pub async fn known_openings(
        &self,
        chain_id: u64,
        contract: Address,
        consumer: Address,
    ) -> Result<u64, JournalError> {
        self.writer
            .run(move |db| {
                let count: i64 = db
                    .prepare_cached(
                        "SELECT COUNT(*) FROM channels WHERE chain_id = ?1 AND contract = ?2 AND consumer = ?3 AND channel_id IS NOT NULL",
                    )?
                    .query_row(params![column(chain_id)?, address(contract), address(consumer)], |r| r.get(0))?;
                Ok(u64::try_from(count).unwrap_or_default())
            })
            .await
    }

    /// Whether this channel is recorded.
    pub async fn knows(&self, chain_id: u64, contract: Address, id: ChannelId) -> Result<bool, JournalError> {
        self.writer
            .run(move |db| {
                let found: Option<i64> = db
                    .prepare_cached("SELECT 1 FROM channels WHERE chain_id = ?1 AND contract = ?2 AND channel_id = ?3")?
                    .query_row(params![column(chain_id)?, address(contract), id.to_string()], |r| r.get(0))
                    .optional()?;
                Ok(found.is_some())
            })
            .await
    }

    /// A channel that was found is over.
    pub async fn found_closed(&self, intent: IntentId) -> Result<(), JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached(
                    "UPDATE channels SET state = 'closed' WHERE intent = ?1 AND state = 'open' AND recovered = 1",
                )?
                .execute([intent.0])?;
                Ok(())
            })
            .await
    }

    /// A person says whom a foreign channel pays: it can be paid from now on (M10). False where it was not foreign.
    pub async fn adopted(&self, intent: IntentId, provider: Adopted) -> Result<bool, JournalError> {
        self.writer
            .run(move |db| {
                let Adopted { provider_id, provider_name, api_url, category, prices } = provider;
                let rows = db
                    .prepare_cached(
                        "UPDATE channels SET provider_id = ?2, provider_name = ?3, api_url = ?4, category = ?5, prices = ?6 \
                         WHERE intent = ?1 AND recovered = 1 AND api_url = '' AND state = 'open'",
                    )?
                    .execute(params![intent.0, provider_id, provider_name, api_url, category, prices])?;
                Ok(rows == 1)
            })
            .await
    }

    /// The blocks, first and last, that a search has read without a gap.
    pub async fn searched(&self) -> Result<Option<(u64, u64)>, JournalError> {
        self.writer
            .run(move |db| {
                let text: Option<String> = db
                    .prepare_cached("SELECT value FROM flags WHERE name = ?1")?
                    .query_row([SEARCHED], |r| r.get(0))
                    .optional()?;
                Ok(text.and_then(|text| {
                    let (first, last) = text.split_once('-')?;
                    Some((first.parse().ok()?, last.parse().ok()?))
                }))
            })
            .await
    }

    /// Remembers them.
    pub async fn set_searched(&self, (first, last): (u64, u64), at: u64) -> Result<(), JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached("INSERT OR REPLACE INTO flags (name, value, at) VALUES (?1, ?2, ?3)")?
                    .execute(params![SEARCHED, format!("{first}-{last}"), column(at)?])?;
                Ok(())
            })
            .await
    }
}
