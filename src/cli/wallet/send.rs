//! `drain-mcp wallet send`: money out, by a person at a terminal alone (M5).

use drain_protocol::{Address, U256, Usdc};
use serde_json::json;

use super::super::exit::Exit;
use super::super::prompt::{Terminal, Tty, need_terminal, terminal_failed};
use super::super::session::{Needs, Session};
use crate::api::{SendAmount, WalletView};
use crate::error::{Code, Failure};

/// Arguments of `drain-mcp wallet send`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet send --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --amount 2.50 --token usdc
  drain-mcp wallet send --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --amount all --token pol

It shows what will move and asks you to type the amount. Money in open channels is not in the wallet: close them first.")]
pub struct Args {
    /// Who gets it
    #[arg(long, value_parser = recipient)]
    pub to: Address,
    /// How much, or all
    #[arg(long)]
    pub amount: String,
    /// usdc or pol
    #[arg(long)]
    pub token: Token,
    /// Send it even if the same amount went to the same address a moment ago
    #[arg(long)]
    pub again: bool,
}

/// What can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Token {
    /// Native USDC.
    Usdc,
    /// The chain's own coin, which pays for gas.
    Pol,
}

/// An address that money goes to: a checksum that does not fit is refused, not warned about.
fn recipient(text: &str) -> Result<Address, String> {
    let text = text.trim();
    let address: Address = text.parse().map_err(|_| "an address is 0x and 40 hexadecimal digits".to_string())?;
    let digits = text.trim_start_matches("0x");
    let mixed = digits.bytes().any(|b| b.is_ascii_lowercase()) && digits.bytes().any(|b| b.is_ascii_uppercase());
    if mixed && Address::parse_checksummed(text, None).is_err() {
        return Err("its checksum does not fit: a digit is wrong".into());
    }
    if address.is_zero() {
        return Err("this is the zero address: money sent there is lost".into());
    }
    Ok(address)
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    need_terminal(&Tty, "Sending money")?;
    let amount = parse(&args.amount, args.token)?;
    let (to, again) = (args.to, args.again);
    let hash = session
        .run_towards(Needs::Money, vec![to], async |runtime, progress| {
            // Before the person reads and types anything.
            runtime.has_wallet().await?;
            let view = runtime.balance().await?;
            // Asked on a thread of its own: the actors go on meanwhile.
            let asked = tokio::task::spawn_blocking(move || confirm(&view, to, amount, &mut Tty)).await;
            asked.map_err(|e| Failure::internal(e.to_string()))??;
            runtime.send(to, amount, again, progress).await
        })
        .await?;
    session
        .output
        .answer(&json!({ "transaction": hash, "to": to.to_string() }), || format!("Sent. Transaction {hash}"))?;
    Ok(Exit::Ok)
}

fn parse(text: &str, token: Token) -> Result<SendAmount, Failure> {
    let all = text.trim().eq_ignore_ascii_case("all");
    match token {
        Token::Usdc if all => Ok(SendAmount::Usdc(None)),
        Token::Usdc => {
            let amount: Usdc = text.parse().map_err(|e| Failure::argument("amount", e))?;
            nonzero(amount.is_zero())?;
            Ok(SendAmount::Usdc(Some(amount)))
        }
        Token::Pol if all => Ok(SendAmount::Native(None)),
        Token::Pol => {
            let wei = wei(text).ok_or_else(|| {
                Failure::argument("amount", "write POL as a decimal number, for example 0.05, or all")
            })?;
            nonzero(wei.is_zero())?;
            Ok(SendAmount::Native(Some(wei)))
        }
    }
}

fn nonzero(zero: bool) -> Result<(), Failure> {
    if zero { Err(Failure::argument("amount", "it is zero")) } else { Ok(()) }
}

/// A plain decimal number of POL, in wei.
fn wei(text: &str) -> Option<U256> {
    let text = text.trim();
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
    if !plain || text.len() > 60 || text.split_once('.').is_some_and(|(_, fraction)| fraction.len() > 18) {
        return None;
    }
    alloy::primitives::utils::parse_ether(text).ok()
}

/// What will move, and the amount that the person must type.
fn question(view: &WalletView, to: Address, amount: SendAmount) -> (String, String) {
    let (what, typed) = match amount {
        SendAmount::Usdc(None) => (format!("all {} USDC", view.usdc), view.usdc.to_string()),
        SendAmount::Usdc(Some(amount)) => (format!("{amount} USDC of {}", view.usdc), amount.to_string()),
        SendAmount::Native(None) => (format!("all POL but the gas, about {}", view.pol), "all".into()),
        SendAmount::Native(Some(wei)) => {
            let amount = alloy::primitives::utils::format_ether(wei);
            let amount = amount.trim_end_matches('0').trim_end_matches('.').to_string();
            (format!("{amount} POL of {}", view.pol), amount)
        }
    };
    let shown = format!(
        "\nfrom   {}\nto     {to}\nsends  {what}\nchain  {}\n\nThis cannot be taken back.",
        view.address, view.chain_id
    );
    (shown, typed)
}

fn confirm(view: &WalletView, to: Address, amount: SendAmount, terminal: &mut dyn Terminal) -> Result<(), Failure> {
    let (shown, wanted) = question(view, to, amount);
    terminal.show(&shown).map_err(terminal_failed)?;
    let typed = terminal.line(&format!("Type {wanted} to send it: ")).map_err(terminal_failed)?;
    if typed == wanted {
        return Ok(());
    }
    Err(Failure::unspent(Code::Cancelled, "Not confirmed; nothing was sent.", "Run the command again."))
}

#[cfg(test)]
mod tests {
    use super::super::super::prompt::Script;
    use super::*;

    const TO: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

    fn view() -> WalletView {
        WalletView {
            address: Address::repeat_byte(1),
            chain_id: 137,
            usdc: Usdc::new(2_500_000),
            pol: "0.1000".into(),
            allowance: "0.00".into(),
            locked: Usdc::ZERO,
            spent_today: Usdc::ZERO,
            signer: "keystore, signs by itself".into(),
            advice: vec![],
        }
    }

    #[test]
    fn recipients() {
        assert!(recipient(TO).is_ok() && recipient(&TO.to_lowercase()).is_ok());
        for bad in ["", "0x12", "0x0000000000000000000000000000000000000000", &TO.replace("C8", "c8")] {
            assert!(recipient(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts() {
        assert_eq!(parse("all", Token::Usdc).unwrap(), SendAmount::Usdc(None));
        assert_eq!(parse("2.50", Token::Usdc).unwrap(), SendAmount::Usdc(Some(Usdc::new(2_500_000))));
        assert_eq!(parse("0.05", Token::Pol).unwrap(), SendAmount::Native(Some(U256::from(50_000_000_000_000_000u64))));
        for bad in ["", "-1", "abc", "1e3", "0", ".", "1.2.3", "1,5", "0.0000000000000000001"] {
            assert!(parse(bad, Token::Usdc).is_err(), "{bad}");
            assert!(parse(bad, Token::Pol).is_err(), "{bad}");
        }
        assert!(parse(&"9".repeat(78), Token::Pol).is_err());
    }

    #[test]
    fn a_person_types_the_amount() {
        let to = recipient(TO).unwrap();
        let amount = SendAmount::Usdc(None);
        let mut script = Script::of(["2.50"]);
        confirm(&view(), to, amount, &mut script).unwrap();
        assert!(script.seen.contains(TO) && script.seen.contains("all 2.50 USDC"));
        for typed in ["yes", "2.5", ""] {
            assert!(confirm(&view(), to, amount, &mut Script::of([typed])).is_err());
        }
        assert!(confirm(&view(), to, SendAmount::Native(None), &mut Script::of(["all"])).is_ok());
    }
}
