//! *Foreign* channels: on chain, of this wallet, and not opened by this journal (M10). They are recorded as recovered
//! (design section 4), and pay only by a person's word.

use drain_protocol::{ChannelId, Nonce, Usdc};

use super::audit::{self, Entry, Kind};
use super::channel::{ChannelRecord, NewChannel, load, state_name};
use super::channels::insert;
use super::db::{Optional, params};
use super::row::{address, column};
use super::{IntentId, Journal, JournalError};
use crate::api::ChannelState;

/// What is known of a channel that another journal, or none, kept.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Taken on chain.
    pub claimed: Usdc,
    /// The least that was signed.
    pub signed: Usdc,
    /// New nonces start above it: from the clock in microseconds (design section 4).
    pub nonce_floor: Nonce,
    /// The contract knows it no more: it is recorded, so that it is not searched for again.
    pub over: bool,
}

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
    /// Records a channel that this journal did not open, as recovered: at least `signed` was promised, maybe the whole
    /// deposit. One that is known already is left as it is, unless it was given up: the chain has it all the same.
    ///
    /// What the chain tells of it may be one node's word: amounts count up to the deposit, and a channel that never
    /// expires is refused.
    pub async fn record_foreign(
        &self,
        new: NewChannel,
        channel_id: ChannelId,
        expires_at: u64,
        found: Found,
    ) -> Result<ChannelRecord, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                if expires_at == 0 {
                    return Err(JournalError::Impossible(format!("channel {channel_id} without an expiry")));
                }
                let known: Option<(i64, String)> = db
                    .prepare_cached(
                        "SELECT intent, state FROM channels WHERE chain_id = ?1 AND contract = ?2 AND channel_id = ?3",
                    )?
                    .query_row(
                        params![
                            column(new.deployment.chain_id())?,
                            address(new.deployment.contract()),
                            channel_id.to_string()
                        ],
                        |r| Ok((r.get(0)?, r.get(1)?)),
                    )
                    .optional()?;
                let state = if found.over { ChannelState::Closed } else { ChannelState::Open };
                let (intent, fresh) = match known {
                    Some((known, state)) if state != state_name(ChannelState::Failed) => {
                        return load(db, IntentId(known));
                    }
                    Some((given_up, _)) => (IntentId(given_up), false),
                    None => (insert(db, &new, state, Some(channel_id), expires_at)?, true),
                };
                // It was opened some day, by somebody: no opening of this hour.
                db.prepare_cached(
                    "UPDATE channels SET state = ?2, expires_at = ?3, recovered = 1, books_known = 0, note = NULL, \
                     claimed = MAX(claimed, MIN(?4, deposit)), signed = MAX(signed, MIN(?5, deposit)), \
                     charged = MAX(charged, MIN(?5, deposit)), nonce = MAX(nonce, ?6), \
                     created_at = CASE WHEN ?7 = 1 THEN 0 ELSE created_at END WHERE intent = ?1",
                )?
                .execute(params![
                    intent.0,
                    state_name(state),
                    column(expires_at)?,
                    found.claimed.as_i64(),
                    found.signed.as_i64(),
                    found.nonce_floor.as_i64(),
                    fresh
                ])?;
                let record = load(db, intent)?;
                let entry = Entry {
                    provider: Some(&record.provider_id),
                    intent: Some(intent),
                    channel: Some(channel_id),
                    amount: Some(record.books.deposit),
                    charged: Some(record.books.claimed),
                    ..Entry::recorded(Kind::Found)
                };
                audit::write(db, &who, &entry.told(if found.over { "it is over" } else { "recovered" }))?;
                Ok(record)
            })
            .await
    }

    /// A person says whom a foreign channel pays: it can be paid from now on (M10). False where it was not foreign.
    pub async fn adopted(&self, intent: IntentId, provider: Adopted) -> Result<bool, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let Adopted { provider_id, provider_name, api_url, category, prices } = provider;
                let rows = db
                    .prepare_cached(
                        "UPDATE channels SET provider_id = ?2, provider_name = ?3, api_url = ?4, category = ?5, prices = ?6 \
                         WHERE intent = ?1 AND recovered = 1 AND api_url = '' AND state = 'open'",
                    )?
                    .execute(params![intent.0, provider_id, provider_name, api_url, category, prices])?;
                if rows == 1 {
                    let entry = Entry {
                        rule: Some("person".into()),
                        provider: Some(&provider_id),
                        intent: Some(intent),
                        ..Entry::allowed(Kind::Adopt)
                    };
                    audit::write(db, &who, &entry)?;
                }
                Ok(rows == 1)
            })
            .await
    }
}
