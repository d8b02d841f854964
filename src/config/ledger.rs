//! Which account of which Ledger.

use drain_signers::{HdPath, LedgerSettings};

use super::error::{Bad, ConfigError, quoted};
use super::keys::Key;
use super::sources::{Layers, Raw};
use super::values;

/// Where the account was set, and the settings that go with it. All are checked, whichever signer is chosen.
pub(super) fn settings(layers: &mut Layers) -> Result<Option<(Raw, LedgerSettings)>, ConfigError> {
    let path = layers.or_table(Key::LedgerPath, |text| {
        text.parse::<HdPath>().map_err(|e| Bad::new(e.to_string(), "drain-mcp wallet ledger list shows usual ones"))
    })?;
    let emulator = layers.get(Key::LedgerEmulator)?.map(|raw| raw.parse(host_and_port)).transpose()?;
    let patience = layers.or_table(Key::LedgerTimeout, values::wait)?;
    let Some(raw) = layers.get(Key::LedgerAddress)? else { return Ok(None) };
    let (address, warning) = raw.parse(values::address)?;
    layers.warnings.extend(warning);
    Ok(Some((raw, LedgerSettings { path, address, emulator, patience })))
}

fn host_and_port(text: &str) -> Result<String, Bad> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c))
            && port.parse::<u16>().is_ok()
    });
    if good {
        Ok(text.to_owned())
    } else {
        Err(Bad::new(format!("{} is no host and port", quoted(text)), "Write 127.0.0.1:9999"))
    }
}
