//! Who has the wallet: this process, or another one.

use std::sync::Arc;

use drain_protocol::Address;
use drain_signers::Signer;

use super::local::Local;
use super::services::Services;
use super::startup::{folder, lock};
use crate::api::{Command, Progress, Reply};
use crate::config::Config;
use crate::error::{Code, Failure};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Shared {
    services: Services,
    local: Arc<Local>,
}

impl Shared {
    pub(super) async fn with_key(services: Services, signer: Signer) -> Self {
        let address = signer.address();
        // A journal that cannot be opened keeps money still, not discovery.
        let local = match lock(folder(&services.config, address)).await {
            Ok(Some(lock)) => Local::with_wallet(services.clone(), signer, lock).await,
            Ok(None) => Err(in_use(address)),
            Err(failure) => Err(failure),
        };
        let local = local.unwrap_or_else(|why| Local::without_wallet(services.clone(), why));
        Self { services, local: Arc::new(local) }
    }

    pub(super) fn without_wallet(services: Services, why: Failure) -> Self {
        let local = Arc::new(Local::without_wallet(services.clone(), why));
        Self { services, local }
    }

    pub(super) fn config(&self) -> &Config {
        &self.services.config
    }

    pub(super) async fn run(&self, command: Command, progress: Progress) -> Result<Reply, Failure> {
        self.local.run(command, self.services.operator(), progress).await
    }

    pub(super) fn holder(&self) -> &Local {
        &self.local
    }

    pub(super) async fn shutdown(&self) {
        self.local.shutdown().await;
    }
}

fn in_use(address: Address) -> Failure {
    Failure::unspent(
        Code::WalletInUse,
        format!("Another drain-mcp process uses the wallet {address}: only one may sign at a time"),
        "Close the other one (another MCP client, or a command that runs), then start this again. Listing providers works here.",
    )
}
