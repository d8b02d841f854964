//! Whose a channel is in a fleet. An agent sees and pays with the channels that it is a member of: those that it opened,
//! and those of its wallet that it shares. Of all others it is told what it is told of a channel that does not exist.

use std::cmp::Reverse;

use drain_protocol::pricing::PriceList;
use drain_protocol::{Address, ChannelId, Usdc};

use super::audit::{self, Entry, Kind, Who};
use super::channel::{COLUMNS, ChannelRecord, NewChannel, load, record};
use super::db::{Db, params};
use super::freeze::refuse_frozen_by;
use super::row::{self, address, column};
use super::{IntentId, Journal, JournalError};
use crate::api::ChannelState;
use crate::clock::Moment;
use crate::policy::Limits;
use crate::policy::sharing::{Offer, Wish, fits};

/// An agent of the fleet, as a channel's record names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub agent: String,
    /// It uses the channel no more.
    pub left: bool,
}

/// Whether an agent is one of these, and has not left.
pub fn among(members: &[Member], agent: &str) -> bool {
    members.iter().any(|member| member.agent == agent && !member.left)
}

/// What one member has of a channel that others use too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// By how much its requests raised what is signed.
    pub signed: Usdc,
    /// What was booked for them.
    pub charged: Usdc,
    /// What the provider claimed beyond.
    pub disputed: Usdc,
    /// Reserved for those whose outcome is unknown.
    pub in_flight: Usdc,
    /// How many were answered.
    pub requests: u64,
}

/// A channel as one member sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The whole record.
    pub record: ChannelRecord,
    /// The member's own part, where others have theirs.
    pub share: Option<Share>,
}

/// What became of a member's wish to end a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Others use it: only this member has left.
    Left,
    /// Nobody else uses it, and nobody joins any more.
    Alone,
}

/// A condition on `channels` by which a caller is given what is there already: the agent `?{place}` its own, and nobody's
/// where that is NULL.
pub(super) fn own(place: usize) -> String {
    let of = "SELECT 1 FROM channel_members m WHERE m.intent = channels.intent";
    format!(
        "CASE WHEN CAST(?{place} AS TEXT) IS NULL THEN NOT EXISTS ({of}) ELSE EXISTS ({of} AND m.agent = ?{place} AND m.left_at IS NULL) END"
    )
}

/// An agent is a member from now on; one that had left again, with what it had.
pub(super) fn add(db: &Db<'_>, intent: IntentId, agent: &str, at: u64) -> Result<(), JournalError> {
    db.prepare_cached(
        "INSERT INTO channel_members (intent, agent, joined_at) VALUES (?1, ?2, ?3) ON CONFLICT (intent, agent) DO UPDATE SET left_at = NULL",
    )?
    .execute(params![intent.0, agent, column(at)?])?;
    Ok(())
}

/// Counts what a voucher of a member signs. To anybody else of the fleet the channel is none.
pub(super) fn signs(db: &Db<'_>, intent: IntentId, agent: &str, growth: Usdc) -> Result<(), JournalError> {
    let changed = db
        .prepare_cached(
            "UPDATE channel_members SET signed = signed + ?3 WHERE intent = ?1 AND agent = ?2 AND left_at IS NULL",
        )?
        .execute(params![intent.0, agent, growth.as_i64()])?;
    if changed == 1 { Ok(()) } else { Err(JournalError::Unknown(format!("channel {intent}"))) }
}

/// What was booked for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Booked {
    pub charged: Usdc,
    pub disputed: Usdc,
    pub answered: bool,
}

/// Books a request for the agent that asked for it, whether or not it is of the fleet.
pub(super) fn booked(db: &Db<'_>, receipt: super::Receipt, booked: Booked, at: u64) -> Result<(), JournalError> {
    let agent: String = db
        .prepare_cached("SELECT agent FROM vouchers WHERE intent = ?1 AND nonce = ?2")?
        .query_row(params![receipt.intent.0, receipt.nonce.as_i64()], |r| r.get(0))?;
    let Booked { charged, disputed, answered } = booked;
    db.prepare_cached(
        "UPDATE channel_members SET charged = charged + ?3, disputed = MIN(disputed, CAST(?6 AS BIGINT) - ?4) + ?4, requests = requests + ?5 \
         WHERE intent = ?1 AND agent = ?2",
    )?
    .execute(params![
        receipt.intent.0,
        agent,
        charged.as_i64(),
        disputed.as_i64(),
        answered,
        Usdc::MAX.as_i64()
    ])?;
    spent(db, &agent, charged.as_i64(), at)
}

/// Adds to what was booked for an agent's requests on a day, or takes from it.
pub(super) fn spent(db: &Db<'_>, agent: &str, units: i64, at: u64) -> Result<(), JournalError> {
    db.prepare_cached(
        "INSERT INTO spent_by_agent (agent, day, charged) VALUES (?1, ?2, ?3) ON CONFLICT (agent, day) DO UPDATE SET charged = spent_by_agent.charged + excluded.charged",
    )?
    .execute(params![agent, row::day(at)?, units])?;
    Ok(())
}

/// Charged for an agent's requests since midnight UTC.
pub(super) fn spent_today(db: &Db<'_>, agent: &str, at: u64) -> Result<Usdc, JournalError> {
    let mut statement = db.prepare_cached("SELECT charged FROM spent_by_agent WHERE agent = ?1 AND day = ?2")?;
    let mut rows = statement.query(params![agent, row::day(at)?])?;
    rows.next()?.as_ref().map_or(Ok(Usdc::ZERO), |r| row::usdc(r, "charged"))
}

fn share(db: &Db<'_>, record: &ChannelRecord, agent: &str) -> Result<Option<Share>, JournalError> {
    if !record.is_shared() {
        return Ok(None);
    }
    let mut statement = db.prepare_cached(
        "SELECT signed, charged, disputed, requests, (SELECT CAST(COALESCE(SUM(bound), 0) AS BIGINT) FROM vouchers v INDEXED BY vouchers_in_flight \
         WHERE v.intent = m.intent AND v.state = 'in_flight' AND v.agent = m.agent) AS in_flight \
         FROM channel_members m WHERE intent = ?1 AND agent = ?2",
    )?;
    let mut rows = statement.query(params![record.intent.0, agent])?;
    let Some(r) = &rows.next()? else { return Ok(Some(Share::default())) };
    Ok(Some(Share {
        signed: row::usdc(r, "signed")?,
        charged: row::usdc(r, "charged")?,
        disputed: row::usdc(r, "disputed")?,
        in_flight: row::usdc(r, "in_flight")?,
        requests: row::unsigned(r, "requests")?,
    }))
}

fn seen(db: &Db<'_>, record: ChannelRecord, member: Option<&str>) -> Result<Seen, JournalError> {
    let share = member.map_or(Ok(None), |agent| share(db, &record, agent))?;
    Ok(Seen { record, share })
}

/// Channels of this wallet that agents share, to this provider at this place, at these prices.
fn shared(db: &Db<'_>, new: &NewChannel) -> Result<Vec<ChannelRecord>, JournalError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM channels WHERE joinable = 1 AND state IN ('opening', 'open') AND recovered = 0 AND offences = 0 \
         AND provider_id = ?1 AND provider_wallet = ?2 AND api_url = ?3 AND chain_id = ?4 AND contract = ?5 AND consumer = ?6 \
         ORDER BY intent LIMIT 1000",
    ))?;
    let mut rows = statement.query(params![
        new.provider_id,
        address(new.provider_wallet),
        new.api_url,
        column(new.deployment.chain_id())?,
        address(new.deployment.contract()),
        address(new.consumer)
    ])?;
    let prices = PriceList::parse(new.prices.as_bytes()).ok();
    let mut found = Vec::new();
    while let Some(row) = &rows.next()? {
        let record = record(row)?;
        if prices.is_some() && PriceList::parse(record.prices.as_bytes()).ok() == prices {
            found.push(record);
        }
    }
    Ok(found)
}

/// The one with most room.
fn best(records: Vec<ChannelRecord>, new: &NewChannel, limits: &Limits, block_time: u64) -> Option<ChannelRecord> {
    let wish = Wish { amount: new.deposit, duration: new.duration, most: limits.per_channel };
    let offer = |record: &ChannelRecord| Offer {
        books: record.books,
        // One that is on its way has all of its time before it.
        left: match record.state {
            ChannelState::Opening => record.duration,
            _ => record.expires_at.saturating_sub(block_time),
        },
    };
    let mut fitting: Vec<_> = records.into_iter().filter(|record| fits(&offer(record), &wish)).collect();
    fitting.sort_by_key(|record| Reverse(record.books.available()));
    fitting.into_iter().next()
}

impl Journal {
    /// The channels that a member sees, or all for nobody in particular; those at their end only when asked for.
    pub async fn channels_seen(&self, member: Option<String>, ended: bool) -> Result<Vec<Seen>, JournalError> {
        self.writer
            .run(move |db| {
                let mut seen_by = Vec::new();
                for record in super::channels::list(db, member.as_deref(), ended)? {
                    seen_by.push(seen(db, record, member.as_deref())?);
                }
                Ok(seen_by)
            })
            .await
    }

    /// Channels that are not over, and those that were used since then; the newest first, and no more than can be shown. Read
    /// beside the writer.
    pub async fn channels_lately(&self, since: u64) -> Result<Vec<Seen>, JournalError> {
        self.beside(move |db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM channels WHERE state IN ('opening', 'open', 'closing') OR used_at > ?1 ORDER BY intent DESC LIMIT 2000"
            ))?;
            let mut rows = statement.query([column(since)?])?;
            let mut found = Vec::new();
            while let Some(r) = &rows.next()? {
                found.push(seen(db, record(r)?, None)?);
            }
            Ok(found)
        })
        .await
    }

    /// Open channels to a provider that the caller pays with: an agent's own, or of everything else those of no agent.
    pub async fn channels_to(
        &self,
        provider_id: String,
        member: Option<String>,
    ) -> Result<Vec<ChannelRecord>, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM channels WHERE state = 'open' AND provider_id = ?1 AND channel_id IS NOT NULL \
                     AND CASE WHEN CAST(?2 AS TEXT) IS NULL THEN NOT EXISTS (SELECT 1 FROM channel_members m WHERE m.intent = channels.intent) ELSE {} END \
                     ORDER BY intent",
                    own(2)
                ))?;
                let mut rows = statement.query(params![provider_id, member])?;
                let mut found = Vec::new();
                while let Some(r) = &rows.next()? {
                    found.push(record(r)?);
                }
                Ok(found)
            })
            .await
    }

    /// A channel as a member sees it.
    pub async fn channel_seen(&self, intent: IntentId, member: Option<String>) -> Result<Seen, JournalError> {
        self.writer.run(move |db| seen(db, load(db, intent)?, member.as_deref())).await
    }

    /// Of what is locked, the deposits that this member's own openings locked.
    pub async fn locked_by(&self, chain_id: u64, consumer: Address, agent: String) -> Result<Usdc, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT CAST(COALESCE(SUM(c.deposit - COALESCE(c.taken_in_the_end, 0)), 0) AS BIGINT) AS locked \
                     FROM channel_members m INDEXED BY channel_members_now JOIN channels c USING (intent) \
                     WHERE m.agent = ?1 AND m.left_at IS NULL AND c.agent = ?1 AND c.chain_id = ?2 AND c.consumer = ?3 \
                     AND c.state IN ('opening', 'open', 'closing')",
                )?;
                let mut rows = statement.query(params![agent, column(chain_id)?, address(consumer)])?;
                rows.next()?.as_ref().map_or(Ok(Usdc::ZERO), |r| row::usdc(r, "locked"))
            })
            .await
    }

    /// A channel of this wallet that agents share and that has room and time for this wish: open, or on its way.
    pub async fn shareable(
        &self,
        new: NewChannel,
        limits: std::sync::Arc<Limits>,
        block_time: u64,
    ) -> Result<Option<ChannelRecord>, JournalError> {
        self.writer.run(move |db| Ok(best(shared(db, &new)?, &new, &limits, block_time))).await
    }

    /// The caller joins a shared channel that is open and still has room and time for this wish. Locks nothing. `None` where
    /// there is none.
    pub async fn join(
        &self,
        new: NewChannel,
        limits: std::sync::Arc<Limits>,
        block_time: u64,
        moment: Moment,
    ) -> Result<Option<Seen>, JournalError> {
        let who = self.who.clone();
        let joined = self
            .writer
            .run(move |db| {
                refuse_frozen_by(db, &limits, moment.at)?;
                let open = shared(db, &new)?.into_iter().filter(|record| record.state == ChannelState::Open).collect();
                let (Some(agent), Some(found)) = (who.member(), best(open, &new, &limits, block_time)) else {
                    return Ok(None);
                };
                add(db, found.intent, agent, moment.at)?;
                audit_of_joining(db, &who, &found)?;
                seen(db, load(db, found.intent)?, Some(agent)).map(Some)
            })
            .await;
        joined.map_err(|error| self.who.told(error))
    }

    /// A member wants a channel to end: it leaves where others use it. Where nobody does it has it alone from now on if it is
    /// about to end, so that nobody joins what closes.
    pub async fn leave(
        &self,
        intent: IntentId,
        agent: String,
        ends: bool,
        at: u64,
    ) -> Result<(Leave, Seen), JournalError> {
        self.writer
            .run(move |db| {
                let others: bool = db
                    .prepare_cached(
                        "SELECT EXISTS (SELECT 1 FROM channel_members WHERE intent = ?1 AND agent != ?2 AND left_at IS NULL)",
                    )?
                    .query_row(params![intent.0, agent], |r| r.get(0))?;
                let left = if others {
                    db.prepare_cached("UPDATE channel_members SET left_at = ?3 WHERE intent = ?1 AND agent = ?2")?
                        .execute(params![intent.0, agent, column(at)?])?;
                    Leave::Left
                } else {
                    if ends {
                        db.prepare_cached("UPDATE channels SET joinable = 0 WHERE intent = ?1")?.execute([intent.0])?;
                    }
                    Leave::Alone
                };
                Ok((left, seen(db, load(db, intent)?, Some(&agent))?))
            })
            .await
    }

    /// One channel by its on-chain id, as [`Self::channel_by_id`], of those that a caller sees.
    pub async fn channel_seen_by_id(
        &self,
        chain_id: u64,
        channel_id: ChannelId,
        member: Option<String>,
    ) -> Result<Option<Seen>, JournalError> {
        self.writer
            .run(move |db| {
                let found = by_id(db, chain_id, channel_id, member.as_deref())?;
                found.map(|record| seen(db, record, member.as_deref())).transpose()
            })
            .await
    }
}

/// What a caller sees under this id: of two with the same id (V1 and V2 may give it) the one that is not over, and the
/// newest.
pub(super) fn by_id(
    db: &Db<'_>,
    chain_id: u64,
    channel_id: ChannelId,
    member: Option<&str>,
) -> Result<Option<ChannelRecord>, JournalError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM channels WHERE chain_id = ?1 AND channel_id = ?2 AND (CAST(?3 AS TEXT) IS NULL OR {}) \
         ORDER BY state IN ('opening', 'open', 'closing') DESC, intent DESC",
        own(3)
    ))?;
    let mut rows = statement.query(params![column(chain_id)?, channel_id.to_string(), member])?;
    rows.next()?.as_ref().map(record).transpose()
}

fn audit_of_joining(db: &Db<'_>, who: &Who, record: &ChannelRecord) -> Result<(), JournalError> {
    let entry = Entry {
        rule: Some("shared".into()),
        provider: Some(&record.provider_id),
        intent: Some(record.intent),
        channel: record.channel_id,
        amount: Some(Usdc::ZERO),
        ..Entry::allowed(Kind::Opening)
    };
    audit::write(db, who, &entry).map(drop)
}
