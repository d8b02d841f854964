//! Whether a request was paid for before: a caller's own name for it is recorded in the transaction that authorizes its
//! voucher, and looked at there again.

use drain_protocol::{B256, Usdc};

use super::db::{Db, Row, params};
use super::row::{column, optional_parsed, optional_usdc, unsigned, usdc};
use super::{IntentId, Journal, JournalError, PaymentId, Receipt, ReceiptId, row};
use crate::policy::repeat::RequestKey;

/// The last voucher or payment of a request, in the words of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The voucher or the payment.
    pub receipt: ReceiptId,
    /// Beside the receipt, what its answer is kept under: the channel's id on chain, or the transfer's nonce.
    pub place: Option<String>,
    /// SHA-256 of what it asked.
    pub body: B256,
    /// The most that it can cost.
    pub bound: Usdc,
    /// What became of it.
    pub end: End,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not known.
    InFlight,
    /// Nothing was charged: it was refused, or never left.
    NotCharged,
    /// Booked.
    Settled {
        /// At so much.
        charged: Usdc,
        /// SHA-256 of the answer, where one came.
        answer: Option<B256>,
    },
}

impl Journal {
    /// The last voucher that this agent's request of that name led to, while the name counts.
    pub async fn earlier(&self, agent: String, key: RequestKey, at: u64) -> Result<Option<Earlier>, JournalError> {
        self.writer.run(move |db| last(db, &agent, &key, at)).await
    }
}

fn last(db: &Db<'_>, agent: &str, key: &RequestKey, at: u64) -> Result<Option<Earlier>, JournalError> {
    let since = column(at.saturating_sub(key.valid))?;
    let (voucher, payment) = (of_vouchers(db, agent, key, since)?, of_payments(db, agent, key, since)?);
    let own = match (voucher, payment) {
        (Some(voucher), Some(payment)) => Some(if voucher.2 > payment.2 { voucher } else { payment }),
        (one, other) => one.or(other),
    };
    let own = own.map(|(own, when, _)| (own, when));
    let carried = carried(db, agent, key, since)?;
    Ok(match (own, carried) {
        // What came after it is the later word on it; the same second may be the same voucher.
        (Some((own, when)), Some((_, before))) if when > before => Some(own),
        (Some((own, when)), Some((_, before))) if when == before && own.end != End::NotCharged => Some(own),
        (_, Some((carried, _))) => Some(carried),
        (own, None) => own.map(|(own, _)| own),
    })
}

/// When it was authorized, and by which row of the audit record.
type Placed = (Earlier, u64, i64);

/// The last of our own vouchers for it.
fn of_vouchers(db: &Db<'_>, agent: &str, key: &RequestKey, since: i64) -> Result<Option<Placed>, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT v.intent, v.nonce, v.state, v.bound, v.cost, v.request_body, v.answer_hash, v.created_at, v.audit, c.channel_id \
         FROM vouchers v INDEXED BY vouchers_by_key JOIN channels c USING (intent) \
         WHERE v.agent = ?1 AND v.request_key = ?2 AND v.created_at >= ?3 ORDER BY v.audit DESC LIMIT 1",
    )?;
    let mut rows = statement.query(params![agent, key.id.as_str(), since])?;
    let Some(r) = &rows.next()? else { return Ok(None) };
    Ok(Some((earlier(r, end(r)?)?, unsigned(r, "created_at")?, r.get("audit")?)))
}

/// The last of our own payments without a channel for it.
fn of_payments(db: &Db<'_>, agent: &str, key: &RequestKey, since: i64) -> Result<Option<Placed>, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT id, state, transfer_nonce, amount AS bound, cost, request_body, answer_hash, created_at, audit FROM payments \
         WHERE agent = ?1 AND request_key = ?2 AND created_at >= ?3 ORDER BY audit DESC LIMIT 1",
    )?;
    let mut rows = statement.query(params![agent, key.id.as_str(), since])?;
    let Some(r) = &rows.next()? else { return Ok(None) };
    let payment = Earlier {
        receipt: ReceiptId::Payment(PaymentId(r.get("id")?)),
        place: r.get("transfer_nonce")?,
        body: row::parsed(r, "request_body")?,
        bound: usdc(r, "bound")?,
        end: end(r)?,
    };
    Ok(Some((payment, unsigned(r, "created_at")?, r.get("audit")?)))
}

fn end(r: &Row<'_>) -> Result<End, JournalError> {
    Ok(match r.get::<_, String>("state")?.as_str() {
        "in_flight" => End::InFlight,
        "not_charged" => End::NotCharged,
        "settled" => End::Settled {
            charged: optional_usdc(r, "cost")?.unwrap_or(Usdc::ZERO),
            answer: optional_parsed(r, "answer_hash")?,
        },
        other => return Err(JournalError::Corrupt(format!("state = {other} of a request with a name"))),
    })
}

/// Of a journal that a copy took the place of; what became of it is not known here.
fn carried(db: &Db<'_>, agent: &str, key: &RequestKey, since: i64) -> Result<Option<(Earlier, u64)>, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT intent, nonce, channel_id, bound, request_body, created_at FROM carried_requests \
         WHERE agent = ?1 AND request_key = ?2 AND created_at >= ?3",
    )?;
    let mut rows = statement.query(params![agent, key.id.as_str(), since])?;
    let Some(r) = &rows.next()? else { return Ok(None) };
    Ok(Some((earlier(r, End::InFlight)?, unsigned(r, "created_at")?)))
}

fn earlier(r: &Row<'_>, end: End) -> Result<Earlier, JournalError> {
    let (intent, nonce) = (r.get("intent")?, row::nonce(r, "nonce")?);
    let receipt = match intent {
        // Carried payments have no channel: their number is in the place of the voucher's.
        0 => ReceiptId::Payment(PaymentId(nonce.as_i64())),
        intent => ReceiptId::Voucher(Receipt { intent: IntentId(intent), nonce }),
    };
    Ok(Earlier {
        receipt,
        place: r.get("channel_id")?,
        body: row::parsed(r, "request_body")?,
        bound: usdc(r, "bound")?,
        end,
    })
}

/// Inside of the transaction that authorizes: no second voucher for a request that was or may be charged.
pub(super) fn refuse(db: &Db<'_>, agent: &str, key: &RequestKey, at: u64) -> Result<(), JournalError> {
    match last(db, agent, key, at)? {
        Some(earlier) if earlier.body != key.body => Err(JournalError::OtherRequest(earlier.receipt)),
        Some(earlier) if earlier.end != End::NotCharged => Err(JournalError::Repeated(earlier.receipt)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use drain_protocol::Usdc;

    use super::super::usage_tests::{Bench, at};
    use super::super::{Outcome, VoucherIntent, backup, schema};
    use super::*;
    use crate::clock::Moment;
    use crate::policy::repeat::sha256;

    const VALID: u64 = 1_000;

    fn key(body: &str) -> RequestKey {
        RequestKey { id: "one".parse().unwrap(), body: sha256(body), valid: VALID }
    }

    fn named(bench: &Bench, intent: IntentId, agent: &str, body: &str, when: Moment) -> VoucherIntent {
        VoucherIntent { key: Some(key(body)), ..bench.request(intent, 10, agent, when) }
    }

    /// In the transaction that authorizes, whatever the code above it does.
    #[tokio::test]
    async fn m1_a_request_with_a_name_is_authorized_once() {
        let mut bench = Bench::new(|_| {});
        let (first, second) = (bench.open(1, 1_000, at(0)).await, bench.open(2, 1_000, at(0)).await);
        let refused = bench.journal.authorize(named(&bench, first, "ann", "a", at(1))).await.unwrap().receipt();
        let note = || Outcome::Refused { note: "busy".into() };
        bench.journal.settle_later(refused, note(), at(1).at).unwrap();
        // Not charged: it may be tried again, also at another provider, but not as another request.
        let other = bench.journal.authorize(named(&bench, first, "ann", "b", at(2))).await;
        assert!(matches!(other, Err(JournalError::OtherRequest(of)) if of == refused.into()), "{other:?}");
        let paid = bench.journal.authorize(named(&bench, second, "ann", "a", at(2))).await.unwrap().receipt();
        for intent in [first, second] {
            let again = bench.journal.authorize(named(&bench, intent, "ann", "a", at(3))).await;
            assert!(matches!(again, Err(JournalError::Repeated(of)) if of == paid.into()), "{again:?}");
        }
        bench.journal.authorize(named(&bench, second, "bob", "b", at(3))).await.unwrap();
        let hash = sha256("the answer");
        let (charged, disputed) = (Usdc::new(7), Usdc::ZERO);
        let outcome = Outcome::Settled { answered: true, charged, disputed, answer: Some(hash) };
        bench.journal.settle_later(paid, outcome, at(3).at).unwrap();
        bench.restart();
        let known = bench.journal.earlier("ann".into(), key("a"), at(4).at).await.unwrap().unwrap();
        assert_eq!((known.receipt, known.end), (paid.into(), End::Settled { charged, answer: Some(hash) }));
        // The name has its time, to the second.
        let last = at(2 + VALID);
        assert!(bench.journal.authorize(named(&bench, second, "ann", "b", last)).await.is_err());
        bench.journal.authorize(named(&bench, second, "ann", "b", at(3 + VALID))).await.unwrap();
    }

    /// A copy that is put back takes no name back that was used since it was made.
    #[tokio::test]
    async fn a_copy_brings_its_names_along_and_takes_none_back() {
        let mut bench = Bench::new(|_| {});
        let intent = bench.open(1, 1_000, at(0)).await;
        bench.journal.authorize(named(&bench, intent, "ann", "a", at(1))).await.unwrap();
        let out = tempfile::tempdir().unwrap();
        let (copy, wallet) = (out.path().join("copy"), drain_protocol::Address::repeat_byte(1));
        backup::export(bench.folder(), &copy, 137, wallet).unwrap();
        let since = bench.journal.authorize(named(&bench, intent, "bob", "b", at(2))).await.unwrap();
        bench.stop();
        backup::import(bench.folder(), &copy, true, 137, wallet).unwrap();
        bench.restart();
        let of = |agent: &str, body: &str| bench.journal.earlier(agent.into(), key(body), at(3).at);
        assert_eq!(of("ann", "a").await.unwrap().unwrap().end, End::InFlight);
        let carried = of("bob", "b").await.unwrap().unwrap();
        assert_eq!((carried.receipt, carried.body), (since.receipt().into(), sha256("b")));
        assert!(carried.place.is_some() && schema::KNOWN >= schema::NAMED);
    }
}
