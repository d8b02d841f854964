//! `drain-mcp close`: the rest of a deposit comes back.

use drain_protocol::{ChannelId, Generation};
use serde::Serialize;
use serde_json::{Value, json};

use super::exit::Exit;
use super::output::{as_commands, error_object};
use super::session::{Needs, Session};
use crate::actors::Runtime;
use crate::api::{ChannelState, ChannelView, Closed, Progress};
use crate::error::{Code, Failure};

/// Arguments of `drain-mcp close`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp close 0xCHANNEL                the provider is asked to agree (V2), or the channel has expired
  drain-mcp close 0xCHANNEL --at-expiry    without the provider; works once the channel has expired
  drain-mcp close --all

While drain-mcp runs, expired channels are closed by themselves.")]
pub struct Args {
    /// The channel
    #[arg(required_unless_present = "all")]
    pub channel: Option<ChannelId>,
    /// Every channel that is not over
    #[arg(long, conflicts_with = "channel")]
    pub all: bool,
    /// Do not ask the provider: close after expiry only
    #[arg(long)]
    pub at_expiry: bool,
}

/// One channel of `--all`.
#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Closed(Box<Closed>),
    Failed(Value),
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let Args { channel, at_expiry, .. } = args;
    if let Some(id) = channel {
        let closed =
            session.run(Needs::Money, async |runtime, progress| one(&runtime, id, at_expiry, progress).await).await?;
        session.output.answer(&closed, || text(&closed))?;
        return Ok(Exit::Ok);
    }
    let (outcomes, texts, worst) =
        session.run(Needs::Money, async |runtime, progress| all(&runtime, at_expiry, progress).await).await?;
    session.output.answer(&json!({ "channels": outcomes }), || match texts.len() {
        0 => "No channels to close.".into(),
        _ => texts.join("\n\n"),
    })?;
    Ok(worst)
}

async fn all(
    runtime: &Runtime,
    at_expiry: bool,
    progress: Progress,
) -> Result<(Vec<Outcome>, Vec<String>, Exit), Failure> {
    let (mut outcomes, mut texts, mut worst) = (Vec::new(), Vec::new(), Exit::Ok);
    for view in runtime.channels(false).await? {
        // Without an id it is not mined yet: there is nothing to close.
        let Some(id) = view.channel_id.as_deref().and_then(|id| id.parse().ok()) else { continue };
        match one(runtime, id, at_expiry, progress.clone()).await {
            Ok(closed) => {
                texts.push(text(&closed));
                outcomes.push(Outcome::Closed(Box::new(closed)));
            }
            Err(failure) => {
                let exit = Exit::of(&failure);
                // Money whose fate is open outweighs a refusal.
                worst = if worst == Exit::Ok || exit == Exit::Pending { exit } else { worst };
                texts.push(as_commands(&format!(
                    "{id}: {} {} {}",
                    failure.message,
                    failure.money.sentence(),
                    failure.next
                )));
                let mut object = error_object(&failure);
                object["channel_id"] = id.to_string().into();
                outcomes.push(Outcome::Failed(object));
            }
        }
    }
    Ok((outcomes, texts, worst))
}

/// How a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Cooperative,
}

fn way(channel: &ChannelView, at_expiry: bool) -> Result<Way, Failure> {
    let expired = channel.state == ChannelState::Expired || (channel.expires_at > 0 && channel.expires_in < 0);
    match (expired, channel.generation) {
        (true, _) => Ok(Way::Plain),
        (false, Generation::V2) if !at_expiry => Ok(Way::Cooperative),
        (false, generation) => {
            let why = match generation {
                Generation::V1 => "channels of a V1 contract close after expiry only",
                Generation::V2 => "--at-expiry does not ask the provider",
            };
            Err(Failure::unspent(
                Code::NotExpired,
                format!("The channel expires {}: {why}.", super::channels::when(channel)),
                "Close it then; while drain-mcp runs it does so by itself.",
            ))
        }
    }
}

async fn one(runtime: &Runtime, id: ChannelId, at_expiry: bool, progress: Progress) -> Result<Closed, Failure> {
    match way(&runtime.channel(id).await?, at_expiry)? {
        Way::Plain => runtime.close(id, progress).await,
        Way::Cooperative => runtime.cooperative_close(id, progress).await,
    }
}

fn text(closed: &Closed) -> String {
    format!(
        "Closed {}\n  refunded {} USDC, paid {} USDC (of that {} protocol fee)\n  transaction {}",
        closed.channel.channel_id.as_deref().unwrap_or("(no id)"),
        closed.refund,
        closed.paid,
        closed.protocol_fee,
        closed.transaction
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use drain_protocol::Usdc;

    fn channel(generation: Generation, expires_in: i64) -> ChannelView {
        ChannelView {
            channel_id: None,
            intent: "1".into(),
            state: ChannelState::Open,
            provider_id: "p".into(),
            provider_name: "P".into(),
            category: "llm".into(),
            generation,
            deposit: Usdc::ZERO,
            cap: Usdc::ZERO,
            signed: Usdc::ZERO,
            charged: Usdc::ZERO,
            in_flight: Usdc::ZERO,
            disputed: Usdc::ZERO,
            claimed: Usdc::ZERO,
            available: Usdc::ZERO,
            requests: 0,
            expires_at: 1,
            expires_in,
            recovered: false,
            refunded: None,
            next: String::new(),
            notes: vec![],
        }
    }

    #[test]
    fn cooperative_by_default_on_v2_before_expiry() {
        assert_eq!(way(&channel(Generation::V2, 60), false), Ok(Way::Cooperative));
        assert_eq!(way(&channel(Generation::V2, -1), false), Ok(Way::Plain));
        assert_eq!(way(&channel(Generation::V1, -1), true), Ok(Way::Plain));
        for (generation, at_expiry) in [(Generation::V1, false), (Generation::V2, true)] {
            assert_eq!(way(&channel(generation, 60), at_expiry).map_err(|f| f.code), Err(Code::NotExpired));
        }
    }
}
