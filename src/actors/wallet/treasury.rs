//! Money between the operator's treasury and the wallet (design section 8): how much is `policy/treasury.rs`'s word, asked
//! in the wallet's turn, so that nothing is sent between the look and the transfer.

use drain_protocol::{Address, Usdc};

use super::{Bench, open, send};
use crate::api::{ChannelState, Progress, SendAmount, Swept};
use crate::config::TreasuryConfig;
use crate::error::{Code, Failure};
use crate::journal::{TxKind, TxRecord};
use crate::policy::Pol;
use crate::policy::treasury::OverMarks;

/// A day, in seconds.
const DAY: u64 = 86_400;

fn treasury(bench: &Bench) -> Result<&TreasuryConfig, Failure> {
    bench.services.config.treasury.as_ref().ok_or_else(|| {
        Failure::unspent(
            Code::InvalidConfig,
            "No treasury is configured",
            "Set DRAIN_TREASURY to ledger, or to the operator's own address (docs/signers.md).",
        )
    })
}

fn refused(over: OverMarks) -> Failure {
    Failure::unspent(Code::LimitReached, over.to_string(), "Wait, or a person changes the setting that it names.")
}

/// What this account sent to `to` in the last day, or may have.
async fn sent_today(bench: &Bench, kind: TxKind, to: Address) -> Result<Vec<TxRecord>, Failure> {
    let since = bench.services.clock.now().saturating_sub(DAY);
    Ok(bench.purse.journal.sends(bench.services.config.chain.chain_id, bench.purse.address, kind, to, since).await?)
}

/// From the treasury, whose wallet this is, to the one that software uses.
pub(super) async fn fund(
    bench: &Bench,
    to: Address,
    usdc: Usdc,
    pol: Pol,
    progress: &Progress,
) -> Result<Vec<String>, Failure> {
    let sent = sent_today(bench, TxKind::SendUsdc, to).await?;
    let sent = sent.iter().filter_map(|send| send.amount).fold(Usdc::ZERO, Usdc::saturating_add);
    let allowed = treasury(bench)?.marks.may_fund(sent, usdc, pol);
    allowed.map_err(|over| bench.refused(TxKind::SendUsdc, usdc, refused(over)))?;
    transfer(bench, to, usdc, pol, progress).await
}

/// Back to the treasury, and to nobody else, what is above the marks and what pending openings need.
pub(super) async fn sweep(bench: &Bench, progress: &Progress) -> Result<Swept, Failure> {
    let treasury = treasury(bench)?;
    if treasury.address == bench.purse.address {
        return Err(Failure::unspent(
            Code::InvalidConfig,
            "The treasury is this very wallet",
            "Set DRAIN_TREASURY to another account.",
        ));
    }
    let records = bench.purse.journal.channels(false).await?;
    let pending = records
        .iter()
        .filter(|record| record.state == ChannelState::Opening)
        .fold(Usdc::ZERO, |sum, record| sum.saturating_add(record.books.deposit));
    let token = bench.deployment()?.usdc;
    let (chain, owner) = (&bench.services.chain, bench.purse.address);
    let (held, coin) = futures::try_join!(chain.usdc_balance(token, owner), chain.native_balance(owner))?;
    let mut sent = 0;
    for kind in [TxKind::SendUsdc, TxKind::SendNative] {
        sent = sent_today(bench, kind, treasury.address).await?.len().max(sent);
    }
    let sweep = treasury.marks.sweep(held, Pol::from_wei(coin), pending, sent);
    let sweep = sweep.map_err(|over| bench.refused(TxKind::SendUsdc, held, refused(over)))?;
    let transactions = transfer(bench, treasury.address, sweep.usdc, sweep.pol, progress).await?;
    Ok(Swept { to: treasury.address, usdc: sweep.usdc, pol: sweep.pol.to_string(), transactions })
}

/// USDC, then coin; of nothing nothing.
async fn transfer(
    bench: &Bench,
    to: Address,
    usdc: Usdc,
    pol: Pol,
    progress: &Progress,
) -> Result<Vec<String>, Failure> {
    let mut hashes = Vec::new();
    if !usdc.is_zero() {
        hashes.push(send::send(bench, to, SendAmount::Usdc(Some(usdc)), false, progress).await?);
    }
    if pol > Pol::ZERO {
        let amount = SendAmount::Native(Some(pol.to_wei()));
        let sent = send::send(bench, to, amount, false, progress).await;
        hashes.push(sent.map_err(|failure| match hashes.first() {
            Some(receipt) => {
                let told = format!("{usdc} USDC had been sent before (transaction {receipt})");
                open::after(failure, &told, receipt.clone(), usdc)
            }
            None => failure,
        })?);
    }
    Ok(hashes)
}
