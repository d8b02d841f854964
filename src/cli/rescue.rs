//! `drain-mcp rescue`: the money that any client of a wallet left behind, without a key or records.

use std::collections::BTreeMap;

use drain_protocol::{Address, Generation, Usdc};
use serde_json::{Value, json};

use super::exit::Exit;
use super::session::{Needs, Session};
use super::signer::find_address;
use crate::chain::{Chain, Opening};
use crate::error::{Code, Failure};
use crate::times::utc;

/// Arguments of `drain-mcp rescue`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp rescue 0x70997970C51812dc3A010C7d01b50e0d17dc79C8            every channel that this wallet ever opened, and what is in it
  drain-mcp rescue 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --close    and close what is expired; needs the wallet's key

It reads the chain alone: it finds what other clients left behind. Wallets with many channels take a while.")]
pub struct Args {
    /// The wallet
    pub address: Address,
    /// Close what is expired, with the wallet's key
    #[arg(long)]
    pub close: bool,
}

/// One channel, as the chain has it.
struct Line {
    opening: Opening,
    generation: Generation,
    /// What the contract holds; `None` when it is over.
    left: Option<Usdc>,
    expired: bool,
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    if args.close && find_address(config).await? != Some(args.address) {
        return Err(Failure::unspent(
            Code::NoSigner,
            format!("Only the key of {} closes its channels, and that is not the configured one.", args.address),
            "Configure that key, or run it without --close.",
        ));
    }
    let chain = Chain::new(&config.chain)?;
    let deployments = config.chain.deployments.clone();
    let mut wanted = BTreeMap::new();
    for on in &deployments {
        wanted.insert(on.contract(), chain.opened_count(on, args.address).await?);
    }
    let head = chain.head().await?;
    let (mut openings, mut last) = (Vec::new(), head.number);
    let missing = |openings: &Vec<Opening>| {
        wanted.iter().any(|(contract, count)| {
            openings.iter().filter(|opening| opening.contract == *contract).count()
                < usize::try_from(*count).unwrap_or(usize::MAX)
        })
    };
    let mut steps = 0u64;
    while missing(&openings) {
        if steps.is_multiple_of(20) {
            session.output.remark(&format!("searching: block {last}, {} found", openings.len()));
        }
        steps += 1;
        let (first, found) = chain.openings_before(args.address, last).await?;
        openings.extend(found);
        if first == 0 {
            break;
        }
        last = first - 1;
    }
    let mut lines = Vec::new();
    for opening in openings.iter().copied() {
        let Some(on) = deployments.iter().find(|on| on.contract() == opening.contract) else { continue };
        let channel = chain.channel(on, opening.channel_id).await?;
        let left = channel.map(|channel| channel.deposit.saturating_sub(channel.claimed));
        lines.push(Line { opening, generation: on.generation, left, expired: head.timestamp >= opening.expiry });
    }
    let complete = !missing(&openings);
    let sum = |expired: bool| {
        let left = lines.iter().filter(|line| line.expired == expired).filter_map(|line| line.left);
        left.fold(Usdc::ZERO, Usdc::saturating_add)
    };
    let (now, later) = (sum(true), sum(false));
    let mut answer = json!({
        "address": args.address.to_string(), "complete": complete, "reclaimable_now": now, "locked_until_expiry": later,
        "channels": lines.iter().map(object).collect::<Vec<_>>(),
    });
    let mut text: Vec<String> = lines.iter().map(shown).collect();
    text.push(format!("{} openings; {now} USDC can be reclaimed now, {later} USDC at expiry.", lines.len()));
    if !complete {
        text.push("Not every opening that the contracts count was found: the RPC endpoint may not have all events; try another (DRAIN_RPC_URL).".into());
    }
    let mut exit = if complete { Exit::Ok } else { Exit::Failed };
    if args.close {
        let (recovery, reports) = session
            .run(Needs::Money, async |runtime, progress| {
                let recovery = runtime.recover(progress.clone()).await?;
                Ok((recovery, runtime.refund(None, progress).await?))
            })
            .await?;
        let back = reports.iter().filter_map(|report| report.closed.as_ref());
        let back = back.fold(Usdc::ZERO, |sum, closed| sum.saturating_add(closed.refund));
        text.push(format!("{} channels were unknown here; {back} USDC came back.", recovery.found));
        if exit == Exit::Ok {
            exit = super::refund::exit(&reports);
        }
        answer["refunded"] = json!(back);
        answer["closes"] = json!(reports);
    }
    session.output.answer(&answer, || text.join("\n"))?;
    Ok(exit)
}

fn state(line: &Line) -> &'static str {
    match (line.left, line.expired) {
        (None, _) => "closed",
        (Some(_), true) => "expired",
        (Some(_), false) => "open",
    }
}

fn object(line: &Line) -> Value {
    json!({
        "channel_id": line.opening.channel_id.to_string(), "contract": line.opening.contract.to_string(),
        "generation": line.generation.to_string(), "provider": line.opening.provider.to_string(),
        "deposit": line.opening.deposit, "left": line.left.unwrap_or_default(), "expires_at": line.opening.expiry,
        "state": state(line),
    })
}

fn shown(line: &Line) -> String {
    let what = match (line.left, line.expired, line.generation) {
        (None, _, _) => "over: nothing is in it".into(),
        (Some(left), true, _) => format!("{left} USDC can be reclaimed now"),
        (Some(left), false, Generation::V1) => format!("{left} USDC, from {}", utc(line.opening.expiry)),
        (Some(left), false, Generation::V2) => {
            format!("{left} USDC, from {}; earlier only if the provider consents", utc(line.opening.expiry))
        }
    };
    format!("{} ({}, to {})\n  {what}", line.opening.channel_id, line.generation, line.opening.provider)
}
