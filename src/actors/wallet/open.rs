//! Opening a channel: everything that can be refused is refused before money moves; then fee (V1), allowance, open.

use drain_protocol::duration::ChannelDuration;
use drain_protocol::{Address, Deployment, Generation, U256, Usdc};
use drain_signers::Call;
use drain_signers::request::SESSION_FEE;

use super::transact::not_enough_gas;
use super::{Bench, ChannelMade, finish};
use crate::api::{Approved, ChannelState, Progress};
use crate::error::{Code, Failure, Money};
use crate::journal::{ChannelRecord, NewChannel, Seen, TxKind};
use crate::points::{Point, reach};
use crate::policy::Sees;

/// Gas that an approval, an open, a fee and the later close use, from above. To foresee, not to send with.
const GAS_APPROVE: u64 = 65_000;
const GAS_OPEN: u64 = 260_000;
const GAS_FEE: u64 = 65_000;
const GAS_CLOSE: u64 = 160_000;

/// Gas of an opening alone, with its approval, and the fee where there is one. To tell people.
pub const fn gas_of_opening(fee: bool) -> u64 {
    GAS_APPROVE + GAS_OPEN + if fee { GAS_FEE } else { 0 }
}

/// A channel to open, its provider checked.
#[derive(Clone, Debug)]
pub struct OpenPlan {
    /// What is recorded.
    pub channel: NewChannel,
    /// How long.
    pub duration: ChannelDuration,
    /// Where the V1 session fee goes; on V2 there is none.
    pub fee_wallet: Option<Address>,
}

impl OpenPlan {
    fn fee(&self) -> Option<Address> {
        self.fee_wallet.filter(|_| self.channel.deployment.generation == Generation::V1)
    }
}

/// Opens, or joins an opening of the same provider that a restart left behind.
pub(super) async fn open(bench: &Bench, plan: OpenPlan, progress: &Progress) -> Result<ChannelMade, Failure> {
    // First of all: what is open already must not be refused for the money that it took.
    if let Some(record) = left_behind(bench, &plan).await? {
        return Ok(ChannelMade::resumed(record));
    }
    if let Some(seen) = join(bench, &plan).await? {
        return Ok(ChannelMade::shared(seen));
    }
    progress.say("checking contract, balance, gas and allowance");
    check_funds(bench, &plan).await?;
    bench.services.know_time().await?;
    let (limits, moment) = (bench.limits.clone(), bench.services.clock.moment());
    let (record, pending) = bench.purse.journal.begin_open(plan.channel.clone(), limits, moment).await?;
    if pending {
        let record = finish::resume_opening(bench, record).await?;
        return Ok(ChannelMade::resumed(record));
    }
    reach(Point::OpenBegun);
    match carry_out(bench, &plan, &record, progress).await {
        Ok(made) => Ok(made),
        Err(failure) => {
            // Nothing of it can land any more, unless a transaction is on its way.
            finish::put_back(bench, record.intent).await;
            Err(failure)
        }
    }
}

/// An opening of this provider whose caller stopped waiting, or whose process ended: opened since and never used, or
/// still on its way. Without it, the repeated call that we ask for would lock a second deposit.
async fn left_behind(bench: &Bench, plan: &OpenPlan) -> Result<Option<ChannelRecord>, Failure> {
    let (chain_id, wallet) = (bench.services.config.chain.chain_id, bench.purse.address);
    let provider_id = &plan.channel.provider_id;
    if let Some(record) = bench.purse.journal.untold(chain_id, wallet, provider_id.clone()).await?
        && bench.services.clock.block_time() < record.expires_at
    {
        return Ok(Some(record));
    }
    let member = match bench.sees {
        Sees::All => None,
        Sees::Own { .. } => Some(plan.channel.agent.as_str()),
    };
    let whose = |record: &ChannelRecord| match member {
        None => record.members.is_empty(),
        Some(agent) => record.is_of(agent),
    };
    let open = bench.purse.journal.channels(false).await?;
    let pending = |record: &ChannelRecord| is_opening(record) && record.provider_id == *provider_id && whose(record);
    match open.into_iter().find(pending) {
        Some(pending) => finish::resume_opening(bench, pending).await.map(Some),
        None => Ok(None),
    }
}

/// A channel of the wallet that agents share, for one of them that shares. Openings go one after another, so what others are
/// about to open is open by now, or waits for its transaction: then this waits too.
async fn join(bench: &Bench, plan: &OpenPlan) -> Result<Option<Seen>, Failure> {
    if !plan.channel.shared {
        return Ok(None);
    }
    bench.services.know_time().await?;
    let (journal, clock) = (&bench.purse.journal, &bench.services.clock);
    let (new, limits) = (&plan.channel, &bench.limits);
    let found = journal.shareable(new.clone(), limits.clone(), clock.block_time()).await?;
    if let Some(pending) = found.filter(is_opening) {
        finish::resume_opening(bench, pending).await?;
    }
    Ok(journal.join(new.clone(), limits.clone(), clock.block_time(), clock.moment()).await?)
}

async fn carry_out(
    bench: &Bench,
    plan: &OpenPlan,
    record: &ChannelRecord,
    progress: &Progress,
) -> Result<ChannelMade, Failure> {
    let Some(to) = plan.fee() else { return lock_deposit(bench, plan, record, Vec::new(), progress).await };
    let paid = pay_session_fee(bench, plan, record, to, progress).await?;
    let made = lock_deposit(bench, plan, record, paid.clone().into_iter().collect(), progress).await;
    match paid {
        Some(hash) => made.map_err(|failure| {
            let told =
                format!("The session fee of {SESSION_FEE} USDC was paid before and is used for the next opening");
            after(failure, &told, hash, SESSION_FEE)
        }),
        None => made,
    }
    .map(|made| ChannelMade { session_fee: SESSION_FEE, ..made })
}

/// `amount` left before this failure, and nothing else that is said of the money may hide it (M15).
pub(super) fn after(failure: Failure, told: &str, receipt: String, amount: Usdc) -> Failure {
    let message = format!("{}. {told}", failure.message.trim_end_matches('.'));
    let money = match failure.money {
        Money::NotSpent | Money::GasOnly => Money::Spent { receipt, amount },
        other => other,
    };
    Failure { message, money, ..failure }
}

/// The allowance and the open.
async fn lock_deposit(
    bench: &Bench,
    plan: &OpenPlan,
    record: &ChannelRecord,
    mut transactions: Vec<String>,
    progress: &Progress,
) -> Result<ChannelMade, Failure> {
    let approval = raise_allowance(bench, plan, record, progress).await?;
    let approved = approval.is_some();
    transactions.extend(approval);
    let call =
        Call::Open { provider: plan.channel.provider_wallet, amount: plan.channel.deposit, duration: plan.duration };
    let landed = bench.transact(plan.channel.deployment, call, Some(record.intent), progress).await;
    let landed = landed.map_err(|failure| match failure.money {
        // The approval used gas.
        Money::NotSpent if approved => failure.with_money(Money::GasOnly),
        _ => failure,
    })?;
    transactions.push(format!("{:#x}", landed.receipt.hash));
    let record = finish::opened(bench, record, &landed).await?;
    Ok(ChannelMade { record, resumed: false, shared: None, session_fee: Usdc::ZERO, transactions })
}

/// Contract and token (M8), balance less fee, gas for this opening and for every close to come. One clear answer before
/// anything moves.
async fn check_funds(bench: &Bench, plan: &OpenPlan) -> Result<(), Failure> {
    let (chain, deployment) = (&bench.services.chain, &plan.channel.deployment);
    chain.verify_deployment(deployment).await?;
    let owner = bench.purse.address;
    let held = chain.usdc_balance(deployment.usdc, owner).await?;
    let fee = plan.fee().map_or(Usdc::ZERO, |_| SESSION_FEE);
    if plan.channel.deposit.saturating_add(fee) > held {
        let (chain_id, limit) = (deployment.chain_id(), bench.limits.locked);
        let room = limit.saturating_sub(bench.purse.journal.locked(chain_id, owner).await?);
        let most = match bench.sees {
            Sees::All => held.saturating_sub(fee).min(room),
            // What others have locked is not an agent's to know.
            Sees::Own { .. } => held.saturating_sub(fee).min(bench.limits.per_channel),
        };
        let with_fee = if fee.is_zero() { String::new() } else { format!(" and the session fee of {fee} USDC") };
        return Err(Failure::unspent(
            Code::InsufficientUsdc,
            format!(
                "the wallet holds {held} USDC; a deposit of {}{with_fee} does not fit. The highest possible deposit is {most} USDC",
                plan.channel.deposit
            ),
            "Open with less, or let a person send native USDC on this chain to the wallet.",
        ));
    }
    // Without gas for a close a deposit stays where it is: each open channel needs one, and so does this one.
    let open = bench.purse.journal.channels(false).await?;
    let open = open.iter().filter(|c| c.consumer == owner && c.deployment.chain_id() == deployment.chain_id()).count();
    let closes = GAS_CLOSE.saturating_mul(u64::try_from(open).unwrap_or(u64::MAX).saturating_add(1));
    let gas = closes.saturating_add(GAS_APPROVE + GAS_OPEN + if fee.is_zero() { 0 } else { GAS_FEE });
    let needed = U256::from(gas).saturating_mul(U256::from(chain.fees().await?.expected_per_gas()));
    let pol = chain.native_balance(owner).await?;
    if pol < needed {
        let failure = not_enough_gas(pol, needed);
        let others = match bench.sees {
            Sees::All => format!("{open} open channels"),
            Sees::Own { .. } => "all channels of the wallet that are open".into(),
        };
        let message = format!("{}: for this opening, its close and the closes of {others}", failure.message);
        return Err(Failure { message, ..failure });
    }
    Ok(())
}

/// Exactly one cent, once per opening; one that was paid for an opening that failed is used first (design section 6).
async fn pay_session_fee(
    bench: &Bench,
    plan: &OpenPlan,
    record: &ChannelRecord,
    to: Address,
    progress: &Progress,
) -> Result<Option<String>, Failure> {
    if SESSION_FEE > bench.limits.session_fee {
        let failure = Failure::unspent(
            Code::LimitReached,
            format!("V1 asks for a session fee of {SESSION_FEE} USDC; the limit is {}", bench.limits.session_fee),
            "A person can raise DRAIN_MAX_SESSION_FEE.",
        );
        return Err(bench.refused(TxKind::SessionFee, SESSION_FEE, failure));
    }
    let deployment = plan.channel.deployment;
    if bench
        .purse
        .journal
        .reuse_session_fee(deployment.chain_id(), bench.purse.address, to, record.intent)
        .await?
        .is_some()
    {
        progress.say("the session fee of an earlier opening that failed is used");
        return Ok(None);
    }
    progress.say(format!("paying the session fee of {SESSION_FEE} USDC to {to}"));
    let landed = bench.transact(deployment, Call::SessionFee { to }, Some(record.intent), progress).await?;
    finish::transferred(bench, &landed, deployment.usdc, to, SESSION_FEE).await?;
    Ok(Some(format!("{:#x}", landed.receipt.hash)))
}

/// What the contract may be allowed to take: the limit on what may be locked less what is locked already (M9).
async fn allowance_room(bench: &Bench, chain_id: u64) -> Result<Usdc, Failure> {
    let locked = bench.purse.journal.locked(chain_id, bench.purse.address).await?;
    Ok(bench.limits.locked.saturating_sub(locked))
}

/// The allowance for this deposit and no more (M9). One that is there and large enough is used, unless it is larger than
/// it may be: another program's, or from before the limit was lowered.
async fn raise_allowance(
    bench: &Bench,
    plan: &OpenPlan,
    record: &ChannelRecord,
    progress: &Progress,
) -> Result<Option<String>, Failure> {
    let (deployment, deposit) = (plan.channel.deployment, plan.channel.deposit);
    let unlimited = bench.limits.unlimited_allowance;
    let allowed = bench.services.chain.allowance(deployment.usdc, bench.purse.address, deployment.contract()).await?;
    // This deposit is among what is locked since the opening began.
    let most = allowance_room(bench, deployment.chain_id()).await?.saturating_add(deposit);
    if allowed >= deposit.to_u256() && (unlimited || allowed <= most.to_u256()) {
        return Ok(None);
    }
    let (call, allowance) = if unlimited {
        (Call::ApproveUnlimited, U256::MAX)
    } else {
        (Call::Approve { amount: deposit }, deposit.to_u256())
    };
    let landed = bench.transact(deployment, call, Some(record.intent), progress).await?;
    finish::approved(bench, &landed, deployment.usdc, deployment.contract(), allowance).await?;
    Ok(Some(format!("{:#x}", landed.receipt.hash)))
}

/// `drain_approve`: never above the limit on what may be locked less what is (M9), never unlimited by a tool (M5).
pub(super) async fn approve_for_person(
    bench: &Bench,
    amount: Option<Usdc>,
    progress: &Progress,
) -> Result<Approved, Failure> {
    let limit = bench.limits.locked;
    let room = allowance_room(bench, bench.services.config.chain.chain_id).await?;
    let amount = amount.unwrap_or(room);
    if amount > room {
        let locked = limit.saturating_sub(room);
        let failure = Failure::unspent(
            Code::LimitReached,
            format!(
                "An allowance of {amount} USDC is above the limit of {limit} on what may be locked, {locked} of which is locked already"
            ),
            "Approve less, or let a person raise DRAIN_MAX_LOCKED. Opening a channel raises the allowance by itself.",
        );
        return Err(bench.refused(TxKind::Approve, amount, failure));
    }
    let deployment = bench.deployment()?;
    bench.services.chain.verify_deployment(&deployment).await?;
    let allowed = bench.services.chain.allowance(deployment.usdc, bench.purse.address, deployment.contract()).await?;
    if allowed == amount.to_u256() {
        return Ok(Approved { spender: deployment.contract(), allowance: amount, transaction: None });
    }
    let landed = bench.transact(deployment, Call::Approve { amount }, None, progress).await?;
    finish::approved(bench, &landed, deployment.usdc, deployment.contract(), amount.to_u256()).await?;
    Ok(Approved {
        spender: deployment.contract(),
        allowance: amount,
        transaction: Some(format!("{:#x}", landed.receipt.hash)),
    })
}

impl Bench {
    /// The contract that no channel decides: V2's where there is one. Its token is the wallet's USDC.
    pub(super) fn deployment(&self) -> Result<Deployment, Failure> {
        let deployments = &self.services.config.chain.deployments;
        let usual = deployments.iter().find(|on| on.generation == Generation::V2).or_else(|| deployments.first());
        usual.copied().ok_or_else(|| {
            Failure::unspent(
                Code::InvalidConfig,
                "no channel contract is known on this chain",
                "A person sets DRAIN_CONTRACT, DRAIN_CONTRACT_GENERATION and DRAIN_USDC, or uses chain 137.",
            )
        })
    }
}

/// Whether a record may still become a channel.
pub(super) const fn is_opening(record: &ChannelRecord) -> bool {
    matches!(record.state, ChannelState::Opening)
}
