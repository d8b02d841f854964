//! Command by command, as the Ethereum app answers.

use alloy::consensus::{SignableTransaction, TxEip1559};
use alloy::primitives::B256;
use alloy::rlp::{Decodable, Header};

use super::LedgerPeerConfig;
use super::keys::sign;
use super::screens;
use super::typed::{Message, digest};

const DONE: u16 = 0x9000;
const REFUSED: u16 = 0x6a80;
const UNKNOWN: u16 = 0x6d00;
const OTHER_CLASS: u16 = 0x6e00;
const BAD_PARAMETERS: u16 = 0x6b00;
const WRONG_LENGTH: u16 = 0x6700;
const PATH_NOT_ALLOWED: u16 = 0x6a15;
/// What an EIP-1559 transaction begins with.
const EIP1559: u8 = 2;

/// What becomes of a command.
#[derive(Debug)]
pub(super) enum Step {
    /// It is answered.
    Answer(Vec<u8>, u16),
    /// A person is asked, and then it is answered.
    Prompt { screens: Vec<String>, signature: Vec<u8> },
}

impl Step {
    pub const fn status(status: u16) -> Self {
        Self::Answer(Vec::new(), status)
    }
}

/// What the app remembers between commands.
#[derive(Debug, Default)]
pub(super) struct Device {
    message: Message,
    /// Path and bytes of a transaction that is not complete.
    transaction: Option<(Vec<u32>, Vec<u8>)>,
}

impl Device {
    pub fn step(&mut self, config: &LedgerPeerConfig, command: &[u8]) -> Step {
        let [class, instruction, p1, p2, length, data @ ..] = command else { return Step::status(WRONG_LENGTH) };
        if usize::from(*length) != data.len() {
            return Step::status(WRONG_LENGTH);
        }
        if [*class, *instruction] == [0xb0, 0x01] {
            return Step::Answer(name_and_version(config), DONE);
        }
        if *class != 0xe0 {
            return Step::status(OTHER_CLASS);
        }
        if config.app != "Ethereum" {
            // Some apps know a command of the same number.
            return if *instruction == 0x02 { Step::Answer(vec![7; 20], DONE) } else { Step::status(OTHER_CLASS) };
        }
        let step = self.app(config, [*instruction, *p1, *p2], data);
        if !matches!(step, Step::Answer(_, DONE) | Step::Prompt { .. }) {
            // After an error it has forgotten everything.
            *self = Self::default();
        }
        step
    }

    /// A command of the Ethereum app.
    fn app(&mut self, config: &LedgerPeerConfig, [instruction, p1, p2]: [u8; 3], data: &[u8]) -> Step {
        let done = |understood: Option<()>| Step::status(if understood.is_some() { DONE } else { REFUSED });
        match (instruction, p1, p2) {
            (0x06, 0, 0) => Step::Answer(configuration(config), DONE),
            (0x02, 0 | 1, 0) => account(config, data),
            (0x1a, ..) if !config.full_eip712 => Step::status(UNKNOWN),
            (0x1a, 0, 0) => done(self.message.define(data)),
            (0x1a, 0, 0xff) => done(self.message.field(data)),
            (0x1c, 0, 0) => done(self.message.begin(data)),
            (0x1c, 0, 0xff) => done(self.message.value(data)),
            (0x0c, 0, 1) => self.sign_message(config, data).unwrap_or(Step::status(REFUSED)),
            (0x0c, 0, 0) => sign_hashes(config, data).unwrap_or(Step::status(REFUSED)),
            (0x04, 0 | 0x80, 0) => self.sign_transaction(config, p1 == 0, data).unwrap_or(Step::status(REFUSED)),
            (0x06 | 0x02 | 0x1a | 0x1c | 0x0c | 0x04, ..) => Step::status(BAD_PARAMETERS),
            _ => Step::status(UNKNOWN),
        }
    }

    fn sign_message(&mut self, config: &LedgerPeerConfig, data: &[u8]) -> Option<Step> {
        let message = std::mem::take(&mut self.message);
        let (path, rest) = path(data)?;
        let (domain, hash) = message.hashes()?;
        if !rest.is_empty() || !(config.raw_messages || config.blind_signing) {
            return None;
        }
        let signature = sign(&config.keys.at(&path)?, digest(domain, hash), 0)?;
        Some(Step::Prompt { screens: screens::message(&message, hash, config.raw_messages), signature })
    }

    fn sign_transaction(&mut self, config: &LedgerPeerConfig, first: bool, data: &[u8]) -> Option<Step> {
        let (path, mut bytes) = match (first, self.transaction.take()) {
            (true, _) => path(data).map(|(path, rest)| (path, rest.to_vec()))?,
            (false, Some((path, mut bytes))) => {
                bytes.extend(data);
                (path, bytes)
            }
            (false, None) => return None,
        };
        let whole = length(&bytes)?;
        if bytes.len() < whole {
            self.transaction = Some((path, std::mem::take(&mut bytes)));
            return Some(Step::status(DONE));
        }
        let mut rest = &bytes[1..];
        let tx = TxEip1559::decode(&mut rest).ok().filter(|_| rest.is_empty())?;
        if !tx.input.is_empty() && !config.blind_signing {
            return None;
        }
        let key = config.keys.at(&path)?;
        let signature = sign(&key, tx.signature_hash(), 27)?;
        Some(Step::Prompt { screens: screens::transaction(&tx, key.address()), signature })
    }
}

/// How long the transaction is that begins like this.
fn length(bytes: &[u8]) -> Option<usize> {
    let [EIP1559, list @ ..] = bytes else { return None };
    // A header alone, cut off like this, is decodable: its payload may be missing.
    let prefix = *list.first()?;
    let size = usize::from(prefix.saturating_sub(0xf7));
    if prefix < 0xc0 || list.len() < 1 + size {
        return None;
    }
    let payload = if size == 0 {
        usize::from(prefix - 0xc0)
    } else {
        list[1..=size].iter().try_fold(0usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?
    };
    Some(1 + Header { list: true, payload_length: payload }.length_with_payload())
}

fn sign_hashes(config: &LedgerPeerConfig, data: &[u8]) -> Option<Step> {
    let (path, rest) = path(data)?;
    let (domain, message) = rest.split_at_checked(32).filter(|(_, message)| message.len() == 32)?;
    if !config.blind_signing {
        return None;
    }
    let (domain, message) = (B256::from_slice(domain), B256::from_slice(message));
    let signature = sign(&config.keys.at(&path)?, digest(domain, message), 0)?;
    Some(Step::Prompt { screens: screens::hashes(domain, message), signature })
}

/// The public key, then the address as text.
fn account(config: &LedgerPeerConfig, data: &[u8]) -> Step {
    let Some((path, _)) = path(data) else { return Step::status(REFUSED) };
    // m/44'/60'/... only.
    if path.get(..2) != Some(&[0x8000_002c, 0x8000_003c]) {
        return Step::status(PATH_NOT_ALLOWED);
    }
    let Some(key) = config.keys.at(&path) else { return Step::status(REFUSED) };
    let public = key.credential().verifying_key().to_encoded_point(false);
    let address = key.address().to_string();
    Step::Answer([&[65], public.as_bytes(), &[40], address.trim_start_matches("0x").as_bytes()].concat(), DONE)
}

fn configuration(config: &LedgerPeerConfig) -> Vec<u8> {
    let mut numbers = config.version.split('.').map(|part| part.parse::<u8>().unwrap_or(0));
    let version: [u8; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    [&[u8::from(config.blind_signing)], &version[..]].concat()
}

fn name_and_version(config: &LedgerPeerConfig) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [&[1][..], &text(&config.app), &text(&config.version), &[1, 0]].concat()
}

/// The count of steps, each step in four bytes, and what follows.
fn path(data: &[u8]) -> Option<(Vec<u32>, &[u8])> {
    let (count, rest) = data.split_first()?;
    let (steps, rest) = rest.split_at_checked(4 * usize::from(*count))?;
    let steps =
        steps.chunks_exact(4).map(|step| step.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))).collect();
    Some((steps, rest))
}
