//! What is to be signed for an offer, and whether the wallet has the money for it.

use drain_protocol::demand::{Offer, Protocol};
use drain_protocol::tempo::{self, Gas};
use drain_protocol::text::quoted;
use drain_protocol::{Address, Asset, B256, PaymentOrder, TempoTransfer, Usdc};

use super::Local;
use crate::chain::Chain;
use crate::error::{Code, Failure};
use crate::payment::longest;

/// What is to be signed, and the time by which it is valid.
pub(super) struct Ordered {
    pub(super) order: PaymentOrder,
    /// In Unix seconds of the chain that it is paid on.
    pub(super) now: u64,
}

impl Local {
    /// What is to be signed for an offer. `funds` is the wallet's USDC, where that was asked for already.
    pub(super) async fn order(
        &self,
        host: &str,
        offer: &Offer,
        funds: Result<Usdc, Failure>,
    ) -> Result<Ordered, Failure> {
        let own = self.purse()?.address;
        let (ordered, balance, next) = match offer.protocol {
            Protocol::MppTempo => {
                let chain = self.services.tempo.as_ref().ok_or_else(|| Failure::internal("no chain of Tempo's"))?;
                let latest = self.services.clock.now().saturating_add(tempo::CLOCKS_APART);
                let (ordered, balance) =
                    futures::try_join!(over_tempo(chain, offer, own, latest), balance(chain, offer.token, own))?;
                (ordered, balance, "A person sends that token to the same account on Tempo.")
            }
            Protocol::Mpp | Protocol::X402V1 | Protocol::X402V2 => {
                let now = self.services.clock.block_time();
                let transfer = offer.transfer(own, now, longest(offer.protocol), B256::random());
                let order = PaymentOrder::Authorization { asset: self.asset()?, transfer };
                (Ordered { order, now }, funds?, "A person sends native USDC to the wallet, or closes a channel.")
            }
        };
        let needed = ordered.order.at_most();
        if balance < needed {
            let what = format!(
                "{} asks for {} USDC, which needs {needed}, and the wallet {own} holds {balance} of the token {} outside of channels",
                quoted(host, 100),
                offer.amount,
                offer.token
            );
            return Err(Failure::unspent(Code::InsufficientUsdc, what, next));
        }
        Ok(ordered)
    }

    /// The wallet's USDC outside of channels, and that it signs as the table says.
    pub(super) async fn funds(&self) -> Result<Usdc, Failure> {
        let (token, own) = (self.asset()?.token, self.purse()?.address);
        let ((), balance) = futures::try_join!(self.know_token(), balance(&self.services.chain, token, own))?;
        Ok(balance)
    }

    /// The token that is paid with: the chain's USDC, by the table or the operator (M8).
    pub(super) fn asset(&self) -> Result<Asset, Failure> {
        let chain = &self.services.config.chain;
        let token = chain.deployments.first().map(|deployment| deployment.usdc);
        token.map(|token| Asset::usdc(chain.chain_id, token)).ok_or_else(|| {
            Failure::unspent(
                Code::NotPayable,
                format!("no USDC is known on chain {}", chain.chain_id),
                "A person sets DRAIN_CONTRACT and DRAIN_USDC, or DRAIN_CHAIN_ID.",
            )
        })
    }

    /// That the token checks signatures in the domain that its table says: asked once.
    async fn know_token(&self) -> Result<(), Failure> {
        let asset = self.asset()?;
        self.token
            .get_or_try_init(|| async {
                let found = self.services.chain.token_domain(asset.token).await?;
                if found == asset.separator() {
                    return Ok(());
                }
                Err(Failure::unspent(
                    Code::ContractFrozen,
                    format!(
                        "the token {} signs in another domain than {:?} version {}: a payment would be worth nothing there",
                        asset.token, asset.name, asset.version
                    ),
                    "A person looks at DRAIN_USDC and at the RPC endpoints (drain-mcp doctor).",
                ))
            })
            .await
            .copied()
    }

    /// Tempo's chain, or why nothing is paid over it.
    pub(super) fn tempo(&self) -> Result<u64, &'static str> {
        let able = self.purse().is_ok_and(|purse| purse.signer.tempo);
        match &self.services.tempo {
            None => Err("a person sets DRAIN_TEMPO_RPC_URL first, and sends dollars to the same account on Tempo"),
            Some(_) if !able => Err("this wallet's signer does not know Tempo's transactions"),
            Some(chain) => Ok(chain.chain_id()),
        }
    }
}

async fn balance(chain: &Chain, token: Address, account: Address) -> Result<Usdc, Failure> {
    Ok(chain.usdc_balance(token, account).await?)
}

/// `latest` is the machine's own time and a little: an endpoint that names a later one gets no payment for later.
async fn over_tempo(chain: &Chain, offer: &Offer, own: Address, latest: u64) -> Result<Ordered, Failure> {
    let head = chain.head().await?;
    let now = head.timestamp.min(latest);
    let transfer = offer.transfer(own, now, longest(offer.protocol), B256::ZERO);
    let unpriced = Gas { limit: 0, price: 0, tip: 0 };
    let mut order = TempoTransfer {
        chain_id: offer.chain_id,
        token: offer.token,
        transfer,
        gas: unpriced,
        sponsored: offer.is_sponsored(),
    };
    order.gas = chain.tempo_gas(head, own, offer.token, order.calldata(), transfer.valid_before).await?;
    if !order.sponsored && order.gas.most() > tempo::MOST_GAS {
        return Err(Failure::unspent(
            Code::ChainUnavailable,
            format!(
                "gas on Tempo would cost up to {} USDC, and {} are the most that is paid",
                order.gas.most(),
                tempo::MOST_GAS
            ),
            "Call again later; if it stays, a person looks at DRAIN_TEMPO_RPC_URL.",
        ));
    }
    Ok(Ordered { order: PaymentOrder::Tempo(order), now })
}
