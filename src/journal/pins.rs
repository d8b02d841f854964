//! What was seen first and must not change without a person: URL and wallet of a provider (M14), the fee wallet.

use drain_protocol::Address;

use super::audit::{self, Entry, Kind};
use super::db::{Optional, params};
use super::row::address;
use super::row::column;
use super::{Journal, JournalError};

/// What is pinned for a provider id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Where it is reached.
    pub api_url: String,
    /// Its wallet, lower case.
    pub wallet: String,
}

/// What a first sight does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSight {
    /// It pins: money is about to follow.
    Pins,
    /// Nothing: somebody only looks.
    Looks,
}

/// How a value compares with its pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinCheck<T> {
    /// Seen for the first time, or as before.
    Holds,
    /// It was another one before.
    Changed {
        /// What is pinned.
        before: T,
    },
}

impl Journal {
    /// Compares a provider with its pin; the first sight may pin it.
    pub async fn check_provider_pin(
        &self,
        provider_id: String,
        api_url: String,
        wallet: Address,
        first: FirstSight,
        at: u64,
    ) -> Result<PinCheck<Pin>, JournalError> {
        self.writer
            .run(move |db| {
                let seen = Pin { api_url, wallet: address(wallet) };
                let pinned = db
                    .prepare_cached("SELECT api_url, wallet FROM provider_pins WHERE provider_id = ?1")?
                    .query_row([&provider_id], |r| Ok(Pin { api_url: r.get(0)?, wallet: r.get(1)? }))
                    .optional()?;
                match pinned {
                    Some(before) if before != seen => Ok(PinCheck::Changed { before }),
                    None if first == FirstSight::Pins => {
                        db.prepare_cached("INSERT INTO provider_pins (provider_id, api_url, wallet, pinned_at) VALUES (?1, ?2, ?3, ?4)")?
                            .execute(params![provider_id, seen.api_url, seen.wallet, column(at)?])?;
                        Ok(PinCheck::Holds)
                    }
                    Some(_) | None => Ok(PinCheck::Holds),
                }
            })
            .await
    }

    /// The prices that are pinned for a provider whose URL and wallet are; the first sight may pin these.
    pub async fn pinned_prices(
        &self,
        provider_id: String,
        prices: String,
        first: FirstSight,
    ) -> Result<String, JournalError> {
        self.writer
            .run(move |db| {
                if first == FirstSight::Pins {
                    db.prepare_cached("UPDATE provider_pins SET prices = COALESCE(prices, ?2) WHERE provider_id = ?1")?
                        .execute(params![provider_id, prices])?;
                }
                let pinned: Option<Option<String>> = db
                    .prepare_cached("SELECT prices FROM provider_pins WHERE provider_id = ?1")?
                    .query_row([provider_id], |r| r.get(0))
                    .optional()?;
                Ok(pinned.flatten().unwrap_or(prices))
            })
            .await
    }

    /// Compares the contract that a provider leads to with the one that it was first paid on; the first sight may pin it,
    /// and the operator's choice pins anew then. The provider itself is pinned already.
    pub async fn check_contract_pin(
        &self,
        provider_id: String,
        contract: Address,
        by_operator: bool,
        first: FirstSight,
    ) -> Result<PinCheck<String>, JournalError> {
        self.writer
            .run(move |db| {
                let pinned: Option<Option<String>> = db
                    .prepare_cached("SELECT contract FROM provider_pins WHERE provider_id = ?1")?
                    .query_row([&provider_id], |r| r.get(0))
                    .optional()?;
                match pinned.flatten() {
                    Some(before) if before != address(contract) && !by_operator => Ok(PinCheck::Changed { before }),
                    _ if first == FirstSight::Looks => Ok(PinCheck::Holds),
                    _ => {
                        db.prepare_cached("UPDATE provider_pins SET contract = ?2 WHERE provider_id = ?1")?
                            .execute(params![provider_id, address(contract)])?;
                        Ok(PinCheck::Holds)
                    }
                }
            })
            .await
    }

    /// The pinned ids that end so.
    pub async fn pinned_ids_ending(&self, end: String) -> Result<Vec<String>, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT provider_id FROM provider_pins WHERE substr(provider_id, length(provider_id) - length(?1) + 1) = ?1",
                )?;
                Ok(statement.query_map([end], |row| row.get(0))?)
            })
            .await
    }

    /// A person accepts what a provider is now: the pin is forgotten, and the next sight pins anew (M14).
    pub async fn forget_provider_pin(&self, provider_id: String) -> Result<bool, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let forgotten =
                    db.prepare_cached("DELETE FROM provider_pins WHERE provider_id = ?1")?.execute([&provider_id])? > 0;
                if forgotten {
                    let entry = Entry {
                        rule: Some("person".into()),
                        provider: Some(&provider_id),
                        ..Entry::allowed(Kind::Trust)
                    };
                    audit::write(db, &who, &entry.told("its URL, wallet, prices and contract of now"))?;
                }
                Ok(forgotten)
            })
            .await
    }

    /// Compares the marketplace's fee wallet with its pin; the first sight may pin it (design section 6).
    pub async fn check_fee_wallet_pin(
        &self,
        chain_id: u64,
        wallet: Address,
        first: FirstSight,
    ) -> Result<PinCheck<String>, JournalError> {
        self.writer
            .run(move |db| {
                let pinned: Option<String> = db
                    .prepare_cached("SELECT wallet FROM fee_wallet_pin WHERE chain_id = ?1")?
                    .query_row([column(chain_id)?], |r| r.get(0))
                    .optional()?;
                match pinned {
                    Some(before) if before != address(wallet) => Ok(PinCheck::Changed { before }),
                    None if first == FirstSight::Pins => {
                        db.prepare_cached("INSERT INTO fee_wallet_pin (chain_id, wallet) VALUES (?1, ?2)")?
                            .execute(params![column(chain_id)?, address(wallet)])?;
                        Ok(PinCheck::Holds)
                    }
                    Some(_) | None => Ok(PinCheck::Holds),
                }
            })
            .await
    }

    /// A person accepts the marketplace's fee wallet of now.
    pub async fn forget_fee_wallet_pin(&self, chain_id: u64) -> Result<bool, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let forgotten = db
                    .prepare_cached("DELETE FROM fee_wallet_pin WHERE chain_id = ?1")?
                    .execute([column(chain_id)?])?
                    > 0;
                if forgotten {
                    let entry = Entry { rule: Some("person".into()), ..Entry::allowed(Kind::Trust) };
                    audit::write(db, &who, &entry.told("the marketplace's fee wallet of now"))?;
                }
                Ok(forgotten)
            })
            .await
    }

    /// An agent was shown a provider's instructions.
    pub async fn docs_read(&self, provider_id: String, at: u64) -> Result<(), JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached("INSERT INTO docs_read (provider_id, at) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                    .execute(params![provider_id, column(at)?])?;
                Ok(())
            })
            .await
    }

    /// Whether an agent was ever shown a provider's instructions.
    pub async fn were_docs_read(&self, provider_id: String) -> Result<bool, JournalError> {
        self.writer
            .run(move |db| {
                let at: Option<i64> = db
                    .prepare_cached("SELECT at FROM docs_read WHERE provider_id = ?1")?
                    .query_row([provider_id], |r| r.get(0))
                    .optional()?;
                Ok(at.is_some())
            })
            .await
    }
}
