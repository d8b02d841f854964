//! Whether a journal can be believed: its pages, and the sums that must add up whatever happened.
//!
//! SQLite finds broken pages, not a changed number in a sound page. So each channel's amounts are compared with its
//! vouchers: a bit that flips in one of them is found before anything is signed.

use alloy::primitives::keccak256;

use super::db::{Db, DbError, params};

/// Most problems that are told.
const MAX_TOLD: usize = 20;

/// Each finds the channels (or transactions) of which its sentence is true; there must be none.
const RULES: &[(&str, &str)] = &[
    (
        "more was signed than deposit and cap allow",
        "SELECT 'c' || intent FROM channels WHERE signed > deposit OR (recovered = 0 AND signed > cap)",
    ),
    (
        "the signed amount is not that of its highest voucher",
        "SELECT 'c' || intent FROM channels c JOIN (SELECT intent, MAX(amount) AS most FROM vouchers GROUP BY intent) v USING (intent) \
         WHERE signed < most OR (recovered = 0 AND signed != most)",
    ),
    (
        "the last number is not that of its last voucher",
        "SELECT 'c' || intent FROM channels c JOIN (SELECT intent, MAX(nonce) AS last FROM vouchers GROUP BY intent) v USING (intent) \
         WHERE c.nonce < last OR (recovered = 0 AND c.nonce != last)",
    ),
    (
        "something was signed, and no voucher is recorded",
        "SELECT 'c' || intent FROM channels c WHERE recovered = 0 AND (signed != 0 OR nonce != 0 OR charged != 0) \
         AND NOT EXISTS (SELECT 1 FROM vouchers v WHERE v.intent = c.intent)",
    ),
    (
        "what is charged is not the sum of its requests",
        "SELECT 'c' || intent FROM channels c JOIN (SELECT intent, SUM(COALESCE(cost, 0)) AS costs FROM vouchers GROUP BY intent) v \
         USING (intent) WHERE recovered = 0 AND charged != costs",
    ),
    (
        "charged and in flight together are more than was signed",
        "SELECT 'c' || intent FROM channels c WHERE recovered = 0 AND signed < charged + \
         (SELECT COALESCE(SUM(bound), 0) FROM vouchers v INDEXED BY vouchers_in_flight WHERE v.intent = c.intent AND v.state = 'in_flight')",
    ),
    (
        "a voucher of a channel that is not recorded",
        "SELECT DISTINCT 'c' || intent FROM vouchers WHERE intent NOT IN (SELECT intent FROM channels)",
    ),
    (
        "an open channel without an id",
        "SELECT 'c' || intent FROM channels WHERE state IN ('open', 'closing') AND (channel_id IS NULL OR expires_at = 0)",
    ),
    (
        "a transaction that was sent, without its bytes",
        "SELECT 't' || id FROM transactions WHERE state IN ('signed', 'broadcast') AND (raw IS NULL OR hash IS NULL OR account_nonce IS NULL)",
    ),
];

/// The same for budgets, and for what an endpoint's word may have brought into the record: no reason to stop at start.
const BUDGETS: &[(&str, &str)] = &[
    ("more was claimed than deposited", "SELECT 'c' || intent FROM channels WHERE claimed > deposit"),
    (
        "what was spent by day is not the sum of all requests",
        "SELECT 'spent' WHERE (SELECT COALESCE(SUM(charged), 0) FROM spent_by_day) != \
         (SELECT COALESCE(SUM(cost), 0) FROM vouchers) + (SELECT COALESCE(SUM(cost), 0) FROM payments)",
    ),
    // More may be counted than the file knows: that of a journal that it replaced.
    (
        "a budget is less than what was signed",
        "SELECT 'day ' || bucket FROM usage LEFT JOIN (SELECT at, SUM(growth) AS sum FROM \
         (SELECT counted_at / 1800 AS at, growth FROM vouchers UNION ALL SELECT counted_at / 1800, growth FROM payments) g GROUP BY 1) v \
         ON v.at = bucket WHERE scope = 'all' AND \"window\" = 'day' AND amount < COALESCE(sum, 0)",
    ),
    (
        "a budget is less than what was signed",
        "SELECT 'hour ' || bucket FROM usage LEFT JOIN (SELECT at, SUM(growth) AS sum FROM \
         (SELECT counted_at / 60 AS at, growth FROM vouchers UNION ALL SELECT counted_at / 60, growth FROM payments) g GROUP BY 1) v \
         ON v.at = bucket WHERE scope = 'all' AND \"window\" = 'hour' AND amount < COALESCE(sum, 0)",
    ),
];

/// The audit record against what it tells of.
const AUDIT: &[(&str, &str)] = &[
    (
        "rows of the audit record are missing",
        "SELECT 'after row ' || COUNT(*) FROM audit HAVING COUNT(*) != COALESCE(MAX(seq), 0)",
    ),
    // What a close gave back was signed all the same.
    (
        "a voucher is not as the audit record tells",
        "SELECT 'c' || v.intent || '-' || v.nonce FROM vouchers v LEFT JOIN audit a ON a.seq = v.audit WHERE v.audit IS NOT NULL \
         AND (a.seq IS NULL OR a.decision != 'allowed' OR a.kind NOT IN ('voucher', 'probe') \
         OR (a.nonce, a.amount, a.growth, a.bound) IS DISTINCT FROM (v.nonce, v.amount, v.growth + v.given_back, v.bound))",
    ),
    (
        "what was booked is not as the audit record tells",
        "SELECT 'charged' WHERE (SELECT COALESCE(SUM(cost), 0) FROM vouchers WHERE audit IS NOT NULL) + (SELECT COALESCE(SUM(cost), 0) FROM payments) != \
         (SELECT COALESCE(SUM(charged), 0) - COALESCE(SUM(refunded), 0) FROM audit WHERE kind = 'settlement' AND decided IS NOT NULL)",
    ),
];

/// What is wrong with the file's pages; empty when nothing is. `thorough` compares indexes with tables too.
pub(super) fn pages(db: &Db<'_>, thorough: bool) -> Vec<String> {
    let check = if thorough { "PRAGMA integrity_check" } else { "PRAGMA quick_check" };
    let found = texts(db, check);
    match found {
        Ok(lines) if lines.first().is_some_and(|line| line == "ok") => Vec::new(),
        Ok(lines) => lines,
        Err(error) => vec![error.to_string()],
    }
}

/// Which sums do not add up; empty when all do.
pub(super) fn books(db: &Db<'_>) -> Vec<String> {
    let mut problems = broken(db, RULES);
    match unfinished_hashes(db) {
        Ok(names) if names.is_empty() => {}
        Ok(names) => {
            problems.push(format!("a transaction whose bytes are not those of its hash: {}", names.join(", ")))
        }
        Err(error) => problems.push(error.to_string()),
    }
    problems
}

/// Budgets against the vouchers that they were charged with (M4). Only asked for: a budget that is off by some units is no
/// reason to stop.
pub(super) fn budgets(db: &Db<'_>) -> Vec<String> {
    broken(db, BUDGETS)
}

/// Whether the audit record tells of every voucher, and of all that was booked. Only asked for, as budgets are.
pub(super) fn audit(db: &Db<'_>) -> Vec<String> {
    broken(db, AUDIT)
}

/// Which of the rules do not hold, and for whom.
fn broken(db: &Db<'_>, rules: &[(&str, &str)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (sentence, query) in rules {
        match texts(db, query) {
            Ok(names) if names.is_empty() => {}
            Ok(names) => problems.push(format!("{sentence}: {}", names.join(", "))),
            Err(error) => problems.push(error.to_string()),
        }
    }
    problems
}

fn texts(db: &Db<'_>, query: &str) -> Result<Vec<String>, DbError> {
    let mut found = db.prepare_cached(query)?.query_map(params![], |row| row.get(0))?;
    found.truncate(MAX_TOLD);
    Ok(found)
}

fn unfinished_hashes(db: &Db<'_>) -> Result<Vec<String>, DbError> {
    let mut statement = db.prepare_cached(
        "SELECT id, raw, hash FROM transactions WHERE state IN ('signed', 'broadcast') AND raw IS NOT NULL",
    )?;
    let rows = statement.query_map(params![], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Option<String>>(2)?))
    })?;
    let mut wrong = Vec::new();
    for (id, raw, hash) in rows.into_iter().take(MAX_TOLD) {
        if hash != Some(format!("{:#x}", keccak256(raw))) {
            wrong.push(format!("t{id}"));
        }
    }
    Ok(wrong)
}
