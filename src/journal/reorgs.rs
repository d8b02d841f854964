//! What a reorganisation deeper than was waited for takes back, and how the books follow.

use drain_protocol::{Address, B256, ChannelId};

use super::audit;
use super::channel::{load, provider_key_of};
use super::db::{Db, Optional, params};
use super::row::address;
use super::row::{self, column};
use super::transaction::TxKind;
use super::writer::When;
use super::{ChannelRecord, IntentId, Journal, JournalError, TxId, usage};

/// How long after its end a transaction is compared with the chain, in seconds.
const SETTLED_AFTER: u64 = 86_400;

/// A transaction that was seen final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which one.
    pub id: TxId,
    /// Its block.
    pub block_number: u64,
    /// The block's hash then.
    pub block_hash: B256,
    /// Seconds since it was recorded.
    pub age: u64,
}

impl Journal {
    /// Where a transaction is final. Losing this loses a look-out only.
    pub fn placed_later(&self, id: TxId, block_number: u64, block_hash: B256) -> Result<(), JournalError> {
        self.writer
            .submit(When::Later, move |db| {
                db.prepare_cached("UPDATE transactions SET block_number = ?2, block_hash = ?3 WHERE id = ?1")?
                    .execute(params![id.0, column(block_number)?, format!("{block_hash:#x}")])?;
                Ok(())
            })
            .map(drop)
    }

    /// What was final within the last day, the newest block first; at most a hundred.
    pub async fn settled(&self, chain_id: u64, wallet: Address) -> Result<Vec<Settled>, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT id, block_number, block_hash, MAX(unixepoch() - finished_at, 0) AS age FROM transactions \
                     WHERE chain_id = ?1 AND wallet = ?2 AND state IN ('final', 'reverted') AND block_hash IS NOT NULL \
                     AND finished_at > unixepoch() - ?3 ORDER BY block_number DESC, id DESC LIMIT 100",
                )?;
                let mut rows = statement.query(params![column(chain_id)?, address(wallet), column(SETTLED_AFTER)?])?;
                let mut settled = Vec::new();
                while let Some(r) = &rows.next()? {
                    settled.push(Settled {
                        id: TxId(r.get("id")?),
                        block_number: row::unsigned(r, "block_number")?,
                        block_hash: row::parsed(r, "block_hash")?,
                        age: row::unsigned(r, "age")?,
                    });
                }
                Ok(settled)
            })
            .await
    }

    /// The blocks of these transactions are gone: each may land again, and with it what else was signed for its slot. What
    /// was recorded of their channels is taken back: what was opened is opening, what was closed is closing; neither signs
    /// anything until the chain tells. Gives the channels; `None` where all of it was taken back before.
    pub async fn undo(&self, mut gone: Vec<TxId>) -> Result<Option<Vec<ChannelRecord>>, JournalError> {
        // A close before its opening.
        let who = self.who.clone();
        gone.sort_by_key(|id| std::cmp::Reverse(id.0));
        self.writer
            .run(move |db| {
                let (mut channels, mut any) = (Vec::new(), false);
                for id in gone {
                    let Some(changed) = undo(db, id)? else { continue };
                    audit::transactions::taken_back(db, &who, id)?;
                    any = true;
                    for intent in changed {
                        if !channels.contains(&intent) {
                            channels.push(intent);
                        }
                    }
                }
                let records: Result<_, _> = channels.into_iter().map(|intent| load(db, intent)).collect();
                records.map(|records| any.then_some(records))
            })
            .await
    }
}

const OPENING_NOTE: &str =
    "a reorganisation of the chain took the opening back; it is followed again, and nothing is signed meanwhile";
const CLOSING_NOTE: &str =
    "a reorganisation of the chain took the close back; it is followed again, and nothing is signed meanwhile";

/// The channels whose state may have changed; `None` for a transaction that is not final.
fn undo(db: &Db<'_>, id: TxId) -> Result<Option<Vec<IntentId>>, JournalError> {
    let mut statement = db.prepare_cached(
        "UPDATE transactions SET state = 'broadcast', reason = NULL, finished_at = NULL, block_number = NULL, block_hash = NULL, gas_used = NULL \
         WHERE EXISTS (SELECT 1 FROM transactions WHERE id = ?1 AND state IN ('final', 'reverted')) AND (id = ?1 OR \
         (state = 'dropped' AND reason = 'replaced' AND raw IS NOT NULL AND (chain_id, wallet, account_nonce) = \
          (SELECT chain_id, wallet, account_nonce FROM transactions WHERE id = ?1))) RETURNING id, kind, intent",
    )?;
    let mut rows = statement.query([id.0])?;
    let mut again = Vec::new();
    while let Some(r) = &rows.next()? {
        let kind: TxKind = row::parsed(r, "kind")?;
        again.push((TxId(r.get("id")?), kind, r.get::<_, Option<i64>>("intent")?.map(IntentId)));
    }
    if again.is_empty() {
        return Ok(None);
    }
    let mut channels = Vec::new();
    for (again, kind, intent) in again {
        let Some(intent) = intent else { continue };
        // What had never landed undoes nothing that is recorded, but may land now.
        let (state, from, note) = match (kind, again == id) {
            (TxKind::Open, true) => ("opening", "'open', 'closing', 'failed'", OPENING_NOTE),
            (TxKind::Open, false) => ("opening", "'failed'", OPENING_NOTE),
            (TxKind::Close | TxKind::CooperativeClose, true) => ("closing", "'closed', 'open'", CLOSING_NOTE),
            (TxKind::Close | TxKind::CooperativeClose, false) => ("closing", "'open'", CLOSING_NOTE),
            _ => continue,
        };
        if state == "closing" && again == id {
            usage::charge_again(db, intent, &provider_key_of(db, intent)?)?;
        }
        db.prepare_cached(&format!(
            "UPDATE channels SET state = ?2, refunded = NULL, note = ?3 WHERE intent = ?1 AND state IN ({from})"
        ))?
        .execute(params![intent.0, state, note])?;
        channels.push(intent);
    }
    Ok(Some(channels))
}

/// A channel's new id, before it is recorded. What was signed under the old one stays recorded, in a row of its own that
/// signs nothing; under the new one the books are fresh, or those that are known of it already: it had the id before, or a
/// search found it and took it for a foreign one.
pub(super) fn take_id(db: &Db<'_>, intent: IntentId, channel_id: ChannelId) -> Result<(), JournalError> {
    let before = load(db, intent)?;
    if before.channel_id == Some(channel_id) {
        return Ok(());
    }
    let known: Option<i64> = db
        .prepare_cached("SELECT intent FROM channels WHERE chain_id = ?1 AND contract = ?2 AND channel_id = ?3")?
        .query_row(
            params![
                column(before.deployment.chain_id())?,
                address(before.deployment.contract()),
                channel_id.to_string()
            ],
            |r| r.get(0),
        )
        .optional()?;
    if before.channel_id.is_none() && known.is_none() {
        return Ok(());
    }
    let vouchers = "UPDATE vouchers SET intent = ?2 WHERE intent = ?1";
    let id_of = "UPDATE channels SET channel_id = ?2 WHERE intent = ?1";
    let mut kept = None;
    if let Some(old) = before.channel_id {
        let aside = set_aside(db, intent, channel_id)?;
        db.prepare_cached(vouchers)?.execute([intent.0, aside])?;
        kept = Some((aside, old));
    }
    if let Some(known) = known {
        db.prepare_cached(id_of)?.execute(params![known, None::<String>])?;
    }
    // One statement, since M2 is kept by a trigger per id.
    db.prepare_cached(
        "UPDATE channels SET channel_id = ?2, \
         (claimed, signed, charged, disputed, nonce, requests, recovered, books_known, state, refunded, expires_at, taken_in_the_end) = \
         (SELECT COALESCE(k.claimed, 0), COALESCE(k.signed, 0), COALESCE(k.charged, 0), COALESCE(k.disputed, 0), \
          COALESCE(k.nonce, 0), COALESCE(k.requests, 0), COALESCE(k.recovered, o.recovered), COALESCE(k.books_known, o.books_known), \
          CASE WHEN k.state = 'closed' THEN k.state ELSE o.state END, CASE WHEN k.state = 'closed' THEN k.refunded ELSE o.refunded END, COALESCE(k.expires_at, o.expires_at), \
          k.taken_in_the_end \
          FROM channels o LEFT JOIN channels k ON k.intent = ?3 WHERE o.intent = ?1) WHERE intent = ?1",
    )?
    .execute(params![intent.0, channel_id.to_string(), known])?;
    if let Some((aside, old)) = kept {
        db.prepare_cached(id_of)?.execute(params![aside, old.to_string()])?;
    }
    if let Some(known) = known {
        db.prepare_cached(vouchers)?.execute([known, intent.0])?;
        db.prepare_cached("UPDATE transactions SET intent = ?2 WHERE intent = ?1")?.execute([known, intent.0])?;
        db.prepare_cached("UPDATE transactions SET used_by = ?2 WHERE used_by = ?1")?.execute([known, intent.0])?;
        db.prepare_cached("DELETE FROM channels WHERE intent = ?1")?.execute([known])?;
    }
    Ok(())
}

/// A channel's books in a row of their own, without an id so far, that signs nothing.
fn set_aside(db: &Db<'_>, intent: IntentId, new: ChannelId) -> Result<i64, JournalError> {
    let note = format!("a reorganisation of the chain gave this channel another id, {new}; this one is gone");
    let aside = db.prepare_cached(
        "INSERT INTO channels (chain_id, contract, generation, token, consumer, provider_id, provider_name, provider_wallet, api_url, category, \
         prices, duration, state, expires_at, deposit, cap, claimed, signed, charged, disputed, nonce, requests, recovered, books_known, offences, \
         created_at, used_at, agent, note) \
         SELECT chain_id, contract, generation, token, consumer, provider_id, provider_name, provider_wallet, api_url, category, \
         prices, duration, 'failed', expires_at, deposit, cap, claimed, signed, charged, disputed, nonce, requests, recovered, books_known, offences, \
         0, used_at, agent, ?2 FROM channels WHERE intent = ?1 RETURNING intent",
    )?
    .query_row(params![intent.0, note], |r| r.get(0))?;
    Ok(aside)
}
