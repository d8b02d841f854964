//! Figures about signatures, in this process and on one core.

use std::hint::black_box;

use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use drain_protocol::deployment::{POLYGON, builtin};
use drain_protocol::voucher::verify_signature;
use drain_protocol::{ChannelId, Nonce, Usdc, Voucher};
use drain_sandbox::marketplace::AGENT_KEY;
use drain_signers::{LocalBackend, Message, Policy, Prompt, Secret, Signer, VoucherRequest};

use crate::errors::Result;
use crate::machine::cpu_seconds;
use crate::report::Row;
use crate::stats::{RUNS, median, range};
use crate::world::World;

const COUNT: u32 = 30_000;
const PER_SECOND: f64 = 25_000.0;

/// How often in a second of CPU: others may use the cores meanwhile. Only this thread works in this process.
fn rate(work: impl FnMut(u32) -> Result<()>) -> Result<f64> {
    let before = cpu_seconds(std::process::id())?;
    (1..=COUNT).try_for_each(work)?;
    Ok(f64::from(COUNT) / (cpu_seconds(std::process::id())? - before))
}

/// Signatures of a ready hash by alloy's own signer over libsecp256k1: what everything else is compared with.
pub fn bare() -> Result<f64> {
    let signer = PrivateKeySigner::from_bytes(&AGENT_KEY)?.to_secp256k1();
    rate(|_| {
        black_box(signer.sign_hash_sync(black_box(&AGENT_KEY))?);
        Ok(())
    })
}

/// Figure 10: vouchers through the same door that the runtime uses, rules included; and the way back.
pub fn vouchers(_: &mut World) -> Result<Vec<Row>> {
    let deployments = builtin(POLYGON);
    let deployment = *deployments.first().ok_or("no contract is known on Polygon")?;
    let secret = Secret::parse(&format!("{AGENT_KEY:x}"))?;
    let own = secret.address();
    let signer = Signer::new(LocalBackend::new(secret), Policy::new(POLYGON, deployments));
    let channel_id = ChannelId([0x82; 32].into());
    let request = |number: u32| -> Result<VoucherRequest> {
        let nonce = Nonce::new(u64::from(number)).ok_or("not a nonce")?;
        let voucher = Voucher { channel_id, amount: Usdc::new(number), nonce };
        Ok(VoucherRequest { domain: deployment.domain, voucher, deposit: Usdc::new(5_000_000) })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (mut signed, mut recovered, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        bare.push(self::bare()?);
        signed.push(rate(|number| {
            black_box(runtime.block_on(signer.sign_voucher(&request(number)?, &Prompt::nobody()))?);
            Ok(())
        })?);
        let one = request(1)?;
        let signature = runtime.block_on(signer.sign_voucher(&one, &Prompt::nobody()))?.signature;
        recovered.push(rate(|_| {
            black_box(verify_signature(black_box(Message::from(one).digest()), &signature, own)?);
            Ok(())
        })?);
    }
    let ((low, high), each) = (range(&signed), median(signed));
    let row = Row::new(
        "vouchers signed per second and core",
        ">= 25,000",
        format!("{each:.0} (runs {low:.0} to {high:.0})"),
        each >= PER_SECOND,
    );
    Ok(vec![
        row.beside(format!("bare signatures of a ready hash: {:.0}", median(bare)))
            .beside(format!("vouchers verified: {:.0}", median(recovered))),
    ])
}
