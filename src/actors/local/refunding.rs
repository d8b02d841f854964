//! Everything that can come back, at a person's or a timer's word (M10).

use std::time::Duration;

use super::Local;
use crate::actors::refund::{close, find, holding};
use crate::actors::view;
use crate::api::{ChannelState, ChannelView, Progress, RefundFailure, RefundReport};
use crate::error::{Code, Failure, Money};
use crate::journal::ChannelRecord;
use crate::policy::Caller;
use crate::policy::refund::{Due, Settings, Tries, due};

impl Local {
    /// Closes what can be closed now, one after another, each until it is final.
    pub(super) async fn refund(
        &self,
        idle: Option<u64>,
        caller: Caller,
        progress: Progress,
    ) -> Result<Vec<RefundReport>, Failure> {
        let purse = self.purse()?;
        let records = purse.journal.channels(false).await?;
        let head = self.services.chain.head().await?;
        self.services.clock.saw_block(head.timestamp);
        let settings = Settings { idle: idle.map(Duration::from_secs), ..self.services.config.refunds.settings };
        let mut reports = Vec::new();
        for record in records {
            reports.push(self.refund_of(&settings, record, head.timestamp, &caller, &progress).await);
        }
        Ok(reports)
    }

    async fn refund_of(
        &self,
        settings: &Settings,
        record: ChannelRecord,
        now: u64,
        caller: &Caller,
        progress: &Progress,
    ) -> RefundReport {
        let channel = view::channel(&record, now);
        let mut report = RefundReport { channel, closed: None, waits_until: None, failure: None };
        let (Some(holding), Some(id)) = (holding(&record), record.channel_id) else {
            report.failure = Some(RefundFailure {
                code: "transaction_pending".into(),
                message: "its opening is not final yet".into(),
                pending: true,
                next: "Run drain-mcp refund again later.".into(),
            });
            return report;
        };
        let way = match due(settings, &holding, &Tries::default(), now) {
            Due::At(at) => {
                report.waits_until = Some(at);
                return report;
            }
            Due::Now(way) => way,
        };
        progress.say(format!("closing {id}"));
        let closed = async {
            let channel = find(&self.supervisor, &record).await?;
            let (due, caller) = ((holding, way), caller.clone());
            close(&self.services, self.purse()?, &channel, &record, due, caller, progress.clone()).await
        };
        let closed = closed.await;
        match closed {
            Ok(closed) => report.closed = Some(closed),
            Err(failure) => match self.closed_meanwhile(&record, &failure).await {
                Some(channel) => report.channel = channel,
                None => report.failure = Some(told(&failure)),
            },
        }
        report
    }

    /// The channel, where the runtime's own refund was quicker: nothing is left to do.
    async fn closed_meanwhile(&self, record: &ChannelRecord, failure: &Failure) -> Option<ChannelView> {
        if failure.code != Code::ChannelNotOpen {
            return None;
        }
        let now = self.purse().ok()?.journal.channel(record.intent).await.ok()?;
        (now.state == ChannelState::Closed).then(|| view::channel(&now, self.services.clock.block_time()))
    }
}

fn told(failure: &Failure) -> RefundFailure {
    RefundFailure {
        code: failure.code.as_str().into(),
        message: failure.message.clone(),
        pending: matches!(failure.money, Money::Pending { .. } | Money::Unknown),
        next: failure.next.clone(),
    }
}
