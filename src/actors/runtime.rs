//! The runtime as tools and commands see it: the same calls whether this process holds the wallet or shares another's.

use std::sync::Arc;

use drain_protocol::{Address, ChannelId, Usdc};
use drain_signers::Signer;

use super::local::{Local, persons_only};
use super::sharing::Shared;
use super::startup::{no_signer, services};
use crate::api::{
    ApprovalView, Approved, BudgetView, ChannelView, ChatCall, ChatReply, Closed, Command, Feedback, Imported,
    LeftBehind, OfferedModel, OpenRequest, Opened, OpeningsFound, Overview, PaymentCall, PaymentReply, Progress,
    ProviderDetails, ProviderPage, ProviderQuery, Quote, QuoteCall, ReceiptDetails, ReceiptQuery, ReceiptView,
    Recovery, RefundReport, Reply, SendAmount, Swept, WalletView, unknown_told,
};
use crate::config::{Config, Password};
use crate::error::Failure;
use crate::policy::approvals::Verdict;
use crate::policy::{Asked, Caller, FleetAgent, Pol};

/// The facade; cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    shared: Shared,
    /// By which call everything is asked for.
    asked: Asked,
    /// For whom, where it is not the operator of this process.
    agent: Option<Arc<FleetAgent>>,
}

/// The answer to a command, or a fault of ours.
macro_rules! answer {
    ($reply:expr, $variant:path) => {
        match $reply {
            $variant(value) => Ok(value),
            other => Err(other.unexpected()),
        }
    };
}

impl Runtime {
    /// Starts the actors; call inside of a running actix system. Contacts nobody but a process that has this wallet
    /// already: that one's runtime is shared then. Without a signer, discovery works and money answers how to make a
    /// wallet.
    pub async fn start(config: Config, signer: Option<Signer>) -> Result<Self, Failure> {
        match signer {
            None => Self::without_wallet(config, no_signer()),
            Some(signer) => Ok(Self::over(Shared::with_key(services(config)?, signer).await)),
        }
    }

    /// Starts without a wallet; everything that needs one answers `why`.
    pub fn without_wallet(config: Config, why: Failure) -> Result<Self, Failure> {
        Ok(Self::over(Shared::without_wallet(services(config)?, why)))
    }

    /// Starts with a wallet whose key cannot be used here: it is paid from while another process has it, and otherwise
    /// everything that needs it answers `why`.
    pub async fn locked(config: Config, wallet: Address, why: Failure) -> Result<Self, Failure> {
        Ok(Self::over(Shared::locked(services(config)?, wallet, why).await))
    }

    /// Starts with a key that is still being opened, and answers at once: providers can be read meanwhile, and everything
    /// that needs the wallet waits. Where opening fails, it is as [`Self::locked`], or without the wallet's address as
    /// [`Self::without_wallet`]. Call on the main thread of a running actix system.
    pub fn opening(
        config: Config,
        wallet: Option<Address>,
        signer: impl Future<Output = Result<Signer, Failure>> + 'static,
    ) -> Result<Self, Failure> {
        Ok(Self::over(Shared::opening(services(config)?, wallet, signer)))
    }

    fn over(shared: Shared) -> Self {
        Self { shared, asked: Asked::by("runtime"), agent: None }
    }

    /// The same runtime for one more call of a tool or command: all that is asked by it carries the call's id.
    pub fn asked_by(&self, tool: &'static str) -> Self {
        self.asked(Asked::by(tool))
    }

    /// The same runtime for this call.
    pub fn asked(&self, asked: Asked) -> Self {
        Self { shared: self.shared.clone(), asked, agent: self.agent.clone() }
    }

    /// The same runtime for an agent of the fleet: all that is asked by it counts as that agent's, within its limits (M5).
    /// Only in the process that holds the wallet.
    pub fn for_agent(&self, agent: FleetAgent) -> Self {
        Self { agent: Some(Arc::new(agent)), ..self.clone() }
    }

    pub(super) const fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether all of this is the sandbox's play money.
    pub fn play_money(&self) -> bool {
        self.config().play_money
    }

    /// The operator's settings.
    pub fn config(&self) -> &Config {
        self.shared.config()
    }

    async fn run(&self, command: Command, progress: Progress) -> Result<Reply, Failure> {
        let asked = self.asked.clone();
        match &self.agent {
            None => self.shared.run(command, self.shared.services().operator(asked), progress).await,
            // Another process would count it as its own guest, and not as this agent.
            Some(agent) => self.shared.holder().await?.run(command, agent.caller(asked), progress).await,
        }
    }

    /// For what only the operator does, in the process that has the wallet (M5).
    async fn holder(&self) -> Result<(Local, Caller), Failure> {
        if self.agent.is_some() {
            return Err(persons_only());
        }
        let caller = self.shared.services().operator(self.asked.clone());
        Ok((self.shared.holder().await?.asked(&caller), caller))
    }

    async fn read(&self, command: Command) -> Result<Reply, Failure> {
        self.run(command, Progress::none()).await
    }

    /// The directory, filtered.
    pub async fn providers(&self, query: ProviderQuery) -> Result<ProviderPage, Failure> {
        answer!(self.read(Command::Providers(query)).await?, Reply::Providers)
    }

    /// One provider, with its own prices and instructions.
    pub async fn provider(&self, id: &str) -> Result<ProviderDetails, Failure> {
        answer!(self.read(Command::Provider(id.into())).await?, Reply::Provider).map(|details| *details)
    }

    /// Everything that the operator sees at once; no agent of a fleet does.
    pub async fn overview(&self) -> Result<Overview, Failure> {
        answer!(self.read(Command::Overview).await?, Reply::Overview).map(|overview| *overview)
    }

    /// Models of the providers that a person allowed by name: what a request may name in place of a provider.
    pub async fn models(&self) -> Result<Vec<OfferedModel>, Failure> {
        answer!(self.read(Command::Models).await?, Reply::Models)
    }

    /// What the wallet holds.
    pub async fn balance(&self) -> Result<WalletView, Failure> {
        answer!(self.read(Command::Balance).await?, Reply::Balance)
    }

    /// Sets the allowance, never above the limit on what may be locked (M9).
    pub async fn approve(&self, amount: Option<Usdc>, progress: Progress) -> Result<Approved, Failure> {
        answer!(self.run(Command::Approve(amount), progress).await?, Reply::Approved)
    }

    /// Opens a channel, or joins the pending opening of the same provider.
    pub async fn open(&self, request: OpenRequest, progress: Progress) -> Result<Opened, Failure> {
        answer!(self.run(Command::Open(request), progress).await?, Reply::Opened).map(|opened| *opened)
    }

    /// Pays for a request.
    pub async fn chat(&self, call: ChatCall, progress: Progress) -> Result<ChatReply, Failure> {
        answer!(self.run(Command::Chat(call), progress).await?, Reply::Chat)
    }

    /// Pays for a request without a channel, where its server asks for that by HTTP 402.
    pub async fn pay_request(&self, call: PaymentCall, progress: Progress) -> Result<PaymentReply, Failure> {
        answer!(self.run(Command::PayRequest(call), progress).await?, Reply::Request).map(|reply| *reply)
    }

    /// The same without paying: what its server asks for.
    pub async fn quote_request(&self, call: PaymentCall) -> Result<PaymentReply, Failure> {
        answer!(self.read(Command::QuoteRequest(call)).await?, Reply::Request).map(|reply| *reply)
    }

    /// What a request would cost, and what would pay for it. Nothing is signed, opened or pinned.
    pub async fn quote(&self, call: QuoteCall) -> Result<Quote, Failure> {
        answer!(self.read(Command::Quote(call)).await?, Reply::Quote).map(|quote| *quote)
    }

    /// The caller's limits and what is left of them.
    pub async fn budget(&self) -> Result<BudgetView, Failure> {
        answer!(self.read(Command::Budget).await?, Reply::Budget)
    }

    /// Receipts that the caller sees, newest first.
    pub async fn receipts(&self, query: ReceiptQuery) -> Result<Vec<ReceiptView>, Failure> {
        answer!(self.read(Command::Receipts(query)).await?, Reply::Receipts)
    }

    /// One receipt, with its answer while that is kept.
    pub async fn receipt(&self, id: &str) -> Result<ReceiptDetails, Failure> {
        answer!(self.read(Command::Receipt(id.into())).await?, Reply::Receipt).map(|details| *details)
    }

    /// Every channel; those at their end only with `all`.
    pub async fn channels(&self, all: bool) -> Result<Vec<ChannelView>, Failure> {
        answer!(self.read(Command::Channels(all)).await?, Reply::Channels)
    }

    /// One channel, compared with what the chain says.
    pub async fn channel(&self, id: ChannelId) -> Result<ChannelView, Failure> {
        answer!(self.read(Command::Channel(id)).await?, Reply::Channel).map(|view| *view)
    }

    /// Closes at expiry.
    pub async fn close(&self, id: ChannelId, progress: Progress) -> Result<Closed, Failure> {
        answer!(self.run(Command::Close(id), progress).await?, Reply::Closed).map(|closed| *closed)
    }

    /// Closes now, with the provider's consent (V2).
    pub async fn cooperative_close(&self, id: ChannelId, progress: Progress) -> Result<Closed, Failure> {
        answer!(self.run(Command::CooperativeClose(id), progress).await?, Reply::Closed).map(|closed| *closed)
    }

    /// Closes what can be closed now, and with their providers' consent what paid nothing for `idle` seconds.
    pub async fn refund(&self, idle: Option<u64>, progress: Progress) -> Result<Vec<RefundReport>, Failure> {
        answer!(self.run(Command::Refund(idle), progress).await?, Reply::Refunds)
    }

    /// How many openings of the wallet the contracts count, and how many the record knows (M10).
    pub async fn openings(&self) -> Result<Vec<OpeningsFound>, Failure> {
        answer!(self.read(Command::Openings).await?, Reply::Openings)
    }

    /// Waits until this process has read the chain for anything, and tells then of openings that the record does not know.
    /// `None` where there are none, or the chain does not say.
    pub async fn unknown_openings(&self) -> Option<String> {
        self.shared.clock().first_block().await;
        self.openings().await.ok().and_then(|found| unknown_told(&found))
    }

    /// Searches the chain for channels of the wallet that are not recorded here.
    pub async fn recover(&self, progress: Progress) -> Result<Recovery, Failure> {
        answer!(self.run(Command::Recover, progress).await?, Reply::Recovered)
    }

    /// Takes over channels that another program's file names, as recovered ones.
    pub async fn import(&self, left: Vec<LeftBehind>) -> Result<Vec<Imported>, Failure> {
        answer!(self.read(Command::Import(left)).await?, Reply::Imported)
    }

    /// A person says whom a foreign channel pays (M10).
    pub async fn adopt(&self, channel: ChannelId, provider: Option<String>) -> Result<ChannelView, Failure> {
        answer!(self.read(Command::Adopt { channel, provider }).await?, Reply::Channel).map(|view| *view)
    }

    /// An agent's word on a provider, sent to the marketplace.
    pub async fn feedback(&self, feedback: Feedback) -> Result<(), Failure> {
        match self.read(Command::Feedback(feedback)).await? {
            Reply::Sent => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    /// Asks the marketplace's gas station for POL.
    pub async fn request_gas(&self) -> Result<String, Failure> {
        answer!(self.read(Command::RequestGas).await?, Reply::Gas)
    }

    /// Questions that wait for a person, and answers that were not used yet.
    pub async fn approvals(&self) -> Result<Vec<ApprovalView>, Failure> {
        answer!(self.read(Command::Approvals).await?, Reply::Approvals)
    }

    /// A person at a terminal answers a question, and shows by the passphrase to be the operator (M5).
    pub async fn decide(&self, id: &str, verdict: Verdict, passphrase: Password) -> Result<ApprovalView, Failure> {
        answer!(self.read(Command::Decide { id: id.into(), verdict, passphrase }).await?, Reply::Decided)
    }

    /// A person accepts a provider's URL and wallet of now (M14).
    pub async fn trust_provider(&self, id: &str) -> Result<bool, Failure> {
        answer!(self.read(Command::TrustProvider(id.into())).await?, Reply::Forgotten)
    }

    /// A person accepts the marketplace's fee wallet of now.
    pub async fn trust_fee_wallet(&self) -> Result<bool, Failure> {
        answer!(self.read(Command::TrustFeeWallet).await?, Reply::Forgotten)
    }

    /// That this process has the wallet, for what only its holder does; else who has it (M5).
    pub async fn has_wallet(&self) -> Result<(), Failure> {
        self.holder().await.map(drop)
    }

    /// Waits until this process has the wallet, from the start or taken over: for what its holder alone serves.
    pub async fn held(&self) {
        self.shared.held().await;
    }

    /// Moves money out; only for a person on a terminal, and only in the process that holds the wallet (M5). What was
    /// sent a moment ago is sent a second time only with `again`.
    pub async fn send(
        &self,
        to: Address,
        amount: SendAmount,
        again: bool,
        progress: Progress,
    ) -> Result<String, Failure> {
        let (local, caller) = self.holder().await?;
        local.send(to, amount, again, caller, progress).await
    }

    /// Sends from the treasury to the wallet that software uses, within the day's limit; only in the process that holds the
    /// treasury's account.
    pub async fn fund(&self, to: Address, usdc: Usdc, pol: Pol, progress: Progress) -> Result<Vec<String>, Failure> {
        let (local, caller) = self.holder().await?;
        local.fund(to, usdc, pol, caller, progress).await
    }

    /// Sends what is above the marks back to the operator's treasury.
    pub async fn sweep(&self, progress: Progress) -> Result<Swept, Failure> {
        answer!(self.run(Command::Sweep, progress).await?, Reply::Swept)
    }

    /// Why the wallet is frozen, if it is (M11); only in the process that holds it.
    pub async fn frozen(&self) -> Result<Option<String>, Failure> {
        self.holder().await?.0.frozen().await
    }

    /// Freezes the wallet; false where the operator had frozen it before.
    pub async fn freeze(&self, reason: &str) -> Result<bool, Failure> {
        answer!(self.read(Command::Freeze(reason.into())).await?, Reply::Frozen)
    }

    /// A person lifts every freeze, and shows by the passphrase to be the operator (M5, M11). False where there was none.
    pub async fn unfreeze_by(&self, passphrase: Password) -> Result<bool, Failure> {
        answer!(self.read(Command::Unfreeze(passphrase)).await?, Reply::Frozen)
    }

    /// A person lifts every freeze; only for a person on a terminal, and only in the process that holds the wallet (M5).
    pub async fn unfreeze(&self) -> Result<bool, Failure> {
        self.holder().await?.0.unfreeze().await
    }

    /// Lets requests on their way end, within a limit, and makes everything durable.
    pub async fn shutdown(&self) {
        self.shared.shutdown().await;
    }
}
