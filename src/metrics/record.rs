//! What happened, told by the code where it happens.

use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use drain_protocol::demand::Protocol;
use drain_protocol::refusal::RefusalCode;
use drain_protocol::{Address, Usdc};
use drain_signers::{Capabilities, SignerError};
use strum::VariantArray;

use super::FAMILIES;
use super::labels::{
    Actor, AdminEvent, Correction, Forwarded, PaymentOutcome, Request, Restart, Rpc, Signed, Transport, VoucherEnd,
};
use super::names::{self, Named};
use crate::payment::is_built;
use crate::policy::approvals::{Verdict, Via};

static PROVIDERS: Named = Named::new();
static AGENTS: Named = Named::new();

/// What has a known set of labels is shown from the start: a rise from nothing is no rise to whoever reads.
pub(super) fn begin() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let features = [
            ("sandbox", cfg!(feature = "sandbox")),
            ("ledger", cfg!(feature = "ledger")),
            ("aws", cfg!(feature = "aws")),
            ("postgres", cfg!(feature = "postgres")),
            ("mpp", cfg!(feature = "mpp")),
            ("x402", cfg!(feature = "x402")),
        ];
        let features: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        FAMILIES.build_info.set([env!("CARGO_PKG_VERSION"), &features.join(",")], 1);
        for event in AdminEvent::VARIANTS {
            FAMILIES.contract_admin_events_total.begin([event.as_ref()]);
        }
        for correction in Correction::VARIANTS {
            FAMILIES.voucher_corrections_total.begin([correction.as_ref()]);
        }
        for reason in ["invalid_nonce", "insufficient_funds", "invalid_signature", "channel_not_found", "rate_limited"]
        {
            FAMILIES.voucher_refusals_total.begin([reason]);
        }
        for actor in [Actor::Directory, Actor::Signer, Actor::Wallet, Actor::Watcher, Actor::Refund] {
            FAMILIES.actor_restarts_total.begin([actor.as_ref(), Restart::Gone.as_ref()]);
        }
        for actor in [Actor::Channel, Actor::Wallet] {
            FAMILIES.actor_restarts_total.begin([actor.as_ref(), Restart::Panic.as_ref()]);
        }
        for actor in [Actor::Directory, Actor::Signer, Actor::Wallet, Actor::Channel, Actor::Journal] {
            FAMILIES.actor_mailbox_depth.shift([actor.as_ref()], 0);
        }
        for protocol in Protocol::ALL.into_iter().filter(|it| is_built(*it)) {
            for outcome in PaymentOutcome::VARIANTS {
                FAMILIES.payments_total.begin([protocol.as_str(), outcome.as_ref()]);
            }
        }
        for outcome in ["taken", "never_taken"] {
            FAMILIES.payments_resolved_total.begin([outcome]);
        }
        for outcome in Forwarded::VARIANTS {
            FAMILIES.requests_forwarded_total.begin([outcome.as_ref()]);
        }
        for transport in Transport::VARIANTS {
            FAMILIES.mcp_sessions.shift([transport.as_ref()], 0);
        }
    });
}

/// A provider's name where things are counted, from the key of its record.
fn provider(key: &str) -> String {
    PROVIDERS.admit(names::provider(key))
}

/// A key is there to sign for a wallet.
pub fn signer_there(wallet: Address, signer: Capabilities) {
    let yes = |is: bool| if is { "true" } else { "false" };
    let (name, full) = (names::wallet(wallet), wallet.to_string());
    let labels = [&*name, signer.kind, &*full, yes(signer.interactive), yes(signer.clear_signing)];
    FAMILIES.signer_info.set(labels, 1);
    FAMILIES.signer_available.set([&name, signer.kind], 1);
}

/// A signature was made, or not.
pub fn signature(wallet: Address, backend: &str, what: Signed, took: Duration, error: Option<&SignerError>) {
    let available = |yes| FAMILIES.signer_available.set([&names::wallet(wallet), backend], yes);
    match error {
        None => {
            FAMILIES.sign_duration_seconds.took([backend, what.as_ref()], took);
            available(1);
        }
        Some(error) => {
            FAMILIES.signer_errors_total.inc([backend, error.code()]);
            // A rule of ours says nothing about the key.
            if !matches!(error, SignerError::Refused { .. }) {
                available(0);
            }
        }
    }
}

/// A channel can be paid from: what counts for its provider and its agents is shown before the first request.
pub fn channel<'a>(provider_key: &str, agents: impl Iterator<Item = &'a str>) {
    let provider = provider(provider_key);
    for outcome in Request::VARIANTS {
        FAMILIES.provider_requests_total.begin([&provider, outcome.as_ref()]);
    }
    for end in VoucherEnd::VARIANTS {
        FAMILIES.vouchers_signed_total.begin([&provider, end.as_ref()]);
    }
    for agent in agents {
        spent_for(agent, &provider, Usdc::ZERO);
    }
}

/// A voucher's request ended.
pub fn voucher(provider_key: &str, end: VoucherEnd) {
    FAMILIES.vouchers_signed_total.inc([&provider(provider_key), end.as_ref()]);
}

/// A payment without a channel ended, as far as its server told.
pub fn payment(protocol: Protocol, outcome: PaymentOutcome) {
    FAMILIES.payments_total.inc([protocol.as_str(), outcome.as_ref()]);
}

/// Its answer took so long.
pub fn payment_took(protocol: Protocol, took: Duration) {
    FAMILIES.payment_duration_seconds.took([protocol.as_str()], took);
}

/// The chain said what became of a payment.
pub fn payment_on_chain(taken: bool) {
    FAMILIES.payments_resolved_total.inc([if taken { "taken" } else { "never_taken" }]);
}

/// A provider refused a voucher. Codes that only this provider knows are one.
pub fn voucher_refused(code: &RefusalCode) {
    let reason = match code {
        RefusalCode::Upstream(_) => "upstream",
        RefusalCode::Other(_) => names::OTHER,
        code => code.as_str(),
    };
    FAMILIES.voucher_refusals_total.inc([reason]);
}

/// A provider told other books than ours.
pub fn correction(correction: Correction) {
    FAMILIES.voucher_corrections_total.inc([correction.as_ref()]);
}

/// A request was booked at `cost`.
pub fn booked(agent: &str, provider_key: &str, cost: Usdc, bound: Usdc) {
    let provider = provider(provider_key);
    spent_for(agent, &provider, cost);
    if let Some(part) = units(cost).saturating_mul(1_000_000).checked_div(units(bound)) {
        FAMILIES.provider_cost_to_bound_ratio.millionths([&provider], part);
    }
}

/// Requests of unknown outcome turned out to cost `cost`.
pub fn spent(agent: &str, provider_key: &str, cost: Usdc) {
    spent_for(agent, &provider(provider_key), cost);
}

fn spent_for(agent: &str, provider: &str, cost: Usdc) {
    FAMILIES.spend_usdc_total.add([&AGENTS.admit(names::clean(agent)), provider], units(cost));
}

/// A paid request was sent and ended so.
pub fn request(provider_key: &str, outcome: Request, took: Duration) {
    let provider = provider(provider_key);
    FAMILIES.provider_requests_total.inc([&provider, outcome.as_ref()]);
    FAMILIES.provider_request_duration_seconds.took([&provider], took);
}

/// The head of a provider's answer came after so long.
pub fn first_byte(provider_key: &str, took: Duration) {
    FAMILIES.provider_first_byte_seconds.took([&provider(provider_key)], took);
}

/// Something was decided: leave, or the rule that was against it.
pub fn decided(decision: &'static str, rule: &'static str) {
    FAMILIES.policy_decisions_total.inc([decision, rule]);
}

/// A person answered after so long.
pub fn approval(via: Via, verdict: Verdict, waited: Duration) {
    let outcome = match verdict {
        Verdict::Approve => "approve",
        Verdict::Deny => "deny",
    };
    FAMILIES.approval_wait_seconds.took([via.as_str(), outcome], waited);
}

/// The journal committed.
pub fn journal_committed(took: Duration) {
    FAMILIES.journal_commit_duration_seconds.took([], took);
}

/// The journal could not record something, by a fault of disk or file.
pub fn journal_failed() {
    FAMILIES.journal_errors_total.inc([]);
}

/// The journal's server was reached anew.
#[cfg(feature = "postgres")]
pub fn journal_reconnected() {
    FAMILIES.journal_reconnects_total.inc([]);
}

/// This process has a wallet now.
pub fn wallet_taken(wallet: Address) {
    let wallet = names::wallet(wallet);
    FAMILIES.wallet_held.set([&wallet], 1);
    FAMILIES.wallet_taken_total.inc([&wallet]);
    FAMILIES.wallet_lost_total.begin([&wallet]);
}

/// Another replica took it over.
pub fn wallet_lost(wallet: Address) {
    let wallet = names::wallet(wallet);
    FAMILIES.wallet_held.set([&wallet], 0);
    FAMILIES.wallet_lost_total.inc([&wallet]);
}

/// Another replica has it.
pub fn wallet_elsewhere(wallet: Address) {
    let wallet = names::wallet(wallet);
    FAMILIES.wallet_held.set([&wallet], 0);
    FAMILIES.wallet_taken_total.begin([&wallet]);
    FAMILIES.wallet_lost_total.begin([&wallet]);
}

/// A request was passed on to another replica.
pub fn forwarded(outcome: Forwarded) {
    FAMILIES.requests_forwarded_total.inc([outcome.as_ref()]);
}

/// An RPC endpoint answered, or did not.
pub fn rpc(endpoint: &str, outcome: Rpc, took: Duration) {
    let endpoint = names::clean(endpoint);
    FAMILIES.rpc_requests_total.inc([&endpoint, outcome.as_ref()]);
    FAMILIES.rpc_request_duration_seconds.took([&endpoint], took);
}

/// An RPC endpoint may be asked. One that was not asked yet is no failing one.
pub fn rpc_there(endpoint: &str) {
    let endpoint = names::clean(endpoint);
    for outcome in [Rpc::Ok, Rpc::Fault] {
        FAMILIES.rpc_requests_total.begin([&endpoint, outcome.as_ref()]);
    }
}

/// An RPC endpoint told of its newest block.
pub fn rpc_head(endpoint: &str, block: u64) {
    FAMILIES.rpc_head_block.set([&names::clean(endpoint)], block);
}

/// The watcher saw the newest block, and the newest final one.
pub fn watched(wallet: Address, block_time: u64, confirmed: u64) {
    FAMILIES.watcher_last_block_timestamp_seconds.set([&names::wallet(wallet)], block_time);
    FAMILIES.chain_confirmed_block.set([], confirmed);
}

/// Whether the watcher reads the chain.
pub fn watching(wallet: Address, active: bool) {
    FAMILIES.watcher_active.set([&names::wallet(wallet)], u64::from(active));
}

/// The chain took back what was final, so deep.
pub fn reorg(depth: u64) {
    FAMILIES.reorgs_total.inc([]);
    FAMILIES.reorg_depth_blocks.millionths([], depth.saturating_mul(1_000_000));
}

/// A transaction was sent, or ended.
pub fn transaction(kind: &str, outcome: &str) {
    FAMILIES.transactions_total.inc([kind, outcome]);
}

/// A contract's owner did something.
pub fn admin_event(event: AdminEvent) {
    FAMILIES.contract_admin_events_total.inc([event.as_ref()]);
}

/// An actor was started anew.
pub fn restarted(actor: Actor, cause: Restart) {
    FAMILIES.actor_restarts_total.inc([actor.as_ref(), cause.as_ref()]);
}

/// An actor did something.
pub fn progressed(actor: Actor) {
    FAMILIES.actor_last_progress_timestamp_seconds.set([actor.as_ref()], now());
}

/// Something is asked of an actor, until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Asked(Actor);

/// Something is asked of an actor.
pub fn asked(actor: Actor) -> Asked {
    FAMILIES.actor_mailbox_depth.shift([actor.as_ref()], 1);
    Asked(actor)
}

impl Drop for Asked {
    fn drop(&mut self) {
        FAMILIES.actor_mailbox_depth.shift([self.0.as_ref()], -1);
        progressed(self.0);
    }
}

/// A call of a tool or a resource ended.
pub fn mcp(tool: &str, outcome: &str, took: Duration) {
    FAMILIES.mcp_requests_total.inc([tool, outcome]);
    FAMILIES.mcp_request_duration_seconds.took([tool], took);
}

/// A client is connected, until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Session(Transport);

/// A client is connected.
pub fn session(transport: Transport) -> Session {
    FAMILIES.mcp_sessions.shift([transport.as_ref()], 1);
    Session(transport)
}

impl Drop for Session {
    fn drop(&mut self) {
        FAMILIES.mcp_sessions.shift([self.0.as_ref()], -1);
    }
}

/// In base units.
pub(super) fn units(amount: Usdc) -> u64 {
    u64::try_from(amount.as_i64()).unwrap_or_default()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10,000 channels of 1,000 providers and 1,000 agents, each with every outcome there is.
    #[test]
    fn counters_are_bounded_however_many_providers_and_agents_there_are() {
        for n in 0..10_000_u32 {
            let (of, agent) =
                (format!("{:#042x} p{}.example", n % 1_000, n % 1_000), format!("agent {}", n * 7 % 1_000));
            channel(&of, [agent.as_str()].into_iter());
            for outcome in Request::VARIANTS {
                request(&of, *outcome, Duration::from_millis(5));
            }
            for end in VoucherEnd::VARIANTS {
                voucher(&of, *end);
            }
            first_byte(&of, Duration::from_millis(5));
            booked(&agent, &of, Usdc::new(1), Usdc::new(2));
        }
        let text = super::super::render();
        let series = |family: &str| text.lines().filter(|line| line.starts_with(&format!("drain_{family}"))).count();
        let names = names::MOST + 1;
        assert!((names..=names * names).contains(&series("spend_usdc_total{")));
        assert_eq!(series("provider_requests_total{"), names * Request::VARIANTS.len());
        assert_eq!(series("vouchers_signed_total{"), names * VoucherEnd::VARIANTS.len());
        for histogram in
            ["provider_request_duration_seconds", "provider_first_byte_seconds", "provider_cost_to_bound_ratio"]
        {
            assert_eq!(series(&format!("{histogram}_count{{")), names);
        }
        // All others are one.
        assert!(text.contains("provider=\"other\""));
    }
}
