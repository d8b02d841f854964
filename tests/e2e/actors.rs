//! Actors: one process a wallet, an ordered end, faults of ours that stay small, channels that others opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use drain_mcp::api::{ChannelState, Progress, SendAmount};
use drain_mcp::error::Code;
use drain_protocol::{Address, TempoTransfer};
use drain_sandbox::contracts::CHANNEL_V2;
use drain_sandbox::provider::Times;
use drain_signers::{Backend, LocalBackend, Message, Prompt, SignedTransaction, SignerError, TransactionRequest};
use futures::future::BoxFuture;

use crate::harness::{World, ask, figures, in_system, open, reserved, unspent, until, usdc, view, vouchers};

#[test]
fn m2_a_second_process_on_one_home_signs_nothing_itself() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let second = world.runtime().await;
        assert!(second.providers(Default::default()).await.unwrap().matched > 0);
        ask(&second, channel, "sim-small", "Hello").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        // M5: what only a person does is not shared, and it is said who has the wallet.
        let before = world.transactions();
        let (to, amount) = (Address::repeat_byte(7), SendAmount::Usdc(Some(usdc("1"))));
        let refused = unspent(second.send(to, amount, false, Progress::none()).await, Code::WalletInUse);
        assert!(refused.next.contains(&format!("kill {}", std::process::id())), "{refused:?}");
        assert_eq!(unspent(second.has_wallet().await, Code::WalletInUse), refused);
        runtime.has_wallet().await.unwrap();
        assert_eq!(world.transactions(), before);
        // Whoever is left has it.
        drop(runtime);
        // A question is asked again until somebody has the wallet; a payment handed to one that ends would be of unknown outcome.
        second.channels(false).await.unwrap();
        ask(&second, channel, "sim-small", "Hello").await.unwrap();
        drop(second);
        let third = world.runtime().await;
        ask(&third, channel, "sim-small", "Hello").await.unwrap();
        let nonces: Vec<u64> = figures(&world.sandbox.llm).into_iter().map(|(_, nonce)| nonce).collect();
        assert!(nonces.len() == 4 && nonces.is_sorted_by(|a, b| a < b), "{nonces:?}");
    });
}

#[test]
fn shutdown_waits_for_a_request_on_its_way() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_millis(200)));
        let asked = actix::spawn({
            let runtime = runtime.clone();
            async move { ask(&runtime, channel, "sim-small", "Hello").await }
        });
        until("the provider has it", async || !vouchers(&world.sandbox.llm).is_empty()).await;
        runtime.shutdown().await;
        // Settled on disk before the end, not left in flight.
        let settled = "SELECT COUNT(*) FROM vouchers WHERE state = 'settled' AND cost > 0";
        assert_eq!(world.journaled(settled), 1);
        asked.await.unwrap().unwrap();
    });
}

#[test]
fn a_channel_answers_while_its_request_runs_and_others_pay() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let other = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.hang = Times::ALWAYS);
        let asked = actix::spawn({
            let runtime = runtime.clone();
            async move { ask(&runtime, channel, "sim-small", "Hello").await }
        });
        until("the provider has it", async || !vouchers(&world.sandbox.llm).is_empty()).await;
        assert!(!view(&runtime, channel).await.in_flight.is_zero());
        ask(&runtime, other, "sim/forecast", "Lisbon").await.unwrap();
        runtime.cooperative_close(other, Progress::none()).await.unwrap();
        assert!(!asked.is_finished());
        asked.abort();
    });
}

/// A key that panics when told to, as a driver with a fault would.
#[derive(Debug)]
struct Faulty {
    key: LocalBackend,
    broken: Arc<AtomicBool>,
}

impl Backend for Faulty {
    fn sign_message(&self, message: &Message, prompt: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>> {
        let signed = self.key.sign_message(message, prompt);
        Box::pin(async move {
            assert!(!self.broken.load(Ordering::Relaxed), "the driver has a fault");
            signed.await
        })
    }

    fn sign_transaction(
        &self,
        request: &TransactionRequest,
        prompt: &Prompt,
    ) -> BoxFuture<'_, Result<SignedTransaction, SignerError>> {
        self.key.sign_transaction(request, prompt)
    }

    fn sign_tempo(&self, order: &TempoTransfer, prompt: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>> {
        self.key.sign_tempo(order, prompt)
    }

    fn address(&self) -> Address {
        self.key.address()
    }

    fn capabilities(&self) -> drain_signers::Capabilities {
        self.key.capabilities()
    }
}

#[test]
fn a_panic_while_signing_costs_nothing_and_the_server_goes_on() {
    in_system(async {
        let world = World::start().await;
        let broken = Arc::new(AtomicBool::new(false));
        let key = Faulty { key: world.backend(), broken: broken.clone() };
        let runtime = world.runtime_of(world.config(), key).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        broken.store(true, Ordering::Relaxed);
        unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::Internal);
        assert_eq!((vouchers(&world.sandbox.llm).len(), view(&runtime, channel).await.in_flight), (0, usdc("0")));
        broken.store(false, Ordering::Relaxed);
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        // The number of the voucher that was never signed is not used again.
        assert_eq!(figures(&world.sandbox.llm)[0].1, 2);
    });
}

#[test]
fn m2_a_signer_that_is_started_anew_leaves_each_channel_its_one_queue() {
    in_system(async {
        let world = World::start().await;
        let broken = Arc::new(AtomicBool::new(false));
        let key = Faulty { key: world.backend(), broken: broken.clone() };
        let runtime = world.runtime_of(world.config(), key).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let other = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_millis(400)));
        let first = actix::spawn({
            let runtime = runtime.clone();
            async move { ask(&runtime, channel, "sim-small", "First").await }
        });
        until("the provider has it", async || vouchers(&world.sandbox.llm).len() == 1).await;
        broken.store(true, Ordering::Relaxed);
        assert!(ask(&runtime, other, "sim/forecast", "Lisbon").await.is_err());
        broken.store(false, Ordering::Relaxed);
        // Takes its turn behind the first, which a new actor of this channel would not know of.
        let second = actix::spawn({
            let runtime = runtime.clone();
            async move { ask(&runtime, channel, "sim-small", "Second").await }
        });
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!((first.is_finished(), vouchers(&world.sandbox.llm).len()), (false, 1));
        let paid = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
        assert_eq!(paid[1].channel.charged, paid[0].cost.saturating_add(paid[1].cost));
        ask(&runtime, other, "sim/forecast", "Lisbon").await.unwrap();
        runtime.cooperative_close(channel, Progress::none()).await.unwrap();
    });
}

#[test]
fn a_journal_row_that_makes_no_sense_stops_its_channel_only() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let other = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        let damage = |contract: &str| {
            world.journal().execute("UPDATE channels SET contract = ?1 WHERE intent = 1", [contract]).unwrap();
        };
        let contract: String =
            world.journal().query_row("SELECT contract FROM channels", [], |row| row.get(0)).unwrap();
        damage("0xnonsense");
        unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::JournalFailed);
        assert_eq!(vouchers(&world.sandbox.llm), []);
        ask(&runtime, other, "sim/forecast", "Lisbon").await.unwrap();
        damage(&contract);
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
    });
}

/// A channel of the same key that this journal did not open, known from the earlier drain-mcp's file.
#[test]
fn an_imported_channel_reads_its_providers_books_before_it_pays() {
    in_system(async {
        let mut world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, channel, "sim-small", "write 100 words").await.unwrap();
        runtime.shutdown().await;
        let charged = view(&runtime, channel).await.charged;
        drop(runtime);

        world.home = tempfile::tempdir().unwrap();
        let file = format!(r#"{{"{channel}":{{"providerId":"sim-llm","spending":"7"}}}}"#);
        std::fs::write(world.home.path().join("channels.json"), file).unwrap();
        let runtime = world.runtime().await;
        while runtime.channels(false).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let found = view(&runtime, channel).await;
        assert!(found.recovered && found.signed == usdc("0.000007"), "{found:?}");
        world.sandbox.llm.clear_log();
        let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let sent = vouchers(&world.sandbox.llm);
        assert_eq!((sent.len(), sent[0].amount), (2, Some(0)));
        assert!(!sent[0].body.contains("Hello") && sent[0].nonce > Some(1_700_000_000_000_000), "{:?}", sent[0]);
        assert_eq!(paid.channel.charged, charged.saturating_add(paid.cost));
        unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::CloseRefused);
        ask(&runtime, channel, "sim-small", "Once more").await.unwrap();
        assert_eq!(vouchers(&world.sandbox.llm).len(), 3, "the books are read once");
    });
}

/// Events are read from the block of the watcher's first look on; its later looks ask for them.
async fn until_watched(world: &World) {
    let node = world.chain();
    let reads = || node.request_count().get("eth_getLogs").copied().unwrap_or_default();
    until("the watcher reads events", async || {
        node.mine(1);
        reads() > 0
    })
    .await;
}

#[test]
fn a_claim_is_seen_on_the_chain_while_the_channel_pays_on() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let signed = ask(&runtime, channel, "sim-small", "Hello").await.unwrap().channel.signed;
        until_watched(&world).await;
        world.sandbox.llm.claim(channel.0).await.unwrap();
        until("the journal has it", async || world.journaled("SELECT claimed FROM channels") > 0).await;
        assert_eq!(world.journaled("SELECT claimed FROM channels") as u64, signed.units());
        // What was claimed was charged: the books go on as before.
        let after = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert!(after.channel.signed >= signed && after.channel.claimed == signed);
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!((closed.channel.state, closed.paid), (ChannelState::Closed, after.channel.signed));
    });
}

#[test]
fn a_channel_that_is_closed_elsewhere_ends_here_too() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let idle = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        let busy = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        until_watched(&world).await;
        world.sandbox.llm.set(|faults| faults.hang = Times::ALWAYS);
        let asked = actix::spawn({
            let runtime = runtime.clone();
            async move { ask(&runtime, busy, "sim-small", "Hello").await }
        });
        until("the provider has it", async || !vouchers(&world.sandbox.llm).is_empty()).await;
        world.advance(86_400).await;
        world.close_elsewhere(CHANNEL_V2, idle).await;
        world.close_elsewhere(CHANNEL_V2, busy).await;
        let closed = || world.journaled("SELECT COUNT(*) FROM channels WHERE state = 'closed' AND refunded = 1000000");
        until("the idle one is recorded", async || closed() == 1).await;
        // The other one's request is on its way; its channel is ended after it.
        world.sandbox.llm.set_down(true);
        reserved(asked.await.unwrap(), Code::AnswerLost);
        until("the busy one is recorded too", async || closed() == 2).await;
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("0"));
        unspent(runtime.close(busy, Progress::none()).await, Code::ChannelNotOpen);
        unspent(ask(&runtime, idle, "sim/forecast", "Lisbon").await, Code::ChannelExpired);
    });
}
