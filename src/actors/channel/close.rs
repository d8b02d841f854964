//! The end of a channel (M6): what is checked before a close is sent, and what it must show afterwards.

use drain_protocol::close::CloseAnswer;
use drain_protocol::voucher::verify_signature;
use drain_protocol::{ChannelId, CloseAuthorization, Generation, Nonce};
use drain_signers::Call;

use super::inquiry::{self, settle_unknown};
use super::{CloseKind, Desk};
use crate::actors::view;
use crate::actors::wallet::{CloseDone, ResumeClose, SendClose, ask_wallet};
use crate::api::{ChannelState, Closed, Progress};
use crate::chain::OnChainChannel;
use crate::error::{Code, Failure};
use crate::points::{Point, reach};

pub(super) async fn end(
    desk: &mut Desk,
    kind: CloseKind,
    only_after: Option<Nonce>,
    progress: &Progress,
) -> Result<Closed, Failure> {
    if only_after.is_some_and(|nonce| nonce != desk.record.books.nonce) {
        return Err(Failure::unspent(Code::Busy, "The channel paid again meanwhile", "Close it when it is idle."));
    }
    if desk.record.state == ChannelState::Closing
        && let Some(closed) = resume(desk, progress).await?
    {
        return Ok(closed);
    }
    let channel_id = match (desk.record.state, desk.record.channel_id) {
        (ChannelState::Open, Some(id)) => id,
        _ => {
            return Err(Failure::unspent(
                Code::ChannelNotOpen,
                "The channel is not open: it is closed, or a close is on its way",
                "Look at it with drain_channel_status.",
            ));
        }
    };
    let on_chain = read(desk, channel_id).await?;
    let wallet = desk.wallet().await?;
    let call = match kind {
        CloseKind::AtExpiry => at_expiry(desk, channel_id, &on_chain).await?,
        CloseKind::Cooperative => {
            may_cooperate(desk)?;
            // Before the state changes, since the question takes a voucher too (of amount zero).
            settle_unknown(desk, progress).await?;
            // From here on nothing is signed: what the provider signs must stay the last word (M6).
            begin(desk).await?;
            reach(Point::CloseBegun);
            match cooperative(desk, channel_id, &on_chain, progress).await {
                Ok(call) => call,
                Err(failure) => {
                    // Where that cannot be recorded, the next close does it: what the provider said stays the answer.
                    match desk.purse.journal.put_back(desk.record.intent).await {
                        Ok(record) => desk.record.state = record.state,
                        Err(error) => tracing::error!(%error, "the channel stays closing until the next close"),
                    }
                    return Err(failure);
                }
            }
        }
    };
    if desk.record.state != ChannelState::Closing {
        begin(desk).await?;
    }
    reach(Point::CloseConsented);
    progress.say(format!("sending the {} transaction", call.kind()));
    let (record, caller, progress) = (Box::new(desk.record.clone()), desk.caller.clone(), progress.clone());
    match ask_wallet(&wallet, |reply| SendClose { record, call, caller, progress, reply }).await {
        Ok(done) => Ok(closed(desk, done)),
        Err(failure) => {
            // The wallet knows whether a transaction may still land; the record says which state that leaves.
            read_record(desk).await;
            Err(failure)
        }
    }
}

/// The close that an earlier call or run left behind. `None` where nothing of it is left: the channel is as the record
/// says now.
async fn resume(desk: &mut Desk, progress: &Progress) -> Result<Option<Closed>, Failure> {
    progress.say("a close was begun before; following it");
    let (record, caller, progress) = (Box::new(desk.record.clone()), desk.caller.clone(), progress.clone());
    let wallet = desk.wallet().await?;
    let done = ask_wallet(&wallet, |reply| ResumeClose { record, caller, progress, reply }).await;
    if let Ok(Some(done)) = done {
        return Ok(Some(closed(desk, done)));
    }
    read_record(desk).await;
    done.map(|_| None)
}

fn closed(desk: &mut Desk, done: CloseDone) -> Closed {
    desk.record = done.record;
    Closed {
        channel: view::channel(&desk.record, desk.services.clock.block_time()),
        left: false,
        paid: desk.record.books.claimed,
        protocol_fee: done.protocol_fee,
        refund: done.refund,
        transaction: done.transaction,
    }
}

/// Reads the record anew. Where that fails the old one stays, which signs nothing: it is closing.
async fn read_record(desk: &mut Desk) {
    match desk.purse.journal.channel(desk.record.intent).await {
        Ok(record) => desk.record = record,
        Err(error) => tracing::error!(%error, "the channel's record cannot be read"),
    }
}

async fn begin(desk: &mut Desk) -> Result<(), Failure> {
    desk.record.state = desk.purse.journal.begin_close(desk.record.intent).await?.state;
    Ok(())
}

/// The channel as the chain has it. One that is gone was closed elsewhere.
async fn read(desk: &mut Desk, channel_id: ChannelId) -> Result<OnChainChannel, Failure> {
    let found = desk.services.chain.channel_agreed(&desk.record.deployment, channel_id).await?;
    let Some(on_chain) = found.filter(|channel| channel.consumer == desk.purse.address) else {
        desk.watch_again();
        return Err(Failure::unspent(
            Code::ChannelNotOpen,
            "The contract knows this channel no more: it was closed, here or elsewhere",
            "Look at drain_balance: what was left is in the wallet.",
        ));
    };
    desk.record.books.claimed = desk.record.books.claimed.max(on_chain.claimed);
    Ok(on_chain)
}

async fn at_expiry(desk: &Desk, channel_id: ChannelId, on_chain: &OnChainChannel) -> Result<Call, Failure> {
    let head = desk.services.chain.head().await?;
    desk.services.clock.saw_block(head.timestamp);
    if head.timestamp < on_chain.expiry {
        let left = view::seconds(on_chain.expiry - head.timestamp);
        let next = match desk.record.deployment.generation {
            Generation::V2 => format!("Wait {left}, or close now with drain_cooperative_close."),
            Generation::V1 => format!("Wait {left}: on V1 only expiry ends a channel."),
        };
        return Err(Failure::unspent(Code::NotExpired, format!("The channel expires in {left}"), next));
    }
    Ok(Call::Close { channel_id })
}

const WAIT: &str = "Wait for expiry and use drain_close_channel: the deposit less what the provider claims comes back.";

fn refuse(message: impl Into<String>) -> Failure {
    Failure::unspent(Code::CloseRefused, message, WAIT)
}

fn may_cooperate(desk: &Desk) -> Result<(), Failure> {
    if desk.record.deployment.generation == Generation::V1 {
        return Err(refuse("V1 has no cooperative close"));
    }
    if desk.record.recovered {
        return Err(refuse(
            "The record of this channel may be incomplete, so nobody here knows what a fair final amount is",
        ));
    }
    Ok(())
}

/// The provider's consent, checked (M6).
async fn cooperative(
    desk: &Desk,
    channel_id: ChannelId,
    on_chain: &OnChainChannel,
    progress: &Progress,
) -> Result<Call, Failure> {
    progress.say(format!("asking {} for its consent", desk.name()));
    let answer = ask_provider(desk, channel_id).await?;
    let most = on_chain.deposit.min(desk.record.books.signed);
    let amount = answer.final_amount;
    if amount < on_chain.claimed {
        return Err(refuse(format!(
            "The provider has claimed {} USDC already and signs for {amount}: the contract would refuse that",
            on_chain.claimed
        )));
    }
    if amount > most {
        bad_close(desk).await;
        return Err(refuse(format!("The provider asks for {amount} USDC at the end; only {most} was ever signed")));
    }
    let digest = CloseAuthorization { channel_id, final_amount: amount }.digest(&desk.record.deployment.domain);
    if let Err(error) = verify_signature(digest, &answer.signature, on_chain.provider) {
        bad_close(desk).await;
        return Err(refuse(format!("The provider's consent is not valid: {error}")));
    }
    Ok(Call::CooperativeClose { channel_id, final_amount: amount, provider_signature: answer.signature })
}

/// A close answer that breaks M6 is held against the provider. Zero after a claim is not: honest ones say that too.
async fn bad_close(desk: &Desk) {
    let counted = desk.purse.journal.bad_close(desk.record.intent, desk.services.clock.now()).await;
    inquiry::note_failure(counted);
}

/// What to do when a provider gives no close answer.
const WITHOUT_PROVIDER: &str = "Try again later. At expiry drain_close_channel needs no provider.";

/// The provider's answer, within the operator's limit for any provider's answer.
async fn ask_provider(desk: &Desk, channel_id: ChannelId) -> Result<CloseAnswer, Failure> {
    let name = &desk.record.provider_name;
    let shown = desk.name();
    let limit = desk.services.config.requests.timeout;
    match tokio::time::timeout(limit, desk.services.provider.close(desk.base()?, channel_id)).await {
        // Another provider, which is the usual advice, cannot close this channel.
        Ok(answer) => answer.map_err(|error| Failure { next: WITHOUT_PROVIDER.into(), ..error.into_failure(name) }),
        Err(_) => Err(Failure::unspent(
            Code::ProviderUnreachable,
            format!("{shown} gave no close answer within {} s", limit.as_secs_f32()),
            WITHOUT_PROVIDER,
        )),
    }
}
