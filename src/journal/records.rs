//! What each provider did with our vouchers, counted in the transactions that book it: no path forgets it.

use std::collections::HashMap;

use super::audit::{self, Entry, Kind, Who};
use super::db::{Db, Optional, Row, params};
use super::row::{self, column};
use super::writer::When;
use super::{IntentId, Journal, JournalError, Receipt, channel};
use crate::policy::score::{Event, ProviderRecord};

/// What a record holds.
const COLUMNS: &str = "answered, failed, refused, offences, forgiven, recent, charged, disputed, first_at, last_at, set_aside, set_aside_at";

/// The record of a provider, by wallet and host (see [`super::ChannelRecord::provider_key`]); an empty one where there
/// is none.
pub(super) fn load(db: &Db<'_>, provider: &str) -> Result<ProviderRecord, JournalError> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM provider_records WHERE provider = ?1"))?;
    let mut rows = statement.query([provider])?;
    rows.next()?.as_ref().map_or_else(|| Ok(ProviderRecord::default()), read)
}

fn read(r: &Row<'_>) -> Result<ProviderRecord, JournalError> {
    Ok(ProviderRecord {
        answered: row::unsigned(r, "answered")?,
        failed: row::unsigned(r, "failed")?,
        refused: row::unsigned(r, "refused")?,
        offences: row::unsigned(r, "offences")?,
        forgiven: row::unsigned(r, "forgiven")?,
        recent: r.get("recent")?,
        charged: row::usdc(r, "charged")?,
        disputed: row::usdc(r, "disputed")?,
        first_at: row::unsigned(r, "first_at")?,
        last_at: row::unsigned(r, "last_at")?,
        set_aside: r.get("set_aside")?,
        set_aside_at: r.get::<_, Option<i64>>("set_aside_at")?.map(|at| u64::try_from(at).unwrap_or_default()),
    })
}

fn save(db: &Db<'_>, provider: &str, record: &ProviderRecord) -> Result<(), JournalError> {
    db.prepare_cached(
        "INSERT INTO provider_records (provider, answered, failed, refused, offences, forgiven, recent, charged, disputed, \
         first_at, last_at, set_aside, set_aside_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
         ON CONFLICT (provider) DO UPDATE SET answered = excluded.answered, failed = excluded.failed, refused = excluded.refused, offences = excluded.offences, forgiven = excluded.forgiven, recent = excluded.recent, charged = excluded.charged, \
         disputed = excluded.disputed, first_at = excluded.first_at, last_at = excluded.last_at, set_aside = excluded.set_aside, set_aside_at = excluded.set_aside_at",
    )?
    .execute(params![
        provider,
        column(record.answered)?,
        column(record.failed)?,
        column(record.refused)?,
        column(record.offences)?,
        column(record.forgiven)?,
        record.recent,
        record.charged.as_i64(),
        record.disputed.as_i64(),
        column(record.first_at)?,
        column(record.last_at)?,
        record.set_aside,
        record.set_aside_at.map(column).transpose()?,
    ])?;
    Ok(())
}

/// Counts what the provider of a channel did.
pub(super) fn count(db: &Db<'_>, intent: IntentId, events: &[Event], at: u64) -> Result<(), JournalError> {
    count_of(db, &channel::provider_key_of(db, intent)?, events, at)
}

/// Counts what a provider did, by wallet and host.
pub(super) fn count_of(db: &Db<'_>, provider: &str, events: &[Event], at: u64) -> Result<(), JournalError> {
    let mut record = load(db, provider)?;
    let was_aside = record.set_aside.is_some();
    for event in events {
        record.take(*event, at);
    }
    if let Some(reason) = record.set_aside.as_ref().filter(|_| !was_aside) {
        tracing::warn!(provider, reason, "a provider is set aside");
    }
    save(db, provider, &record)
}

/// Trusts a provider again, by wallet and host. True if it was set aside.
pub(super) fn forgive(db: &Db<'_>, provider: &str) -> Result<bool, JournalError> {
    let known: Option<i64> = db
        .prepare_cached("SELECT 1 FROM provider_records WHERE provider = ?1")?
        .query_row([provider], |r| r.get(0))
        .optional()?;
    if known.is_none() {
        return Ok(false);
    }
    let mut record = load(db, provider)?;
    let lifted = record.forgive();
    save(db, provider, &record)?;
    Ok(lifted)
}

/// A provider that is set aside is neither opened nor paid.
pub(super) fn check(record: &ProviderRecord, provider_id: &str) -> Result<(), JournalError> {
    match &record.set_aside {
        None => Ok(()),
        Some(reason) => Err(JournalError::SetAside { provider_id: provider_id.into(), reason: reason.clone() }),
    }
}

fn offended(db: &Db<'_>, who: &Who, intent: IntentId, what: &str) -> Result<(), JournalError> {
    let provider = audit::provider_of(db, intent)?;
    let entry = Entry { provider: provider.as_deref(), intent: Some(intent), ..Entry::recorded(Kind::Offence) };
    audit::write(db, who, &entry.told(what)).map(drop)
}

impl Journal {
    /// Every record there is, by wallet and host: of providers that were paid, and so never many.
    pub async fn provider_records(&self) -> Result<HashMap<String, ProviderRecord>, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(&format!("SELECT provider, {COLUMNS} FROM provider_records"))?;
                let mut rows = statement.query(params![])?;
                let mut records = HashMap::new();
                while let Some(row) = &rows.next()? {
                    records.insert(row.get("provider")?, read(row)?);
                }
                Ok(records)
            })
            .await
    }

    /// Fails where a provider is set aside: asked before it is contacted.
    pub async fn check_set_aside(&self, provider: String, provider_id: String) -> Result<(), JournalError> {
        let checked = self.writer.run(move |db| check(&load(db, &provider)?, &provider_id)).await;
        checked.map_err(|error| self.who.told(error))
    }

    /// Counts that a provider took a voucher and gave no usable answer; once a voucher. The voucher stays in flight.
    /// Rides in the next commit.
    pub fn failed_later(&self, receipt: Receipt, at: u64) -> Result<(), JournalError> {
        let who = self.who.clone();
        self.writer
            .submit(When::Later, move |db| {
                let changed = db
                    .prepare_cached(
                        "UPDATE vouchers SET failed = 1 WHERE intent = ?1 AND nonce = ?2 AND failed = 0 AND state = 'in_flight'",
                    )?
                    .execute(params![receipt.intent.0, receipt.nonce.as_i64()])?;
                if changed == 0 {
                    return Ok(());
                }
                let (provider, decided) =
                    (audit::provider_of(db, receipt.intent)?, audit::of_voucher(db, receipt)?);
                let entry = Entry {
                    provider: provider.as_deref(),
                    intent: Some(receipt.intent),
                    nonce: Some(receipt.nonce),
                    decided,
                    ..Entry::recorded(Kind::Unknown)
                };
                audit::write(db, &who, &entry.told("no usable answer; the bound stays reserved"))?;
                count(db, receipt.intent, &[Event::Failed], at)
            })
            .map(drop)
    }

    /// Counts an offence of the provider: it insisted on more than anything explains. Its channel pays no more.
    pub async fn offence(&self, intent: IntentId, at: u64) -> Result<(), JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                db.prepare_cached("UPDATE channels SET offences = offences + 1 WHERE intent = ?1")?
                    .execute([intent.0])?;
                offended(db, &who, intent, "more is claimed than price, usage and bounds explain")?;
                count(db, intent, &[Event::Offence], at)
            })
            .await
    }

    /// Counts a close answer that breaks a rule (M6): more than was signed, or a signature that is not the provider's.
    /// Once a channel, however often it is asked.
    pub async fn bad_close(&self, intent: IntentId, at: u64) -> Result<(), JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let changed = db
                    .prepare_cached("UPDATE channels SET bad_close = 1 WHERE intent = ?1 AND bad_close = 0")?
                    .execute([intent.0])?;
                if changed == 0 {
                    return Ok(());
                }
                offended(db, &who, intent, "its consent to a close breaks a rule")?;
                count(db, intent, &[Event::Offence], at)
            })
            .await
    }

    /// A person trusts a provider again, as it is pinned and as its channels know it. True if it was set aside.
    pub async fn forgive_provider(&self, provider_id: String) -> Result<bool, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT wallet, api_url FROM provider_pins WHERE provider_id = ?1 \
                     UNION SELECT provider_wallet, api_url FROM channels WHERE provider_id = ?1",
                )?;
                let seen = statement.query_map([&provider_id], |r| Ok((r.get(0)?, r.get(1)?)))?;
                let mut lifted = false;
                for provider in seen {
                    let (wallet, api_url): (String, String) = provider;
                    let key = channel::provider_key(&wallet, &api_url);
                    lifted |= forgive(db, &key)?;
                }
                if lifted {
                    let entry = Entry {
                        rule: Some("person".into()),
                        provider: Some(&provider_id),
                        ..Entry::allowed(Kind::Trust)
                    };
                    audit::write(db, &who, &entry.told("a provider that was set aside is paid again"))?;
                }
                Ok(lifted)
            })
            .await
    }
}
