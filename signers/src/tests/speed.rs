//! How fast vouchers are signed: `cargo test --release -p drain-signers -- --ignored --nocapture speed`.

use std::hint::black_box;
use std::time::Instant;

use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use drain_protocol::Usdc;
use drain_protocol::voucher::verify_signature;

use super::fixtures::*;
use crate::{LocalBackend, Signer};

const COUNT: u32 = 20_000;

fn report(what: &str, start: Instant) {
    let each = start.elapsed() / COUNT;
    println!("{what}: {each:?}, {:.0} a second", 1.0 / each.as_secs_f64());
}

#[tokio::test]
#[ignore = "a measurement"]
async fn vouchers_per_second() {
    let signer = Signer::new(LocalBackend::new(secret()), policy());
    let mut request = voucher(1);
    let start = Instant::now();
    for amount in 0..COUNT {
        request.voucher.amount = Usdc::new(amount);
        black_box(signer.sign_voucher(&request).await.unwrap());
    }
    report("a voucher through the door", start);

    // What it is made of, and what it is instead of.
    let start = Instant::now();
    for _ in 0..COUNT {
        black_box(black_box(&request).digest());
    }
    report("its hash alone", start);

    let digest = request.digest();
    let signature = signer.sign_voucher(&request).await.unwrap().signature;
    let own = own();
    let start = Instant::now();
    for _ in 0..COUNT {
        black_box(verify_signature(black_box(digest), &signature, own).unwrap());
    }
    report("recovery, which only outside backends pay", start);

    let k256: PrivateKeySigner = KEY.parse().unwrap();
    let libsecp256k1 = k256.to_secp256k1();
    let start = Instant::now();
    for _ in 0..COUNT {
        black_box(libsecp256k1.sign_hash_sync(black_box(&digest)).unwrap());
    }
    report("alloy's libsecp256k1 signer", start);
    let start = Instant::now();
    for _ in 0..COUNT {
        black_box(k256.sign_hash_sync(black_box(&digest)).unwrap());
    }
    report("alloy's k256 signer", start);
}
