//! `drain-mcp uninstall`: what is still in channels is told first, then the entry goes.

use clap::Parser;
use drain_protocol::Usdc;
use serde_json::{Value, json};

use super::entry::{Entry, NAME, is_ours, shown};
use super::file::{ClientFile, unusable};
use super::{Target, find, insert, lines, removed};
use crate::api::ChannelView;
use crate::cli::channels;
use crate::cli::exit::Exit;
use crate::cli::output::{Output, as_commands};
use crate::cli::session::{Needs, Session};
use crate::cli::{Cli, Global};
use crate::config::Key;
use crate::error::{Code, Failure};

/// Arguments of `drain-mcp uninstall`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp uninstall --client claude-code
  drain-mcp uninstall --client cursor --scope project --yes

Wallet, records and channels stay: drain-mcp refund brings money back, with or without a client. What is still in channels is
shown first.")]
pub struct Args {
    #[command(flatten)]
    target: Target,
}

/// What the entry's wallet still has in channels.
enum Locked {
    Channels(Vec<ChannelView>),
    /// Why that is not known, or none of this machine's business.
    Untold(String),
}

pub(in crate::cli) async fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let output = Output { json: global.json, play_money: false };
    let client = args.target.client;
    let file = ClientFile::read(&args.target.path()?)?;
    let text = file.text.as_deref().unwrap_or_default();
    let refused = |reason: String| unusable(&file.path, reason);
    let answer = |changed: bool, locked: Value| json!({ "client": client.name(), "file": file.path, "changed": changed, "channels": locked });
    let Some(entry) = find(client, text).map_err(refused)? else {
        output.answer(&answer(false, Value::Null), || {
            format!("{} has no entry \"{NAME}\": {}", client.label(), file.path.display())
        })?;
        return Ok(Exit::Ok);
    };
    if !is_ours(&entry) {
        return Err(Failure::unspent(
            Code::InvalidArgument,
            format!("The entry \"{NAME}\" in {} starts something else.", file.path.display()),
            "Look at it, and take it out by hand if it is not wanted.",
        ));
    }
    let changed = removed(client, text).map_err(refused)?;
    let locked = locked(&entry, global).await;
    output.remark(&locked.told());
    output.remark(&format!("{} ({}):", file.path.display(), client.label()));
    output.remark(&lines("- ", client, &shown(&entry, &[], true)));
    args.target.confirmed("Take it out?")?;
    // Where nothing else has changed since the entry was put in, the file is again what it was, to the byte.
    let before = file.before();
    let made = insert(client, before.as_deref().unwrap_or_default(), &entry);
    if made.as_deref() == Ok(text) { file.restore(before.as_deref()) } else { file.replace(&changed) }?;
    output.answer(&answer(true, locked.value()), || {
        format!("{} has it no more. Wallet and records stay; drain-mcp refund brings money back.", client.label())
    })?;
    Ok(Exit::Ok)
}

/// By the settings with which the client starts it.
async fn locked(entry: &Entry, global: &Global) -> Locked {
    let env: Vec<(String, String)> = entry
        .get("env")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    if env.iter().any(|(name, _)| name == Key::ServerUrl.spec().env) {
        return Locked::Untold("Its money is with its server: drain-mcp channels there shows it.".into());
    }
    let words = entry.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let Ok(cli) = Cli::try_parse_from(std::iter::once("drain-mcp").chain(words)) else {
        return Locked::Untold("What the entry's arguments mean is not known: look with drain-mcp channels.".into());
    };
    let mut said = cli.global;
    if said.sandbox {
        return Locked::Untold("It plays with play money: nothing of it stays.".into());
    }
    said.json = global.json;
    let views = async {
        let mut session = Session::start_as(&said, env).await?;
        session.command = "uninstall";
        session.run(Needs::Wallet, async |runtime, _| runtime.channels(false).await).await
    };
    match views.await {
        Ok(views) => Locked::Channels(views),
        Err(Failure { code: Code::NoSigner, .. }) => Locked::Untold("It has no wallet, and so no channels.".into()),
        Err(failure) => Locked::Untold(as_commands(&format!(
            "What is in channels cannot be told: {} Look with drain-mcp channels.",
            failure.message
        ))),
    }
}

impl Locked {
    fn told(&self) -> String {
        match self {
            Self::Untold(why) => why.clone(),
            Self::Channels(views) if views.is_empty() => "No channel is open: no money waits in one.".into(),
            Self::Channels(views) => {
                let mut lines: Vec<String> = views.iter().map(channels::line).collect();
                lines.push(format!(
                    "At least {} USDC of that can come back. Nothing closes these channels while no drain-mcp runs: drain-mcp close \
                     CHANNEL now, or drain-mcp refund when they are expired.",
                    back(views)
                ));
                lines.join("\n")
            }
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Untold(why) => json!({ "untold": why }),
            Self::Channels(views) => json!({ "open": views, "can_come_back": back(views) }),
        }
    }
}

/// What no voucher gives away. Of a channel whose record may be incomplete that is not known.
fn back(views: &[ChannelView]) -> Usdc {
    let certain = views.iter().filter(|view| !view.recovered);
    certain.fold(Usdc::ZERO, |sum, view| sum.saturating_add(view.deposit.saturating_sub(view.signed)))
}
