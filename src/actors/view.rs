//! Records as people and agents see them.

use drain_protocol::Usdc;

use crate::api::{ChannelState, ChannelView};
use crate::journal::{ChannelRecord, Seen, Share};

/// A channel as of `block_time`. Expiry is read from the clock here, and nowhere recorded.
pub fn channel(record: &ChannelRecord, block_time: u64) -> ChannelView {
    let expired = record.state == ChannelState::Open && block_time >= record.expires_at;
    let state = if expired { ChannelState::Expired } else { record.state };
    let expires_in = i64::try_from(record.expires_at)
        .unwrap_or(i64::MAX)
        .saturating_sub(i64::try_from(block_time).unwrap_or(i64::MAX));
    ChannelView {
        channel_id: record.channel_id.map(|id| id.to_string()),
        intent: record.intent.to_string(),
        state,
        provider_id: record.provider_id.clone(),
        provider_name: record.provider_name.clone(),
        category: record.category.clone(),
        generation: record.deployment.generation,
        deposit: record.books.deposit,
        cap: record.books.cap,
        signed: record.books.signed,
        charged: record.books.charged,
        in_flight: record.books.in_flight,
        disputed: record.books.disputed,
        claimed: record.books.claimed,
        available: record.books.available(),
        requests: record.requests,
        expires_at: record.expires_at,
        expires_in: if record.expires_at == 0 { 0 } else { expires_in },
        recovered: record.recovered,
        refunded: record.refunded,
        next: next(record, state).into(),
        notes: foreign(record).into_iter().chain(record.note.clone()).collect(),
    }
}

/// A channel as its reader sees it: an agent of the fleet who shares it its own part, and what remains for all who use it.
/// What others have in it, and what the provider took for that, is not told.
pub fn seen(seen: &Seen, block_time: u64) -> ChannelView {
    let whole = channel(&seen.record, block_time);
    let Some(Share { signed, charged, disputed, in_flight, requests }) = seen.share else { return whole };
    let mut notes = whole.notes;
    notes.push(SHARED.into());
    ChannelView { signed, charged, disputed, in_flight, requests, claimed: Usdc::ZERO, notes, ..whole }
}

/// Said of a channel that several agents use.
const SHARED: &str = "shared with other agents of this wallet: signed, charged, in flight, disputed and requests are yours alone, left is what all may still use, and what the provider claimed is not shown";

/// A channel whose provider nobody here knows (M10).
fn foreign(record: &ChannelRecord) -> Option<String> {
    let open = matches!(record.state, ChannelState::Open | ChannelState::Closing);
    (open && record.recovered && record.api_url.is_empty()).then(|| {
        "foreign: this record did not open it, so it is closed at expiry only; a person makes it payable with drain-mcp channels adopt"
            .into()
    })
}

fn next(record: &ChannelRecord, state: ChannelState) -> &'static str {
    match state {
        ChannelState::Opening => {
            "Wait until the opening is final; drain_open_channel for the same provider returns it."
        }
        ChannelState::Open if record.offences > 0 => "The provider overcharged: close it with drain_cooperative_close.",
        ChannelState::Open => "Pay requests with drain_chat; when done, drain_cooperative_close.",
        ChannelState::Closing => "The close is on its way; look again with drain_channel_status.",
        ChannelState::Expired => "Get the rest back with drain_close_channel.",
        ChannelState::Closed => "Nothing: it is over.",
        ChannelState::Failed => "Nothing: it never opened and no deposit moved.",
    }
}

/// Seconds for people: `1d 2h`, `59s`.
pub fn seconds(seconds: u64) -> String {
    drain_protocol::duration::ChannelDuration::from_seconds(seconds)
        .map_or_else(|_| format!("{seconds}s"), |duration| duration.to_string())
}
