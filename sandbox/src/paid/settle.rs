//! The chain's part: whether it would take a credential, and taking the money.

use alloy::primitives::{Address, B256, Bytes};
use serde_json::{Value, json};

use super::Shared;
use super::log::Ticket;
use super::token::Authorization;
use crate::rpc::RpcError;

impl Shared {
    /// Whether the token would make the transfer now: nonce unused, enough money.
    pub(crate) async fn simulate(&self, authorization: &Authorization, asset: Address) -> Result<(), RpcError> {
        let data = Bytes::from(authorization.call());
        let call = json!([{"from": self.config.key.address(), "to": asset, "data": data}, "latest"]);
        self.rpc.call("eth_call", call).await.map(|_| ())
    }

    /// Takes the money and waits until it is mined.
    pub(crate) async fn settle(
        &self,
        ticket: Ticket,
        authorization: &Authorization,
        asset: Address,
    ) -> Result<B256, RpcError> {
        // One at a time: the account's nonces must follow each other.
        let _turn = self.settling.lock().await;
        let receipt = self.rpc.execute(&self.config.key, asset, authorization.call()).await?;
        let hash = receipt.get("transactionHash").and_then(Value::as_str).and_then(|hash| hash.parse().ok());
        let hash = hash.ok_or_else(|| RpcError::Shape("no transactionHash".into()))?;
        self.settled(ticket, hash);
        Ok(hash)
    }

    pub(crate) async fn settle_held(&self) -> usize {
        let mut taken = 0;
        for (ticket, authorization, asset) in self.held() {
            match self.settle(ticket, &authorization, asset).await {
                Ok(_) => taken += 1,
                Err(error) => tracing::debug!(%error, "a held credential was not taken"),
            }
        }
        taken
    }
}
