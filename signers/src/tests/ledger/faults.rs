//! Every way in which a device does not sign: its own code, the remedy in the text, and a next request that works.

use std::sync::Arc;
use std::time::Duration;

use drain_sandbox::ledger::{Finger, LedgerFault, LedgerPeer};

use super::{PATIENCE, backend, backend_of, config, listener, peer, tcp, until};
use crate::ledger::session::Waits;
use crate::ledger::{Connect, HdPath, LedgerBackend};
use crate::tests::fixtures::{open, other, own, policy, voucher};
use crate::{Backend, Prompt, SharedBackend, Signer, SignerError};

fn nobody() -> Prompt {
    Prompt::nobody()
}

async fn code(backend: &SharedBackend) -> &'static str {
    match backend.sign_message(&voucher(1).into(), &nobody()).await {
        Ok(_) => "ok",
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("nothing was signed"), "{text}");
            error.code()
        }
    }
}

#[tokio::test]
async fn what_the_device_says_is_told_with_its_remedy() {
    let peer = peer().await;
    let backend = backend(&peer);
    for (fault, expected) in [
        (LedgerFault::Locked, "ledger_locked"),
        (LedgerFault::Busy, "ledger_busy"),
        (LedgerFault::Garbage, "ledger_garbled"),
        (LedgerFault::Endless, "ledger_garbled"),
        (LedgerFault::Truncated, "ledger_garbled"),
    ] {
        peer.fault(Some(fault));
        assert_eq!(code(&backend).await, expected, "{fault:?}");
        peer.fault(None);
        assert_eq!(code(&backend).await, "ok", "after {fault:?}");
    }
    peer.finger(Finger::Reject);
    assert_eq!(code(&backend).await, "ledger_rejected");
    let refused = backend.sign_transaction(&open(), &nobody()).await.unwrap_err();
    assert_eq!(refused.code(), "ledger_rejected");
    peer.finger(Finger::Approve);
    assert_eq!(code(&backend).await, "ok");
}

#[tokio::test]
async fn app_version_account_and_settings_come_before_the_prompt() {
    let peer = peer().await;
    let backend = backend(&peer);
    for (app, expected) in [("Bitcoin", "shows Bitcoin"), ("BOLOS", "shows its menu")] {
        peer.configure(|config| config.app = app.into());
        let error = backend.sign_message(&voucher(1).into(), &nobody()).await.unwrap_err();
        assert!(error.code() == "ledger_wrong_app" && error.to_string().contains(expected), "{error}");
    }
    peer.configure(|config| config.app = "Ethereum".into());
    for version in ["1.8.8", "0.99.0", "1"] {
        peer.configure(|config| config.version = version.into());
        assert_eq!(code(&backend).await, "ledger_app_too_old", "{version}");
    }
    peer.configure(|config| config.version = "1.9.0".into());
    assert_eq!(code(&backend).await, "ok");
    let prompts = peer.screens().len();

    let stranger = backend_of(tcp(&peer), other(), PATIENCE);
    let error = stranger.sign_message(&voucher(1).into(), &nobody()).await.unwrap_err();
    assert_eq!(error.code(), "ledger_other_address");
    assert!(error.to_string().contains(&own().to_string()) && error.to_string().contains(&other().to_string()));

    // A call needs blind signing, and so does a message where only hashes are known; a shown one does not.
    peer.configure(|config| config.blind_signing = false);
    let (prompt, told) = listener();
    assert_eq!(backend.sign_transaction(&open(), &prompt).await.unwrap_err().code(), "ledger_blind_signing_off");
    peer.configure(|config| config.full_eip712 = false);
    assert_eq!(backend.sign_message(&voucher(1).into(), &prompt).await.unwrap_err().code(), "ledger_blind_signing_off");
    assert!(told.lock().unwrap().is_empty(), "nobody is told to confirm what will not be asked");
    peer.configure(|config| config.full_eip712 = true);
    assert_eq!(code(&backend).await, "ledger_blind_signing_off");
    assert_eq!(peer.screens().len(), prompts);
    peer.configure(|config| (config.full_eip712, config.raw_messages) = (true, true));
    assert_eq!(code(&backend).await, "ok");
}

#[tokio::test]
async fn unplugged_and_replugged() {
    let peer = peer().await;
    let backend = backend(&peer);
    peer.unplug().await;
    assert_eq!(code(&backend).await, "ledger_absent");
    peer.plug().await.unwrap();
    assert_eq!(code(&backend).await, "ok");

    // In the middle of a prompt.
    peer.finger(Finger::Wait);
    let asked = backend.sign_transaction(&open(), &nobody());
    let (error, ()) = tokio::join!(asked, async {
        until("a prompt", || peer.asking()).await;
        peer.unplug().await;
    });
    assert_eq!(error.unwrap_err().code(), "ledger_unplugged");
    peer.plug().await.unwrap();
    peer.finger(Finger::Approve);
    assert_eq!(code(&backend).await, "ok");
}

#[tokio::test]
async fn a_prompt_that_nobody_answers_ends() {
    let peer = peer().await;
    peer.finger(Finger::Wait);
    let hasty = backend_of(tcp(&peer), own(), Duration::from_millis(200));
    assert_eq!(code(&hasty).await, "ledger_no_answer");
    // The person presses now, and that answer meets one of the next commands: it is not taken for an answer to that.
    peer.finger(Finger::Approve);
    for others in 0..12 {
        peer.late_answer(others, vec![27; 65], 0x9000);
        let met = code(&hasty).await;
        // What tells the app a message is not told twice: the person tries again.
        assert!(met == "ok" || (others > 1 && met == "ledger_garbled"), "{others}: {met}");
        let again = code(&hasty).await;
        assert!(again == "ok" || again == "ledger_garbled", "{others}: {again}");
        assert_eq!(code(&hasty).await, "ok", "{others}");
    }
    peer.late_answer(1, vec![], 0x6985);
    assert_eq!(code(&hasty).await, "ok");
    // Where it meets the question itself, the signature is not over what was asked.
    let signer = Signer::from_shared(hasty, policy());
    peer.late_answer(19 + 2 - 1, vec![27; 65], 0x9000);
    let error = signer.sign_voucher(&voucher(1), &nobody()).await.unwrap_err();
    assert!(["bad_signature", "ledger_garbled"].contains(&error.code()), "{error}");
}

#[tokio::test]
async fn a_device_that_hangs_is_given_up_early_and_a_person_is_reminded() {
    let peer = peer().await;
    let brief = Duration::from_millis(50);
    let early = Waits { answer: brief, person: PATIENCE, reminder: PATIENCE };
    let backend: SharedBackend = Arc::new(LedgerBackend::with_waits(tcp(&peer), HdPath::default(), own(), early));
    peer.fault(Some(LedgerFault::Silent));
    assert_eq!(code(&backend).await, "ledger_no_answer");
    assert!(peer.screens().is_empty());
    peer.fault(None);

    let often = Waits { answer: PATIENCE, person: PATIENCE, reminder: brief };
    let backend = LedgerBackend::with_waits(tcp(&peer), HdPath::default(), own(), often);
    peer.finger(Finger::Wait);
    let (prompt, told) = listener();
    let reminded = || told.lock().unwrap().iter().filter(|line| line.contains("still waiting for the Ledger")).count();
    let (signed, ()) = tokio::join!(backend.sign_message(&voucher(1).into(), &prompt), async {
        until("reminders", || reminded() >= 2).await;
        peer.finger(Finger::Approve);
    });
    signed.unwrap();
}

#[tokio::test]
async fn who_gives_up_leaves_no_second_prompt() {
    let peer = peer().await;
    let backend = backend(&peer);
    peer.finger(Finger::Wait);
    {
        let abandoned = backend.sign_message(&voucher(1).into(), &nobody());
        tokio::select! {
            _ = abandoned => panic!("nobody pressed"),
            () = until("a prompt", || peer.asking()) => {}
        }
    }
    // The next one waits for the first prompt's press.
    let (prompt, told) = listener();
    let second = backend.sign_message(&voucher(2).into(), &prompt);
    let (signed, ()) = tokio::join!(second, async {
        until("its turn to be announced", || !told.lock().unwrap().is_empty()).await;
        assert_eq!(peer.screens().len(), 1);
        assert!(told.lock().unwrap()[0].contains("earlier request"));
        peer.finger(Finger::Approve);
    });
    let digest = crate::Message::from(voucher(2)).digest();
    drain_protocol::voucher::verify_signature(digest, &signed.unwrap(), own()).unwrap();
    assert_eq!(peer.screens().len(), 2);

    // Given up before the prompt: it never comes, and nobody waits for it.
    let waits = Waits { answer: PATIENCE, person: Duration::from_secs(10), reminder: PATIENCE };
    let backend: SharedBackend = Arc::new(LedgerBackend::with_waits(tcp(&peer), HdPath::default(), own(), waits));
    peer.fault(Some(LedgerFault::Silent));
    let received = peer.received();
    tokio::select! {
        _ = backend.sign_transaction(&open(), &nobody()) => panic!("it is silent"),
        () = until("a command", || peer.received() > received) => {}
    }
    peer.fault(None);
    assert_eq!(code(&backend).await, "ok");
    assert_eq!(peer.screens().len(), 3);
}

#[tokio::test]
async fn a_signature_over_something_else_is_thrown_away() {
    let peer = peer().await;
    let signer = Signer::from_shared(backend(&peer), policy());
    peer.fault(Some(LedgerFault::OtherSignature));
    assert_eq!(signer.sign_voucher(&voucher(1), &nobody()).await.unwrap_err().code(), "bad_signature");
    assert_eq!(signer.sign_transaction(&open(), &nobody()).await.unwrap_err().code(), "bad_signature");
    peer.fault(None);
    signer.sign_voucher(&voucher(1), &nobody()).await.unwrap();
    // Rules come before the device.
    let prompts = peer.screens().len();
    assert_eq!(signer.sign_voucher(&voucher(5_000_001), &nobody()).await.unwrap_err().code(), "refused");
    assert_eq!(peer.screens().len(), prompts);
}

/// A child that carries the frames, as the one over USB does; here it is netcat's work, done by bash alone.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_child_process_carries_the_frames() {
    let device = LedgerPeer::start(config()).await.unwrap();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3 & exec cat >&3", device.address().port());
    let child = Connect::Child { program: "/bin/bash".into(), args: vec!["-c".into(), script.into()] };
    let through = backend_of(child, own(), PATIENCE);
    assert_eq!(code(&through).await, "ok");
    let gone = Connect::Child { program: "/bin/true".into(), args: Vec::new() };
    assert_eq!(code(&backend_of(gone, own(), PATIENCE)).await, "ledger_unplugged");
    let missing = Connect::Child { program: "/nonexistent/program".into(), args: Vec::new() };
    assert_eq!(code(&backend_of(missing, own(), PATIENCE)).await, "ledger_no_usb");
}

#[test]
fn every_problem_has_a_code_of_its_own() {
    use crate::DeviceProblem as P;
    let all = [
        P::Absent,
        P::Locked,
        P::WrongApp { open: "x".into() },
        P::AppTooOld { found: "1".into(), needed: "2" },
        P::BlindSigningOff,
        P::Rejected,
        P::Busy,
        P::NotAllowed,
        P::Unplugged,
        P::NoAnswer { seconds: 1 },
        P::OtherAddress { path: "m".into(), configured: own(), found: other() },
        P::PathRefused { path: "m".into() },
        P::Garbled { problem: "x".into() },
        P::Status { status: 1 },
        P::NoUsb { problem: "x".into() },
    ];
    let codes: std::collections::BTreeSet<_> = all.iter().map(P::code).collect();
    assert_eq!(codes.len(), all.len());
    for problem in all {
        let text = SignerError::from(problem.clone()).to_string();
        assert!(text.contains("; nothing was signed") && text.contains("; "), "{text}");
        assert!(problem.code().starts_with("ledger_"));
    }
}
