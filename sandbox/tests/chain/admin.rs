//! Signature rules and the owner's functions.

use alloy::primitives::{Address, Bytes, U256, address};
use alloy::sol_types::SolEvent as _;
use drain_sandbox::contracts::{self, CHANNEL_V1, CHANNEL_V2, FEE_RECIPIENT, USDC, USDC_BRIDGED};

use crate::reverts;
use crate::rig::{Drain, Rig, closing, emitted, units, voucher};

/// The same signature with s on the other half of the curve order.
fn malleated(signature: &Bytes) -> Bytes {
    let order = alloy::primitives::uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);
    let mut twin = signature.to_vec();
    let s = order - U256::from_be_slice(&twin[32..64]);
    twin[32..64].copy_from_slice(&s.to_be_bytes::<32>());
    twin[64] = if twin[64] == 27 { 28 } else { 27 };
    twin.into()
}

/// The 64-byte form of EIP-2098.
fn compact(signature: &Bytes) -> Bytes {
    let mut short = signature[..64].to_vec();
    short[32] |= (signature[64] - 27) << 7;
    short.into()
}

#[tokio::test]
async fn only_plain_low_s_signatures_of_65_bytes_count() {
    let rig = Rig::anywhere().await;
    for (channel, at) in [(&rig.v1, CHANNEL_V1), (&rig.v2, CHANNEL_V2)] {
        let id = rig.open(channel, 1000, 1000).await;
        let good = voucher(&rig.consumer, at, id, 500, 1);
        let mut lifted = good.to_vec();
        lifted[64] -= 27;
        let mut long = good.to_vec();
        long.push(0);
        let other_contract = if at == CHANNEL_V1 { CHANNEL_V2 } else { CHANNEL_V1 };
        let bad: [Bytes; 8] = [
            Bytes::new(),
            malleated(&good),
            compact(&good),
            lifted.into(),
            long.into(),
            vec![0; 65].into(),
            voucher(&rig.provider, at, id, 500, 1),
            voucher(&rig.consumer, other_contract, id, 500, 1),
        ];
        for signature in bad {
            let claim = channel.claim(id, units(500), units(1), signature);
            reverts!(claim, rig.provider, InvalidSignature);
        }
        // The nonce is part of what is signed, though the chain does not order it.
        let claim = channel.claim(id, units(500), units(2), good.clone());
        reverts!(claim, rig.provider, InvalidSignature);
        let claim = channel.claim(id, units(500), units(1), good);
        claim.from(rig.provider.address()).call().await.unwrap();
    }
    let id = rig.open(&rig.v2, 1000, 1000).await;
    let good = closing(&rig.provider, CHANNEL_V2, id, 500);
    let consumers = closing(&rig.consumer, CHANNEL_V2, id, 500);
    for signature in [malleated(&good), compact(&good), consumers] {
        let close = rig.v2.cooperativeClose(id, units(500), signature);
        reverts!(close, rig.consumer, InvalidSignature);
    }
    let close = rig.v2.cooperativeClose(id, units(500), good);
    close.from(rig.consumer.address()).call().await.unwrap();
}

#[tokio::test]
async fn the_fee_has_limits() {
    let rig = Rig::anywhere().await;
    let owner = rig.owner.address();
    let recipient = address!("00000000000000000000000000000000000000fe");
    reverts!(rig.v2.setFee(Address::ZERO, units(5000)), rig.consumer, NotOwner);
    reverts!(rig.v2.setFee(Address::ZERO, units(1001)), rig.owner, FeeTooHigh);
    reverts!(rig.v2.setFee(Address::ZERO, units(1)), rig.owner, ZeroAddress);

    // A new fee concerns channels that are open already.
    let id = rig.open(&rig.v2, 1_000_000, 1000).await;
    let before = rig.usdc_of(recipient).await;
    for (to, bps, amount, fee) in
        [(recipient, 1000, 150_000, 15_000), (recipient, 101, 150_099, 0), (Address::ZERO, 0, 300_099, 0)]
    {
        let set = rig.v2.setFee(to, units(bps)).from(owner);
        let receipt = rig.mined(set.send().await).await;
        let updated = Drain::FeeUpdated { recipient: to, bps: units(bps) };
        assert_eq!(emitted(&receipt), vec![(CHANNEL_V2, updated.encode_log_data())]);
        let signature = voucher(&rig.consumer, CHANNEL_V2, id, amount, 1);
        let claim = rig.v2.claim(id, units(amount), units(1), signature);
        let receipt = rig.mined(claim.from(rig.provider.address()).send().await).await;
        let paid = receipt.decoded_log::<Drain::FeePaid>();
        assert_eq!(paid.map_or(0, |log| log.amount.to::<u64>()), fee);
    }
    assert_eq!(rig.usdc_of(recipient).await - before, 15_000);
    let restore = rig.v2.setFee(FEE_RECIPIENT, units(200)).from(owner);
    rig.mined(restore.send().await).await;
}

#[tokio::test]
async fn the_owner_takes_only_what_is_not_owed() {
    let rig = Rig::anywhere().await;
    rig.open(&rig.v2, 1_000_000, 1000).await;
    let locked: u64 = rig.v2.totalLocked().call().await.unwrap().to();
    reverts!(rig.v2.sweep(), rig.consumer, NotOwner);
    reverts!(rig.v2.sweep(), rig.owner, NoExcess);
    let gift = rig.usdc.transfer(CHANNEL_V2, units(777)).from(rig.consumer.address());
    rig.mined(gift.send().await).await;
    let sweep = rig.v2.sweep().from(rig.owner.address());
    let receipt = rig.mined(sweep.send().await).await;
    let swept = receipt.decoded_log::<Drain::Swept>().unwrap();
    assert_eq!((swept.to, swept.amount), (rig.owner.address(), units(777)));
    assert_eq!(rig.usdc_of(rig.owner.address()).await, 777);
    assert_eq!(rig.usdc_of(CHANNEL_V2).await, locked);
}

#[tokio::test]
async fn the_token_can_be_swapped_until_ownership_is_gone() {
    let rig = Rig::anywhere().await;
    let owner = rig.owner.address();
    for channel in [&rig.v1, &rig.v2] {
        reverts!(channel.setUSDC(Address::ZERO), rig.consumer, NotOwner);
        reverts!(channel.setUSDC(Address::ZERO), rig.owner, ZeroAddress);
        reverts!(channel.renounceOwnership(), rig.consumer, NotOwner);
        for (old, new) in [(USDC, USDC_BRIDGED), (USDC_BRIDGED, USDC)] {
            let receipt = rig.mined(channel.setUSDC(new).from(owner).send().await).await;
            let updated = receipt.decoded_log::<Drain::USDCUpdated>().unwrap();
            assert_eq!((updated.oldToken, updated.newToken), (old, new));
            assert_eq!(channel.usdc().call().await.unwrap(), new);
        }
        let renounce = channel.renounceOwnership().from(owner);
        let receipt = rig.mined(renounce.send().await).await;
        let gone = receipt.decoded_log::<Drain::OwnershipRenounced>().unwrap();
        assert_eq!(gone.previousOwner, owner);
        assert!(channel.isImmutable().call().await.unwrap());
        reverts!(channel.setUSDC(USDC), rig.owner, NotOwner);
    }
    let settings = contracts::Settings::default();
    contracts::install(&rig.node, &settings).await.unwrap();
    assert!(rig.v1.isImmutable().call().await.unwrap());
    assert_eq!(rig.v2.owner().call().await.unwrap(), settings.owner);
}
