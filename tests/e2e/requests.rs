//! Paid requests: the record comes first (M1), nothing falls (M2), nothing passes its limit (M3).

use std::sync::Arc;

use std::time::Duration;

use drain_mcp::api::{ChatReply, OpenRequest, Progress};
use drain_mcp::error::Code;
use drain_sandbox::provider::{Model, Times};

use crate::harness::{
    World, ask, call, content, credit, figures, in_system, open, pay, unspent, until, usdc, view, vouchers,
};

#[test]
fn m1_a_voucher_is_on_disk_before_its_provider_sees_it() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.hang = Times::ALWAYS);
        let asked = actix::spawn({
            let runtime = runtime.clone();
            async move { ask(&runtime, channel, "sim-small", "Hello").await }
        });
        until("the provider has the voucher", async || !vouchers(&world.sandbox.llm).is_empty()).await;
        let (amount, nonce) = figures(&world.sandbox.llm)[0];
        let on_disk = world.journal().query_row("SELECT amount, nonce, bound, state FROM vouchers", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, String>(3)?))
        });
        let expected = (amount as i64, nonce as i64, amount as i64, "in_flight".to_owned());
        assert_eq!(on_disk.unwrap(), expected);
        assert_eq!(world.journaled("SELECT signed FROM channels"), amount as i64);
        asked.abort();
    });
}

#[test]
fn m1_nothing_leaves_while_another_holds_the_journal() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let other = world.journal();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let asking = ask(&runtime, channel, "sim-small", "Hello");
        futures::pin_mut!(asking);
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut asking).await.is_err());
        assert_eq!(vouchers(&world.sandbox.llm), []);
        other.execute_batch("ROLLBACK").unwrap();
        asking.await.unwrap();
        assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    });
}

/// What makes the record fail, and how it is mended.
const BREAKS: [(&str, &str); 2] = [
    // The row cannot be written.
    ("CREATE TRIGGER full BEFORE INSERT ON vouchers BEGIN SELECT RAISE(ABORT, 'disk full'); END", "DROP TRIGGER full"),
    // The row can be written, but the commit fails.
    (
        "CREATE TABLE owes (day INTEGER REFERENCES spent_by_day (day) DEFERRABLE INITIALLY DEFERRED);
         CREATE TRIGGER bounces AFTER INSERT ON vouchers BEGIN INSERT INTO owes VALUES (-1); END",
        "DROP TRIGGER bounces; DROP TABLE owes",
    ),
];

#[test]
fn m1_nothing_is_signed_when_the_record_cannot_be_written() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        for (number, (broken, mended)) in (1..).zip(BREAKS) {
            world.journal().execute_batch(broken).unwrap();
            let before = vouchers(&world.sandbox.llm).len();
            unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::JournalFailed);
            assert_eq!(vouchers(&world.sandbox.llm).len(), before, "a voucher left without its record: {broken}");
            world.journal().execute_batch(mended).unwrap();
            ask(&runtime, channel, "sim-small", "Hello again").await.unwrap();
            assert_eq!(view(&runtime, channel).await.requests, number);
        }
    });
}

#[test]
fn m2_nothing_falls_over_a_restart() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, channel, "sim-small", "write 200 words").await.unwrap();
        // One of unknown outcome: its runtime goes away while it is on its way.
        world.sandbox.llm.set(|faults| faults.hang = Times::ALWAYS);
        let asked = actix::spawn({
            let runtime = runtime.clone();
            async move { ask(&runtime, channel, "sim-small", "Hello").await }
        });
        let hangs = || vouchers(&world.sandbox.llm).last().is_some_and(|request| request.outcome == "hang");
        until("the second is there", async || hangs()).await;
        asked.abort();
        let _ = asked.await;
        drop(runtime);

        world.sandbox.llm.reset_faults();
        let runtime = world.runtime().await;
        let before = view(&runtime, channel).await;
        assert!(!before.in_flight.is_zero(), "the unknown request must stay reserved");
        assert_eq!(before.signed.units(), figures(&world.sandbox.llm).iter().map(|(amount, _)| *amount).max().unwrap());
        assert_eq!(before.signed, before.charged.saturating_add(before.in_flight));
        ask(&runtime, channel, "sim-small", "One more").await.unwrap();
        let sent = figures(&world.sandbox.llm);
        assert!(sent.windows(2).all(|two| two[0].0 <= two[1].0 && two[0].1 < two[1].1), "{sent:?}");
        let after = view(&runtime, channel).await;
        assert!(after.signed >= before.signed && after.charged > before.charged && after.in_flight.is_zero());
    });
}

#[test]
fn m2_the_database_itself_refuses_lower_values() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let journal = world.journal();
        for lower in ["signed = signed - 1", "nonce = nonce - 1", "signed = 0, nonce = nonce + 1"] {
            let error = journal.execute(&format!("UPDATE channels SET {lower}"), []).unwrap_err();
            assert!(error.to_string().contains("would fall"), "{error}");
        }
        journal.execute("UPDATE channels SET signed = signed + 1, nonce = nonce + 1", []).unwrap();
    });
}

#[test]
fn m2_thirty_two_at_once_are_all_answered_one_after_another() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let texts: Vec<String> = (0..32).map(|number| format!("Number {number} of many")).collect();
        let asked = texts.iter().map(|text| ask(&runtime, channel, "sim-small", text));
        let answers = futures::future::join_all(asked).await;
        let charged: u64 = answers.into_iter().map(|answer| answer.unwrap().cost.units()).sum();
        let sent = figures(&world.sandbox.llm);
        assert_eq!(sent.iter().map(|(_, nonce)| *nonce).collect::<Vec<_>>(), (1..=32).collect::<Vec<_>>());
        assert!(sent.windows(2).all(|two| two[0].0 <= two[1].0));
        let books = world.sandbox.llm.books(channel.0).unwrap();
        assert_eq!((books.total_charged, books.vouchers), (charged, 32));
    });
}

#[test]
fn m3_no_voucher_above_deposit_or_cap() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        Arc::make_mut(&mut config.limits).per_channel = usdc("0.003");
        let runtime = world.runtime_with(config).await;
        let open_with = async |provider: &str, amount: &str, cap: Option<&str>| {
            let (amount, cap) = (usdc(amount), cap.map(usdc));
            let request = OpenRequest { provider: provider.into(), amount, duration: None, cap };
            runtime.open(request, Progress::none()).await.unwrap()
        };
        // More could not be used before expiry.
        for (deposit, cap) in [("0.003001", None), ("1", Some("1"))] {
            let (provider, amount, cap) = ("sim-llm".into(), usdc(deposit), cap.map(usdc));
            let request = OpenRequest { provider, amount, duration: None, cap };
            let failure = unspent(runtime.open(request, Progress::none()).await, Code::LimitReached);
            assert!(failure.message.contains("DRAIN_MAX_PER_CHANNEL"), "{failure:?}");
        }
        assert_eq!(world.transactions(), 0);
        // The operator's limit, a wish that lowers it, a wish that would raise it, and the deposit itself.
        for (deposit, cap, limit, kept) in [
            ("0.003", None, "0.003", false),
            ("0.003", Some("0.002"), "0.002", false),
            ("0.003", Some("1"), "0.003", true),
            ("0.0015", None, "0.0015", false),
        ] {
            let opened = open_with("sim-llm", deposit, cap).await;
            assert_eq!(
                opened.warnings.iter().any(|warning| warning.contains("cap was kept")),
                kept,
                "{:?}",
                opened.warnings
            );
            let channel = opened.channel.channel_id.unwrap().parse().unwrap();
            // Answers of 400 tokens each until nothing more fits.
            let last = loop {
                let before = vouchers(&world.sandbox.llm).len();
                match ask(&runtime, channel, "sim-small", "write 230 words").await {
                    Ok(_) => assert_eq!(vouchers(&world.sandbox.llm).len(), before + 1),
                    Err(failure) => {
                        assert_eq!(vouchers(&world.sandbox.llm).len(), before, "refused, and yet something was sent");
                        break failure;
                    }
                }
            };
            unspent::<()>(Err(last), Code::ChannelExhausted);
            let signed = world.sandbox.llm.books(channel.0).unwrap().highest_voucher;
            assert!(signed <= usdc(limit).units(), "{signed} was signed of {limit}");
            // Less than what fifty tokens of output may cost is left unused.
            assert!(view(&runtime, channel).await.available < usdc("0.0001"));
        }
    });
}

#[test]
fn m3_near_its_end_a_channel_sends_a_smaller_max_tokens() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "0.0006", "24h").await.unwrap();
        let mut long = call(channel, "sim-small", "write 1000 words");
        long.max_tokens = Some(5_000);
        let paid = pay(&runtime, long.clone()).await.unwrap();
        let sent = paid.max_tokens_sent.unwrap();
        assert!(
            (50..5_000).contains(&sent) && paid.notes.iter().any(|note| note.contains("lowered")),
            "{:?}",
            paid.notes
        );
        assert_eq!(paid.finish_reason.as_deref(), Some("length"));
        unspent(pay(&runtime, long).await, Code::ChannelExhausted);
        assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    });
}

#[test]
fn m3_a_lower_limit_after_a_restart_holds_for_open_channels() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        drop(runtime);
        let mut config = world.config();
        Arc::make_mut(&mut config.limits).per_channel = usdc("0.0012");
        let runtime = world.runtime_with(config).await;
        let mut long = call(channel, "sim-small", "write 1000 words");
        long.max_tokens = Some(5_000);
        let paid = pay(&runtime, long).await.unwrap();
        assert!(paid.max_tokens_sent.unwrap() < 5_000 && paid.channel.signed <= usdc("0.0012"), "{:?}", paid.channel);
    });
}

#[test]
fn a_caller_caps_one_request_by_max_cost() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let mut capped = call(channel, "sim-small", "write 500 words");
        capped.max_cost = Some(usdc("0.0002"));
        let paid = pay(&runtime, capped.clone()).await.unwrap();
        assert!(paid.channel.signed <= usdc("0.0002") && paid.max_tokens_sent.unwrap() < 1_024);
        capped.max_cost = Some(usdc("0.00001"));
        unspent(pay(&runtime, capped).await, Code::LimitReached);
        unspent(ask(&runtime, channel, "no-such-model", "Hello").await, Code::UnknownModel);
        assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    });
}

#[test]
fn no_voucher_is_signed_close_to_expiry() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "2h").await.unwrap();
        // The chain's clock counts, not ours. The request may take 5 s.
        world.advance(7_200 - 4).await;
        view(&runtime, channel).await;
        unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::ChannelExpired);
        assert_eq!(vouchers(&world.sandbox.llm), []);
    });
}

#[test]
fn more_than_the_queue_holds_is_answered_busy() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.requests.queue = 2;
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_millis(50)));
        let asked = (0..6).map(|_| ask(&runtime, channel, "sim-small", "Hello"));
        let answers = futures::future::join_all(asked).await;
        let (answered, busy): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!((answered.len(), busy.len()), (3, 3));
        for answer in busy {
            unspent(answer, Code::Busy);
        }
        assert_eq!(vouchers(&world.sandbox.llm).len(), 3);
    });
}

#[test]
fn a_request_whose_caller_has_gone_before_its_turn_is_not_paid() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_millis(300)));
        let first = actix::spawn({
            let runtime = runtime.clone();
            async move { ask(&runtime, channel, "sim-small", "First").await }
        });
        until("the first is there", async || vouchers(&world.sandbox.llm).len() == 1).await;
        let gone = ask(&runtime, channel, "sim-small", "Second");
        assert!(tokio::time::timeout(Duration::from_millis(50), gone).await.is_err());
        first.await.unwrap().unwrap();
        ask(&runtime, channel, "sim-small", "Third").await.unwrap();
        let bodies: Vec<_> = vouchers(&world.sandbox.llm).into_iter().map(|request| request.body).collect();
        assert!(bodies.len() == 2 && !bodies.iter().any(|body| body.contains("Second")), "{bodies:?}");
    });
}

#[test]
fn a_flat_price_service_takes_json_in_the_message() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let weather = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        let paid = ask(&runtime, weather, "sim/forecast", r#"{"city":"Lisbon","days":2}"#).await.unwrap();
        assert_eq!((paid.cost, paid.disputed, paid.channel.signed), (usdc("0.005"), usdc("0"), usdc("0.005")));
        assert_eq!(content(&paid)["days"].as_array().unwrap().len(), 2);
        let image = open(&runtime, "sim-image", "1", "24h").await.unwrap();
        let paid = ask(&runtime, image, "sim/image", "a lighthouse").await.unwrap();
        assert_eq!(paid.cost, usdc("0.02"));
        assert!(content(&paid)["images"][0].as_str().unwrap().starts_with("data:image/png;base64,"));
    });
}

#[test]
fn a_service_whose_instructions_nobody_read_shows_them_before_it_is_paid() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        world.journal().execute("DELETE FROM docs_read", []).unwrap();
        let reply = runtime.chat(call(channel, "sim/forecast", "Lisbon"), Progress::none()).await.unwrap();
        let ChatReply::ReadFirst { docs } = reply else { panic!("{reply:?}") };
        assert!(docs.contains("Agent Instructions"));
        assert_eq!((vouchers(&world.sandbox.data).len(), view(&runtime, channel).await.signed), (0, usdc("0")));
        ask(&runtime, channel, "sim/forecast", "Lisbon").await.unwrap();
    });
}

/// Sells work per item: `sim/items` lists the price of one item as if it were a price per request, `sim/mixed` as if it
/// were one per token.
fn sells_per_item(config: &mut drain_sandbox::provider::ProviderConfig) {
    if config.name == "Sim-Weather" {
        config.kind = drain_sandbox::provider::Kind::PerItem;
        config.models = vec![Model::new("sim/items", 400, 0), Model::new("sim/mixed", 400, 1)];
    }
}

#[test]
fn work_priced_per_item_is_bounded_by_max_cost_or_the_operators_default() {
    in_system(async {
        let world = World::start_with(sells_per_item).await;
        world.sandbox.directory.change("sim-weather", |listing| listing.category = "other".into());
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        let three = r#"{"items":["a","b c","d"]}"#;
        // Nothing in the price explains three items: the bound is the operator's default, and the answer says so.
        let paid = ask(&runtime, channel, "sim/mixed", three).await.unwrap();
        assert_eq!((paid.cost, paid.disputed), (usdc("0.0012"), usdc("0")));
        assert_eq!(paid.channel.signed, world.config().requests.default_max_cost);
        assert!(paid.notes.iter().any(|note| note.contains("maxCost")), "{:?}", paid.notes);
        // A price per request explains one item only. More needs the caller's word, and no more than is asked for is signed.
        let channel = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        let refused = credit(ask(&runtime, channel, "sim/items", three).await, Code::ProviderRefused);
        assert!(refused.next.contains("maxCost"), "{refused:?}");
        let mut allowed = call(channel, "sim/items", three);
        allowed.max_cost = Some(usdc("0.5"));
        let paid = pay(&runtime, allowed).await.unwrap();
        assert_eq!((paid.cost, paid.disputed, paid.channel.signed), (usdc("0.0012"), usdc("0"), usdc("0.0012")));
    });
}
