//! A voucher as full EIP-712: the device is told types and values, hashes them itself, and can show them.

use alloy::primitives::U256;

use super::apdu::{Apdu, struct_definition, struct_value};
use crate::request::VoucherRequest;

const DOMAIN: &str = "EIP712Domain";
const VOUCHER: &str = "Voucher";
/// How the app writes types: a kind, and a bit that says that a size follows.
const STRING: &[u8] = &[5];
const ADDRESS: &[u8] = &[3];
const UINT256: &[u8] = &[0x42, 32];
const BYTES32: &[u8] = &[0x46, 32];

/// The fields of both structs, as protocol.md section 2 lists them.
const DOMAIN_FIELDS: [(&[u8], &str); 4] =
    [(STRING, "name"), (STRING, "version"), (UINT256, "chainId"), (ADDRESS, "verifyingContract")];
const VOUCHER_FIELDS: [(&[u8], &str); 3] = [(BYTES32, "channelId"), (UINT256, "amount"), (UINT256, "nonce")];

/// Tells the types. Shows nothing yet.
pub(super) fn definitions() -> Vec<Apdu> {
    let field =
        |(kind, name): (&[u8], &str)| struct_definition(true, [kind, &[name.len() as u8], name.as_bytes()].concat());
    let mut all = vec![struct_definition(false, DOMAIN.into())];
    all.extend(DOMAIN_FIELDS.map(field));
    all.push(struct_definition(false, VOUCHER.into()));
    all.extend(VOUCHER_FIELDS.map(field));
    all
}

/// Tells the values. The device may show each and answer once the person went on.
pub(super) fn values(request: &VoucherRequest) -> Vec<Apdu> {
    let value = |bytes: &[u8]| {
        let length = (bytes.len() as u16).to_be_bytes();
        struct_value(true, [&length, bytes].concat())
    };
    let domain = request.domain.eip712();
    let voucher = &request.voucher;
    vec![
        struct_value(false, DOMAIN.into()),
        value(domain.name.as_deref().unwrap_or_default().as_bytes()),
        value(domain.version.as_deref().unwrap_or_default().as_bytes()),
        value(&number(U256::from(request.domain.chain_id()))),
        value(request.domain.contract().as_slice()),
        struct_value(false, VOUCHER.into()),
        value(voucher.channel_id.0.as_slice()),
        value(&number(voucher.amount.to_u256())),
        value(&number(U256::from(voucher.nonce.get()))),
    ]
}

/// A number in as few bytes as it takes, zero in one.
fn number(value: U256) -> Vec<u8> {
    let mut bytes = value.to_be_bytes_trimmed_vec();
    if bytes.is_empty() {
        bytes.push(0);
    }
    bytes
}
