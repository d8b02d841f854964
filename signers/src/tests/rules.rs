//! Each rule refuses what it is for, and nothing else.

use drain_protocol::contract::Generation;
use drain_protocol::deployment::{AMOY, POLYGON_USDC_E};
use drain_protocol::{Address, Deployment, Domain, U256, Usdc, tempo};

use super::fixtures::*;
use crate::{Call, SignerError, TempoRequest, TransactionRequest, TransferRequest, VoucherRequest};

fn code(result: Result<(), SignerError>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(SignerError::Refused { reason }) => {
            assert!(!reason.to_string().is_empty());
            reason.code()
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn judged(request: &TransactionRequest) -> &'static str {
    code(policy().check_transaction(request, own()))
}

#[test]
fn vouchers() {
    let check = |request: VoucherRequest| code(policy().check_voucher(&request));
    let contract = v2().contract();
    assert_eq!(check(voucher(0)), "ok");
    assert_eq!(check(voucher(5_000_000)), "ok");
    assert_eq!(check(VoucherRequest { domain: v1().domain, ..voucher(1) }), "ok");
    assert_eq!(check(voucher(5_000_001)), "above_deposit");
    assert_eq!(check(VoucherRequest { deposit: Usdc::ZERO, ..voucher(1) }), "above_deposit");
    assert_eq!(check(VoucherRequest { domain: Domain::new(AMOY, contract), ..voucher(1) }), "wrong_chain");
    assert_eq!(check(VoucherRequest { domain: Domain::new(137, other()), ..voucher(1) }), "unknown_deployment");

    // A deployment of another chain in the list opens no door to that chain, nor to this one.
    let mut mixed = policy();
    mixed.deployments = vec![Deployment::new(AMOY, Generation::V2, contract, v2().usdc)];
    assert_eq!(code(mixed.check_voucher(&voucher(1))), "unknown_deployment");
    let amoy = VoucherRequest { domain: Domain::new(AMOY, contract), ..voucher(1) };
    assert_eq!(code(mixed.check_voucher(&amoy)), "wrong_chain");
}

/// M3, M8: exactly what is in the table, to somebody, for a while, and not too much.
#[test]
fn m8_transfers() {
    let check = |change: fn(&mut TransferRequest)| {
        let mut request = transfer(own());
        change(&mut request);
        code(paying().check_transfer(&request, own()))
    };
    assert_eq!(check(|_| {}), "ok");
    assert_eq!(check(|request| request.asset.chain_id = AMOY), "wrong_chain");
    assert_eq!(check(|request| request.asset.token = POLYGON_USDC_E), "unknown_asset");
    assert_eq!(check(|request| request.asset.name = "USDC"), "unknown_asset");
    assert_eq!(check(|request| request.asset.version = "1"), "unknown_asset");
    assert_eq!(check(|request| request.transfer.from = other()), "wrong_payer");
    for to in [Address::ZERO, own(), v2().contract(), v1().contract(), v2().usdc] {
        let mut request = transfer(own());
        request.transfer.to = to;
        assert_eq!(code(paying().check_transfer(&request, own())), "wrong_counterparty", "{to}");
    }
    assert_eq!(check(|request| request.transfer.value = Usdc::ZERO), "zero_amount");
    assert_eq!(check(|request| request.transfer.value = Usdc::new(5_000_000)), "ok");
    assert_eq!(check(|request| request.transfer.value = Usdc::new(5_000_001)), "above_transfer_limit");
    assert_eq!(check(|request| request.transfer.valid_before = request.now + 600), "ok");
    assert_eq!(check(|request| request.transfer.valid_before = request.now + 601), "valid_too_long");
    assert_eq!(check(|request| request.transfer.valid_before = request.now), "valid_too_long");
    assert_eq!(check(|request| request.transfer.valid_after = request.now), "valid_too_long");
    // Without a word of the operator nothing is paid this way.
    assert_eq!(code(policy().check_transfer(&transfer(own()), own())), "unknown_asset");
}

/// M3, M8: the same over Tempo, with gas that costs little.
#[test]
fn m8_transfers_over_tempo() {
    let check = |change: fn(&mut TempoRequest)| {
        let mut request = tempo_transfer(own());
        change(&mut request);
        code(paying().check_tempo(&request, own()))
    };
    assert_eq!(check(|_| {}), "ok");
    assert_eq!(check(|request| request.order.chain_id = tempo::TESTNET), "wrong_chain");
    assert_eq!(check(|request| request.order.token = v2().usdc), "unknown_asset");
    assert_eq!(check(|request| request.order.transfer.from = other()), "wrong_payer");
    assert_eq!(check(|request| request.order.transfer.to = own()), "wrong_counterparty");
    assert_eq!(check(|request| request.order.transfer.to = request.order.token), "wrong_counterparty");
    assert_eq!(check(|request| request.order.transfer.value = Usdc::ZERO), "zero_amount");
    assert_eq!(check(|request| request.order.transfer.value = Usdc::new(5_000_001)), "above_transfer_limit");
    assert_eq!(check(|request| request.order.transfer.valid_before += 1), "valid_too_long");
    assert_eq!(check(|request| request.order.transfer.valid_before = request.now), "valid_too_long");
    assert_eq!(check(|request| request.order.gas = tempo::Gas { limit: 2_500_000, ..request.order.gas }), "ok");
    assert_eq!(check(|request| request.order.gas = tempo::Gas { limit: 2_500_001, ..request.order.gas }), "gas_cost");
    assert_eq!(check(|request| request.order.gas = tempo::Gas { price: u128::MAX, ..request.order.gas }), "gas_cost");
    // Without a word of the operator nothing is paid this way.
    assert_eq!(code(policy().check_tempo(&tempo_transfer(own()), own())), "unknown_asset");
}

#[test]
fn deployments_are_known_exactly() {
    let at = |deployment| judged(&TransactionRequest { deployment, ..open() });
    let (contract, usdc) = (v2().contract(), v2().usdc);
    assert_eq!(at(v2()), "ok");
    assert_eq!(at(v1()), "ok");
    assert_eq!(at(Deployment::new(AMOY, Generation::V2, contract, usdc)), "wrong_chain");
    assert_eq!(at(Deployment::new(137, Generation::V2, other(), usdc)), "unknown_deployment");
    assert_eq!(at(Deployment::new(137, Generation::V1, contract, usdc)), "unknown_deployment");
    assert_eq!(at(Deployment::new(137, Generation::V2, contract, POLYGON_USDC_E)), "unknown_deployment");
}

#[test]
fn calls() {
    let (channel_id, final_amount, provider_signature) = (channel(), Usdc::ZERO, [0; 65]);
    let cooperative = Call::CooperativeClose { channel_id, final_amount, provider_signature };
    let open = |provider, amount| Call::Open { provider, amount: Usdc::new(amount), duration: "1h".parse().unwrap() };
    let usdc = |to, amount| Call::SendUsdc { to, amount: Usdc::new(amount) };
    let native = |to, wei| Call::SendNative { to, wei: U256::from(wei) };
    for (deployment, call, expected) in [
        (v2(), Call::Approve { amount: Usdc::ZERO }, "ok"),
        (v2(), Call::Approve { amount: Usdc::new(1) }, "ok"),
        (v2(), Call::ApproveUnlimited, "unlimited_allowance"),
        (v2(), open(other(), 1), "ok"),
        (v2(), open(other(), 0), "zero_amount"),
        (v2(), open(Address::ZERO, 1), "wrong_counterparty"),
        (v2(), open(own(), 1), "wrong_counterparty"),
        (v2(), open(v1().contract(), 1), "wrong_counterparty"),
        (v2(), open(v2().usdc, 1), "wrong_counterparty"),
        (v1(), Call::Close { channel_id }, "ok"),
        (v2(), Call::Close { channel_id }, "ok"),
        (v2(), cooperative, "ok"),
        (v1(), cooperative, "wrong_generation"),
        (v1(), Call::SessionFee { to: other() }, "ok"),
        (v2(), Call::SessionFee { to: other() }, "wrong_generation"),
        (v1(), Call::SessionFee { to: own() }, "wrong_counterparty"),
        (v1(), Call::SessionFee { to: Address::ZERO }, "wrong_counterparty"),
        (v2(), usdc(other(), 1), "unknown_recipient"),
        (v2(), usdc(other(), 0), "zero_amount"),
        (v2(), usdc(v2().usdc, 1), "wrong_counterparty"),
        (v2(), native(other(), 1), "unknown_recipient"),
        (v2(), native(other(), 0), "zero_amount"),
        (v2(), native(own(), 1), "wrong_counterparty"),
    ] {
        assert_eq!(judged(&transaction(deployment, call)), expected, "{call:?}");
    }
}

#[test]
fn what_the_operator_allows() {
    let mut policy = policy();
    policy.unlimited_allowance = true;
    policy.recipients = vec![other(), Address::ZERO];
    let check = |call| code(policy.check_transaction(&transaction(v2(), call), own()));
    assert_eq!(check(Call::ApproveUnlimited), "ok");
    assert_eq!(check(Call::SendUsdc { to: other(), amount: Usdc::new(1) }), "ok");
    assert_eq!(check(Call::SendNative { to: other(), wei: U256::from(1) }), "ok");
    // Not even the operator means the zero address.
    assert_eq!(check(Call::SendUsdc { to: Address::ZERO, amount: Usdc::new(1) }), "wrong_counterparty");
    assert_eq!(check(Call::SendUsdc { to: Address::repeat_byte(1), amount: Usdc::new(1) }), "unknown_recipient");
}

#[test]
fn gas() {
    const CEILING: u128 = 5_000_000_000_000;
    let at = |max_fee_per_gas, max_priority_fee_per_gas, gas_limit| {
        judged(&TransactionRequest { max_fee_per_gas, max_priority_fee_per_gas, gas_limit, ..open() })
    };
    assert_eq!(at(CEILING, CEILING, 1_000_000), "ok");
    assert_eq!(at(CEILING + 1, 0, 1), "gas_price");
    assert_eq!(at(u128::MAX, u128::MAX, 1), "gas_price");
    assert_eq!(at(10, 11, 1), "tip_above_price");
    assert_eq!(at(10, 1, 1_000_001), "gas_limit");
    let mut strict = policy();
    strict.max_fee_per_gas = 1;
    assert_eq!(code(strict.check_transaction(&open(), own())), "gas_price");
}
