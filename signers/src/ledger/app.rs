//! What the app says about itself: which it is, its settings, its accounts.

use drain_protocol::Address;

use super::apdu::{self, Answer};
use super::path::HdPath;
use super::problem::DeviceProblem;

/// The one app that signs for us.
const ETHEREUM: &str = "Ethereum";
/// The first line of versions that knows EIP-1559 transactions and EIP-712.
const OLDEST: [u32; 3] = [1, 9, 0];
const OLDEST_TEXT: &str = "1.9.0";
/// The status for a path outside of the app's.
const PATH_NOT_ALLOWED: u16 = 0x6a15;
/// An account's answer: length and bytes of the public key, length and text of the address.
const KEY: usize = 65;
const ADDRESS: usize = 40;

/// Refuses any other app than Ethereum in a version that is recent enough.
pub(super) fn check(answer: Answer) -> Result<(), DeviceProblem> {
    let data = answer.data()?;
    let garbled = || DeviceProblem::garbled("no app's name and version");
    let rest = data.strip_prefix(&[1]).ok_or_else(garbled)?;
    let (name, rest) = text(rest).ok_or_else(garbled)?;
    let (version, _) = text(rest).ok_or_else(garbled)?;
    if name != ETHEREUM {
        // What the device calls its menu of apps.
        let open = if name == "BOLOS" || name == "OLOS\0" { "its menu" } else { name };
        return Err(DeviceProblem::WrongApp { open: open.into() });
    }
    // "1.22.0", or "1.22.0-dev".
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let found: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    if found < OLDEST {
        return Err(DeviceProblem::AppTooOld { found: version.into(), needed: OLDEST_TEXT });
    }
    Ok(())
}

/// A length in one byte, then so much printable text.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    let text = std::str::from_utf8(text).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some((text, rest))
}

/// Whether it signs what it cannot explain.
pub(super) fn signs_blindly(answer: Answer) -> Result<bool, DeviceProblem> {
    let data = answer.data()?;
    // Flags, then the version in three bytes.
    match data[..] {
        [flags, _, _, _, ..] => Ok(flags & 1 != 0),
        _ => Err(DeviceProblem::garbled(format!("a configuration of {} bytes", data.len()))),
    }
}

/// The account that an address command answers.
pub(super) fn account(answer: Answer, path: &HdPath) -> Result<Address, DeviceProblem> {
    if answer.status == PATH_NOT_ALLOWED {
        return Err(DeviceProblem::PathRefused { path: path.to_string() });
    }
    let data = answer.data()?;
    let garbled = || DeviceProblem::garbled(format!("an account of {} bytes", data.len()));
    let (key, rest) = data.strip_prefix(&[KEY as u8]).and_then(|r| r.split_at_checked(KEY)).ok_or_else(garbled)?;
    let digits = rest.strip_prefix(&[ADDRESS as u8]).filter(|d| d.len() == ADDRESS).ok_or_else(garbled)?;
    let address = std::str::from_utf8(digits).ok().and_then(|d| d.parse::<Address>().ok()).ok_or_else(garbled)?;
    // One of the two was misread if they differ.
    match key.split_first() {
        Some((4, point)) if Address::from_raw_public_key(point) == address => Ok(address),
        _ => Err(DeviceProblem::garbled("an address of another key")),
    }
}

/// The command for [`account`].
pub(super) fn account_command(path: &HdPath) -> apdu::Apdu {
    apdu::address(path.to_bytes())
}
