//! What the chain says of payments without a channel: whether a signed transfer was sent (EIP-3009).

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::Bytes;
use alloy::sol_types::SolCall;
use drain_protocol::{Address, B256};
use serde_json::json;

use super::reads::plain;
use super::{Chain, ChainError};

alloy::sol! {
    function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}

impl Chain {
    /// Whether an account's transfer of this nonce was sent, or cancelled, as of a block. Two endpoints are asked where there
    /// are two: it is unused only where both say so.
    pub async fn transfer_used(
        &self,
        token: Address,
        from: Address,
        nonce: B256,
        block: u64,
    ) -> Result<bool, ChainError> {
        let call = authorizationStateCall { authorizer: from, nonce };
        let params = json!([{ "to": token, "data": Bytes::from(call.abi_encode()) }, BlockNumberOrTag::Number(block)]);
        let said = self.pool().ask_two("eth_call", &params, Some(block), plain::<Bytes>).await?;
        let mut used = false;
        for (_, answer) in said {
            let answer = answer.ok_or_else(|| ChainError::malformed("authorizationState reverted"))?;
            used |= authorizationStateCall::abi_decode_returns_validate(&answer)
                .map_err(|_| ChainError::malformed(format!("authorizationState of {token} has another shape")))?;
        }
        Ok(used)
    }

    /// The domain that the token checks signatures in.
    pub async fn token_domain(&self, token: Address) -> Result<B256, ChainError> {
        self.view(token, &DOMAIN_SEPARATORCall {}).await
    }
}
