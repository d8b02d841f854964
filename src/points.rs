//! Instrumented points: named places on the way of money at which a test makes a debug build die, panic or stop.
//!
//! A release build holds none of it: [`reach`] is empty there, and the variable is not known.

/// A place between two steps that a crash must not tear apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The voucher's record is durable; nothing is signed.
    VoucherAuthorized,
    /// The voucher is signed; nothing is sent.
    VoucherSigned,
    /// The provider has the voucher: the head of its answer came.
    VoucherSent,
    /// The whole answer came; nothing is booked.
    VoucherAnswered,
    /// The answer is kept, and its outcome waits for the next commit.
    VoucherSettled,
    /// A payment without a channel is recorded; nothing is signed.
    PaymentAuthorized,
    /// It is signed; nothing is sent.
    PaymentSigned,
    /// Its server has it, and the answer came or broke off.
    PaymentSent,
    /// Its outcome waits for the next commit.
    PaymentEnded,
    /// A voucher of amount zero is recorded; nothing is signed.
    ProbeAuthorized,
    /// The wish to open is recorded.
    OpenBegun,
    /// The channel signs no more; the provider is not yet asked.
    CloseBegun,
    /// The provider's consent is checked; nothing is planned.
    CloseConsented,
    /// The transaction is wanted; nothing is signed.
    TransactionPlanned,
    /// It is signed; the bytes are not stored.
    TransactionSigned,
    /// The bytes are stored; no node has them.
    TransactionStored,
    /// A node took it.
    TransactionBroadcast,
    /// A block holds it.
    TransactionMined,
    /// It is final; the journal does not know.
    TransactionFinal,
    /// The journal knows that it is final.
    TransactionRecorded,
    /// A batch is written; the commit did not begin.
    JournalWritten,
    /// The commit is durable; nobody was told.
    JournalCommitted,
    /// The log is about to be copied into the database.
    JournalCheckpoint,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::VoucherAuthorized,
        Self::VoucherSigned,
        Self::VoucherSent,
        Self::VoucherAnswered,
        Self::VoucherSettled,
        Self::PaymentAuthorized,
        Self::PaymentSigned,
        Self::PaymentSent,
        Self::PaymentEnded,
        Self::ProbeAuthorized,
        Self::OpenBegun,
        Self::CloseBegun,
        Self::CloseConsented,
        Self::TransactionPlanned,
        Self::TransactionSigned,
        Self::TransactionStored,
        Self::TransactionBroadcast,
        Self::TransactionMined,
        Self::TransactionFinal,
        Self::TransactionRecorded,
        Self::JournalWritten,
        Self::JournalCommitted,
        Self::JournalCheckpoint,
    ];

    /// Its name in [`VARIABLE`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::VoucherAuthorized => "voucher-authorized",
            Self::VoucherSigned => "voucher-signed",
            Self::VoucherSent => "voucher-sent",
            Self::VoucherAnswered => "voucher-answered",
            Self::VoucherSettled => "voucher-settled",
            Self::PaymentAuthorized => "payment-authorized",
            Self::PaymentSigned => "payment-signed",
            Self::PaymentSent => "payment-sent",
            Self::PaymentEnded => "payment-ended",
            Self::ProbeAuthorized => "probe-authorized",
            Self::OpenBegun => "open-begun",
            Self::CloseBegun => "close-begun",
            Self::CloseConsented => "close-consented",
            Self::TransactionPlanned => "transaction-planned",
            Self::TransactionSigned => "transaction-signed",
            Self::TransactionStored => "transaction-stored",
            Self::TransactionBroadcast => "transaction-broadcast",
            Self::TransactionMined => "transaction-mined",
            Self::TransactionFinal => "transaction-final",
            Self::TransactionRecorded => "transaction-recorded",
            Self::JournalWritten => "journal-written",
            Self::JournalCommitted => "journal-committed",
            Self::JournalCheckpoint => "journal-checkpoint",
        }
    }
}

/// The variable that names a point, what happens there, and at which time it is reached: `voucher-sent=kill@3`. What
/// happens is `kill`, `panic` or `stop`.
pub const VARIABLE: &str = "DRAIN_TEST_POINT";

/// Marks a place. Does nothing but in a debug build that [`VARIABLE`] names this point to.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn reach(_: Point) {}

/// Marks a place. Does nothing but in a debug build that [`VARIABLE`] names this point to.
#[cfg(debug_assertions)]
pub fn reach(point: Point) {
    armed::reach(point);
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, kill_process};
    use rustix::thread::gettid;

    use super::{Point, VARIABLE};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Action {
        Kill,
        Panic,
        Stop,
    }

    #[derive(Debug)]
    pub(super) struct Order {
        pub(super) point: Point,
        pub(super) action: Action,
        pub(super) count: u64,
    }

    static ORDER: LazyLock<Option<Order>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let order = parse(&text);
        if order.is_none() {
            // A test that is told so fails, instead of passing without having tested anything.
            eprintln!("{VARIABLE}={text} is not understood");
            std::process::abort();
        }
        order
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn parse(text: &str) -> Option<Order> {
        let (name, rest) = text.split_once('=')?;
        let (action, count) = rest.split_once('@')?;
        let point = Point::ALL.into_iter().find(|point| point.name() == name)?;
        let action = match action {
            "kill" => Action::Kill,
            "panic" => Action::Panic,
            "stop" => Action::Stop,
            _ => return None,
        };
        Some(Order { point, action, count: count.parse().ok().filter(|count| *count > 0)? })
    }

    #[allow(clippy::panic)]
    pub(super) fn reach(point: Point) {
        let Some(order) = ORDER.as_ref().filter(|order| order.point == point) else { return };
        if REACHED.fetch_add(1, Ordering::SeqCst) + 1 != order.count {
            return;
        }
        let signal = match order.action {
            Action::Panic => panic!("{VARIABLE}: a fault at {}", point.name()),
            Action::Kill => Signal::KILL,
            Action::Stop => Signal::STOP,
        };
        // To this very thread, which ends or stops the others: sent to the process, it is delivered whenever the first of its
        // threads runs again, and this one goes on until then. If it could not be sent, the test waits in vain and fails.
        let _ = kill_process(gettid(), signal);
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::Point;
    use super::armed::{Action, parse};

    #[test]
    fn an_order_is_understood_or_refused() {
        for point in Point::ALL {
            let order = parse(&format!("{}=kill@7", point.name())).unwrap();
            assert_eq!((order.point, order.action, order.count), (point, Action::Kill, 7));
        }
        assert_eq!(parse("open-begun=panic@1").unwrap().action, Action::Panic);
        assert_eq!(parse("open-begun=stop@1").unwrap().action, Action::Stop);
        for wrong in ["", "open-begun", "open-begun=kill", "open-begun=kill@0", "open-begun=kil@1", "nowhere=kill@1"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
