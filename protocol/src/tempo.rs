//! A payment over Tempo: one transfer of a stablecoin in a transaction of Tempo's own type (0x76), which the payee sends.
//!
//! Its nonce is the "expiring" one: the chain takes the transaction once, within half a minute, or never.

use alloy::primitives::{Address, B256, Bytes, U256, address, keccak256};
use alloy::rlp::{BufMut, EMPTY_STRING_CODE, Encodable, Header};
use alloy::sol_types::SolCall;

use crate::transfer::Transfer;
use crate::usdc::Usdc;

alloy::sol! {
    function transferWithMemo(address to, uint256 amount, bytes32 memo) external;
}

/// Tempo's chain.
pub const MAINNET: u64 = 4_217;
/// Its test chain: nothing there has any value.
pub const TESTNET: u64 = 42_431;
/// For how many seconds a payment is valid at most, by the chain's time. That one took none that is valid for more than 30.
pub const LONGEST: u64 = 25;

/// How far that chain's clock may be ahead of the payer's, in seconds.
pub const CLOCKS_APART: u64 = 60;

/// The most that the gas of one payment may cost: some ten times the usual.
pub const MOST_GAS: Usdc = Usdc::new(50_000);

const TYPE: u8 = 0x76;
/// What a sponsor is sent: no transaction yet.
const SPONSORED: u8 = 0x78;
/// The key of the nonce that expires.
const EXPIRING: U256 = U256::MAX;
/// The price of gas is in parts of 10^18 of a dollar, a token's unit is 10^-6.
const PARTS_PER_UNIT: u128 = 1_000_000_000_000;

const PATH_USD: Address = address!("20c0000000000000000000000000000000000000");
const USDC: Address = address!("20C000000000000000000000b9537d11c60E8b50");
const OUSD: Address = address!("20c0000000000000000000006a37DA5C996874BE");

/// The tokens of a chain that are dollars of six decimals. Nobody else's word counts for that (M8).
pub const fn tokens(chain_id: u64) -> &'static [Address] {
    match chain_id {
        MAINNET => &[USDC, PATH_USD, OUSD],
        TESTNET => &[PATH_USD, OUSD],
        _ => &[],
    }
}

/// The gas of a transaction, which is paid in the token that is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gas {
    /// The most gas.
    pub limit: u64,
    /// The most for a unit of gas, tip included, in 10^-18 dollars.
    pub price: u128,
    /// The tip in it.
    pub tip: u128,
}

impl Gas {
    /// The most that it can cost, or [`Usdc::MAX`] where it is more.
    pub fn most(&self) -> Usdc {
        cost(self.limit, self.price)
    }
}

/// What so much gas at this price costs, rounded up, or [`Usdc::MAX`] where it is more: no limit allows that.
pub fn cost(gas: u64, price: u128) -> Usdc {
    let units = u128::from(gas).saturating_mul(price).div_ceil(PARTS_PER_UNIT);
    u64::try_from(units).ok().and_then(Usdc::from_units).unwrap_or(Usdc::MAX)
}

/// What is signed: one transfer with its memo, nothing else, and the gas in the same token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TempoTransfer {
    /// Which chain.
    pub chain_id: u64,
    /// Which token.
    pub token: Address,
    /// What is paid to whom, and until when. Its nonce is the transfer's memo, bound to the challenge that it answers.
    pub transfer: Transfer,
    /// What it may cost beside.
    pub gas: Gas,
    /// Whoever is asked pays the gas: it adds its own signature, and nobody knows the whole transaction's hash before.
    pub sponsored: bool,
}

/// What an encoding is for.
#[derive(Clone, Copy)]
enum Form<'a> {
    /// To be signed.
    Signing,
    /// To be sent by whoever has it.
    Signed(&'a [u8; 65]),
}

impl TempoTransfer {
    /// Amount and gas together, at most.
    pub fn at_most(&self) -> Usdc {
        if self.sponsored { self.transfer.value } else { self.transfer.value.saturating_add(self.gas.most()) }
    }

    /// The call of the token.
    pub fn calldata(&self) -> Bytes {
        let Transfer { to, value, nonce, .. } = self.transfer;
        transferWithMemoCall { to, amount: value.to_u256(), memo: nonce }.abi_encode().into()
    }

    /// The hash that its owner signs.
    pub fn signing_hash(&self) -> B256 {
        keccak256(self.encoded(Form::Signing))
    }

    /// The signed transaction, as the payee sends it; where that pays the gas what it completes first.
    pub fn signed(&self, signature: &[u8; 65]) -> Bytes {
        self.encoded(Form::Signed(signature)).into()
    }

    /// The hash of the whole transaction, where that is known.
    pub fn hash(&self, signature: &[u8; 65]) -> Option<B256> {
        (!self.sponsored).then(|| keccak256(self.signed(signature)))
    }

    fn encoded(&self, form: Form<'_>) -> Vec<u8> {
        let Gas { limit, price, tip } = self.gas;
        let mut call = Vec::new();
        self.token.encode(&mut call);
        U256::ZERO.encode(&mut call);
        self.calldata().encode(&mut call);
        let call = list(&call);

        let mut fields = Vec::new();
        self.chain_id.encode(&mut fields);
        tip.encode(&mut fields);
        price.encode(&mut fields);
        limit.encode(&mut fields);
        fields.extend(list(&call));
        // No access list.
        fields.extend(list(&[]));
        EXPIRING.encode(&mut fields);
        0u64.encode(&mut fields);
        self.transfer.valid_before.encode(&mut fields);
        self.transfer.valid_after.encode(&mut fields);
        // In which token the gas is paid, and by whose signature: here with the transfer's, or whoever is asked chooses both.
        match (self.sponsored, form) {
            (false, _) => {
                self.token.encode(&mut fields);
                fields.put_u8(EMPTY_STRING_CODE);
            }
            (true, Form::Signing) => {
                fields.put_u8(EMPTY_STRING_CODE);
                fields.put_u8(0);
            }
            (true, Form::Signed(_)) => {
                fields.put_u8(EMPTY_STRING_CODE);
                self.transfer.from.encode(&mut fields);
            }
        }
        // No other keys are named.
        fields.extend(list(&[]));
        let mut kind = TYPE;
        if let Form::Signed(signature) = form {
            signature[..].encode(&mut fields);
            kind = if self.sponsored { SPONSORED } else { TYPE };
        }
        let mut raw = vec![kind];
        raw.extend(list(&fields));
        raw
    }
}

fn list(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 9);
    Header { list: true, payload_length: payload.len() }.encode(&mut out);
    out.extend_from_slice(payload);
    out
}

/// The memo that binds a transfer to the challenge that it answers: MPP's tag and version, then parts of the hashes of who
/// asks and of the challenge's id. No client is named. The chain takes a memo more than once.
pub fn memo(id: &str, realm: &str) -> B256 {
    let mut memo = [0u8; 32];
    memo[..4].copy_from_slice(&keccak256("mpp")[..4]);
    memo[4] = 1;
    memo[5..15].copy_from_slice(&keccak256(realm)[..10]);
    memo[25..].copy_from_slice(&keccak256(id)[..7]);
    memo.into()
}
