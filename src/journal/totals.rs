//! What a wallet's journal adds up to, for who watches it. Read beside the writer: a look holds up no voucher.

use std::collections::BTreeMap;
use std::sync::Arc;

use drain_protocol::{Address, Usdc};

use super::db::{Db, params};
use super::row::{self, address, column};
use super::view::View;
use super::{Journal, JournalError, channel, channels, usage};
use crate::clock::Moment;
use crate::metrics::state::{Books, Cap, Sums};
use crate::policy::Limits;

/// A view on a journal.
#[derive(Clone)]
pub struct Totals(Arc<View>);

/// What is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The chain.
    pub chain_id: u64,
    /// The account that pays.
    pub wallet: Address,
    /// The operator's limits.
    pub limits: Arc<Limits>,
    /// Limits of agents that have their own.
    pub agents: BTreeMap<String, Usdc>,
    /// Now.
    pub moment: Moment,
    /// Now, by the chain.
    pub block_time: u64,
}

impl Journal {
    /// To look at its sums from time to time.
    pub fn totals(&self) -> Totals {
        Totals(self.view.clone())
    }
}

impl Totals {
    /// The sums of now. Blocks for some milliseconds.
    pub fn read(&self, asked: &Asked) -> Result<Books, JournalError> {
        self.0.read(|db| books(db, asked))
    }
}

fn books(db: &Db<'_>, asked: &Asked) -> Result<Books, JournalError> {
    let usage = usage::windows(db, asked.moment)?;
    let mut caps = everybodys(db, asked, &usage)?;
    caps.extend(each("provider", &usage.providers, |_| asked.limits.per_provider));
    let mut agents = usage.agents.clone();
    for name in asked.agents.keys() {
        agents.entry(name.clone()).or_default();
    }
    let limit =
        |name: &str| asked.agents.get(name).map_or(asked.limits.per_agent, |own| asked.limits.per_agent.min(*own));
    caps.extend(each("agent", &agents, limit));
    let now = asked.moment.at;
    Ok(Books {
        channels: by_state(db, asked.block_time)?,
        sums: by_provider(db)?,
        caps,
        next_expiry: optional(
            db,
            "SELECT MIN(expires_at) FROM channels WHERE state IN ('open', 'closing') AND expires_at > ?1",
            asked.block_time,
        )?,
        reclaimable: reclaimable(db, asked.block_time)?,
        approvals: optional(db, "SELECT COUNT(*) FROM approvals WHERE state = 'waiting' AND expires_at > ?1", now)?
            .unwrap_or_default(),
        oldest_transaction: optional(
            db,
            "SELECT MAX(?1 - MIN(created_at), 0) FROM transactions INDEXED BY transactions_unfinished \
             WHERE state IN ('planned', 'signed', 'broadcast') HAVING COUNT(*) > 0",
            now,
        )?,
    })
}

fn everybodys(db: &Db<'_>, asked: &Asked, usage: &usage::Windows) -> Result<Vec<Cap>, JournalError> {
    let limits = &asked.limits;
    let cap = |scope: &str, limit, used: usage::Used| Cap {
        scope: scope.into(),
        name: "all".into(),
        limit,
        used: used.signed,
        reserved: used.in_flight,
    };
    let locked = channels::locked(db, asked.chain_id, asked.wallet, 0)?.deposits;
    let opening = db
        .prepare_cached("SELECT CAST(COALESCE(SUM(deposit), 0) AS BIGINT) AS opening FROM channels WHERE state = 'opening' AND chain_id = ?1 AND consumer = ?2")?
        .query_row(params![column(asked.chain_id)?, address(asked.wallet)], |r| Ok(row::usdc(r, "opening")))??;
    Ok(vec![
        cap("hour", limits.per_hour, usage.hour),
        cap("day", limits.per_day, usage.day),
        cap("newcomers", limits.newcomers, usage.newcomers),
        cap("locked", limits.locked, usage::Used { signed: locked, in_flight: opening }),
    ])
}

/// The most used first.
fn each(scope: &str, used: &BTreeMap<String, usage::Used>, limit: impl Fn(&str) -> Usdc) -> Vec<Cap> {
    let cap = |(name, used): (&String, &usage::Used)| Cap {
        scope: scope.into(),
        name: name.clone(),
        limit: limit(name),
        used: used.signed,
        reserved: used.in_flight,
    };
    let mut caps: Vec<Cap> = used.iter().map(cap).collect();
    caps.sort_by_key(|cap| std::cmp::Reverse(cap.used));
    caps
}

fn by_state(db: &Db<'_>, block_time: u64) -> Result<Vec<(&'static str, u64)>, JournalError> {
    let mut counts: Vec<(&'static str, u64)> =
        ["opening", "open", "expired", "closing", "closed", "failed"].map(|state| (state, 0)).into();
    let mut statement = db.prepare_cached(
        "SELECT CASE WHEN state = 'open' AND expires_at <= ?1 THEN 'expired' ELSE state END AS shown, COUNT(*) AS channels \
         FROM channels GROUP BY shown",
    )?;
    let mut rows = statement.query([column(block_time)?])?;
    while let Some(r) = &rows.next()? {
        let shown: String = r.get("shown")?;
        let count = row::unsigned(r, "channels")?;
        counts.iter_mut().filter(|(state, _)| *state == shown).for_each(|(_, known)| *known = count);
    }
    Ok(counts)
}

fn by_provider(db: &Db<'_>) -> Result<Vec<Sums>, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT provider_wallet, api_url, CAST(SUM(deposit) AS BIGINT) AS deposits, CAST(SUM(signed) AS BIGINT) AS signed, CAST(SUM(charged) AS BIGINT) AS charged, CAST(SUM(claimed) AS BIGINT) AS claimed \
         FROM channels WHERE state IN ('opening', 'open', 'closing') AND taken_in_the_end IS NULL GROUP BY provider_wallet, api_url",
    )?;
    let mut rows = statement.query(params![])?;
    let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
    while let Some(r) = &rows.next()? {
        let (wallet, api_url): (String, String) = (r.get("provider_wallet")?, r.get("api_url")?);
        let provider = channel::provider_key(&wallet, &api_url);
        let entry = sums.entry(provider.clone()).or_insert_with(|| Sums { provider, ..Sums::default() });
        entry.deposit = entry.deposit.saturating_add(row::usdc(r, "deposits")?);
        entry.signed = entry.signed.saturating_add(row::usdc(r, "signed")?);
        entry.charged = entry.charged.saturating_add(row::usdc(r, "charged")?);
        entry.claimed = entry.claimed.saturating_add(row::usdc(r, "claimed")?);
    }
    let mut sums: Vec<Sums> = sums.into_values().collect();
    sums.sort_by_key(|sums| std::cmp::Reverse(sums.deposit));
    Ok(sums)
}

/// A close at expiry brings back what was not taken.
fn reclaimable(db: &Db<'_>, block_time: u64) -> Result<Usdc, JournalError> {
    db.prepare_cached(
        "SELECT CAST(COALESCE(SUM(MAX(deposit - claimed, 0)), 0) AS BIGINT) AS back FROM channels \
         WHERE state IN ('open', 'closing') AND expires_at <= ?1 AND taken_in_the_end IS NULL",
    )?
    .query_row([column(block_time)?], |r| Ok(row::usdc(r, "back")))?
}

fn optional(db: &Db<'_>, sql: &str, at: u64) -> Result<Option<u64>, JournalError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([column(at)?])?;
    let found: Option<i64> = rows.next()?.as_ref().map(|r| r.get(0)).transpose()?.flatten();
    Ok(found.and_then(|value| u64::try_from(value).ok()))
}
