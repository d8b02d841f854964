//! The door: rules come first, and what an outside backend answers is checked.

use std::sync::atomic::{AtomicUsize, Ordering};

use alloy::primitives::{Signature, U256};
use drain_protocol::{Address, TempoTransfer, Usdc};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::fixtures::*;
use crate::*;

/// Signs rightly and then lies, as a broken device would.
#[derive(Debug)]
struct Liar {
    inner: LocalBackend,
    claims: Address,
    in_process: bool,
    voucher: fn(&mut [u8; 65]),
    transaction: fn(&TransactionRequest, SignedTransaction) -> SignedTransaction,
    asked: AtomicUsize,
}

impl Liar {
    fn honest() -> Self {
        let inner = LocalBackend::new(secret());
        let (voucher, transaction) = (|_: &mut [u8; 65]| {}, |_: &TransactionRequest, tx| tx);
        Self { inner, claims: own(), in_process: false, voucher, transaction, asked: AtomicUsize::new(0) }
    }
}

impl Backend for Liar {
    fn sign_message(&self, message: &Message, _: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let right = self.inner.sign_message(message, &Prompt::nobody());
        async move {
            let mut signature = right.await?;
            (self.voucher)(&mut signature);
            Ok(signature)
        }
        .boxed()
    }

    fn sign_transaction(
        &self,
        request: &TransactionRequest,
        _: &Prompt,
    ) -> BoxFuture<'_, Result<SignedTransaction, SignerError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (right, request) = (self.inner.sign_transaction(request, &Prompt::nobody()), request.clone());
        async move { Ok((self.transaction)(&request, right.await?)) }.boxed()
    }

    fn sign_tempo(&self, order: &TempoTransfer, _: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let right = self.inner.sign_tempo(order, &Prompt::nobody());
        async move {
            let mut signature = right.await?;
            (self.voucher)(&mut signature);
            Ok(signature)
        }
        .boxed()
    }

    fn address(&self) -> Address {
        self.claims
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { kind: "liar", in_process: self.in_process, ..self.inner.capabilities() }
    }
}

/// The same signature as (r, n - s, v flipped): valid mathematics, refused by the contract.
fn high_s(bytes: &mut [u8; 65]) {
    let order = U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
    let s = order - U256::from_be_slice(&bytes[32..64]);
    bytes[32..64].copy_from_slice(&s.to_be_bytes::<32>());
    bytes[64] = 55 - bytes[64];
}

async fn voucher_code(liar: Liar) -> &'static str {
    match Signer::new(liar, policy()).sign_voucher(&voucher(1), &Prompt::nobody()).await {
        Ok(_) => "ok",
        Err(e) => e.code(),
    }
}

async fn transaction_code(liar: Liar) -> &'static str {
    match Signer::new(liar, policy()).sign_transaction(&super::fixtures::open(), &Prompt::nobody()).await {
        Ok(_) => "ok",
        Err(e) => e.code(),
    }
}

#[tokio::test]
async fn outside_vouchers_are_checked() {
    assert_eq!(voucher_code(Liar::honest()).await, "ok");
    let lies: [fn(&mut [u8; 65]); 6] =
        [|b| b[64] -= 27, |b| b[64] = 55 - b[64], high_s, |b| b[10] ^= 1, |b| b[40] ^= 1, |b| *b = [0; 65]];
    for voucher in lies {
        assert_eq!(voucher_code(Liar { voucher, ..Liar::honest() }).await, "bad_signature");
    }
    assert_eq!(voucher_code(Liar { claims: other(), ..Liar::honest() }).await, "bad_signature");
    // The one thing that is not checked: a signature that never left the process.
    let voucher = |b: &mut [u8; 65]| b[10] ^= 1;
    assert_eq!(voucher_code(Liar { in_process: true, voucher, ..Liar::honest() }).await, "ok");
}

#[tokio::test]
async fn outside_transactions_are_checked() {
    assert_eq!(transaction_code(Liar::honest()).await, "ok");
    let lies: [fn(&TransactionRequest, SignedTransaction) -> SignedTransaction; 6] = [
        |_, tx| SignedTransaction { raw: [tx.raw.as_ref(), &[0]].concat().into(), ..tx },
        |_, tx| SignedTransaction { raw: tx.raw.slice(..tx.raw.len() - 1), ..tx },
        |_, tx| SignedTransaction { hash: [7; 32].into(), ..tx },
        |_, tx| SignedTransaction { raw: Default::default(), ..tx },
        // The right form, another content.
        |request, _| {
            let changed = TransactionRequest { account_nonce: 9, ..request.clone() };
            LocalBackend::new(secret()).sign_transaction(&changed, &Prompt::nobody()).now_or_never().unwrap().unwrap()
        },
        // The right content, a signature of nobody we know.
        |request, _| {
            let signature = Signature::new(U256::from(5), U256::from(6), false);
            SignedTransaction::assemble(request.unsigned(), signature)
        },
    ];
    for (n, transaction) in lies.into_iter().enumerate() {
        assert_eq!(transaction_code(Liar { transaction, ..Liar::honest() }).await, "bad_signature", "{n}");
    }
    // The right signature, with high s.
    let transaction = |request: &TransactionRequest, tx: SignedTransaction| {
        use alloy::consensus::TxEip1559;
        use alloy::consensus::transaction::RlpEcdsaDecodableTx;
        let signed = TxEip1559::eip2718_decode(&mut tx.raw.as_ref()).unwrap();
        let mut bytes = signed.signature().as_bytes();
        high_s(&mut bytes);
        SignedTransaction::assemble(request.unsigned(), Signature::from_raw_array(&bytes).unwrap())
    };
    assert_eq!(transaction_code(Liar { transaction, ..Liar::honest() }).await, "bad_signature");
}

#[tokio::test]
async fn what_is_refused_never_reaches_the_backend() {
    let backend = Arc::new(Liar::honest());
    let signer = Signer::from_shared(backend.clone(), policy());
    let error = signer.sign_voucher(&voucher(5_000_001), &Prompt::nobody()).await.unwrap_err();
    assert_eq!(error.code(), "refused");
    assert!(error.to_string().contains("nothing was signed"));
    let send = transaction(v2(), Call::SendUsdc { to: other(), amount: Usdc::new(1) });
    assert_eq!(signer.sign_transaction(&send, &Prompt::nobody()).await.unwrap_err().code(), "refused");
    assert_eq!(backend.asked.load(Ordering::Relaxed), 0);
    signer.sign_voucher(&voucher(5_000_000), &Prompt::nobody()).await.unwrap();
    assert_eq!(backend.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_signed_voucher_is_what_was_asked() {
    let signer = Signer::new(LocalBackend::new(secret()), policy());
    let request = voucher(150_000);
    let signed = signer.sign_voucher(&request, &Prompt::nobody()).await.unwrap();
    assert_eq!(signed.voucher, request.voucher);
    drain_protocol::voucher::verify_signature(Message::from(request).digest(), &signed.signature, own()).unwrap();
}
