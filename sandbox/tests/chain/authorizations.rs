//! The token's transfers by signature behave as the deployed token's (EIP-3009).

use alloy::primitives::{Address, B256, Bytes, U256, b256, keccak256};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::{Eip712Domain, Revert, SolError as _, SolEvent as _, SolStruct, eip712_domain};
use drain_sandbox::contracts::{self, USDC, USDC_BRIDGED};

use crate::rig::{Drain, Rig, Token, USDC_FUNDS, emitted, units};

sol! {
    #![sol(all_derives)]
    // The standard has that many.
    #[allow(clippy::too_many_arguments)]

    #[sol(rpc)]
    contract Authorizing {
        function version() external view returns (string);
        function DOMAIN_SEPARATOR() external view returns (bytes32);
        function TRANSFER_WITH_AUTHORIZATION_TYPEHASH() external view returns (bytes32);
        function CANCEL_AUTHORIZATION_TYPEHASH() external view returns (bytes32);
        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce,
            uint8 v, bytes32 r, bytes32 s) external;
        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce,
            bytes signature) external;
        function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
        function cancelAuthorization(address authorizer, bytes32 nonce, bytes signature) external;

        event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
        event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);
    }

    struct TransferWithAuthorization {
        address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce;
    }
    struct CancelAuthorization { address authorizer; bytes32 nonce; }
}

fn domain(token: Address) -> Eip712Domain {
    eip712_domain! { name: "USD Coin", version: "2", chain_id: 137, verifying_contract: token, }
}

fn sign<S: SolStruct>(signer: &PrivateKeySigner, message: &S) -> Bytes {
    signer.sign_hash_sync(&message.eip712_signing_hash(&domain(USDC))).unwrap().as_bytes().into()
}

fn split(signature: &Bytes) -> (u8, B256, B256) {
    (signature[64], B256::from_slice(&signature[..32]), B256::from_slice(&signature[32..64]))
}

fn nonce() -> B256 {
    B256::random()
}

/// A transfer of 1000 units from the consumer to the provider, good for an hour.
async fn transfer(rig: &Rig) -> TransferWithAuthorization {
    let (from, to) = (rig.consumer.address(), rig.provider.address());
    let valid_before = units(rig.chain_time().await + 3600);
    TransferWithAuthorization {
        from,
        to,
        value: units(1000),
        validAfter: U256::ZERO,
        validBefore: valid_before,
        nonce: nonce(),
    }
}

/// The call with the signature in one piece, from the owner's account: it needs no right of its own.
macro_rules! moves {
    ($usdc:expr, $rig:expr, $message:expr, $signature:expr) => {{
        let m = $message;
        $usdc
            .transferWithAuthorization_1(m.from, m.to, m.value, m.validAfter, m.validBefore, m.nonce, $signature)
            .from($rig.owner.address())
    }};
}

fn token(rig: &Rig) -> Authorizing::AuthorizingInstance<alloy::providers::DynProvider> {
    Authorizing::new(USDC, rig.node.clone())
}

fn reason(error: &alloy::contract::Error) -> String {
    Revert::abi_decode(&error.as_revert_data().unwrap()).unwrap().reason
}

#[tokio::test]
async fn the_domain_is_the_deployed_tokens() {
    let rig = Rig::anywhere().await;
    let usdc = token(&rig);
    // What native USDC on Polygon answers.
    let deployed = b256!("caa2ce1a5703ccbe253a34eb3166df60a705c561b44b192061e28f2a985be2ca");
    assert_eq!(domain(USDC).separator(), deployed);
    assert_eq!(usdc.DOMAIN_SEPARATOR().call().await.unwrap(), deployed);
    assert_eq!(usdc.version().call().await.unwrap(), "2");
    let typehash = usdc.TRANSFER_WITH_AUTHORIZATION_TYPEHASH().call().await.unwrap();
    assert_eq!(typehash, b256!("7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267"));
    let wanted = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");
    assert_eq!(usdc.CANCEL_AUTHORIZATION_TYPEHASH().call().await.unwrap(), wanted);
    // The same code at another address has another domain.
    let bridged = Authorizing::new(USDC_BRIDGED, &rig.node);
    assert_eq!(bridged.DOMAIN_SEPARATOR().call().await.unwrap(), domain(USDC_BRIDGED).separator());
}

#[tokio::test]
async fn both_forms_move_money_once() {
    let rig = Rig::anywhere().await;
    let (usdc, owner) = (token(&rig), rig.owner.address());
    let (first, second) = (transfer(&rig).await, transfer(&rig).await);
    assert!(!usdc.authorizationState(first.from, first.nonce).call().await.unwrap());

    let signature = sign(&rig.consumer, &first);
    let receipt = rig.mined(moves!(usdc, rig, &first, signature.clone()).send().await).await;
    let (from, to, value) = (first.from, first.to, first.value);
    let used = Authorizing::AuthorizationUsed { authorizer: from, nonce: first.nonce };
    let moved = Drain::Transfer { from, to, value };
    assert_eq!(emitted(&receipt), vec![(USDC, used.encode_log_data()), (USDC, moved.encode_log_data())]);
    assert!(usdc.authorizationState(first.from, first.nonce).call().await.unwrap());
    let again = moves!(usdc, rig, &first, signature).call().await.err().unwrap();
    assert_eq!(reason(&again), "FiatTokenV2: authorization is used or canceled");

    let (v, r, s) = split(&sign(&rig.consumer, &second));
    let m = &second;
    let parts = usdc.transferWithAuthorization_0(m.from, m.to, m.value, m.validAfter, m.validBefore, m.nonce, v, r, s);
    assert!(rig.mined(parts.from(owner).send().await).await.status());
    let again = moves!(usdc, rig, &second, sign(&rig.consumer, &second)).call().await.err().unwrap();
    assert_eq!(reason(&again), "FiatTokenV2: authorization is used or canceled");
    assert_eq!(rig.usdc_of(rig.provider.address()).await, 2000);
    assert_eq!(rig.usdc_of(rig.consumer.address()).await, USDC_FUNDS - 2000);
}

#[tokio::test]
async fn windows_are_strict() {
    let rig = Rig::anywhere().await;
    let usdc = token(&rig);
    let start = rig.chain_time().await + 1000;
    let message =
        TransferWithAuthorization { validAfter: units(start), validBefore: units(start + 2), ..transfer(&rig).await };
    let signature = sign(&rig.consumer, &message);
    let early = moves!(usdc, rig, &message, signature.clone()).call().await.err().unwrap();
    assert_eq!(reason(&early), "FiatTokenV2: authorization is not yet valid");
    let at = async |time: u64| {
        rig.next_time(time).await;
        rig.mined(moves!(usdc, rig, &message, signature.clone()).gas(200_000).send().await).await.status()
    };
    assert!(!at(start).await, "valid only after");
    let used = usdc.authorizationState(message.from, message.nonce).call().await.unwrap();
    assert!(!used);
    rig.next_time(start + 2).await;
    assert!(!at(start + 2).await, "valid only before");
    let late = moves!(usdc, rig, &message, signature.clone()).call().await.err().unwrap();
    assert_eq!(reason(&late), "FiatTokenV2: authorization is expired");

    let message = TransferWithAuthorization {
        validAfter: units(start + 9),
        validBefore: units(start + 11),
        nonce: nonce(),
        ..message
    };
    rig.next_time(start + 10).await;
    let moved = moves!(usdc, rig, &message, sign(&rig.consumer, &message)).gas(200_000);
    assert!(rig.mined(moved.send().await).await.status(), "the one second between");
}

#[tokio::test]
async fn only_the_payers_plain_signature_of_these_words_counts() {
    let rig = Rig::anywhere().await;
    let usdc = token(&rig);
    let message = transfer(&rig).await;
    let good = sign(&rig.consumer, &message);
    let changed = |change: fn(&mut TransferWithAuthorization)| {
        let mut other = message.clone();
        change(&mut other);
        other
    };
    let words: [fn(&mut TransferWithAuthorization); 6] = [
        |m| m.from = m.to,
        |m| m.to = m.from,
        |m| m.value += U256::ONE,
        |m| m.validAfter += U256::ONE,
        |m| m.validBefore += U256::ONE,
        |m| m.nonce = B256::ZERO,
    ];
    let mut refused = vec![(message.clone(), sign(&rig.provider, &message), "FiatTokenV2: invalid signature")];
    refused.extend(words.map(|word| (changed(word), good.clone(), "FiatTokenV2: invalid signature")));
    let bridged = rig.consumer.sign_hash_sync(&message.eip712_signing_hash(&domain(USDC_BRIDGED))).unwrap();
    refused.push((message.clone(), bridged.as_bytes().into(), "FiatTokenV2: invalid signature"));
    let order = alloy::primitives::uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);
    let mut high = good.to_vec();
    high[32..64].copy_from_slice(&(order - U256::from_be_slice(&good[32..64])).to_be_bytes::<32>());
    high[64] = 55 - good[64];
    refused.push((message.clone(), high.into(), "ECRecover: invalid signature 's' value"));
    let mut lifted = good.to_vec();
    lifted[64] -= 27;
    refused.push((message.clone(), lifted.into(), "ECRecover: invalid signature 'v' value"));
    refused.push((message.clone(), good[..64].to_vec().into(), "ECRecover: invalid signature length"));
    let mut nobody = vec![0; 65];
    nobody[64] = 27;
    refused.push((message.clone(), nobody.into(), "ECRecover: invalid signature"));
    for (message, signature, words) in refused {
        let error = moves!(usdc, rig, &message, signature).call().await.err().unwrap();
        assert_eq!(reason(&error), words);
    }
    let much = changed(|m| m.value = U256::from(USDC_FUNDS + 1));
    let error = moves!(usdc, rig, &much, sign(&rig.consumer, &much)).call().await.err().unwrap();
    assert_eq!(reason(&error), "ERC20: transfer amount exceeds balance");
    moves!(usdc, rig, &message, good.clone()).call().await.unwrap();

    contracts::send(&rig.node, contracts::usdc_refusal_write(true).unwrap()).await.unwrap();
    let error = moves!(usdc, rig, &message, good).call().await.err().unwrap();
    assert_eq!(reason(&error), "Pausable: paused");
    contracts::send(&rig.node, contracts::usdc_refusal_write(false).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_canceled_authorization_moves_nothing() {
    let rig = Rig::anywhere().await;
    let (usdc, owner) = (token(&rig), rig.owner.address());
    for parts in [false, true] {
        let message = transfer(&rig).await;
        let (authorizer, nonce) = (message.from, message.nonce);
        let cancel = CancelAuthorization { authorizer, nonce };
        let foreign = usdc.cancelAuthorization_1(authorizer, nonce, sign(&rig.provider, &cancel)).call().await;
        assert_eq!(reason(&foreign.err().unwrap()), "FiatTokenV2: invalid signature");
        let signature = sign(&rig.consumer, &cancel);
        let sent = if parts {
            let (v, r, s) = split(&signature);
            usdc.cancelAuthorization_0(authorizer, nonce, v, r, s).from(owner).send().await
        } else {
            usdc.cancelAuthorization_1(authorizer, nonce, signature.clone()).from(owner).send().await
        };
        let receipt = rig.mined(sent).await;
        let canceled = Authorizing::AuthorizationCanceled { authorizer, nonce };
        assert_eq!(emitted(&receipt), vec![(USDC, canceled.encode_log_data())]);
        assert!(usdc.authorizationState(authorizer, nonce).call().await.unwrap());
        let late = moves!(usdc, rig, &message, sign(&rig.consumer, &message)).call().await.err().unwrap();
        assert_eq!(reason(&late), "FiatTokenV2: authorization is used or canceled");
        let again = usdc.cancelAuthorization_1(authorizer, nonce, signature).call().await.err().unwrap();
        assert_eq!(reason(&again), "FiatTokenV2: authorization is used or canceled");
    }
    let balance = Token::new(USDC, &rig.node).balanceOf(rig.provider.address()).call().await.unwrap();
    assert_eq!(balance, U256::ZERO);
}
