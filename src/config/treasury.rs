//! Where the operator's own money is, beside the wallet that software can use (design section 8).

use drain_protocol::Address;
use drain_signers::LedgerSettings;

use super::error::{Bad, ConfigError};
use super::keys::Key;
use super::ledger;
use super::sources::Layers;
use super::values;
use crate::policy::treasury::Marks;

/// How money comes to the wallet and goes back.
#[derive(Clone, Debug)]
pub struct TreasuryConfig {
    /// Whose money it is. Sweeps go to this account and nowhere else.
    pub address: Address,
    /// The device that funds the wallet; without one a person funds it from elsewhere.
    pub ledger: Option<LedgerSettings>,
    /// How much goes, and when.
    pub marks: Marks,
}

impl TreasuryConfig {
    /// How a person refills the wallet.
    pub fn refill(&self) -> String {
        match &self.ledger {
            Some(_) => {
                "A person refills the wallet: drain-mcp wallet fund --usdc 5 --pol 0.1 (two presses on the Ledger)."
                    .into()
            }
            None => format!("A person refills the wallet from the treasury, {}.", self.address),
        }
    }
}

/// Whether the Ledger is the treasury, and so not what signs for the wallet.
pub(super) fn is_ledger(layers: &mut Layers) -> Result<bool, ConfigError> {
    Ok(layers.get(Key::Treasury)?.is_some_and(|raw| raw.text.trim() == "ledger"))
}

/// `None` where the operator named none.
pub(super) fn settings(layers: &mut Layers) -> Result<Option<TreasuryConfig>, ConfigError> {
    let marks = Marks {
        refill_below: layers.or_table(Key::RefillBelow, values::amount)?,
        keep: layers.or_table(Key::SweepKeep, values::amount)?,
        keep_pol: layers.or_table(Key::SweepKeepPol, values::pol)?,
        fund_per_day: layers.or_table(Key::FundPerDay, values::amount)?,
        sweeps_per_day: layers.or_table(Key::SweepsPerDay, |text| values::number(text, 1, 100))?,
    };
    let Some(raw) = layers.get(Key::Treasury)? else { return Ok(None) };
    if !marks.are_apart() {
        let Marks { keep, refill_below, .. } = marks;
        return Err(Bad::new(
            format!(
                "a sweep would leave {keep} USDC, too near to the {refill_below} below which a refill is asked for"
            ),
            "Set it to twice DRAIN_REFILL_BELOW or more",
        )
        .at(Key::SweepKeep.spec().env));
    }
    let ledger = if is_ledger(layers)? { ledger::settings(layers)?.map(|(_, settings)| settings) } else { None };
    let address = match &ledger {
        Some(ledger) => ledger.address,
        None if is_ledger(layers)? => {
            return Err(Bad::new(
                "it says ledger, but no account is set",
                "Set DRAIN_LEDGER_ADDRESS; drain-mcp wallet ledger list shows the device's accounts",
            )
            .at(&raw.name));
        }
        None => {
            let (address, warning) = raw.parse(values::address)?;
            layers.warnings.extend(warning);
            address
        }
    };
    Ok(Some(TreasuryConfig { address, ledger, marks }))
}
