//! A transaction of the wallet, as it is wanted and as it is recorded.

use drain_protocol::{Address, B256, Usdc};
use strum::{Display, EnumString};

use super::db::Row;
use super::row;
use super::{IntentId, JournalError, TxId};
use crate::clock::Moment;
use crate::policy::Pol;
use crate::policy::budgets::GasFor;

/// What a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum TxKind {
    /// Raises or lowers the allowance.
    Approve,
    /// Opens a channel.
    Open,
    /// Closes one at expiry.
    Close,
    /// Closes one with the provider's consent.
    CooperativeClose,
    /// The V1 fee.
    SessionFee,
    /// A person sends USDC.
    SendUsdc,
    /// A person sends POL.
    SendNative,
}

impl TxKind {
    /// Whether it brings money back.
    pub(super) const fn gas_for(self) -> GasFor {
        match self {
            Self::Close | Self::CooperativeClose => GasFor::Refund,
            _ => GasFor::Spending,
        }
    }
}

/// How far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum TxState {
    /// Wanted; nothing is signed.
    Planned,
    /// Signed bytes are stored.
    Signed,
    /// At least one node took it.
    Broadcast,
    /// Mined at the required depth with the expected events.
    Final,
    /// Mined at the required depth and reverted.
    Reverted,
    /// It can never land: never signed, or another transaction is final in its slot.
    Dropped,
}

/// A transaction that is wanted. Nothing is signed yet.
#[derive(Clone, Copy, Debug)]
pub struct NewTransaction {
    /// What it does.
    pub kind: TxKind,
    /// For which channel.
    pub intent: Option<IntentId>,
    /// On which chain.
    pub chain_id: u64,
    /// From whom.
    pub wallet: Address,
    /// Contract, token or receiver.
    pub target: Address,
    /// What it moves or allows.
    pub amount: Option<Usdc>,
    /// The most that its gas can cost.
    pub gas_most: Pol,
    /// The slot of the account in which it outbids what is there; `None`: a slot of its own.
    pub outbids: Option<u64>,
    /// Now.
    pub moment: Moment,
}

/// A transaction as recorded.
#[derive(Clone, Debug)]
pub struct TxRecord {
    /// Our name of it.
    pub id: TxId,
    /// For which channel.
    pub intent: Option<IntentId>,
    /// What it does.
    pub kind: TxKind,
    /// Contract, token or receiver.
    pub target: Address,
    /// What it moves or allows.
    pub amount: Option<Usdc>,
    /// Its slot.
    pub account_nonce: Option<u64>,
    /// Its signed bytes.
    pub raw: Option<Vec<u8>>,
    /// Its hash.
    pub hash: Option<B256>,
    /// How far it got.
    pub state: TxState,
}

pub(super) const COLUMNS: &str = "id, intent, kind, target, amount, account_nonce, raw, hash, state";

/// A row with [`COLUMNS`].
pub(super) fn record(r: &Row<'_>) -> Result<TxRecord, JournalError> {
    let account_nonce: Option<i64> = r.get("account_nonce")?;
    let account_nonce =
        account_nonce.map(u64::try_from).transpose().map_err(|_| JournalError::Corrupt("account_nonce".into()))?;
    Ok(TxRecord {
        id: TxId(r.get("id")?),
        intent: r.get::<_, Option<i64>>("intent")?.map(IntentId),
        kind: row::parsed(r, "kind")?,
        target: row::parsed(r, "target")?,
        amount: row::optional_usdc(r, "amount")?,
        account_nonce,
        raw: r.get("raw")?,
        hash: row::optional_parsed(r, "hash")?,
        state: row::parsed(r, "state")?,
    })
}
