//! Running transactions and calls, and taking their effects back.

use alloy::consensus::{Header, Transaction as _, TxEnvelope, Typed2718 as _};
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::{Revert, SolError as _};
use revm::context::result::{ExecutionResult, Output, ResultAndState};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::database::{InMemoryDB, WrapDatabaseRef};
use revm::primitives::hardfork::SpecId;
use revm::state::{AccountInfo, Bytecode, EvmState};
use revm::{Context, DatabaseCommit as _, DatabaseRef as _, ExecuteEvm as _, MainBuilder as _};
use revm::{MainContext as _, primitives::TxKind};

use super::rpc::RpcError;

/// Whether the rules for mined transactions apply or those for simulations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    Mined,
    Simulated,
}

/// The state before a block, as far as the block changed it.
#[derive(Default)]
pub(super) struct Undo {
    accounts: Vec<(Address, AccountInfo)>,
    slots: Vec<(Address, U256, U256)>,
}

/// The account, or an empty one. `InMemoryDB` cannot fail.
pub(super) fn account(db: &InMemoryDB, address: Address) -> AccountInfo {
    let Ok(info) = db.basic_ref(address);
    info.unwrap_or_default()
}

/// One storage word.
pub(super) fn slot(db: &InMemoryDB, address: Address, key: U256) -> U256 {
    let Ok(value) = db.storage_ref(address, key);
    value
}

/// The code at an address.
pub(super) fn code(db: &InMemoryDB, address: Address) -> Bytes {
    let info = account(db, address);
    if info.is_empty_code_hash() || info.code_hash.is_zero() {
        return Bytes::new();
    }
    let Ok(code) = db.code_by_hash_ref(info.code_hash);
    code.original_bytes()
}

/// Writes one storage word.
pub(super) fn set_slot(db: &mut InMemoryDB, address: Address, key: U256, value: U256) {
    let Ok(()) = db.insert_account_storage(address, key, value);
}

/// Replaces the code at an address.
pub(super) fn set_code(db: &mut InMemoryDB, address: Address, code: Bytes) {
    let bytecode = Bytecode::new_legacy(code);
    let mut info = account(db, address);
    info.code_hash = bytecode.hash_slow();
    info.code = Some(bytecode);
    db.insert_account_info(address, info);
}

/// Applies what a transaction did and remembers how it was before.
pub(super) fn commit(db: &mut InMemoryDB, state: EvmState) -> Undo {
    let mut undo = Undo::default();
    for (address, changed) in &state {
        if !changed.is_touched() {
            continue;
        }
        undo.accounts.push((*address, account(db, *address)));
        for (key, value) in &changed.storage {
            if value.is_changed() {
                undo.slots.push((*address, *key, slot(db, *address, *key)));
            }
        }
    }
    db.commit(state);
    undo
}

/// Restores what [`commit`] changed.
pub(super) fn revert(db: &mut InMemoryDB, undo: &Undo) {
    for (address, info) in &undo.accounts {
        db.insert_account_info(*address, info.clone());
    }
    for (address, key, value) in &undo.slots {
        set_slot(db, *address, *key, *value);
    }
}

/// Runs a transaction without keeping its effects.
pub(super) fn execute(
    db: &InMemoryDB,
    chain_id: u64,
    block: BlockEnv,
    tx: TxEnv,
    rules: Rules,
) -> Result<ResultAndState, String> {
    let simulated = rules == Rules::Simulated;
    let mut tx = tx;
    if simulated {
        // Who only asks need not say for which chain, as of nodes.
        tx.chain_id.get_or_insert(chain_id);
    }
    let mut evm = Context::mainnet()
        .with_db(WrapDatabaseRef(db))
        .with_block(block)
        .modify_cfg_chained(|cfg: &mut CfgEnv| {
            cfg.set_spec_and_mainnet_gas_params(SpecId::PRAGUE);
            cfg.chain_id = chain_id;
            cfg.disable_nonce_check = simulated;
            cfg.disable_base_fee = simulated;
            cfg.disable_eip3607 = simulated;
        })
        .build_mainnet();
    evm.transact(tx).map_err(|error| error.to_string())
}

/// The block a transaction sees.
pub(super) fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        beneficiary: header.beneficiary,
        prevrandao: Some(B256::ZERO),
        ..BlockEnv::default()
    }
}

/// A signed transaction in the machine's form.
pub(super) fn signed_env(tx: &TxEnvelope, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: tx.ty(),
        caller: sender,
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        ..TxEnv::default()
    }
}

/// A call request in the machine's form. Without fees it costs nothing.
pub(super) fn call_env(request: &TransactionRequest, gas_limit: u64) -> TxEnv {
    let tip = request.max_priority_fee_per_gas;
    let price = request.max_fee_per_gas.or(request.gas_price).or(tip);
    TxEnv {
        tx_type: if tip.is_some() { 2 } else { 0 },
        caller: request.from.unwrap_or_default(),
        gas_limit,
        gas_price: price.unwrap_or_default(),
        kind: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or_default(),
        data: request.input.input().cloned().unwrap_or_default(),
        nonce: request.nonce.unwrap_or_default(),
        chain_id: request.chain_id,
        gas_priority_fee: tip,
        ..TxEnv::default()
    }
}

/// The output of a successful run; a revert becomes the error nodes give.
pub(super) fn output(result: ExecutionResult) -> Result<Bytes, RpcError> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(match output {
            Output::Call(data) | Output::Create(data, _) => data,
        }),
        ExecutionResult::Revert { output, .. } => {
            let message = Revert::abi_decode(&output).map_or_else(
                |_| "execution reverted".to_owned(),
                |revert| format!("execution reverted: {}", revert.reason),
            );
            Err(RpcError::revert(message, output))
        }
        ExecutionResult::Halt { reason, .. } => Err(RpcError::server(format!("execution halted: {reason:?}"))),
    }
}

/// The least gas limit with which the call succeeds, to within 1.5 %.
pub(super) fn estimate(
    db: &InMemoryDB,
    chain_id: u64,
    block: &BlockEnv,
    request: &TransactionRequest,
) -> Result<u64, RpcError> {
    let run = |gas: u64| {
        let tx = call_env(request, gas);
        execute(db, chain_id, block.clone(), tx, Rules::Simulated)
    };
    let cap = request.gas.map_or(block.gas_limit, |gas| gas.min(block.gas_limit));
    let full = run(cap).map_err(RpcError::server)?.result;
    let used = full.tx_gas_used();
    let spent = full.gas().total_gas_spent();
    output(full)?;

    let succeeds = |gas: u64| matches!(run(gas), Ok(done) if done.result.is_success());
    let mut low = used.saturating_sub(1);
    let mut high = cap;
    // A call may hold back one part in 64 of its gas, plus the stipend.
    let guess = (spent + 2300).saturating_mul(64) / 63;
    if guess < high && succeeds(guess) {
        high = guess;
    }
    while low + 1 < high && (high - low) * 1000 > high * 15 {
        // Most calls need little more than they use, so search from below.
        let middle = ((low + high) / 2).min(low.saturating_mul(2).max(1));
        if succeeds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}
