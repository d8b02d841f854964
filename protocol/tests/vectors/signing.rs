//! Types, domains, signatures, ids.

use alloy::primitives::keccak256;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolStruct;
use drain_protocol::close::CloseAnswer;
use drain_protocol::deployment::{self, AMOY, POLYGON};
use drain_protocol::voucher::{SignatureError, parse_signature, verify_signature};
use drain_protocol::{Address, B256, ChannelId, CloseAuthorization, Domain, Nonce, SignedVoucher, U256, Usdc, Voucher};
use serde_json::Value;

use super::{Vectors, address, bytes, keys, number, text, word};

/// The contract's types as alloy computes them, for amounts beyond ours.
mod typed {
    alloy::sol! {
        struct Voucher { bytes32 channelId; uint256 amount; uint256 nonce; }
        struct CloseAuthorization { bytes32 channelId; uint256 finalAmount; }
    }
}

pub fn constants(v: &mut Vectors) {
    let constants = v.section("constants");
    keys(
        &constants,
        &[
            "domainTypeString",
            "domainTypeHash",
            "voucherTypeString",
            "voucherTypeHash",
            "closeTypeString",
            "closeTypeHash",
            "nameHash",
            "versionHash",
            "contracts",
        ],
    );
    for name in ["domainType", "voucherType", "closeType"] {
        let hash = keccak256(text(&constants, &format!("{name}String")));
        v.same(name, hash, word(&constants, &format!("{name}Hash")));
    }
    let domain = Domain::new(POLYGON, deployment::POLYGON_V2).eip712();
    v.same("domain type", domain.encode_type(), text(&constants, "domainTypeString").to_owned());
    v.same("name", keccak256(domain.name.as_deref().unwrap()), word(&constants, "nameHash"));
    v.same("version", keccak256(domain.version.as_deref().unwrap()), word(&constants, "versionHash"));
    v.same("voucher type", typed::Voucher::eip712_encode_type().as_ref(), text(&constants, "voucherTypeString"));
    v.same("close type", typed::CloseAuthorization::eip712_encode_type().as_ref(), text(&constants, "closeTypeString"));

    keys(&constants["contracts"], &["137", "80002"]);
    let (polygon, amoy) = (&constants["contracts"]["137"], &constants["contracts"]["80002"]);
    keys(polygon, &["v1", "v2", "usdc"]);
    v.same("V2", deployment::POLYGON_V2, address(polygon, "v2"));
    v.same("V1", deployment::POLYGON_V1, address(polygon, "v1"));
    v.same("USDC", deployment::usdc(POLYGON), Some(address(polygon, "usdc")));
    keys(amoy, &["mcpConfig", "providersAndSdk", "usdc"]);
    v.same("test USDC", deployment::usdc(AMOY), Some(address(amoy, "usdc")));
    // Upstream's two parts disagree about Amoy: nothing is built in, whichever it names.
    v.holds("Amoy disagrees", address(amoy, "mcpConfig") != address(amoy, "providersAndSdk"));
    v.holds("Amoy is not built in", deployment::builtin(AMOY).is_empty());
}

pub fn accounts(v: &mut Vectors) {
    for account in v.list("accounts") {
        keys(&account, &["name", "privateKey", "address"]);
        let signer: PrivateKeySigner = text(&account, "privateKey").parse().unwrap();
        v.same(text(&account, "name"), signer.address().to_checksum(None), text(&account, "address").to_owned());
    }
}

pub fn domain_separators(v: &mut Vectors) {
    for entry in v.list("domainSeparators") {
        keys(&entry, &["chainId", "verifyingContract", "domainSeparator"]);
        let domain = Domain::new(entry["chainId"].as_u64().unwrap(), address(&entry, "verifyingContract"));
        v.same("separator", domain.separator(), word(&entry, "domainSeparator"));
        v.same("alloy's separator", domain.eip712().separator(), word(&entry, "domainSeparator"));
    }
}

const SIGNATURE_KEYS: &[&str] = &[
    "id",
    "kind",
    "signerKeyName",
    "privateKey",
    "signer",
    "chainId",
    "verifyingContract",
    "message",
    "domainSeparator",
    "structHash",
    "digest",
    "signature",
    "r",
    "s",
    "v",
    "yParity",
    "malleatedHighS_contractMustReject",
    "xDrainVoucherHeader",
    "closeChannelResponse",
];

pub fn signatures(v: &mut Vectors) {
    let mut beyond_ours = Vec::new();
    for entry in v.list("signatures") {
        keys(&entry, SIGNATURE_KEYS);
        let domain = Domain::new(entry["chainId"].as_u64().unwrap(), address(&entry, "verifyingContract"));
        v.same("separator", domain.separator(), word(&entry, "domainSeparator"));
        let digest = match text(&entry, "kind") {
            "Voucher" => voucher(v, &entry, &domain, &mut beyond_ours),
            "CloseAuthorization" => close(v, &entry, &domain, &mut beyond_ours),
            kind => panic!("{kind}"),
        };
        v.same("digest", digest, word(&entry, "digest"));
        signature(v, &entry, digest);
    }
    v.same("refused by our range", beyond_ours, ["v05", "v06", "c22", "c23"].map(String::from).to_vec());
}

fn voucher(v: &mut Vectors, entry: &Value, domain: &Domain, beyond: &mut Vec<String>) -> B256 {
    let message = &entry["message"];
    keys(message, &["channelId", "amount", "nonce"]);
    let (amount, nonce) = (number(message, "amount"), number(message, "nonce"));
    let theirs = typed::Voucher { channelId: word(message, "channelId"), amount, nonce };
    v.same("struct hash", theirs.eip712_hash_struct(), word(entry, "structHash"));
    let header = text(entry, "xDrainVoucherHeader");
    let ours = Usdc::try_from(amount).ok().zip(u64::try_from(nonce).ok().and_then(Nonce::new));
    let Some((amount, nonce)) = ours else {
        beyond.push(text(entry, "id").into());
        v.holds("refused", SignedVoucher::from_header(header).is_err());
        return theirs.eip712_signing_hash(&domain.eip712());
    };
    let channel_id: ChannelId = text(message, "channelId").parse().unwrap();
    let voucher = Voucher { channel_id, amount, nonce };
    v.same("our struct hash", voucher.struct_hash(), word(entry, "structHash"));
    let signed = SignedVoucher { voucher, signature: bytes(entry, "signature").try_into().unwrap() };
    v.same("header", signed.to_header().as_str(), header);
    v.same("header read back", SignedVoucher::from_header(header), Ok(signed));
    voucher.digest(domain)
}

fn close(v: &mut Vectors, entry: &Value, domain: &Domain, beyond: &mut Vec<String>) -> B256 {
    let message = &entry["message"];
    keys(message, &["channelId", "finalAmount"]);
    let theirs = typed::CloseAuthorization {
        channelId: word(message, "channelId"),
        finalAmount: number(message, "finalAmount"),
    };
    v.same("struct hash", theirs.eip712_hash_struct(), word(entry, "structHash"));
    keys(&entry["closeChannelResponse"], &["channelId", "finalAmount", "signature"]);
    let answer = CloseAnswer::parse(entry["closeChannelResponse"].to_string().as_bytes());
    let Ok(final_amount) = Usdc::try_from(theirs.finalAmount) else {
        beyond.push(text(entry, "id").into());
        v.holds("refused", answer.is_err());
        return theirs.eip712_signing_hash(&domain.eip712());
    };
    let channel_id: ChannelId = text(message, "channelId").parse().unwrap();
    let signature = bytes(entry, "signature").try_into().unwrap();
    v.same("answer", answer, Ok(CloseAnswer { channel_id: Some(channel_id), final_amount, signature }));
    CloseAuthorization { channel_id, final_amount }.digest(domain)
}

fn signature(v: &mut Vectors, entry: &Value, digest: B256) {
    let signer: PrivateKeySigner = text(entry, "privateKey").parse().unwrap();
    let expected = address(entry, "signer");
    v.same("signer", signer.address(), expected);
    let signed = signer.sign_hash_sync(&digest).unwrap();
    v.same("bytes", signed.as_bytes().to_vec(), bytes(entry, "signature"));
    v.same("r", B256::from(signed.r()), word(entry, "r"));
    v.same("s", B256::from(signed.s()), word(entry, "s"));
    v.same("v", 27 + u64::from(signed.v()), entry["v"].as_u64().unwrap());
    v.same("y parity", u64::from(signed.v()), entry["yParity"].as_u64().unwrap());

    let theirs = parse_signature(text(entry, "signature")).unwrap();
    v.same("verified", verify_signature(digest, &theirs, expected), Ok(signed));
    let unprefixed = text(entry, "signature").trim_start_matches("0x");
    v.same("without 0x", parse_signature(unprefixed), Ok(theirs));
    let malleated = parse_signature(text(entry, "malleatedHighS_contractMustReject")).unwrap();
    let refused = verify_signature(digest, &malleated, expected);
    v.same("high s", refused, Err(SignatureError::NotCanonical));
    let mut zero_one = theirs;
    zero_one[64] -= 27;
    v.same("v of 0 or 1", verify_signature(digest, &zero_one, expected), Err(SignatureError::NotCanonical));
    let other = Address::repeat_byte(1);
    let wrong = Err(SignatureError::WrongSigner { expected: other });
    v.same("of another", verify_signature(digest, &theirs, other), wrong.clone());
    v.holds("of another text", verify_signature(keccak256(digest), &theirs, expected).is_err());
}

pub fn channel_ids(v: &mut Vectors) {
    for entry in v.list("channelIds") {
        keys(&entry, &["consumer", "provider", "timestamp", "nonce", "packed", "channelId"]);
        let (consumer, provider) = (address(&entry, "consumer"), address(&entry, "provider"));
        let (timestamp, nonce): (U256, U256) = (number(&entry, "timestamp"), number(&entry, "nonce"));
        let id = ChannelId::derive(consumer, provider, timestamp, nonce);
        v.same("channel id", id.to_string().as_str(), text(&entry, "channelId"));
        v.same("packed", id.0, keccak256(bytes(&entry, "packed")));
    }
}
