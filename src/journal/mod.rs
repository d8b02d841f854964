//! The durable record: every voucher before it is signed, every transaction before it is sent (M1, M7).
//!
//! One method a fact, one database transaction each, in SQLite or in PostgreSQL (`db`, `server`).
//! A single writer thread owns the connection and batches all waiting operations into one commit (group
//! commit): many channels share one sync. A method that returns has been committed durably, except
//! the `later` ones, which ride in the next commit: losing one leaves the larger reservation.

mod approvals;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod approvals_tests;
pub mod audit;
pub mod backup;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod backup_tests;
mod budget;
mod carry;
mod channel;
mod channels;
mod check;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod counting_tests;
mod db;
mod distrust;
mod error;
mod foreign;
mod freeze;
mod ids;
mod location;
mod mark;
mod members;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod model_tests;
mod openings;
mod payments;
mod pins;
mod place;
mod receipts;
mod records;
mod reorgs;
#[cfg(test)]
mod reorgs_tests;
mod repeats;
mod restore;
mod row;
mod schema;
#[cfg(feature = "postgres")]
pub mod server;
mod settling;
mod spending;
mod totals;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod totals_tests;
mod transaction;
mod transactions;
mod trouble;
mod usage;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod usage_tests;
mod view;
mod vouchers;
mod writer;

#[cfg(test)]
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use approvals::{Approval, ApprovalId, ApprovalState};
pub use budget::{BudgetAsked, BudgetUse, WindowUse};
pub(crate) use channel::provider_key;
pub use channel::{ChannelRecord, NewChannel};
use db::params;
pub use error::JournalError;
use error::decided;
pub use foreign::{Adopted, Found};
pub use freeze::{FreezeSource, Frozen};
pub use ids::{IntentId, PaymentId, Receipt, ReceiptId, TxId};
pub use location::{Hold, Holder, Holders, Location, Lock, take};
pub use members::{Leave, Member, Seen, Share, among};
pub use openings::{KnownOpenings, Whose};
pub use payments::{AuthorizedPayment, BookedPayment, OnChain, OpenPayment, Payee, PaymentEnd, PaymentIntent};
pub use pins::{FirstSight, Pin, PinCheck};
pub use reorgs::Settled;
pub use repeats::{Earlier, End};
pub use settling::Outcome;
pub use totals::{Asked as TotalsAsked, Totals};
pub use transaction::{NewTransaction, TxKind, TxRecord, TxState};
pub use trouble::DiskTrouble;
pub use vouchers::{Authorized, VoucherIntent};

/// What is said of an incomplete history, as long as anything of it can matter.
const NOTICE: &str = "SELECT CASE WHEN EXISTS (SELECT 1 FROM channels WHERE recovered = 1 AND state IN ('opening', 'open', 'closing')) \
     OR NOT EXISTS (SELECT 1 FROM flags WHERE name = 'all_found') THEN notice END FROM identity";

/// Handle to the journal; cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    writer: Arc<writer::Writer>,
    /// For what only looks.
    view: Arc<view::View>,
    /// For whom it is asked.
    who: Arc<audit::Who>,
}

impl Journal {
    /// Opens or creates the journal by the right to write it, and brings its schema up to date. A file lies in a folder of mode
    /// 0700, and has 0600. The lock is kept as long as the journal is used.
    pub fn open(hold: Hold) -> Result<(Self, Lock), JournalError> {
        let Hold { location, lock, .. } = hold;
        #[cfg(feature = "postgres")]
        let opened = match hold.lease {
            Some(taken) => server::open(&location, taken)?,
            None => schema::open(location.folder())?,
        };
        #[cfg(not(feature = "postgres"))]
        let opened = schema::open(location.folder())?;
        let view = Arc::new(view::View::of(&location));
        Ok((Self { writer: Arc::new(writer::Writer::start(opened, location)?), view, who: Arc::default() }, lock))
    }

    /// The journal of a folder, for tests.
    #[cfg(test)]
    fn at(folder: &Path) -> Result<Self, JournalError> {
        usage_tests::beside(|| {
            let hold = take(&Location::new(folder.into()))?.ok_or(JournalError::Unavailable("held by another one"))?;
            Self::open(hold).map(|(journal, _)| journal)
        })
    }

    /// Cancelled when another process writes the journal, or may: this one does no more. Of a file never.
    pub fn lost(&self) -> CancellationToken {
        self.writer.lost()
    }

    /// When this returns, all that was asked before is durable, and the next process may write. Nothing is written any more.
    pub async fn let_go(&self) {
        self.writer.leave().await;
    }

    /// Tells other replicas where agents of this wallet are served; of a file there are none.
    pub async fn served_at(&self, url: String) -> Result<(), JournalError> {
        if self.writer.location().is_a_file() {
            return Ok(());
        }
        self.writer
            .run(move |db| {
                db.execute("UPDATE identity SET address = ?1", [url])?;
                Ok(())
            })
            .await
    }

    /// A search for channels on chain was complete: none is unknown. What was said of a history that is incomplete is said
    /// no more when its channels are over.
    pub async fn all_found(&self, at: u64) -> Result<(), JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached("INSERT INTO flags (name, value, at) VALUES ('all_found', '', ?1) ON CONFLICT (name) DO UPDATE SET at = excluded.at")?
                    .execute([row::column(at)?])?;
                Ok(())
            })
            .await
    }

    /// Writes and syncs, and changes nothing but the count of commits: what fails here would fail for a voucher.
    pub async fn prove_writable(&self) -> Result<(), JournalError> {
        self.writer
            .run(|db| {
                db.prepare_cached("UPDATE identity SET notice = notice")?.execute(params![])?;
                Ok(())
            })
            .await
    }

    /// What a person should know of this journal, such as that an older copy was put back.
    pub async fn notice(&self) -> Result<Option<String>, JournalError> {
        self.writer.run(|db| Ok(db.query_row(NOTICE, params![], |row| row.get(0))?)).await
    }
}
