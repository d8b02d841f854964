//! Which openings on chain this journal knows, and how far a search for the others came (M10).

use drain_protocol::{Address, B256, ChannelId};

use super::db::{Db, Optional, params};
use super::row::{address, column};
use super::{Journal, JournalError};

/// Its row among the flags.
const SEARCHED: &str = "searched";

/// How many openings of a contract are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownOpenings {
    /// Recorded as final, whatever became of the channel since. One that failed, or that the chain took back, is none.
    pub recorded: u64,
    /// On their way: the chain may count them already.
    pub opening: u64,
}

/// Whose an opening is that a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// It is recorded.
    Known,
    /// A transaction of ours that the wallet follows made it: it is recorded when that is seen final.
    OnItsWay,
    /// This journal did not open it.
    Foreign,
}

pub(super) fn known_openings(
    db: &Db<'_>,
    chain_id: u64,
    contract: Address,
    consumer: Address,
) -> Result<KnownOpenings, JournalError> {
    let (recorded, opening): (i64, i64) = db
        .prepare_cached(
            "SELECT COUNT(*) FILTER (WHERE channel_id IS NOT NULL AND state IN ('open', 'closing', 'closed')), \
                    COUNT(*) FILTER (WHERE state = 'opening') \
             FROM channels WHERE chain_id = ?1 AND contract = ?2 AND consumer = ?3",
        )?
        .query_row(params![column(chain_id)?, address(contract), address(consumer)], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(KnownOpenings { recorded: recorded.unsigned_abs(), opening: opening.unsigned_abs() })
}

impl Journal {
    /// How many openings on this contract are known.
    pub async fn known_openings(
        &self,
        chain_id: u64,
        contract: Address,
        consumer: Address,
    ) -> Result<KnownOpenings, JournalError> {
        self.writer.run(move |db| known_openings(db, chain_id, contract, consumer)).await
    }

    /// Whose an opening is, by its id and by the transaction that made it.
    pub async fn whose(
        &self,
        chain_id: u64,
        contract: Address,
        id: ChannelId,
        transaction: B256,
    ) -> Result<Whose, JournalError> {
        self.writer
            .run(move |db| {
                let known: Option<i64> = db
                    .prepare_cached(
                        "SELECT 1 FROM channels WHERE chain_id = ?1 AND contract = ?2 AND channel_id = ?3 \
                         AND state IN ('open', 'closing', 'closed')",
                    )?
                    .query_row(params![column(chain_id)?, address(contract), id.to_string()], |r| r.get(0))
                    .optional()?;
                if known.is_some() {
                    return Ok(Whose::Known);
                }
                let followed: Option<i64> = db
                    .prepare_cached(
                        "SELECT 1 FROM transactions WHERE chain_id = ?1 AND hash = ?2 AND kind = 'open' \
                         AND state IN ('signed', 'broadcast')",
                    )?
                    .query_row(params![column(chain_id)?, format!("{transaction:#x}")], |r| r.get(0))
                    .optional()?;
                Ok(if followed.is_some() { Whose::OnItsWay } else { Whose::Foreign })
            })
            .await
    }

    /// The blocks, first and last, in which a search has read the events of these contracts without a gap.
    pub async fn searched(&self, contracts: &[Address]) -> Result<Option<(u64, u64)>, JournalError> {
        let contracts = named(contracts);
        self.writer
            .run(move |db| {
                let text: Option<String> = db
                    .prepare_cached("SELECT value FROM flags WHERE name = ?1")?
                    .query_row([SEARCHED], |r| r.get(0))
                    .optional()?;
                Ok(text.and_then(|text| {
                    // Of other contracts nothing was read there.
                    let (first, last) = text.strip_suffix(&contracts)?.split_once('-')?;
                    Some((first.parse().ok()?, last.parse().ok()?))
                }))
            })
            .await
    }

    /// Remembers them.
    pub async fn set_searched(
        &self,
        (first, last): (u64, u64),
        contracts: &[Address],
        at: u64,
    ) -> Result<(), JournalError> {
        let value = format!("{first}-{last}{}", named(contracts));
        self.writer
            .run(move |db| {
                db.prepare_cached("INSERT INTO flags (name, value, at) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at")?
                    .execute(params![SEARCHED, value, column(at)?])?;
                Ok(())
            })
            .await
    }

    /// What was read did not hold all that is there: another endpoint may tell more, so it counts as unread.
    pub async fn forget_searched(&self) -> Result<(), JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached("DELETE FROM flags WHERE name = ?1")?.execute([SEARCHED])?;
                Ok(())
            })
            .await
    }
}

/// The contracts as the flag names them, in any order the same.
fn named(contracts: &[Address]) -> String {
    let mut names: Vec<String> = contracts.iter().map(|contract| format!(" {}", address(*contract))).collect();
    names.sort();
    names.concat()
}
