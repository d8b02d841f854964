//! Receipts as their owner sees them: an agent of a fleet its own, the operator all.

use drain_protocol::text::one_line;

use super::Local;
use crate::answers::AnswerId;
use crate::api::{MAX_RECEIPTS, ReceiptDetails, ReceiptQuery, ReceiptView};
use crate::error::{Code, Failure};
use crate::journal::ReceiptId;
use crate::policy::Caller;

impl Local {
    /// Receipts, newest first.
    pub(super) async fn receipts(&self, query: ReceiptQuery, caller: &Caller) -> Result<Vec<ReceiptView>, Failure> {
        if let Some(before) = &query.before {
            parse(before)?;
        }
        let query = ReceiptQuery { limit: query.limit.min(MAX_RECEIPTS), ..query };
        Ok(self.purse()?.journal.receipts(query, caller.member().map(str::to_owned)).await?)
    }

    /// One receipt, with its answer while that is kept.
    pub(super) async fn receipt(&self, id: &str, caller: &Caller) -> Result<ReceiptDetails, Failure> {
        let purse = self.purse()?;
        let found = purse.journal.receipt(parse(id)?, caller.member().map(str::to_owned)).await?;
        let receipt = found.ok_or_else(|| unknown(id))?;
        let Some(place) = receipt.channel.clone().or(receipt.transfer_nonce.clone()) else {
            return Ok(ReceiptDetails { receipt, answer: None });
        };
        let of = AnswerId { receipt: receipt.receipt.clone(), channel: place, agent: receipt.agent.clone() };
        let answer = purse.answers.find(of).await.unwrap_or_else(|error| {
            tracing::warn!(receipt = %receipt.receipt, %error, "a kept answer cannot be read");
            None
        });
        Ok(ReceiptDetails { receipt, answer })
    }
}

fn parse(id: &str) -> Result<ReceiptId, Failure> {
    id.trim().parse().map_err(|()| unknown(id))
}

fn unknown(id: &str) -> Failure {
    Failure::unspent(
        Code::UnknownReceipt,
        format!("no receipt {} is known here", one_line(id, 40)),
        "List the last receipts with drain_budget.",
    )
}
