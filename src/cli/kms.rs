//! A key in AWS KMS, from its settings.

use drain_signers::{KmsSettings, SharedBackend};

use super::doctor::Line;
use crate::error::Failure;

/// The backend. Where the operator names the account nobody is asked now; else the public key is read, and an MCP client
/// waits for that no longer than a few seconds.
#[cfg(feature = "aws")]
pub(super) async fn backend(settings: KmsSettings) -> Result<SharedBackend, Failure> {
    use drain_signers::KmsBackend;
    if let Some(address) = settings.address {
        return Ok(std::sync::Arc::new(KmsBackend::of_account(settings, address)));
    }
    Ok(std::sync::Arc::new(connected(settings).await?))
}

#[cfg(feature = "aws")]
async fn connected(settings: KmsSettings) -> Result<drain_signers::KmsBackend, Failure> {
    const AT_START: std::time::Duration = std::time::Duration::from_secs(5);
    let limit = settings.limit.min(AT_START);
    drain_signers::KmsBackend::connect(settings, limit).await.map_err(|error| {
        let next = "Correct it, then start drain-mcp again; with DRAIN_KMS_ADDRESS set, no new start is needed. docs/signers.md has the whole set-up.";
        Failure { next: next.into(), ..super::signer::failed(&error) }
    })
}

/// Asks for the key, whether or not its account is named already, and tells how it behaves.
#[cfg(feature = "aws")]
pub(super) async fn examine(settings: &KmsSettings) -> Line {
    use drain_signers::Backend;
    let started = std::time::Instant::now();
    let backend = match connected(settings.clone()).await {
        Ok(backend) => backend,
        Err(failure) => return Line::fail("key", failure.message, failure.next),
    };
    let ways = backend.capabilities();
    let found = format!(
        "{} key {} of {}, read in {} ms; signs unattended, {} at a time, in about {} ms, at most {} a second by AWS's default quota",
        ways.kind,
        settings.key,
        backend.address(),
        started.elapsed().as_millis(),
        ways.concurrency,
        ways.typical_latency.as_millis(),
        ways.rate_limit.map_or_else(|| "any number".into(), |limit| limit.to_string()),
    );
    match settings.address {
        Some(_) => Line::ok("key", found),
        None => Line::warn(
            "key",
            format!("{found}; its account is asked for at each start"),
            format!("Set DRAIN_KMS_ADDRESS={}: then drain-mcp starts where AWS is not reached.", backend.address()),
        ),
    }
}

#[cfg(not(feature = "aws"))]
pub(super) async fn backend(_: KmsSettings) -> Result<SharedBackend, Failure> {
    Err(super::built_without("aws"))
}

#[cfg(not(feature = "aws"))]
pub(super) async fn examine(_: &KmsSettings) -> Line {
    let failure = super::built_without("aws");
    Line::fail("key", failure.message, failure.next)
}
