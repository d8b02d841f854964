//! Whom a host is paid to: the first one is pinned, and another one waits for a person (M14), on another chain too. A pin to
//! nobody is a person's word: the next payee there is accepted, for a day.

use drain_protocol::tempo;

use super::super::audit::{self, Entry, Kind};
use super::super::db::{Db, Optional, params};
use super::super::row::{address, column};
use super::super::{Journal, JournalError, PaymentId, records};
use super::{Payee, key_of};

/// For how many seconds a person's word is open.
const OPEN: i64 = 24 * 60 * 60;

/// What stands against a payee by whom its host was paid to before.
pub(super) fn check(db: &Db<'_>, payee: &Payee, now: u64) -> Result<(), JournalError> {
    check_place(db, payee)?;
    let (wallet, chain_id, now) = (address(payee.wallet), column(payee.chain_id)?, column(now)?);
    let pinned: Option<(String, i64)> = db
        .prepare_cached("SELECT payee, pinned_at FROM payee_pins WHERE host = ?1 AND chain_id = ?2")?
        .query_row(params![payee.host, chain_id], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let before = match pinned {
        Some((before, _)) if before == wallet => None,
        Some((open, at)) if open.is_empty() && now.saturating_sub(at) <= OPEN => None,
        Some((before, _)) if !before.is_empty() => Some(before),
        _ => db
            .prepare_cached("SELECT payee FROM payee_pins WHERE host = ?1 AND payee <> ?2 AND payee <> '' LIMIT 1")?
            .query_row(params![payee.host, wallet], |r| r.get(0))
            .optional()?,
    };
    let host = payee.host.clone();
    before.map_or(Ok(()), |before| Err(JournalError::PayeeChanged { host, before, now: wallet }))
}

/// Whom the host is paid to from now on, in the transaction that authorizes, after [`check`].
pub(super) fn pin(db: &Db<'_>, payee: &Payee, now: u64) -> Result<(), JournalError> {
    db.prepare_cached(
        "INSERT INTO payee_pins (host, chain_id, payee, pinned_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (host, chain_id) DO UPDATE SET payee = excluded.payee, pinned_at = excluded.pinned_at \
         WHERE payee_pins.payee <> excluded.payee",
    )?
    .execute(params![payee.host, column(payee.chain_id)?, address(payee.wallet), column(now)?])?;
    Ok(())
}

/// A listing that was paid at one host and is at another now is another one, whatever its id says.
fn check_place(db: &Db<'_>, payee: &Payee) -> Result<(), JournalError> {
    if payee.provider_id == payee.host {
        return Ok(());
    }
    let before: Option<String> = db
        .prepare_cached(
            "SELECT p.host FROM payments p WHERE p.provider_id = ?1 AND p.host <> ?2 \
             AND EXISTS (SELECT 1 FROM payee_pins k WHERE k.host = p.host AND k.payee <> '') \
             AND NOT EXISTS (SELECT 1 FROM payments h WHERE h.provider_id = ?1 AND h.host = ?2) ORDER BY p.id DESC LIMIT 1",
        )?
        .query_row(params![payee.provider_id, payee.host], |r| r.get(0))
        .optional()?;
    let (host, now) = (payee.provider_id.clone(), payee.host.clone());
    before.map_or(Ok(()), |before| Err(JournalError::PayeeChanged { host, before, now }))
}

/// What was never paid pins nobody.
pub(super) fn forget_unpaid(db: &Db<'_>, id: PaymentId) -> Result<(), JournalError> {
    db.prepare_cached(
        "DELETE FROM payee_pins WHERE host = (SELECT host FROM payments WHERE id = ?1) AND payee <> '' AND NOT EXISTS \
         (SELECT 1 FROM payments p WHERE p.host = payee_pins.host AND p.payee = payee_pins.payee AND p.state <> 'not_charged')",
    )?
    .execute([id.0])?;
    Ok(())
}

impl Journal {
    /// A person accepts whom a host asks to pay now, and that it is paid again where it was set aside. It is named by itself
    /// or by its listing's id. The wallet's own chain is `chain_id`: whom it asks to pay there and over Tempo may differ. False
    /// where there was nothing to accept.
    pub async fn trust_payee(&self, name: String, chain_id: u64, at: u64) -> Result<bool, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let pinned: Vec<(String, String)> = db
                    .prepare_cached(
                        "SELECT host, payee FROM payee_pins WHERE payee <> '' \
                         AND (host = ?1 OR host IN (SELECT host FROM payments WHERE provider_id = ?1))",
                    )?
                    .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?;
                for (host, payee) in &pinned {
                    records::forgive(db, &key_of(payee, host))?;
                    db.prepare_cached("UPDATE payee_pins SET payee = '', pinned_at = ?2 WHERE host = ?1")?
                        .execute(params![host, column(at)?])?;
                    for chain_id in [chain_id, tempo::MAINNET, tempo::TESTNET] {
                        db.prepare_cached(
                            "INSERT INTO payee_pins (host, chain_id, payee, pinned_at) VALUES (?1, ?2, '', ?3) ON CONFLICT DO NOTHING",
                        )?
                        .execute(params![host, column(chain_id)?, column(at)?])?;
                    }
                    let entry =
                        Entry { rule: Some("person".into()), provider: Some(host), ..Entry::allowed(Kind::Trust) };
                    audit::write(db, &who, &entry.told("whom it asks to pay now"))?;
                }
                Ok(!pinned.is_empty())
            })
            .await
    }
}
