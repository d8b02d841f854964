//! `drain-mcp chat`: one paid request.

use std::io::{IsTerminal, Read};
use std::str::FromStr;

use drain_protocol::chat::{Message, Role};
use drain_protocol::duration::ChannelDuration;
use drain_protocol::voucher::ChannelIdError;
use drain_protocol::{ChannelId, Usdc};
use serde_json::{Value, json};

use super::exit::Exit;
use super::session::{Needs, Session};
use crate::api::{ChatCall, ChatReply, Paid, PayFrom, ProviderWish};
use crate::error::Failure;
use crate::policy::repeat::IdempotencyKey;

/// No provider takes a longer conversation; the configured limit is checked by the runtime.
const MAX_INPUT: u64 = 64 * 1024 * 1024;

/// Characters of a wallet's address.
const WALLET: usize = 42;

/// Arguments of `drain-mcp chat`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp chat 0xCHANNEL --model sim-small \"Say hello\"
  drain-mcp chat sim-llm --model sim-small \"Say hello\" --max-deposit 0.50
  cat letter.txt | drain-mcp chat 0xCHANNEL --model sim-small --system \"Translate to French\"
  drain-mcp chat 0xCHANNEL --model sim/forecast '{\"city\":\"Oslo\"}' --max-cost 0.01
  drain-mcp chat 0xCHANNEL --model sim-small --messages conversation.json --json | jq -r .content

The answer goes to stdout, what it cost to stderr. A provider of another kind than LLM gives its docs first, unpaid.")]
pub struct Args {
    /// The channel that pays; or a provider's id: its open channel pays, or a new one with --max-deposit
    #[arg(value_name = "CHANNEL|PROVIDER")]
    pub target: Target,
    /// The prompt; without it, stdin is read
    #[arg(conflicts_with = "messages")]
    pub prompt: Option<String>,
    /// The model's id
    #[arg(long, short)]
    pub model: String,
    /// Instructions before the prompt
    #[arg(long, conflicts_with = "messages")]
    pub system: Option<String>,
    /// A file with a JSON array of {role, content}, or - for stdin
    #[arg(long, value_name = "FILE")]
    pub messages: Option<String>,
    /// The longest answer in tokens [default: DRAIN_DEFAULT_MAX_TOKENS]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// Passed on to the provider
    #[arg(long)]
    pub temperature: Option<serde_json::Number>,
    /// The most that this request may cost in USDC; never raises a limit
    #[arg(long)]
    pub max_cost: Option<Usdc>,
    /// A name of your own for this request: sent again under it, it is answered as the first time and not paid twice
    #[arg(long, value_name = "NAME")]
    pub request_id: Option<IdempotencyKey>,
    #[command(flatten)]
    pub opening: Opening,
}

/// What may be opened for a request to a provider.
#[derive(Debug, Default, clap::Args)]
pub struct Opening {
    /// With a provider: lock this much USDC in a new channel where no open one pays [default: DRAIN_AUTO_OPEN]
    #[arg(long, value_name = "USDC")]
    pub max_deposit: Option<Usdc>,
    /// For how long: 90m, 24h, 7d
    #[arg(long, requires = "max_deposit")]
    pub duration: Option<ChannelDuration>,
}

/// What pays, as people write it.
#[derive(Clone, Debug)]
pub enum Target {
    /// A channel.
    Channel(ChannelId),
    /// A provider, by its id or wallet.
    Provider(String),
}

impl FromStr for Target {
    type Err = ChannelIdError;

    fn from_str(text: &str) -> Result<Self, ChannelIdError> {
        match text.parse() {
            Ok(channel) => Ok(Self::Channel(channel)),
            // Neither an id of a channel nor a wallet.
            Err(reason) if text.starts_with("0x") && text.len() != WALLET => Err(reason),
            Err(_) => Ok(Self::Provider(text.to_owned())),
        }
    }
}

/// What pays, with what may be opened for it.
pub(super) fn pay_from(target: Target, opening: Opening) -> Result<PayFrom, Failure> {
    let Opening { max_deposit, duration } = opening;
    match target {
        Target::Channel(_) if max_deposit.is_some() => {
            Err(Failure::argument("max-deposit", "it goes with a provider: a channel has its deposit"))
        }
        Target::Channel(channel) => Ok(PayFrom::Channel(channel)),
        Target::Provider(provider) => Ok(PayFrom::Provider(ProviderWish { provider, max_deposit, duration })),
    }
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let messages = conversation(&args)?;
    let call = ChatCall {
        from: pay_from(args.target, args.opening)?,
        model: args.model,
        messages,
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        max_cost: args.max_cost,
        request_id: args.request_id,
    };
    let reply = session.run(Needs::Money, async |runtime, progress| runtime.chat(call, progress).await).await?;
    let output = session.output;
    match &reply {
        ChatReply::Paid(paid) => {
            output.answer(&paid_object(paid), || paid.content.clone())?;
            if !output.json {
                output.remark(&receipt(paid));
            }
        }
        ChatReply::ReadFirst { docs } => output.answer(
            &json!({ "read_first": true, "docs": docs, "next": "Nothing was paid. Read the docs, then send the request again." }),
            || format!("{}\nNothing was paid. Read the docs, then send the request again.", super::output::theirs("the provider's docs", docs)),
        )?,
    }
    Ok(Exit::Ok)
}

fn conversation(args: &Args) -> Result<Vec<Message>, Failure> {
    if let Some(name) = &args.messages {
        let text = if name == "-" { stdin("messages")? } else { file(name)? };
        return serde_json::from_str(&text)
            .map_err(|e| Failure::argument("messages", format!("this is no JSON array of {{role, content}} ({e})")));
    }
    let content = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::argument("prompt", "it is missing; write it in quotes, or pipe it in"));
        }
        None => stdin("prompt")?,
    };
    if content.trim().is_empty() {
        return Err(Failure::argument("prompt", "it is empty"));
    }
    let system = args.system.iter().map(|text| Message { role: Role::System, content: text.clone() });
    Ok(system.chain([Message { role: Role::User, content }]).collect())
}

fn stdin(name: &str) -> Result<String, Failure> {
    bounded(std::io::stdin().lock(), name)
}

fn file(path: &str) -> Result<String, Failure> {
    let file =
        std::fs::File::open(path).map_err(|e| Failure::argument("messages", format!("{path} cannot be read ({e})")))?;
    bounded(file, "messages")
}

fn bounded(reader: impl Read, name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    reader.take(MAX_INPUT + 1).read_to_string(&mut text).map_err(|e| Failure::argument(name, e))?;
    if text.len() as u64 > MAX_INPUT {
        return Err(Failure::argument(name, "it is too large"));
    }
    Ok(text)
}

fn paid_object(paid: &Paid) -> Value {
    json!({
        "content": paid.content,
        "finish_reason": paid.finish_reason,
        "cost": paid.cost,
        "disputed": paid.disputed,
        "receipt": paid.receipt,
        "max_tokens_sent": paid.max_tokens_sent,
        "spent_today": paid.spent_today,
        "notes": paid.notes,
        "channel": paid.channel,
        "raw": paid.raw,
    })
}

/// The last line of every paid answer.
fn receipt(paid: &Paid) -> String {
    let mut line = format!(
        "paid {} USDC; the channel has {} USDC left until {}; spent today {}; receipt {}",
        paid.cost,
        paid.channel.available,
        super::channels::when(&paid.channel),
        paid.spent_today,
        paid.receipt
    );
    if !paid.disputed.is_zero() {
        line +=
            &format!("\nthe provider claims {} USDC more than price and usage explain; it is not paid", paid.disputed);
    }
    for note in &paid.notes {
        line += &format!("\n{note}");
    }
    line
}
