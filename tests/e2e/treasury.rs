//! Treasury = Ledger: a device funds the key that software uses, and gets back what that does not need.

use drain_protocol::{Address, U256, Usdc};
use drain_sandbox::ledger::{Finger, LedgerPeer, LedgerPeerConfig};
use drain_signers::{Secret, keystore};

use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Env, Greeting, until, world};

/// The device's account: that of the public test words at the first path.
const TREASURY: &str = "0x9858EfFD232B4033E47d90003D41EC34EcaEda94";
/// The key that software uses.
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Operator {
    world: World,
    device: LedgerPeer,
    env: Env,
    wallet: Address,
}

impl Operator {
    async fn start() -> Self {
        let world = world().await;
        let device = LedgerPeer::start(LedgerPeerConfig::default()).await.unwrap();
        let path = world.home.path().join("keystore.json");
        let secret = Secret::parse(KEY).unwrap();
        keystore::create(&path, &secret, "pw").unwrap();
        let env = Env::of(&world)
            .without("DRAIN_PRIVATE_KEY")
            .with("DRAIN_KEYSTORE", path.display().to_string())
            .with("DRAIN_KEYSTORE_PASSWORD", "pw")
            .with("DRAIN_TREASURY", "ledger")
            .with("DRAIN_LEDGER_ADDRESS", TREASURY)
            .with("DRAIN_LEDGER_EMULATOR", device.address().to_string());
        let observer = world.sandbox.observer();
        observer.fund(TREASURY.parse().unwrap(), usdc("100"), ether("10")).await.unwrap();
        observer.fund(secret.address(), Usdc::ZERO, U256::ZERO).await.unwrap();
        Self { world, device, env, wallet: secret.address() }
    }

    /// As `wallet new` notes it, or a person at `wallet backup`.
    fn backed_up(&self) {
        std::fs::write(self.world.home.path().join("keystore.json.backed-up"), "").unwrap();
    }

    async fn holds(&self, account: Address) -> (Usdc, U256) {
        let observer = self.world.sandbox.observer();
        (observer.usdc_balance(account).await.unwrap(), observer.native_balance(account).await.unwrap())
    }
}

fn ether(text: &str) -> U256 {
    alloy::primitives::utils::parse_ether(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_presses_fund_a_wallet_whose_backup_is_confirmed_and_the_rest_goes_back() {
    let operator = Operator::start().await;
    let env = &operator.env;
    let fund = ["wallet", "fund", "--usdc", "8", "--pol", "0.2", "--json"];

    // Nobody has confirmed a backup: the device is not even asked.
    let refused = env.run(&fund).await;
    assert!(refused.code != Some(0) && refused.everything().contains("drain-mcp wallet backup"), "{refused:?}");
    assert!(operator.device.exchanges().is_empty());
    operator.backed_up();

    // Rejected on the device: nothing moves.
    operator.device.finger(Finger::Reject);
    let rejected = env.run(&fund).await;
    assert_ne!(rejected.code, Some(0));
    assert_eq!(operator.holds(operator.wallet).await, (Usdc::ZERO, U256::ZERO));

    operator.device.finger(Finger::Approve);
    let funded = env.run(&fund).await;
    let told = funded.ok_json();
    assert_eq!((told["from"].as_str(), told["transactions"].as_array().map(Vec::len)), (Some(TREASURY), Some(2)));
    assert!(funded.stderr.contains("2 presses on the Ledger"), "{}", funded.stderr);
    assert_eq!(operator.holds(operator.wallet).await, (usdc("8"), ether("0.2")));

    // The day's limit holds, whatever is pressed.
    let more = env.run(&["wallet", "fund", "--usdc", "12.01"]).await;
    assert!(more.code != Some(0) && more.stderr.contains("DRAIN_MAX_FUND_PER_DAY"), "{more:?}");

    // The wallet pays without the device.
    let pressed = operator.device.exchanges().len();
    let mut agent = Agent::start(env, Greeting::Discover).await;
    let channel = agent.open("sim-llm", "1", "24h").await;
    agent.ok("drain_chat", crate::process_harness::chat(&channel, "Hello")).await;

    // Beside the running process: what is above the marks goes back, to the treasury alone.
    let swept = env.run(&["wallet", "sweep", "--json"]).await.ok_json();
    assert_eq!((swept["usdc"].as_str(), swept["to"].as_str()), (Some("2.00"), Some(TREASURY)), "{swept}");
    assert_eq!(operator.holds(operator.wallet).await.0, usdc("5"));
    assert_eq!(operator.holds(TREASURY.parse().unwrap()).await.0, usdc("94"));
    let again = env.run(&["wallet", "sweep", "--json"]).await.ok_json();
    assert_eq!(again["transactions"].as_array().map(Vec::len), Some(0), "{again}");
    assert_eq!(operator.device.exchanges().len(), pressed);
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_that_is_short_asks_for_a_refill_and_sweeps_have_a_limit() {
    let operator = Operator::start().await;
    let env = operator.env.clone().with("DRAIN_MAX_SWEEPS_PER_DAY", "1").with("DRAIN_SWEEP_KEEP", "2");
    let observer = operator.world.sandbox.observer();
    observer.fund(operator.wallet, usdc("0.5"), ether("0.2")).await.unwrap();
    let mut agent = Agent::start(&env, Greeting::Discover).await;
    let balance = agent.ok("drain_balance", serde_json::json!({})).await;
    assert!(balance.text.contains("below DRAIN_REFILL_BELOW (1.00)"), "{}", balance.text);
    let wish = serde_json::json!({ "provider": "sim-llm", "amount": "1", "duration": "24h" });
    let short = agent.fails("drain_open_channel", wish, "insufficient_usdc").await;
    assert!(short.text.contains("drain-mcp wallet fund --usdc 5 --pol 0.1"), "{}", short.text);

    for (held, sent) in [("4", true), ("5", false)] {
        observer.fund(operator.wallet, usdc(held), ether("0.2")).await.unwrap();
        let swept = env.run(&["wallet", "sweep"]).await;
        assert_eq!(swept.code == Some(0), sent, "{swept:?}");
        assert!(sent || swept.stderr.contains("DRAIN_MAX_SWEEPS_PER_DAY"), "{swept:?}");
    }
    assert_eq!(operator.holds(operator.wallet).await.0, usdc("5"));
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contradictory_settings_are_said() {
    let operator = Operator::start().await;
    for (name, value, says) in [
        ("DRAIN_SIGNER", "ledger", "the Ledger is the treasury"),
        ("DRAIN_SWEEP_KEEP", "1.5", "too near"),
        ("DRAIN_LEDGER_ADDRESS", "", "no account is set"),
    ] {
        let refused = operator.env.clone().with(name, value).run(&["wallet", "balance"]).await;
        assert!(refused.code != Some(0) && refused.stderr.contains(says), "{name}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_a_second_press_that_is_rejected_hides_nothing_of_the_first() {
    let operator = Operator::start().await;
    operator.backed_up();
    let (env, device) = (operator.env.clone(), &operator.device);
    device.finger(Finger::Wait);
    let funding =
        tokio::spawn(async move { env.run(&["wallet", "fund", "--usdc", "3", "--pol", "0.1", "--json"]).await });
    until("the first prompt", async || device.asking()).await;
    device.finger(Finger::Approve);
    until("it is pressed", async || !device.asking()).await;
    device.finger(Finger::Wait);
    until("the second prompt", async || device.asking()).await;
    device.finger(Finger::Reject);
    let error = funding.await.unwrap().json()["error"].clone();
    assert_eq!(
        (error["code"].as_str(), error["money"]["state"].as_str()),
        (Some("ledger_rejected"), Some("spent")),
        "{error}"
    );
    assert!(error["message"].as_str().unwrap().contains("3.00 USDC had been sent before"), "{error}");
    assert_eq!(operator.holds(operator.wallet).await, (usdc("3"), U256::ZERO));
}
