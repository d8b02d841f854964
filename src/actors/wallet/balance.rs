//! What the wallet holds, and what a person should do about it.

use drain_protocol::{U256, Usdc, deployment};

use super::Bench;
use crate::actors::local::recovering::openings;
use crate::api::{WalletView, unknown_told};
use crate::error::Failure;

/// Below this a wallet soon cannot send: 0.01 POL, in wei.
pub const LITTLE_POL: u64 = 10_000_000_000_000_000;
/// What the gas station wants to see.
pub const GAS_STATION_USDC: Usdc = Usdc::new(5_000_000);
/// More than anyone should keep on a hot key.
pub const MUCH_USDC: Usdc = Usdc::new(50_000_000);

/// POL with four decimals, rounded down.
pub(super) fn pol(wei: U256) -> String {
    let tenth_milli = wei / U256::from(100_000_000_000_000u64);
    let (whole, rest) = tenth_milli.div_rem(U256::from(10_000u64));
    format!("{whole}.{rest:0>4}")
}

/// Of the wallet's balance, gas money and allowance, which the chain shows to everybody, an agent of the fleet sees all; of
/// what is locked and spent its own part; of what is the operator's to do with channels nothing.
pub(super) async fn view(bench: &Bench, member: Option<&str>) -> Result<WalletView, Failure> {
    let (chain, config) = (&bench.services.chain, &bench.services.config.chain);
    let owner = bench.purse.address;
    let main = bench.deployment()?;
    let (usdc, wei, allowance) = futures::try_join!(
        chain.usdc_balance(main.usdc, owner),
        chain.native_balance(owner),
        chain.allowance(main.usdc, owner, main.contract())
    )?;
    let journal = &bench.purse.journal;
    let locked = match member {
        None => journal.locked(config.chain_id, owner).await?,
        Some(agent) => journal.locked_by(config.chain_id, owner, agent.to_owned()).await?,
    };
    let spent_today = bench.purse.journal.spent_today(bench.services.clock.now()).await?;
    let mut advice = advice(usdc, wei, &format!("{owner}"));
    if let Some(treasury) = bench.services.config.treasury.as_ref().filter(|treasury| treasury.marks.needs_refill(usdc))
    {
        advice.push(format!(
            "{usdc} USDC are below DRAIN_REFILL_BELOW ({}). {}",
            treasury.marks.refill_below,
            treasury.refill()
        ));
    }
    if config.chain_id == deployment::POLYGON {
        // Only a hint: a failed read of another token is no reason to fail.
        let bridged = chain.usdc_balance(deployment::POLYGON_USDC_E, owner).await.unwrap_or_default();
        if !bridged.is_zero() {
            advice.push(format!(
                "{bridged} bridged USDC.e ({}) is in the wallet and does not count: providers take native USDC ({}) only. Swap it.",
                deployment::POLYGON_USDC_E,
                deployment::POLYGON_USDC
            ));
        }
    }
    // Only a hint too.
    if member.is_none()
        && let Ok(openings) = openings(&bench.services, &bench.purse).await
    {
        advice.extend(unknown_told(&openings));
    }
    Ok(WalletView {
        address: owner,
        chain_id: config.chain_id,
        usdc,
        pol: pol(wei),
        allowance: Usdc::try_from(allowance).map_or_else(|_| "unlimited".into(), |amount| amount.to_string()),
        locked,
        spent_today,
        signer: bench.purse.signer.to_string(),
        advice,
    })
}

/// What to do about a balance.
fn advice(usdc: Usdc, wei: U256, address: &str) -> Vec<String> {
    let mut advice = Vec::new();
    let no_gas = wei < U256::from(LITTLE_POL);
    if usdc.is_zero() {
        advice.push(format!(
            "Send $1-5 of native USDC on Polygon and about 0.10 POL to {address}; use a dedicated wallet."
        ));
    }
    if no_gas && usdc >= GAS_STATION_USDC {
        advice.push("There is no POL for gas: the marketplace's gas station gives some to wallets with 5 USDC; a person runs drain-mcp wallet gas.".into());
    } else if no_gas && !usdc.is_zero() {
        advice.push(format!("There is no POL for gas: send about 0.10 POL to {address}."));
    }
    if usdc > MUCH_USDC {
        advice.push(format!("{usdc} USDC is much for a key that software can use: keep less than 50 here."));
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pol_is_shown_rounded_down() {
        for (wei, text) in [
            ("0", "0.0000"),
            ("100000000000000000", "0.1000"),
            ("1999999999999999999", "1.9999"),
            ("99999999999999", "0.0000"),
        ] {
            assert_eq!(pol(wei.parse().unwrap_or_default()), text);
        }
    }

    #[test]
    fn advice_names_the_remedy() {
        let rich = U256::from(10u64.pow(18));
        assert!(advice(Usdc::new(2_000_000), rich, "0x").is_empty());
        assert!(
            advice(Usdc::ZERO, U256::ZERO, "0xabc")[0].contains("native USDC on Polygon and about 0.10 POL to 0xabc")
        );
        assert!(advice(Usdc::new(5_000_000), U256::ZERO, "0x")[0].contains("drain-mcp wallet gas"));
        assert!(advice(Usdc::new(4_999_999), U256::ZERO, "0x")[0].contains("send about 0.10 POL"));
        assert!(advice(Usdc::new(50_000_001), rich, "0x")[0].contains("keep less than 50"));
    }
}
