//! Payments over Tempo, held against those of crate `mpp`: what its server asks for is read as it was meant, what is signed is byte
//! for byte what its client signs, and what is sent back its server reads as its own.
#![cfg(test)]

use alloy::primitives::Address;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use drain_protocol::demand::{Demand, Offer, read};
use drain_protocol::tempo::{Gas, LONGEST, MAINNET, TESTNET, tokens};
use drain_protocol::{PaymentOrder, TempoTransfer};
use mpp::client::tempo::charge::{SignOptions, SignedTempoCharge, TempoCharge};
use mpp::protocol::core::Base64UrlJson;
use mpp::{PaymentChallenge, PaymentCredential};
use proptest::prelude::*;

const SECRET: &str = "the secret of a server that is only asked here";
/// Long after whenever this runs: their client looks at the clock.
const NOW: u64 = 4_000_000_000;
const EXPIRES: &str = "2096-10-02T07:11:40Z";

/// What a server asks for.
#[derive(Clone, Debug)]
struct Asked {
    realm: String,
    chain_id: u64,
    token: Address,
    payee: Address,
    amount: u64,
    sponsored: bool,
}

fn asked() -> impl Strategy<Value = Asked> {
    let chains = prop::sample::select(vec![MAINNET, TESTNET]);
    let tokens = chains.prop_flat_map(|chain| (Just(chain), prop::sample::select(tokens(chain).to_vec())));
    // Nobody's address is not paid.
    let payees = any::<[u8; 20]>().prop_map(Address::from).prop_filter("somebody", |payee| !payee.is_zero());
    let rest = (r"[a-z0-9.:/ ~\\\x22-]{1,80}", payees, 1u64..1 << 50, any::<bool>());
    (tokens, rest).prop_map(|((chain_id, token), (realm, payee, amount, sponsored))| Asked {
        realm,
        chain_id,
        token,
        payee,
        amount,
        sponsored,
    })
}

impl Asked {
    fn challenge(&self) -> PaymentChallenge {
        let mut details = serde_json::json!({ "chainId": self.chain_id });
        if self.sponsored {
            details["feePayer"] = true.into();
        }
        let request = serde_json::json!({
            "amount": self.amount.to_string(),
            "currency": self.token,
            "recipient": self.payee,
            "methodDetails": details,
        });
        let request = Base64UrlJson::from_value(&request).unwrap();
        let expires = Some(EXPIRES);
        PaymentChallenge::with_secret_key_full(
            SECRET,
            &self.realm,
            "tempo",
            "charge",
            request,
            expires,
            None,
            None,
            None,
            None,
        )
    }
}

fn offer(challenge: &PaymentChallenge) -> Offer {
    let header = challenge.to_header().unwrap();
    let headers = |name: &str| if name == "www-authenticate" { vec![header.as_str()] } else { vec![] };
    let Demand::Payment(mut offers) = read(headers, b"").unwrap() else { panic!("no payment is asked for: {header}") };
    offers.remove(0).unwrap()
}

/// What their client answers with, by the same gas and time.
fn theirs(challenge: &PaymentChallenge, order: &TempoTransfer, payer: &PrivateKeySigner) -> SignedTempoCharge {
    let options = SignOptions {
        // It asks no node when it is told the gas.
        rpc_url: Some("http://127.0.0.1:9".into()),
        gas_limit: Some(order.gas.limit),
        max_fee_per_gas: Some(order.gas.price),
        max_priority_fee_per_gas: Some(order.gas.tip),
        valid_before: Some(order.transfer.valid_before),
        ..SignOptions::default()
    };
    let charge = TempoCharge::from_challenge(challenge).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(charge.sign_with_options(payer, options)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_signed_over_tempo_is_what_crate_mpp_signs(
        asked in asked(),
        key in any::<[u8; 32]>(),
        (limit, price, tip) in (21_000u64..30_000_000, 1u128..1 << 60, 0u128..1 << 60),
    ) {
        let Ok(payer) = PrivateKeySigner::from_bytes(&key.into()) else { return Ok(()) };
        let challenge = asked.challenge();
        let offer = offer(&challenge);
        prop_assert_eq!((offer.chain_id, offer.token, offer.payee), (asked.chain_id, asked.token, asked.payee));
        prop_assert_eq!((offer.amount.units(), offer.is_sponsored()), (asked.amount, asked.sponsored));

        let transfer = offer.transfer(payer.address(), NOW, LONGEST, Default::default());
        let gas = Gas { limit, price, tip: tip.min(price) };
        let (chain_id, token, sponsored) = (offer.chain_id, offer.token, asked.sponsored);
        let order = TempoTransfer { chain_id, token, transfer, gas, sponsored };
        let signature = payer.sign_hash_sync(&order.signing_hash()).unwrap().as_bytes();
        let theirs = theirs(&challenge, &order, &payer);
        prop_assert_eq!(&order.signed(&signature)[..], theirs.tx_bytes());

        let sent = offer.credential(&PaymentOrder::Tempo(order), &signature);
        prop_assert_eq!(sent.header, "authorization");
        let read = PaymentCredential::from_header(&sent.value).unwrap();
        let expected = theirs.into_credential();
        prop_assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&expected).unwrap());
    }
}
