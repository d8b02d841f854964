//! What is shown of a journal with 10,000 channels, providers and agents: few series, and all of the money.

use std::collections::BTreeMap;
use std::sync::Arc;

use drain_protocol::{Address, Usdc};

use super::usage_tests::write;
use super::*;
use crate::clock::Moment;
use crate::metrics;
use crate::metrics::state::Shown;

const MANY: u64 = 10_000;
const NOW: u64 = 1_800_000_000;
const WALLET: Address = Address::repeat_byte(0x7e);

/// One open channel with a voucher in flight for each of so many providers and agents; the last expired long ago.
fn filled(folder: &Path) -> Journal {
    let journal = Journal::at(folder).unwrap();
    let location = Location::new(folder.into());
    let rows = |row: &dyn Fn(u64) -> String| (1..=MANY).map(row).collect::<Vec<_>>().join(", ");
    let channels = rows(&|i| {
        format!(
            "(137, '0xc0', 'v2', '0xcc', '{WALLET:#x}', 'p{i}', 'p', '0x{i:040x}', 'https://p{i}.example/', 'llm', '', 86400, 'open', \
             '0x{i:064x}', {}, {}, {}, 100, 500, 200, 1, 1, 1)",
            NOW - MANY + i,
            1_000 + i,
            1_000 + i
        )
    });
    let vouchers = rows(&|i| format!("({i}, 1, 500, 300, 7, '', 'in_flight', {NOW}, 'a{i}', {NOW}, {i})"));
    let used = rows(&|i| {
        format!("('provider 0x{i:040x} p{i}.example', 'day', {0}, {i}), ('agent a{i}', 'day', {0}, {i})", NOW / 1_800)
    });
    let sql = format!(
        "BEGIN; UPDATE window_clock SET at = {NOW};
         INSERT INTO channels (chain_id, contract, generation, token, consumer, provider_id, provider_name, provider_wallet, \
             api_url, category, prices, duration, state, channel_id, expires_at, deposit, cap, claimed, signed, charged, nonce, created_at, used_at) \
           VALUES {channels};
         INSERT INTO vouchers (intent, nonce, amount, bound, growth, model, state, created_at, agent, counted_at, audit) VALUES {vouchers};
         INSERT INTO usage VALUES {used}, ('all', 'day', {}, 70000); COMMIT;",
        NOW / 1_800
    );
    write(&location, &sql).unwrap();
    journal
}

fn asked() -> TotalsAsked {
    let limits = crate::policy::testing::limits();
    TotalsAsked {
        chain_id: 137,
        wallet: WALLET,
        limits: Arc::new(limits),
        agents: BTreeMap::from([("a1".to_owned(), Usdc::new(5))]),
        moment: Moment { at: NOW, windows: Some(NOW) },
        block_time: NOW - 1,
    }
}

/// The series of a family that are this wallet's.
fn series(text: &str, family: &str) -> BTreeMap<String, f64> {
    let wallet = format!("wallet=\"{}\"", metrics::names::wallet(WALLET));
    let ours = text.lines().filter(|line| line.starts_with(family) && line.contains(&wallet));
    ours.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name.into(), value.parse().unwrap())).collect()
}

#[test]
fn ten_thousand_channels_are_few_series_and_no_money_is_left_out() {
    let home = tempfile::tempdir().unwrap();
    let journal = filled(home.path());
    let books = journal.totals().read(&asked()).unwrap();
    assert_eq!(books.sums.len() as u64, MANY);
    let shown = Shown::of(WALLET);
    shown.books(&books);
    let text = metrics::render();

    let units =
        |family: &str| -> i64 { series(&text, family).values().map(|value| (value * 1e6).round() as i64).sum() };
    let many = i64::try_from(MANY).unwrap();
    assert_eq!(units("drain_channel_deposit_usdc"), many * 1_000 + many * (many + 1) / 2);
    assert_eq!(units("drain_channel_signed_usdc"), many * 500);
    assert_eq!(units("drain_channel_charged_usdc"), many * 200);
    assert_eq!(units("drain_channel_claimed_usdc"), many * 100);
    assert_eq!(units("drain_channel_overhang_usdc"), many * 300);
    // All but the newest have expired: what was not claimed of them comes back.
    let newest = 1_000 + many - 100;
    assert_eq!(units("drain_reclaimable_usdc"), many * 900 + many * (many + 1) / 2 - newest);
    assert_eq!(series(&text, "drain_channels").values().sum::<f64>(), MANY as f64);
    let name = |family: &str, part: &str| series(&text, family).into_iter().find(|(name, _)| name.contains(part));
    assert_eq!(name("drain_channels", "expired").unwrap().1, (MANY - 1) as f64);
    assert_eq!(name("drain_channel_next_expiry", "").unwrap().1, NOW as f64);

    // The 50 with the highest deposits by name, all others as one.
    let deposits = series(&text, "drain_channel_deposit_usdc");
    assert_eq!(deposits.len(), metrics::names::MOST + 1);
    assert!(deposits.keys().any(|name| name.contains("p10000.example 0x00000000")), "{deposits:?}");
    assert!(deposits.keys().any(|name| name.contains("provider=\"other\"")));
    // Limits: everybody's four, and of 50 providers and 50 agents.
    let caps = series(&text, "drain_cap_used_usdc");
    assert_eq!(caps.len(), 4 + 2 * metrics::names::MOST);
    assert_eq!(name("drain_cap_used_usdc", "scope=\"day\"").unwrap().1, 0.07);
    assert_eq!(name("drain_cap_reserved_usdc", "scope=\"day\"").unwrap().1, 0.07);
    assert_eq!(name("drain_cap_used_usdc", "name=\"a10000\"").unwrap().1, 0.01);
    assert_eq!(name("drain_cap_reserved_usdc", "name=\"a10000\"").unwrap().1, 0.000_007);
    assert_eq!(series(&text, "drain_").len(), 6 + 5 * 51 + 3 * 104 + 4);

    // What is over is shown no more.
    drop(shown);
    assert_eq!(series(&metrics::render(), "drain_").len(), 0);
}

#[test]
fn an_agents_own_limit_is_shown_where_it_is_tighter() {
    let home = tempfile::tempdir().unwrap();
    let journal = Journal::at(home.path()).unwrap();
    let books = journal.totals().read(&asked()).unwrap();
    let agent = books.caps.iter().find(|cap| cap.scope == "agent").unwrap();
    assert_eq!((agent.name.as_str(), agent.limit, agent.used), ("a1", Usdc::new(5), Usdc::ZERO));
    assert_eq!(books.oldest_transaction, None);
}
