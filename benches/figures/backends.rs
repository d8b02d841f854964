//! Figures about each signer backend: what a voucher's signature takes, all but a person's press.

use std::time::{Duration, Instant};

use drain_protocol::deployment::{POLYGON, builtin};
use drain_protocol::{ChannelId, Nonce, Usdc, Voucher};
#[cfg(feature = "ledger")]
use drain_sandbox::ledger::{Keys, LedgerPeer, LedgerPeerConfig};
use drain_sandbox::marketplace::AGENT_KEY;
#[cfg(feature = "ledger")]
use drain_signers::ledger::{Connect, HdPath, LedgerBackend};
use drain_signers::{LocalBackend, Policy, Prompt, Secret, Signer, VoucherRequest};
use futures::{StreamExt, TryStreamExt, stream};

use crate::errors::Result;
use crate::report::Row;
use crate::stats::Samples;
use crate::world::World;

const COUNT: u64 = 300;
/// A person takes seconds, a network some milliseconds: nobody notices this.
const UNNOTICED: f64 = 100.0;

/// Vouchers by every backend that this build has; KMS where `DRAIN_TEST_KMS` says where one is (tests/kms/server.py).
pub fn vouchers(_: &mut World) -> Result<Vec<Row>> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(all())
}

async fn all() -> Result<Vec<Row>> {
    // A keystore that is unlocked is this too.
    let local = LocalBackend::new(Secret::parse(&format!("{AGENT_KEY:x}"))?);
    let mut rows = vec![row("a signature by a local key", &signer(local)).await?];
    #[cfg(feature = "ledger")]
    {
        // A software device that approves at once, over TCP: connection, checks, 21 commands, recovery.
        let config = LedgerPeerConfig { keys: Keys::One(AGENT_KEY), ..LedgerPeerConfig::default() };
        let peer = LedgerPeer::start(config).await?;
        let connect = Connect::Tcp(peer.address().to_string());
        let address = Secret::parse(&format!("{AGENT_KEY:x}"))?.address();
        let ledger = LedgerBackend::new(connect, HdPath::default(), address, Duration::from_secs(60));
        rows.push(row("a Ledger's signature without the press", &signer(ledger)).await?);
    }
    #[cfg(feature = "aws")]
    if std::env::var_os("DRAIN_TEST_KMS").is_some() {
        let settings = drain_signers::KmsSettings {
            key: crate::kms_server::Key::new(serde_json::json!({})).id,
            region: Some("us-east-1".into()),
            endpoint: Some(crate::kms_server::url()),
            concurrency: 16,
            limit: Duration::from_secs(10),
            address: None,
        };
        let kms = drain_signers::KmsBackend::connect(settings, Duration::from_secs(20)).await?;
        rows.push(row("a signature by KMS (moto)", &signer(kms)).await?);
    }
    Ok(rows)
}

fn signer(backend: impl drain_signers::Backend + 'static) -> Signer {
    Signer::new(backend, Policy::new(POLYGON, builtin(POLYGON)))
}

async fn row(name: &str, signer: &Signer) -> Result<Row> {
    let (one, sixteen) = (run(signer, 1).await?, run(signer, 16).await?);
    let quantiles = one.0.quantiles();
    let row = Row::new(name, "p99 <= 100 ms", format!("p50 / p99 {quantiles}"), quantiles.p99 <= UNNOTICED);
    Ok(row.beside(format!("a second, one at a time: {:.0}; 16 asked at once: {:.0}", one.1, sixteen.1)))
}

/// How long each took, and how many a second.
async fn run(signer: &Signer, at_once: usize) -> Result<(Samples, f64)> {
    let deployments = builtin(POLYGON);
    let domain = deployments.first().ok_or("no contract is known on Polygon")?.domain;
    let begin = Instant::now();
    let samples: Vec<Duration> = stream::iter(1..=COUNT)
        .map(|number| async move {
            let nonce = Nonce::new(number).ok_or("not a nonce")?;
            let voucher = Voucher { channel_id: ChannelId([0x82; 32].into()), amount: Usdc::new(number as u32), nonce };
            let request = VoucherRequest { domain, voucher, deposit: Usdc::new(5_000_000) };
            let started = Instant::now();
            signer.sign_voucher(&request, &Prompt::nobody()).await?;
            Result::Ok(started.elapsed())
        })
        .buffer_unordered(at_once)
        .try_collect()
        .await?;
    Ok((Samples::new(samples), COUNT as f64 / begin.elapsed().as_secs_f64()))
}
