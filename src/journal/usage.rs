//! What was newly signed, by window: the numbers that budgets are checked against (M4).
//!
//! Amounts are kept in buckets, so that a sum reads some dozens of rows however many vouchers there were. A bucket counts
//! until all of it has left the window: a budget is free a little late, never early.

use std::borrow::Cow;
use std::collections::BTreeMap;

use drain_protocol::Usdc;

use super::db::{Db, params};
use super::row::{self, column};
use super::{IntentId, JournalError, WindowUse};
use crate::clock::Moment;
use crate::policy::Limits;
use crate::policy::budgets::{OverLimit, Quantity, Rule, Signed};

/// A window that moves with time.
struct Window {
    name: &'static str,
    /// In seconds.
    length: u64,
    /// Seconds of a bucket.
    bucket: u64,
}

const HOUR: Window = Window { name: "hour", length: 3_600, bucket: 60 };
const DAY: Window = Window { name: "day", length: 86_400, bucket: 1_800 };

impl Window {
    /// The oldest bucket of which a part lies within the window.
    const fn first(&self, at: u64) -> u64 {
        at.saturating_sub(self.length) / self.bucket
    }

    /// When a bucket has left the window whole.
    const fn gone_at(&self, bucket: u64) -> u64 {
        bucket.saturating_add(1).saturating_mul(self.bucket).saturating_add(self.length)
    }
}

/// Whose budget.
#[derive(Clone, Copy)]
enum Scope<'a> {
    All,
    Provider(&'a str),
    Agent(&'a str),
    Newcomers,
}

impl Scope<'_> {
    fn name(&self) -> Cow<'static, str> {
        match self {
            Self::All => "all".into(),
            Self::Provider(key) => format!("provider {key}").into(),
            Self::Agent(name) => format!("agent {name}").into(),
            Self::Newcomers => "newcomers".into(),
        }
    }
}

/// Whose budgets a voucher uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payer<'a> {
    /// The provider's wallet and host.
    pub provider: &'a str,
    /// The agent's name.
    pub agent: &'a str,
    /// The provider has no history.
    pub newcomer: bool,
}

impl<'a> Payer<'a> {
    fn budgets(&self) -> impl Iterator<Item = (Scope<'a>, &'static Window)> {
        [
            (Scope::All, &HOUR),
            (Scope::All, &DAY),
            (Scope::Provider(self.provider), &DAY),
            (Scope::Agent(self.agent), &DAY),
        ]
        .into_iter()
        .chain(self.newcomer.then_some((Scope::Newcomers, &DAY)))
    }
}

/// The time that windows are measured by: the chain's word, never below what was journaled (M4). While the chain's time
/// is not known, windows stand still: a clock that jumps resets nothing. Before it ever was known there is none, and
/// nothing is charged: [`JournalError::NoTime`].
pub(super) fn known_now(db: &Db<'_>, moment: Moment) -> Result<u64, JournalError> {
    let last: i64 = db.prepare_cached("SELECT at FROM window_clock")?.query_row(params![], |r| r.get(0))?;
    let last = u64::try_from(last).map_err(|_| JournalError::Corrupt(format!("window_clock.at = {last}")))?;
    let now = moment.windows.unwrap_or(0).max(last);
    if now == 0 {
        return Err(JournalError::NoTime);
    }
    if now > last {
        db.prepare_cached("UPDATE window_clock SET at = ?1")?.execute([column(now)?])?;
    }
    Ok(now)
}

/// The same for what must go on without it, such as a close: before it ever was known, the machine's time, which is not
/// remembered.
pub(super) fn now(db: &Db<'_>, moment: Moment) -> Result<u64, JournalError> {
    match known_now(db, moment) {
        Err(JournalError::NoTime) => Ok(moment.at),
        known => known,
    }
}

/// What was signed within the windows of these budgets.
pub(super) fn signed(db: &Db<'_>, payer: Payer<'_>, now: u64) -> Result<Signed, JournalError> {
    Ok(Signed {
        hour: sum(db, Scope::All, &HOUR, now)?,
        day: sum(db, Scope::All, &DAY, now)?,
        provider: sum(db, Scope::Provider(payer.provider), &DAY, now)?,
        agent: sum(db, Scope::Agent(payer.agent), &DAY, now)?,
        newcomers: if payer.newcomer { sum(db, Scope::Newcomers, &DAY, now)? } else { Usdc::ZERO },
    })
}

fn sum(db: &Db<'_>, scope: Scope<'_>, window: &Window, now: u64) -> Result<Usdc, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) AS used FROM usage WHERE scope = ?1 AND \"window\" = ?2 AND bucket >= ?3",
    )?;
    let mut rows = statement.query(params![scope.name(), window.name, column(window.first(now))?])?;
    rows.next()?.as_ref().map_or(Ok(Usdc::ZERO), |r| row::usdc(r, "used"))
}

/// Charges every budget of a voucher with its growth.
pub(super) fn charge(db: &Db<'_>, payer: Payer<'_>, growth: Usdc, now: u64) -> Result<(), JournalError> {
    for (scope, window) in payer.budgets() {
        let bucket = column(now / window.bucket)?;
        let scope = scope.name();
        let there = db
            .prepare_cached(
                "UPDATE usage SET amount = amount + ?4 WHERE scope = ?1 AND \"window\" = ?2 AND bucket = ?3",
            )?
            .execute(params![scope, window.name, bucket, growth.as_i64()])?;
        if there == 0 {
            // A new bucket: time to forget those that no window reaches any more.
            db.prepare_cached("DELETE FROM usage WHERE scope = ?1 AND \"window\" = ?2 AND bucket < ?3")?
                .execute(params![scope, window.name, column(window.first(now))?])?;
            db.prepare_cached("INSERT INTO usage (scope, \"window\", bucket, amount) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![scope, window.name, bucket, growth.as_i64()])?;
        }
    }
    Ok(())
}

/// A channel ended on chain with `excess` less than was signed: its budgets get that back, the newest vouchers first
/// (design section 4). What was counted longer ago than a day is in no window any more.
pub(super) fn give_back(
    db: &Db<'_>,
    intent: IntentId,
    provider: &str,
    excess: Usdc,
    now: u64,
) -> Result<(), JournalError> {
    let mut left = excess;
    let mut statement = db.prepare_cached(
        "SELECT nonce, growth, agent, newcomer, counted_at FROM vouchers WHERE intent = ?1 AND growth > 0 AND counted_at >= ?2 \
         ORDER BY nonce DESC",
    )?;
    let mut rows = statement.query(params![intent.0, column(DAY.first(now).saturating_mul(DAY.bucket))?])?;
    while let Some(voucher) = &rows.next()?.filter(|_| !left.is_zero()) {
        let growth = row::usdc(voucher, "growth")?;
        let (nonce, agent, newcomer): (i64, String, bool) =
            (voucher.get("nonce")?, voucher.get("agent")?, voucher.get("newcomer")?);
        let counted_at = row::unsigned(voucher, "counted_at")?;
        let back = growth.min(left);
        left = left.saturating_sub(back);
        let payer = Payer { provider, agent: &agent, newcomer };
        add(db, payer, counted_at, -back.as_i64())?;
        db.prepare_cached(
            "UPDATE vouchers SET growth = growth - ?3, given_back = given_back + ?3 WHERE intent = ?1 AND nonce = ?2",
        )?
        .execute(params![intent.0, nonce, back.as_i64()])?;
    }
    Ok(())
}

/// The chain took the end of a channel back: what it gave back may be claimed again, and counts as before.
pub(super) fn charge_again(db: &Db<'_>, intent: IntentId, provider: &str) -> Result<(), JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT given_back, agent, newcomer, counted_at FROM vouchers WHERE intent = ?1 AND given_back > 0",
    )?;
    let mut rows = statement.query([intent.0])?;
    while let Some(voucher) = &rows.next()? {
        let given_back = row::usdc(voucher, "given_back")?;
        let (agent, newcomer): (String, bool) = (voucher.get("agent")?, voucher.get("newcomer")?);
        let payer = Payer { provider, agent: &agent, newcomer };
        add(db, payer, row::unsigned(voucher, "counted_at")?, given_back.as_i64())?;
    }
    db.prepare_cached("UPDATE vouchers SET growth = growth + given_back, given_back = 0 WHERE intent = ?1")?
        .execute([intent.0])?;
    Ok(())
}

/// Changes the buckets that something was counted in. One that is gone is in no window any more.
pub(super) fn add(db: &Db<'_>, payer: Payer<'_>, counted_at: u64, units: i64) -> Result<(), JournalError> {
    for (scope, window) in payer.budgets() {
        db.prepare_cached(
            "UPDATE usage SET amount = MAX(amount + ?4, 0) WHERE scope = ?1 AND \"window\" = ?2 AND bucket = ?3",
        )?
        .execute(params![scope.name(), window.name, column(counted_at / window.bucket)?, units])?;
    }
    Ok(())
}

/// Tells when so much is free again, where time frees it.
pub(super) fn with_time(
    db: &Db<'_>,
    limits: &Limits,
    payer: Payer<'_>,
    over: OverLimit,
    now: u64,
) -> Result<OverLimit, JournalError> {
    let (scope, window, limit) = match over.rule {
        Rule::PerHour => (Scope::All, &HOUR, limits.per_hour),
        Rule::PerDay => (Scope::All, &DAY, limits.per_day),
        Rule::PerProvider => (Scope::Provider(payer.provider), &DAY, limits.per_provider),
        Rule::PerAgent => (Scope::Agent(payer.agent), &DAY, limits.per_agent),
        Rule::Newcomers => (Scope::Newcomers, &DAY, limits.newcomers),
        _ => return Ok(over),
    };
    let Quantity::Usdc(wanted) = over.wanted else { return Ok(over) };
    let mut used = sum(db, scope, window, now)?;
    let mut statement = db.prepare_cached(
        "SELECT bucket, amount FROM usage WHERE scope = ?1 AND \"window\" = ?2 AND bucket >= ?3 ORDER BY bucket",
    )?;
    let mut rows = statement.query(params![scope.name(), window.name, column(window.first(now))?])?;
    while let Some(oldest) = &rows.next()? {
        used = used.saturating_sub(row::usdc(oldest, "amount")?);
        if used.saturating_add(wanted) <= limit {
            let frees_at = window.gone_at(row::unsigned(oldest, "bucket")?);
            return Ok(OverLimit { frees_in: Some(frees_at.saturating_sub(now)), ..over });
        }
    }
    Ok(over)
}

/// What counts against a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Newly signed within the window.
    pub signed: Usdc,
    /// Of that, what requests in flight signed.
    pub in_flight: Usdc,
}

/// Every budget that is in use, for who watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    pub hour: Used,
    pub day: Used,
    pub newcomers: Used,
    pub providers: BTreeMap<String, Used>,
    pub agents: BTreeMap<String, Used>,
}

impl Windows {
    fn of(&mut self, scope: &str, window: &str) -> Option<&mut Used> {
        match (scope.split_once(' '), scope, window) {
            (None, "all", "hour") => Some(&mut self.hour),
            (None, "all", "day") => Some(&mut self.day),
            (None, "newcomers", "day") => Some(&mut self.newcomers),
            (Some(("provider", key)), _, "day") => Some(self.providers.entry(key.into()).or_default()),
            (Some(("agent", name)), _, "day") => Some(self.agents.entry(name.into()).or_default()),
            _ => None,
        }
    }
}

impl Windows {
    /// Counts what a request in flight signed.
    fn reserve(&mut self, payer: Payer<'_>, growth: Usdc, counted_at: u64, now: u64) {
        for (scope, window) in payer.budgets() {
            if counted_at / window.bucket >= window.first(now)
                && let Some(used) = self.of(&scope.name(), window.name)
            {
                used.in_flight = used.in_flight.saturating_add(growth);
            }
        }
    }
}

/// The clock of the windows as it stands: read, not set.
fn standing_now(db: &Db<'_>, moment: Moment) -> Result<u64, JournalError> {
    let last: i64 = db.prepare_cached("SELECT at FROM window_clock")?.query_row(params![], |r| r.get(0))?;
    Ok(moment.windows.unwrap_or(0).max(u64::try_from(last).unwrap_or(0)))
}

/// Single windows as they stand at this moment. Changes nothing.
pub(super) struct Look<'a> {
    db: &'a Db<'a>,
    now: u64,
}

impl<'a> Look<'a> {
    pub(super) fn at(db: &'a Db<'a>, moment: Moment) -> Result<Self, JournalError> {
        Ok(Self { db, now: standing_now(db, moment)? })
    }

    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn hour(&self) -> Result<WindowUse, JournalError> {
        self.of(Scope::All, &HOUR)
    }

    pub(super) fn day(&self) -> Result<WindowUse, JournalError> {
        self.of(Scope::All, &DAY)
    }

    pub(super) fn agent(&self, name: &str) -> Result<WindowUse, JournalError> {
        self.of(Scope::Agent(name), &DAY)
    }

    pub(super) fn provider(&self, key: &str) -> Result<WindowUse, JournalError> {
        self.of(Scope::Provider(key), &DAY)
    }

    pub(super) fn newcomers(&self) -> Result<WindowUse, JournalError> {
        self.of(Scope::Newcomers, &DAY)
    }

    fn of(&self, scope: Scope<'_>, window: &Window) -> Result<WindowUse, JournalError> {
        let mut statement = self.db.prepare_cached(
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) AS used, MIN(bucket) AS oldest FROM usage \
             WHERE scope = ?1 AND \"window\" = ?2 AND bucket >= ?3 AND amount > 0",
        )?;
        let mut rows = statement.query(params![scope.name(), window.name, column(window.first(self.now))?])?;
        let Some(r) = &rows.next()? else { return Ok(WindowUse::default()) };
        let oldest: Option<i64> = r.get("oldest")?;
        let frees_at = oldest.and_then(|bucket| u64::try_from(bucket).ok()).map(|bucket| window.gone_at(bucket));
        Ok(WindowUse {
            signed: row::usdc(r, "used")?,
            frees_in: frees_at.map(|frees_at| frees_at.saturating_sub(self.now)),
        })
    }
}

/// The windows as they stand at this moment. Changes nothing.
pub(super) fn windows(db: &Db<'_>, moment: Moment) -> Result<Windows, JournalError> {
    let now = standing_now(db, moment)?;
    let mut windows = Windows::default();
    for window in [&HOUR, &DAY] {
        let mut statement = db.prepare_cached(
            "SELECT scope, CAST(SUM(amount) AS BIGINT) AS used FROM usage WHERE \"window\" = ?1 AND bucket >= ?2 GROUP BY scope",
        )?;
        let mut rows = statement.query(params![window.name, column(window.first(now))?])?;
        while let Some(r) = &rows.next()? {
            let scope: String = r.get("scope")?;
            if let Some(used) = windows.of(&scope, window.name) {
                used.signed = row::usdc(r, "used")?;
            }
        }
    }
    let mut statement = db.prepare_cached(
        "SELECT growth, agent, newcomer, counted_at, payee, host FROM payments WHERE confirmed = 0 AND state = 'in_flight'",
    )?;
    let mut rows = statement.query(params![])?;
    while let Some(r) = &rows.next()? {
        let (agent, newcomer): (String, bool) = (r.get("agent")?, r.get("newcomer")?);
        let (payee, host): (String, String) = (r.get("payee")?, r.get("host")?);
        let provider = super::payments::key_of(&payee, &host);
        let payer = Payer { provider: &provider, agent: &agent, newcomer };
        windows.reserve(payer, row::usdc(r, "growth")?, row::unsigned(r, "counted_at")?, now);
    }
    // Few: one a channel at most.
    let mut statement = db.prepare_cached(
        "SELECT v.growth, v.agent, v.newcomer, v.counted_at, c.provider_wallet, c.api_url \
         FROM vouchers v INDEXED BY vouchers_in_flight JOIN channels c USING (intent) WHERE v.state = 'in_flight' AND v.growth > 0",
    )?;
    let mut rows = statement.query(params![])?;
    while let Some(r) = &rows.next()? {
        let (agent, newcomer): (String, bool) = (r.get("agent")?, r.get("newcomer")?);
        let (wallet, api_url): (String, String) = (r.get("provider_wallet")?, r.get("api_url")?);
        let (growth, counted_at) = (row::usdc(r, "growth")?, row::unsigned(r, "counted_at")?);
        let provider = super::provider_key(&wallet, &api_url);
        windows.reserve(Payer { provider: &provider, agent: &agent, newcomer }, growth, counted_at, now);
    }
    Ok(windows)
}
