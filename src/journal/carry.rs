//! What goes over from the journal that a copy replaces: limits that were used, freezes, and a person's or a provider's
//! record that keeps money where it is (M4, M11, M14). It only ever tightens: the copy may know more of some things, and the
//! journal before of others.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::{JournalError, distrust, schema};

/// What it is, how it is read, and how it is written beside what is there.
type Rule = (&'static str, &'static str, &'static str);

const RULES: &[Rule] = &[
    (
        "freezes",
        "SELECT name, value, at FROM flags WHERE name IN ('frozen_by_claim', 'frozen_by_operator')",
        "INSERT INTO flags (name, value, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    ),
    (
        "providers that were set aside",
        "SELECT provider, answered, failed, refused, offences, forgiven, recent, charged, disputed, first_at, last_at, set_aside, set_aside_at \
         FROM provider_records WHERE set_aside IS NOT NULL",
        "INSERT INTO provider_records (provider, answered, failed, refused, offences, forgiven, recent, charged, disputed, first_at, last_at, \
         set_aside, set_aside_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
         ON CONFLICT (provider) DO UPDATE SET set_aside = COALESCE(set_aside, excluded.set_aside), \
         set_aside_at = COALESCE(set_aside_at, excluded.set_aside_at)",
    ),
    (
        "pins of providers",
        "SELECT provider_id, api_url, wallet, prices, pinned_at, contract FROM provider_pins",
        "INSERT INTO provider_pins (provider_id, api_url, wallet, prices, pinned_at, contract) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    ),
    (
        "pins of payees",
        "SELECT host, chain_id, payee, pinned_at FROM payee_pins",
        "INSERT INTO payee_pins (host, chain_id, payee, pinned_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
    ),
    (
        "the pin of the fee's wallet",
        "SELECT chain_id, wallet FROM fee_wallet_pin",
        "INSERT INTO fee_wallet_pin (chain_id, wallet) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    ),
    (
        "the clock of budgets",
        // A damaged figure must not stop the clock for years.
        "SELECT at FROM window_clock WHERE at <= unixepoch() + 86400",
        "UPDATE window_clock SET at = MAX(at, ?1)",
    ),
];

/// Of a row of the audit record, without its number and that of its decision.
const COLUMNS: &str = "at, request, agent, tool, kind, decision, rule, provider, intent, nonce, tx, approval, channel, hash, \
     amount, growth, bound, left, charged, disputed, refunded, outcome";

const BUDGETS: &str = "budgets that were used";
const READ_BUDGETS: &str = "SELECT scope, window, bucket, amount FROM usage";
/// What went on from the copy's own history holds it already.
const SAME_HISTORY: &str = "INSERT INTO usage (scope, window, bucket, amount) VALUES (?1, ?2, ?3, ?4) \
     ON CONFLICT DO UPDATE SET amount = MAX(amount, excluded.amount)";
const ANOTHER_HISTORY: &str = "INSERT INTO usage (scope, window, bucket, amount) VALUES (?1, ?2, ?3, ?4) \
     ON CONFLICT DO UPDATE SET amount = amount + excluded.amount";

/// Carries over what can be read of the journal at `before`, and names what cannot.
pub(super) fn over(before: &Path, copy: &mut Connection) -> Result<Vec<String>, JournalError> {
    let opened =
        Connection::open_with_flags(before, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let (Ok(before), known) = (opened, distrust::identity(&(&*copy).into())?) else {
        return Ok(RULES.iter().map(|(what, ..)| *what).chain([BUDGETS]).map(Into::into).collect());
    };
    let same = distrust::identity(&(&before).into()).is_ok_and(|identity| identity.id == known.id);
    let budgets = (BUDGETS, READ_BUDGETS, if same { SAME_HISTORY } else { ANOTHER_HISTORY });
    let mut unread = Vec::new();
    for (what, read, write) in RULES.iter().chain([&budgets]) {
        // All of a thing or nothing.
        let part = copy.transaction()?;
        match rows(&before, read) {
            Ok(rows) => {
                for row in rows {
                    part.prepare_cached(write)?.execute(params_from_iter(row))?;
                }
                part.commit()?;
            }
            Err(error) => {
                tracing::warn!(what, %error, "the journal before cannot be read");
                unread.push((*what).into());
            }
        }
    }
    // One of an older version has none.
    let recorded = schema::version(&before).and_then(|version| match version {
        schema::AUDITED.. => audit_record(&before, copy, same),
        _ => Ok(()),
    });
    if let Err(error) = recorded {
        tracing::warn!(%error, "the audit record of the journal before cannot be read; it stays in the file that is kept");
    }
    let named = schema::version(&before).and_then(|version| match version {
        schema::NAMED.. => requests_with_names(&before, copy),
        _ => Ok(()),
    });
    if let Err(error) = named {
        tracing::warn!(%error, "which requests with a name the journal before paid cannot be read: repeated, they are paid again");
    }
    Ok(unread)
}

/// What was paid since the copy was made is not paid again under its name.
fn requests_with_names(before: &Connection, copy: &mut Connection) -> Result<(), JournalError> {
    let part = copy.transaction()?;
    let read = "SELECT v.agent, v.request_key, v.request_body, v.intent, v.nonce, c.channel_id, v.bound, v.created_at AS created_at \
         FROM vouchers v JOIN channels c USING (intent) WHERE v.request_key IS NOT NULL AND v.state != 'not_charged' \
         UNION ALL SELECT agent, request_key, request_body, intent, nonce, channel_id, bound, created_at FROM carried_requests";
    let payments = "SELECT agent, request_key, request_body, 0, id, NULL, amount, created_at FROM payments \
         WHERE request_key IS NOT NULL AND state != 'not_charged'";
    let mut found = rows(before, read)?;
    if schema::version(before)? >= schema::PAYING {
        found.extend(rows(before, payments)?);
    }
    for row in found {
        part.prepare_cached(
            "INSERT INTO carried_requests (agent, request_key, request_body, intent, nonce, channel_id, bound, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET request_body = excluded.request_body, \
             intent = excluded.intent, nonce = excluded.nonce, channel_id = excluded.channel_id, bound = excluded.bound, \
             created_at = excluded.created_at WHERE excluded.created_at > created_at",
        )?
        .execute(params_from_iter(row))?;
    }
    Ok(part.commit()?)
}

/// What was decided since the copy was made stays on record: its rows are added, in their order. Which row each is the
/// outcome of is told by the voucher's name alone, since the copy may not know that voucher.
fn audit_record(before: &Connection, copy: &mut Connection, same: bool) -> Result<(), JournalError> {
    let known: i64 = copy.query_row("SELECT COALESCE(MAX(seq), 0) FROM audit", [], |row| row.get(0))?;
    let part = copy.transaction()?;
    let mut read = before.prepare(&format!(
        "SELECT {COLUMNS}, times, last_at FROM audit a LEFT JOIN audit_repeats r ON r.seq = a.seq WHERE a.seq > ?1 ORDER BY a.seq"
    ))?;
    let columns = COLUMNS.split(',').count();
    let places = vec!["?"; columns].join(", ");
    let mut rows = read.query([if same { known } else { 0 }])?;
    while let Some(row) = rows.next()? {
        let values: Vec<Value> = (0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?;
        part.prepare_cached(&format!("INSERT INTO audit ({COLUMNS}) VALUES ({places})"))?
            .execute(params_from_iter(values))?;
        if let (Some(times), Some(last_at)) =
            (row.get::<_, Option<i64>>("times")?, row.get::<_, Option<i64>>("last_at")?)
        {
            part.prepare_cached("INSERT INTO audit_repeats (seq, times, last_at) VALUES (?1, ?2, ?3)")?.execute([
                part.last_insert_rowid(),
                times,
                last_at,
            ])?;
        }
    }
    drop(rows);
    drop(read);
    Ok(part.commit()?)
}

fn rows(db: &Connection, query: &str) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut statement = db.prepare(query)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect())?;
    rows.collect()
}
