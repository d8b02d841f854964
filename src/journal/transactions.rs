//! Transactions of the wallet: recorded before they are signed, stored signed before they are sent (M7).

use std::sync::Arc;

use drain_protocol::{Address, B256, Usdc};

use super::audit::{self, Entry, Kind};
use super::db::{Db, Optional, params};
use super::freeze::{is_frozen_with_wallet, refuse_frozen_by};
use super::row::address;
use super::row::{self, column};
use super::transaction::{COLUMNS, NewTransaction, TxKind, TxRecord, TxState, record};
use super::writer::When;
use super::{IntentId, Journal, JournalError, TxId, usage};
use crate::metrics;
use crate::policy::budgets::may_burn;
use crate::policy::{Limits, Pol};

/// Ends a transaction; one that ended already stays as it is. Where it is mined, others signed for its slot can never
/// land: they end with it, and with them another channel's opening of which nothing else may land. (Another channel's close
/// is not put back here: one may wait for its turn, and the channel must sign nothing meanwhile. Its next close finds out.)
pub(super) fn finish(db: &Db<'_>, id: TxId, state: TxState, reason: Option<&str>) -> Result<(), JournalError> {
    let ended: Option<String> = db
        .prepare_cached(
            "UPDATE transactions SET state = ?2, reason = ?3, finished_at = unixepoch() \
             WHERE id = ?1 AND state IN ('planned', 'signed', 'broadcast') RETURNING kind",
        )?
        .query_row(params![id.0, state.to_string(), reason], |r| r.get(0))
        .optional()?;
    if let Some(kind) = ended {
        let how = match reason {
            Some(reason) if state == TxState::Dropped => format!("dropped: {reason}"),
            _ => state.to_string(),
        };
        audit::transactions::ended(db, id, &how)?;
        metrics::transaction(&kind, &state.to_string());
    }
    if matches!(state, TxState::Final | TxState::Reverted) {
        for (replaced, kind) in replaced(db, id)? {
            audit::transactions::ended(db, replaced, "dropped: replaced")?;
            metrics::transaction(&kind, "dropped");
        }
        db.prepare_cached(
            "UPDATE channels SET state = 'failed' WHERE state = 'opening' AND intent IN \
             (SELECT other.intent FROM transactions other JOIN transactions mined ON mined.id = ?1 \
              WHERE (other.chain_id, other.wallet, other.account_nonce) = (mined.chain_id, mined.wallet, mined.account_nonce) \
              AND other.state = 'dropped' AND other.intent IS DISTINCT FROM mined.intent) \
             AND NOT EXISTS (SELECT 1 FROM transactions t WHERE t.intent = channels.intent AND t.state IN ('signed', 'broadcast'))",
        )?
        .execute([id.0])?;
    }
    Ok(())
}

/// Ends what was signed for the slot of a transaction that is mined.
fn replaced(db: &Db<'_>, mined: TxId) -> Result<Vec<(TxId, String)>, JournalError> {
    let mut statement = db.prepare_cached(
        "UPDATE transactions SET state = 'dropped', reason = 'replaced', finished_at = unixepoch() WHERE id != ?1 AND state IN ('signed', 'broadcast') \
         AND (chain_id, wallet, account_nonce) = (SELECT chain_id, wallet, account_nonce FROM transactions WHERE id = ?1) RETURNING id, kind",
    )?;
    Ok(statement.query_map([mined.0], |r| Ok((TxId(r.get(0)?), r.get(1)?)))?)
}

/// Gas money of the 24 hours before `now`: what was burnt, and the most that what is on its way may burn. The slot `but`
/// is left out.
pub(super) fn gas_of_a_day(
    db: &Db<'_>,
    chain_id: u64,
    wallet: Address,
    but: Option<u64>,
    now: u64,
) -> Result<Pol, JournalError> {
    let gwei: i64 = db
        .prepare_cached(
            // Of one slot at most one lands.
            "SELECT CAST(COALESCE(SUM(gas), 0) AS BIGINT) FROM (SELECT MAX(COALESCE(gas_used, gas_most)) AS gas FROM transactions \
             WHERE chain_id = ?1 AND wallet = ?2 AND created_at > ?3 AND state != 'dropped' AND (CAST(?4 AS BIGINT) IS NULL OR account_nonce IS DISTINCT FROM ?4) GROUP BY COALESCE(account_nonce, -id)) slots",
        )?
        .query_row(params![column(chain_id)?, address(wallet), column(now.saturating_sub(86_400))?, but.map(column).transpose()?], |r| r.get(0))?;
    pol(gwei)
}

/// The most that what is on its way in this slot may burn.
fn gas_of_slot(db: &Db<'_>, chain_id: u64, wallet: Address, slot: u64) -> Result<Pol, JournalError> {
    let gwei: i64 = db
        .prepare_cached(
            "SELECT COALESCE(MAX(gas_most), 0) FROM transactions WHERE chain_id = ?1 AND wallet = ?2 AND account_nonce = ?3 \
             AND state IN ('signed', 'broadcast')",
        )?
        .query_row(params![column(chain_id)?, address(wallet), column(slot)?], |r| r.get(0))?;
    pol(gwei)
}

fn pol(gwei: i64) -> Result<Pol, JournalError> {
    u64::try_from(gwei).map(Pol::from_gwei).map_err(|_| JournalError::Corrupt(format!("gas = {gwei}")))
}

/// Whether a transaction of this channel may still land.
pub(super) fn may_land(db: &Db<'_>, intent: IntentId) -> Result<bool, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM transactions WHERE intent = ?1 AND state IN ('signed', 'broadcast'))",
    )?;
    Ok(statement.query_row([intent.0], |r| r.get(0))?)
}

/// Whether a close of this channel may still land.
pub(super) fn close_may_land(db: &Db<'_>, intent: IntentId) -> Result<bool, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM transactions WHERE intent = ?1 AND kind IN ('close', 'cooperative_close') \
         AND state IN ('signed', 'broadcast'))",
    )?;
    Ok(statement.query_row([intent.0], |r| r.get(0))?)
}

impl Journal {
    /// Records that a transaction is wanted, unless its gas would pass a limit of the operator's.
    pub async fn plan_transaction(&self, new: NewTransaction, limits: Arc<Limits>) -> Result<TxId, JournalError> {
        let who = self.who.clone();
        let planned = self.writer.run(move |db| {
            let provider = new.intent.map_or(Ok(None), |intent| audit::provider_of(db, intent))?;
            let wanted = Entry {
                provider: provider.as_deref(),
                intent: new.intent,
                amount: new.amount,
                ..Entry::refused(Kind::Transaction(new.kind))
            };
            audit::decided(db, &who, wanted, |db| {
                if is_frozen_with_wallet(new.kind) {
                    refuse_frozen_by(db, &limits, new.moment.at)?;
                }
                let now = usage::now(db, new.moment)?;
                let used = gas_of_a_day(db, new.chain_id, new.wallet, new.outbids, now)?;
                // Of what it outbids and itself one lands.
                let there = new.outbids.map(|slot| gas_of_slot(db, new.chain_id, new.wallet, slot)).transpose()?;
                let most = there.map_or(new.gas_most, |there| there.max(new.gas_most));
                may_burn(&limits, used, most, new.kind.gas_for()).map_err(JournalError::OverLimit)?;
                let id = db.prepare_cached(
                    "INSERT INTO transactions (intent, kind, chain_id, wallet, target, amount, gas_most, state, created_at, request, agent, tool) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'planned', ?8, ?9, ?10, ?11) RETURNING id",
                )?
                .query_row(params![
                    new.intent.map(|i| i.0),
                    new.kind.to_string(),
                    column(new.chain_id)?,
                    address(new.wallet),
                    address(new.target),
                    new.amount.map(Usdc::as_i64),
                    column(new.gas_most.gwei())?,
                    column(now)?,
                    who.request.map(|id| id.to_string()),
                    who.agent,
                    who.tool
                ], |r| r.get(0))?;
                Ok(TxId(id))
            })
        });
        super::decided(planned.await.flatten()).map_err(|error| self.who.told(error))
    }

    /// What the gas of a mined transaction cost. Losing this leaves the larger reservation.
    pub fn burnt_later(&self, id: TxId, gas: Pol) -> Result<(), JournalError> {
        self.writer
            .submit(When::Later, move |db| {
                db.prepare_cached("UPDATE transactions SET gas_used = ?2 WHERE id = ?1")?
                    .execute(params![id.0, column(gas.gwei())?])?;
                Ok(())
            })
            .map(drop)
    }

    /// Stores the signed bytes. Durable before the first broadcast (M7).
    pub async fn signed(&self, id: TxId, account_nonce: u64, raw: Vec<u8>, hash: B256) -> Result<(), JournalError> {
        self.writer
            .run(move |db| {
                let changed = db
                    .prepare_cached("UPDATE transactions SET state = 'signed', account_nonce = ?2, raw = ?3, hash = ?4 WHERE id = ?1 AND state = 'planned'")?
                    .execute(params![id.0, column(account_nonce)?, raw, format!("{hash:#x}")])?;
                if changed != 1 {
                    return Err(JournalError::Unknown(format!("unsigned transaction {id}")));
                }
                audit::transactions::signed(db, id)
            })
            .await
    }

    /// A node took it.
    pub fn broadcast_later(&self, id: TxId) -> Result<(), JournalError> {
        self.writer
            .submit(When::Later, move |db| {
                let sent = db
                    .prepare_cached(
                        "UPDATE transactions SET state = 'broadcast' WHERE id = ?1 AND state = 'signed' RETURNING kind",
                    )?
                    .query_map([id.0], |r| r.get::<_, String>(0))?;
                sent.iter().for_each(|kind| metrics::transaction(kind, "sent"));
                Ok(())
            })
            .map(drop)
    }

    /// Its end, with the reason of a failure.
    pub async fn finish_transaction(
        &self,
        id: TxId,
        state: TxState,
        reason: Option<String>,
    ) -> Result<(), JournalError> {
        self.writer.run(move |db| finish(db, id, state, reason.as_deref())).await
    }

    /// Transactions of a wallet whose end is not known, oldest first.
    pub async fn unfinished_transactions(&self, chain_id: u64, wallet: Address) -> Result<Vec<TxRecord>, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM transactions WHERE state IN ('planned', 'signed', 'broadcast') AND chain_id = ?1 AND wallet = ?2 ORDER BY id"
                ))?;
                let mut rows = statement.query(params![column(chain_id)?, address(wallet)])?;
                let mut records = Vec::new();
                while let Some(row) = &rows.next()? {
                    records.push(record(row)?);
                }
                Ok(records)
            })
            .await
    }

    /// How many slots of a wallet's account were used, as far as transactions of ours were seen final in them.
    pub async fn account_nonces_used(&self, chain_id: u64, wallet: Address) -> Result<u64, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT COALESCE(MAX(account_nonce) + 1, 0) AS used FROM transactions \
                     WHERE chain_id = ?1 AND wallet = ?2 AND state IN ('final', 'reverted')",
                )?;
                let mut rows = statement.query(params![column(chain_id)?, address(wallet)])?;
                rows.next()?.as_ref().map_or(Ok(0), |r| row::unsigned(r, "used"))
            })
            .await
    }

    /// What is stored for a slot of a wallet: the one that was seen mined, else the newest.
    pub async fn stored_for(
        &self,
        chain_id: u64,
        wallet: Address,
        account_nonce: u64,
    ) -> Result<Option<TxRecord>, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM transactions WHERE chain_id = ?1 AND wallet = ?2 AND account_nonce = ?3 AND raw IS NOT NULL \
                     ORDER BY state IN ('final', 'reverted') DESC, id DESC LIMIT 1"
                ))?;
                let mut rows = statement.query(params![column(chain_id)?, address(wallet), column(account_nonce)?])?;
                rows.next()?.as_ref().map(record).transpose()
            })
            .await
    }

    /// What was sent from a wallet to `target` and may still land, or landed and was seen final after `since`; newest first.
    pub async fn sends(
        &self,
        chain_id: u64,
        wallet: Address,
        kind: TxKind,
        target: Address,
        since: u64,
    ) -> Result<Vec<TxRecord>, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM transactions WHERE chain_id = ?1 AND wallet = ?2 AND kind = ?3 AND target = ?4 \
                     AND (state IN ('signed', 'broadcast') OR (state = 'final' AND finished_at >= ?5)) ORDER BY id DESC"
                ))?;
                let mut rows = statement.query(params![
                    column(chain_id)?,
                    address(wallet),
                    kind.to_string(),
                    address(target),
                    column(since)?
                ])?;
                let mut records = Vec::new();
                while let Some(row) = &rows.next()? {
                    records.push(record(row)?);
                }
                Ok(records)
            })
            .await
    }

    /// Uses a session fee that was paid for an opening that failed, if there is one (design section 6).
    pub async fn reuse_session_fee(
        &self,
        chain_id: u64,
        wallet: Address,
        fee_wallet: Address,
        intent: IntentId,
    ) -> Result<Option<TxId>, JournalError> {
        self.writer
            .run(move |db| {
                let paid: Option<i64> = db
                    .prepare_cached(
                        "SELECT t.id FROM transactions t LEFT JOIN channels c ON c.intent = COALESCE(t.used_by, t.intent) \
                         WHERE t.kind = 'session_fee' AND t.state = 'final' AND t.chain_id = ?1 AND t.wallet = ?2 AND t.target = ?3 \
                         AND (c.state = 'failed' OR c.intent = ?4) ORDER BY t.id LIMIT 1",
                    )?
                    .query_row(params![column(chain_id)?, address(wallet), address(fee_wallet), intent.0], |r| r.get(0))
                    .optional()?;
                if let Some(id) = paid {
                    db.prepare_cached("UPDATE transactions SET used_by = ?2 WHERE id = ?1")?.execute(params![id, intent.0])?;
                }
                Ok(paid.map(TxId))
            })
            .await
    }
}
