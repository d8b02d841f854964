//! Which of the device's accounts.

use std::fmt;
use std::str::FromStr;

/// The marker of a hardened step.
const HARDENED: u32 = 0x8000_0000;
/// The app takes no longer ones.
const MAX_STEPS: usize = 10;

/// A BIP-32 path, such as `m/44'/60'/0'/0/0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HdPath(Vec<u32>);

/// Not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a derivation path such as m/44'/60'/0'/0/0")]
pub struct NotAPath;

impl HdPath {
    /// The account `index` as Ledger Live numbers them.
    pub fn ledger_live(index: u32) -> Self {
        Self(vec![44 | HARDENED, 60 | HARDENED, index | HARDENED, 0, 0])
    }

    /// The account `index` as older wallets number them (MyEtherWallet, MetaMask's "legacy").
    pub fn legacy(index: u32) -> Self {
        Self(vec![44 | HARDENED, 60 | HARDENED, HARDENED, index & !HARDENED])
    }

    #[cfg(feature = "ledger")]
    /// As commands carry it: the count of steps, then each in four bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // At most MAX_STEPS.
        let mut bytes = vec![self.0.len() as u8];
        bytes.extend(self.0.iter().flat_map(|step| step.to_be_bytes()));
        bytes
    }
}

impl Default for HdPath {
    fn default() -> Self {
        Self::ledger_live(0)
    }
}

impl FromStr for HdPath {
    type Err = NotAPath;

    fn from_str(text: &str) -> Result<Self, NotAPath> {
        let steps: Vec<u32> = text
            .strip_prefix("m/")
            .unwrap_or(text)
            .split('/')
            .map(|step| {
                let plain = step.strip_suffix(['\'', 'h', 'H']);
                let digits = plain.unwrap_or(step);
                if !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(NotAPath);
                }
                let index: u32 = digits.parse().map_err(|_| NotAPath)?;
                if index & HARDENED != 0 {
                    return Err(NotAPath);
                }
                Ok(if plain.is_some() { index | HARDENED } else { index })
            })
            .collect::<Result<_, _>>()?;
        if steps.len() > MAX_STEPS { Err(NotAPath) } else { Ok(Self(steps)) }
    }
}

impl fmt::Display for HdPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("m")?;
        for step in &self.0 {
            write!(f, "/{}{}", step & !HARDENED, if step & HARDENED == 0 { "" } else { "'" })?;
        }
        Ok(())
    }
}
