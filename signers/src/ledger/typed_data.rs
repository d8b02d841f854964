//! A message as full EIP-712: the device is told types and values, hashes them itself, and can show them.

use alloy::primitives::U256;

use super::apdu::{Apdu, struct_definition, struct_value};
use crate::request::Message;

const DOMAIN: &str = "EIP712Domain";
/// How the app writes types: a kind, and a bit that says that a size follows.
const STRING: &[u8] = &[5];
const ADDRESS: &[u8] = &[3];
const UINT256: &[u8] = &[0x42, 32];
const BYTES32: &[u8] = &[0x46, 32];

type Field = (&'static [u8], &'static str);

const DOMAIN_FIELDS: [Field; 4] =
    [(STRING, "name"), (STRING, "version"), (UINT256, "chainId"), (ADDRESS, "verifyingContract")];
/// As protocol.md section 2 lists them.
const VOUCHER_FIELDS: [Field; 3] = [(BYTES32, "channelId"), (UINT256, "amount"), (UINT256, "nonce")];
/// EIP-3009.
const TRANSFER_FIELDS: [Field; 6] = [
    (ADDRESS, "from"),
    (ADDRESS, "to"),
    (UINT256, "value"),
    (UINT256, "validAfter"),
    (UINT256, "validBefore"),
    (BYTES32, "nonce"),
];

/// A message's struct and its fields.
const fn shape(message: &Message) -> (&'static str, &'static [Field]) {
    match message {
        Message::Voucher(_) => ("Voucher", &VOUCHER_FIELDS),
        Message::Transfer(_) => ("TransferWithAuthorization", &TRANSFER_FIELDS),
    }
}

/// Tells the types. Shows nothing yet.
pub(super) fn definitions(message: &Message) -> Vec<Apdu> {
    let (name, fields) = shape(message);
    let field = |(kind, name): Field| struct_definition(true, [kind, &[name.len() as u8], name.as_bytes()].concat());
    let mut all = vec![struct_definition(false, DOMAIN.into())];
    all.extend(DOMAIN_FIELDS.map(field));
    all.push(struct_definition(false, name.into()));
    all.extend(fields.iter().copied().map(field));
    all
}

/// Tells the values. The device may show each and answer once the person went on.
pub(super) fn values(message: &Message) -> Vec<Apdu> {
    let value = |bytes: &[u8]| {
        let length = (bytes.len() as u16).to_be_bytes();
        struct_value(true, [&length, bytes].concat())
    };
    let domain = message.domain();
    let mut all = vec![
        struct_value(false, DOMAIN.into()),
        value(domain.name.as_deref().unwrap_or_default().as_bytes()),
        value(domain.version.as_deref().unwrap_or_default().as_bytes()),
        value(&number(domain.chain_id.unwrap_or_default())),
        value(domain.verifying_contract.unwrap_or_default().as_slice()),
        struct_value(false, shape(message).0.into()),
    ];
    match message {
        Message::Voucher(request) => all.extend([
            value(request.voucher.channel_id.0.as_slice()),
            value(&number(request.voucher.amount.to_u256())),
            value(&number(U256::from(request.voucher.nonce.get()))),
        ]),
        Message::Transfer(request) => all.extend([
            value(request.transfer.from.as_slice()),
            value(request.transfer.to.as_slice()),
            value(&number(request.transfer.value.to_u256())),
            value(&number(U256::from(request.transfer.valid_after))),
            value(&number(U256::from(request.transfer.valid_before))),
            value(request.transfer.nonce.as_slice()),
        ]),
    }
    all
}

/// A number in as few bytes as it takes, zero in one.
fn number(value: U256) -> Vec<u8> {
    let mut bytes = value.to_be_bytes_trimmed_vec();
    if bytes.is_empty() {
        bytes.push(0);
    }
    bytes
}
