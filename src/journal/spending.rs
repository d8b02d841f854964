//! What was spent over time, read beside the writer.

use drain_protocol::Usdc;

use super::db::{Db, params};
use super::row::{self, column};
use super::{Journal, JournalError};
use crate::api::{Spend, SpendAt};

const HOURS: u64 = 24;
const DAYS: u64 = 30;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

impl Journal {
    /// The last 24 hours and the last 30 days, each with what was charged in it.
    pub async fn spending(&self, now: u64) -> Result<Spend, JournalError> {
        self.beside(move |db| {
            let hours = filled(now, HOUR, HOURS, &by_hour(db, now)?);
            let days = filled(now, DAY, DAYS, &by_day(db, now)?);
            Ok(Spend { hours, days })
        })
        .await
    }
}

/// The beginning of the oldest of so many.
const fn first(now: u64, length: u64, count: u64) -> u64 {
    (now / length + 1).saturating_sub(count) * length
}

/// Each one, the oldest first; those without anything too.
fn filled(now: u64, length: u64, count: u64, found: &[SpendAt]) -> Vec<SpendAt> {
    let begins = (0..count).map(|n| first(now, length, count) + n * length);
    begins
        .map(|at| {
            let charged = found.iter().find(|spend| spend.at == at).map_or(Usdc::ZERO, |spend| spend.charged);
            SpendAt { at, charged }
        })
        .collect()
}

fn by_hour(db: &Db<'_>, now: u64) -> Result<Vec<SpendAt>, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT place, CAST(SUM(cost) AS BIGINT) AS charged FROM (\
         SELECT created_at / 3600 AS place, cost FROM vouchers WHERE created_at >= ?1 AND cost IS NOT NULL UNION ALL \
         SELECT created_at / 3600, cost FROM payments WHERE created_at >= ?1 AND cost IS NOT NULL) s GROUP BY place",
    )?;
    read(statement.query(params![column(first(now, HOUR, HOURS))?])?, HOUR)
}

fn by_day(db: &Db<'_>, now: u64) -> Result<Vec<SpendAt>, JournalError> {
    let mut statement = db.prepare_cached("SELECT day AS place, charged FROM spent_by_day WHERE day >= ?1")?;
    read(statement.query(params![row::day(first(now, DAY, DAYS))?])?, DAY)
}

fn read(mut rows: super::db::Rows<'_>, length: u64) -> Result<Vec<SpendAt>, JournalError> {
    let mut found = Vec::new();
    while let Some(r) = &rows.next()? {
        let at = row::unsigned(r, "place")?.saturating_mul(length);
        found.push(SpendAt { at, charged: row::usdc(r, "charged")? });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hour_and_day_is_there_once_and_the_last_is_now() {
        let now = 1_800_000_123;
        let spent = [SpendAt { at: now / HOUR * HOUR, charged: Usdc::new(7) }];
        let hours = filled(now, HOUR, HOURS, &spent);
        assert_eq!(hours.len(), 24);
        assert!(hours.windows(2).all(|pair| pair[1].at == pair[0].at + HOUR));
        assert_eq!(hours.last().map(|last| (last.at, last.charged)), Some((spent[0].at, Usdc::new(7))));
        assert!(hours[..23].iter().all(|hour| hour.charged.is_zero()));
        let days = filled(now, DAY, DAYS, &[]);
        assert_eq!((days.len(), days[29].at), (30, now / DAY * DAY));
    }
}
