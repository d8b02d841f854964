//! Secrets that stay (M12), URLs and wallets that are pinned (M14), a marketplace that is not obeyed.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use alloy::hex;
use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, Progress};
use drain_mcp::config::ListedProvider;
use drain_mcp::error::{Failure, Money};
use drain_protocol::{Address, ChannelId};
use drain_sandbox::chain::Faults;
use drain_sandbox::marketplace::AGENT_KEY;
use drain_sandbox::provider::Provider;
use serde_json::{Value, json};

use crate::harness::{World, ask, in_system, open, until, usdc, vouchers, wish};

/// Everything that this process has logged since the first call, whichever test did it.
fn logged() -> Arc<Mutex<Vec<u8>>> {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let start = || {
        let log: Arc<Mutex<Vec<u8>>> = Arc::default();
        let sink = log.clone();
        let filter = tracing_subscriber::EnvFilter::new("debug,drain_mcp=trace,drain_signers=trace,rusqlite=off");
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || Sink(sink.clone()));
        subscriber.try_init().unwrap();
        log
    };
    LOG.get_or_init(start).clone()
}

/// Every file under a folder, in one piece.
fn files(folder: &Path, into: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.extend(std::fs::read(&path).unwrap());
        }
    }
}

/// The secret is in there as it is, or written in hexadecimal digits of either case.
fn holds(haystack: &[u8], secret: &[u8]) -> bool {
    let lower = hex::encode(secret);
    let spelled = [secret.to_vec(), lower.clone().into_bytes(), lower.to_uppercase().into_bytes()];
    spelled.iter().any(|form| haystack.windows(form.len()).any(|window| window == form.as_slice()))
}

fn text_of(failure: &Failure) -> String {
    format!("{failure:?} {failure} {} {}", failure.next, failure.money.sentence())
}

#[test]
fn m12_key_and_voucher_signatures_are_in_no_file_log_or_failure() {
    in_system(async {
        let log = logged();
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.extend(format!("{:?}", ask(&runtime, channel, "sim-small", "Hello").await.unwrap()).into_bytes());
        }
        // Whatever can go wrong with a voucher in hand.
        type Fault = fn(&mut drain_sandbox::provider::Faults);
        let faults: [Fault; 6] = [
            |f| f.cut_before_answer = drain_sandbox::provider::Times::next(1),
            |f| f.html_answer = drain_sandbox::provider::Times::next(1),
            |f| f.fail_500 = drain_sandbox::provider::Times::next(1),
            |f| f.validation_error = drain_sandbox::provider::Times::next(1),
            |f| f.invalid_nonce = drain_sandbox::provider::Times::next(2),
            |f| f.redirect = Some((307, "http://127.0.0.1:9/".into())),
        ];
        for fault in faults {
            world.sandbox.llm.set(fault);
            match ask(&runtime, channel, "sim-small", "Hello").await {
                Ok(paid) => seen.extend(format!("{paid:?}").into_bytes()),
                Err(failure) => seen.extend(text_of(&failure).into_bytes()),
            }
        }
        world.chain().main().set_faults(Faults { fail_rate: 1.0, ..Faults::default() });
        seen.extend(text_of(&open(&runtime, "sim-weather", "1", "24h").await.unwrap_err()).into_bytes());
        seen.extend(format!("{:?} {:?}", runtime.config().signer, runtime.channels(true).await.unwrap()).into_bytes());
        runtime.shutdown().await;

        files(world.home.path(), &mut seen);
        seen.extend_from_slice(&log.lock().unwrap());
        assert!(holds(&seen, world.agent().as_slice()), "what is looked through is what was written");
        assert!(!holds(&seen, AGENT_KEY.as_slice()), "the key");
        let sent = world.sandbox.llm.request_log().paid;
        let signatures = sent.iter().filter_map(|request| {
            let header: Value = serde_json::from_str(request.header.as_deref()?).ok()?;
            hex::decode(header["signature"].as_str()?).ok()
        });
        let signatures: Vec<Vec<u8>> = signatures.collect();
        assert!(signatures.len() >= 8, "{}", signatures.len());
        // Its two halves too: 64 of the 65 bytes are as good as all.
        assert!(
            signatures.iter().all(|signature| !holds(&seen, &signature[..32]) && !holds(&seen, &signature[32..64]))
        );
    });
}

#[test]
fn m12_credentials_of_an_rpc_url_are_in_no_view_log_or_failure() {
    in_system(async {
        const SECRETS: [&str; 3] = ["operator-user", "hunter2-password", "k3y-in-the-path"];
        let log = logged();
        let world = World::start().await;
        let [user, password, key] = SECRETS;
        let with_login = world.sandbox.rpc_url().replace("http://", &format!("http://{user}:{password}@"));
        let dead = format!("{with_login}/v2/{key}?apikey={key}");
        let mut seen = String::new();

        // Credentials that work: everything goes its way.
        let mut config = world.config();
        config.chain.rpc_urls = vec![with_login.parse().unwrap()];
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        seen += &serde_json::to_string(&runtime.balance().await.unwrap()).unwrap();
        world.chain().main().set_faults(Faults { fail_rate: 1.0, ..Faults::default() });
        seen += &serde_json::to_string(&runtime.channel(channel).await.unwrap()).unwrap();
        seen += &text_of(&runtime.balance().await.unwrap_err());
        seen += &format!("{:?}", runtime.config());

        // A path that nobody serves, and a port where nobody is.
        for url in [dead.clone(), format!("http://{user}:{password}@127.0.0.1:9/{key}")] {
            let home = tempfile::tempdir().unwrap();
            let mut config = world.config();
            config.home = home.path().to_owned();
            config.chain.rpc_urls = vec![url.parse().unwrap()];
            let runtime = world.runtime_with(config).await;
            for failure in [
                runtime.balance().await.map(drop).unwrap_err(),
                open(&runtime, "sim-llm", "1", "24h").await.map(drop).unwrap_err(),
                runtime.approve(None, Progress::none()).await.map(drop).unwrap_err(),
            ] {
                assert_eq!(failure.code.as_str(), "chain_unavailable");
                seen += &text_of(&failure);
            }
        }
        assert!(seen.contains("127.0.0.1"), "the host may be shown: {seen}");
        seen += &String::from_utf8_lossy(&log.lock().unwrap());
        for secret in SECRETS {
            assert!(!seen.contains(secret), "{secret}");
        }
    });
}

/// A second server of the same provider, at another URL.
async fn moved(world: &World) -> Provider {
    Provider::start(world.sandbox.llm.config().clone()).await.unwrap()
}

async fn assert_changed(world: &World, runtime: &Runtime) {
    let sent = world.sent().await;
    let failure = open(runtime, "sim-llm", "1", "24h").await.unwrap_err();
    assert_eq!((failure.code.as_str(), &failure.money), ("provider_changed", &Money::NotSpent), "{failure:?}");
    assert!(failure.next.contains("--trust sim-llm"), "{}", failure.next);
    assert_eq!(world.sent().await, sent);
}

#[test]
fn m14_a_changed_url_waits_for_a_person_and_open_channels_keep_theirs() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let elsewhere = moved(&world).await;
        let url = elsewhere.url();
        let life = async move |runtime: Runtime, world: Arc<World>| {
            let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
            world.sandbox.directory.change("sim-llm", |listing| listing.api_url = url);
            assert_changed(&world, &runtime).await;
            ask(&runtime, channel, "sim-small", "Where do you live?").await.unwrap();
            channel
        };
        let channel = world.life(world.config(), life).await;
        assert!(elsewhere.request_log().by_path.is_empty(), "nobody went there: {:?}", elsewhere.request_log().by_path);
        // A restart forgets neither.
        world
            .life(world.config(), async move |runtime: Runtime, world: Arc<World>| {
                assert_changed(&world, &runtime).await;
                ask(&runtime, channel, "sim-small", "And now?").await.unwrap();
                assert!(runtime.trust_provider("sim-llm").await.unwrap());
                let new = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
                ask(&runtime, new, "sim-small", "Hello").await.unwrap();
                ask(&runtime, channel, "sim-small", "Still at the old place?").await.unwrap();
            })
            .await;
        assert_eq!((vouchers(&elsewhere).len(), vouchers(&world.sandbox.llm).len()), (1, 3));
    });
}

#[test]
fn m14_a_changed_wallet_waits_for_a_person_and_must_be_the_providers_own() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let thief = Address::repeat_byte(0x66);
        world.sandbox.directory.change("sim-llm", |listing| listing.wallet = thief.to_string());
        assert_changed(&world, &runtime).await;
        // Trusted by a person, it is still not the wallet that the provider names.
        assert!(runtime.trust_provider("sim-llm").await.unwrap());
        assert_eq!(open(&runtime, "sim-llm", "1", "24h").await.unwrap_err().code.as_str(), "provider_mismatch");
        assert!(!runtime.trust_provider("sim-nobody").await.unwrap());
    });
}

#[test]
fn m14_with_a_public_directory_http_and_private_addresses_are_refused_unless_the_operator_says_so() {
    in_system(async {
        let world = World::start().await;
        let url = world.sandbox.llm.url();
        let private = ["https://10.0.0.1", "https://[::1]:1", "https://169.254.169.254/latest", url.as_str()];
        for (address, allowed) in private.into_iter().map(|url| (url, false)).chain([(url.as_str(), true)]) {
            let home = tempfile::tempdir().unwrap();
            let mut config = world.config();
            config.home = home.path().to_owned();
            // Not on loopback, and refused itself: the person's listing is all there is.
            config.marketplace.directory_url = "https://192.0.2.1/api/mcp/providers".parse().unwrap();
            config.marketplace.base_url = "https://192.0.2.1/".parse().unwrap();
            config.marketplace.timeout = std::time::Duration::from_millis(800);
            config.requests.allow_insecure = allowed;
            config.providers.push(ListedProvider {
                id: "mine".into(),
                api_url: address.parse().unwrap(),
                wallet: world.sandbox.llm.address(),
                category: "llm".into(),
            });
            let runtime = world.runtime_with(config).await;
            let outcome = runtime.open(wish("mine", "1"), Progress::none()).await;
            match outcome {
                Err(failure) => assert_eq!((allowed, failure.code.as_str()), (false, "url_refused"), "{address}"),
                Ok(_) => assert!(allowed, "{address}"),
            }
            assert_eq!(world.sandbox.llm.request_log().by_path.is_empty(), !allowed, "{address}");
        }
    });
}

#[test]
fn m14_a_redirect_is_not_followed_with_a_voucher() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let elsewhere = moved(&world).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        for status in [301, 302, 307, 308] {
            let to = format!("{}/v1/chat/completions", elsewhere.url());
            world.sandbox.llm.set(|faults| faults.redirect = Some((status, to)));
            let failure = ask(&runtime, channel, "sim-small", "Hello").await.unwrap_err();
            assert!(matches!(failure.money, Money::Reserved { .. } | Money::Credit { .. }), "{failure:?}");
        }
        assert!(elsewhere.request_log().by_path.is_empty());
    });
}

#[test]
fn a_forged_close_of_the_marketplace_is_noticed_and_never_sent() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.chain.poll_interval = std::time::Duration::from_millis(20);
        let runtime = world.runtime_with(config).await;
        let channel: ChannelId = open(&runtime, "sim-llm", "1", "300s").await.unwrap();
        let notes = async || runtime.channel(channel).await.unwrap().notes.join("; ");
        let proposed = "another close transaction";
        // Before expiry nobody is asked.
        world.sandbox.directory.set(|faults| faults.forged_calldata = Some(format!("0x39c79e0c{}", "66".repeat(32))));
        assert_eq!(notes().await, "");
        world.advance(300).await;
        until("it has expired", async || runtime.channel(channel).await.unwrap().state == ChannelState::Expired).await;
        assert!(notes().await.contains(proposed), "{}", notes().await);
        let closed = runtime.close(channel, Progress::none()).await.unwrap();
        assert_eq!(world.held().await, usdc("100"));
        let sent: Value =
            world.sandbox.observer().rpc().call("eth_getTransactionByHash", json!([closed.transaction])).await.unwrap();
        assert_eq!(sent["input"], format!("0x39c79e0c{}", channel.to_string().trim_start_matches("0x")));

        // An honest one is repeated as what it is: a hint.
        let channel = open(&runtime, "sim-llm", "1", "300s").await.unwrap();
        world.sandbox.directory.set(|faults| faults.forged_calldata = None);
        world.advance(300).await;
        let view = runtime.channel(channel).await.unwrap();
        assert!(view.notes.join("; ").contains("the marketplace says: expired_unclosed"), "{:?}", view.notes);
    });
}
