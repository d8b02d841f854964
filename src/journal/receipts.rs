//! The receipts: what each paid request cost and what came of it, read beside the writer.

use drain_protocol::Usdc;
use drain_protocol::text::one_line;

use super::db::{Db, Row, params};
use super::row::{column, nonce, optional_usdc, unsigned, usdc};
use super::{IntentId, Journal, JournalError, PaymentId, Receipt, ReceiptId};
use crate::api::{ReceiptQuery, ReceiptView};
use crate::times::rfc3339;

/// One query for the list and for one receipt: vouchers, and payments without a channel in the place of the first voucher
/// of an opening that never is, number 0. `?1` is the member whose receipts are seen, or none for all.
const SELECT: &str = "SELECT * FROM ( \
     SELECT v.intent, v.nonce, 'drain' AS protocol, v.amount, v.bound, v.model, v.state, v.cost, v.disputed, v.note, v.created_at, \
     v.settled_at, v.agent, v.request_key, v.answer_hash, c.channel_id, c.provider_id, CAST(NULL AS TEXT) AS payee, CAST(NULL AS TEXT) AS tx_hash, \
     CAST(NULL AS TEXT) AS host, CAST(NULL AS TEXT) AS transfer_nonce, CAST(NULL AS BIGINT) AS chain_id \
     FROM vouchers v JOIN channels c USING (intent) WHERE v.state != 'probe' \
     UNION ALL SELECT 0, id, protocol, amount, amount, what, state, cost, 0, note, created_at, settled_at, agent, request_key, answer_hash, \
     NULL, provider_id, payee, tx_hash, host, transfer_nonce, chain_id FROM payments) r WHERE (CAST(?1 AS TEXT) IS NULL OR agent = ?1)";

impl Journal {
    /// Receipts that this agent of a fleet sees, or all, newest first.
    pub async fn receipts(
        &self,
        query: ReceiptQuery,
        member: Option<String>,
    ) -> Result<Vec<ReceiptView>, JournalError> {
        self.beside(move |db| list(db, &query, member.as_deref())).await
    }

    /// One receipt, where it is seen.
    pub async fn receipt(&self, id: ReceiptId, member: Option<String>) -> Result<Option<ReceiptView>, JournalError> {
        self.beside(move |db| one(db, id, member.as_deref())).await
    }

    /// Reads beside the writer, once all that was asked before is committed: however long it takes, no voucher waits for it.
    pub(super) async fn beside<T: Send + 'static>(
        &self,
        read: impl Fn(&Db<'_>) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.writer.run(|_| Ok(())).await?;
        let (view, name) = (self.view.clone(), self.writer.location().name());
        let done = tokio::task::spawn_blocking(move || view.read(read).map_err(|error| error.at(&name))).await;
        done.map_err(|_| JournalError::Unavailable("not readable"))?
    }
}

fn list(db: &Db<'_>, query: &ReceiptQuery, member: Option<&str>) -> Result<Vec<ReceiptView>, JournalError> {
    let sql = format!(
        "{SELECT} AND created_at >= ?2 AND (CAST(?3 AS TEXT) IS NULL OR channel_id = ?3) AND (CAST(?4 AS TEXT) IS NULL OR provider_id = ?4) \
         AND (CAST(?5 AS BIGINT) IS NULL OR (created_at, intent, nonce) < \
              (SELECT b.created_at, b.intent, b.nonce FROM vouchers b WHERE b.intent = ?5 AND b.nonce = ?6 \
               UNION ALL SELECT p.created_at, 0, p.id FROM payments p WHERE ?5 = 0 AND p.id = ?6)) \
         ORDER BY created_at DESC, intent DESC, nonce DESC LIMIT ?7"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let before = query.before.as_deref().and_then(|id| id.parse().ok()).map(place);
    let mut rows = statement.query(params![
        member,
        column(query.since)?,
        query.channel.map(|id| id.to_string()),
        query.provider,
        before.map(|(intent, _)| intent),
        before.map(|(_, nonce)| nonce),
        query.limit
    ])?;
    let mut found = Vec::new();
    while let Some(r) = &rows.next()? {
        found.push(view(r)?);
    }
    Ok(found)
}

/// Where a receipt stands in [`SELECT`].
fn place(id: ReceiptId) -> (i64, i64) {
    match id {
        ReceiptId::Voucher(receipt) => (receipt.intent.0, receipt.nonce.as_i64()),
        ReceiptId::Payment(payment) => (0, payment.0),
    }
}

fn one(db: &Db<'_>, id: ReceiptId, member: Option<&str>) -> Result<Option<ReceiptView>, JournalError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} AND intent = ?2 AND nonce = ?3"))?;
    let (intent, nonce) = place(id);
    let mut rows = statement.query(params![member, intent, nonce])?;
    rows.next()?.as_ref().map(view).transpose()
}

fn view(r: &Row<'_>) -> Result<ReceiptView, JournalError> {
    let (intent, nonce) = (r.get("intent")?, nonce(r, "nonce")?);
    let receipt = match intent {
        0 => ReceiptId::Payment(PaymentId(nonce.as_i64())),
        intent => ReceiptId::Voucher(Receipt { intent: IntentId(intent), nonce }),
    };
    let answer: Option<String> = r.get("answer_hash")?;
    let state: String = r.get("state")?;
    let outcome = match state.as_str() {
        "settled" | "in_flight" if answer.is_some() => "answered",
        "settled" => "charged",
        "in_flight" => "unknown",
        other => other,
    };
    let settled: Option<i64> = r.get("settled_at")?;
    Ok(ReceiptView {
        receipt: receipt.to_string(),
        at: rfc3339(unsigned(r, "created_at")?),
        settled_at: settled.map(|_| unsigned(r, "settled_at").map(rfc3339)).transpose()?,
        outcome: outcome.to_owned(),
        agent: r.get("agent")?,
        provider: clean(r.get("provider_id")?),
        protocol: r.get("protocol")?,
        payee: r.get("payee")?,
        host: r.get("host")?,
        transfer_nonce: r.get("transfer_nonce")?,
        chain_id: r.get::<_, Option<i64>>("chain_id")?.and_then(|id| u64::try_from(id).ok()),
        transaction: r.get("tx_hash")?,
        channel: r.get("channel_id")?,
        model: clean(r.get("model")?),
        bound: usdc(r, "bound")?,
        charged: optional_usdc(r, "cost")?,
        disputed: optional_usdc(r, "disputed")?.unwrap_or(Usdc::ZERO),
        voucher_amount: usdc(r, "amount")?,
        nonce: nonce.get(),
        request_id: r.get("request_key")?,
        answer_sha256: answer.map(|hash| hash.trim_start_matches("0x").to_owned()),
        note: r.get::<_, Option<String>>("note")?.map(clean),
    })
}

/// Text of others (M13).
fn clean(text: String) -> String {
    one_line(&text, 300)
}
