//! From what was seen to what it means. Pure.

use std::time::Duration;

use drain_protocol::{Address, Deployment, Generation, U256, Usdc, deployment};

use super::report::Line;
use crate::actors::wallet::{GAS_STATION_USDC, LITTLE_POL, MUCH_USDC};
use crate::api::{OpeningsFound, unknown};
use crate::chain::{ChainError, Fee};
use crate::error::Failure;

/// A head older than this comes from a node that is behind.
const OLD_HEAD: u64 = 60;
/// The fee that the sources name for V2; a higher one is worth a look.
const USUAL_FEE_BPS: u16 = 200;

/// What the wallet holds on Tempo's chain.
pub(super) fn over_tempo(chain_id: u64, held: &[(Address, Usdc)]) -> Line {
    let money: Vec<String> = held
        .iter()
        .filter(|(_, amount)| !amount.is_zero())
        .map(|(token, amount)| format!("{amount} of {token}"))
        .collect();
    if money.is_empty() {
        let tokens: Vec<String> = held.iter().map(|(token, _)| token.to_string()).collect();
        return Line::warn(
            "tempo",
            format!("the wallet holds nothing on Tempo's chain {chain_id}"),
            format!("To pay over Tempo send a few dollars there to the same address; tokens: {}.", tokens.join(", ")),
        );
    }
    Line::ok("tempo", format!("the wallet holds on Tempo's chain {chain_id}: {}", money.join(", ")))
}

/// A failure as a line.
pub(super) fn failed(check: &'static str, failure: impl Into<Failure>) -> Line {
    let failure = failure.into();
    Line::fail(check, failure.message, failure.next)
}

/// What one endpoint answered, how long it took, and the time now.
pub(super) fn endpoint(host: &str, head: Result<(u64, u64), ChainError>, latency: Duration, now: u64) -> Line {
    let ms = latency.as_millis();
    match head {
        Err(error) => failed("rpc", error),
        Ok((number, timestamp)) => {
            let found = format!("{host}: block {number} in {ms} ms");
            match now.saturating_sub(timestamp) {
                age if age > OLD_HEAD => Line::warn(
                    "rpc",
                    format!("{found}, {age} s old"),
                    "The node is behind, or this machine's clock is wrong. Expiries follow the chain's clock; use another endpoint if it lasts.",
                ),
                _ => Line::ok("rpc", found),
            }
        }
    }
}

/// The server that holds the journal.
#[cfg(feature = "postgres")]
pub(super) fn database(name: &str, found: &crate::journal::server::Examined) -> Line {
    let (used, most) = found.sessions;
    let holder = found.holder.as_ref().map_or_else(String::new, |url| format!(", the wallet is with {url}"));
    let text = format!(
        "{name}: PostgreSQL {} answers in {:.1} ms, {used} of {most} sessions{holder}",
        found.version,
        found.answer.as_secs_f64() * 1e3
    );
    if let Some(why) = &found.may_lose {
        return Line::fail(
            "database",
            format!("{text}; a commit can be lost there: {why}"),
            "Nothing is signed until fsync and synchronous_commit are on and the server is no standby.",
        );
    }
    if used.saturating_mul(10) >= most.saturating_mul(9) {
        return Line::warn(
            "database",
            format!("{text}; there is room for few more"),
            "Raise max_connections: each wallet takes three at the replica that has it, and one at every other.",
        );
    }
    if found.rewrites_audit {
        return Line::warn(
            "database",
            format!("{text}; this account may change the audit record"),
            "Let replicas work as another account: drain-mcp journal prepare --grant ROLE, as the owner.",
        );
    }
    Line::ok("database", text)
}

/// Several endpoints are better than one.
pub(super) fn endpoints(reachable: usize, all: usize) -> Option<Line> {
    match (reachable, all) {
        (0, _) => Some(Line::fail(
            "rpc",
            "no endpoint gives a usable answer",
            "Set DRAIN_RPC_URL to endpoints of the chain, several separated by commas.",
        )),
        (_, 1) => Some(Line::warn(
            "rpc",
            "a single endpoint is configured: it alone is believed",
            "Name a second one of another operator in DRAIN_RPC_URL.",
        )),
        _ => None,
    }
}

/// The contract's token check, its owner and fee.
pub(super) fn contract(
    on: &Deployment,
    verified: Result<(), ChainError>,
    owner: Result<Address, ChainError>,
    fee: Result<Fee, ChainError>,
) -> Vec<Line> {
    let name = format!("{} {}", on.generation, on.contract());
    if let Err(error) = verified {
        return vec![failed("contract", error)];
    }
    let mut lines = vec![Line::ok("contract", format!("{name} is there and holds the token {}", on.usdc))];
    lines.push(match owner {
        Err(error) => Line::warn("owner", format!("{name}: {error}"), "Look again later."),
        Ok(owner) if owner.is_zero() => Line::ok("owner", format!("{name}: none, nobody can change it")),
        Ok(owner) => Line::ok(
            "owner",
            format!("{name}: {owner} can change its token and fee. Both are checked before each open and close; keep deposits small"),
        ),
    });
    lines.push(match fee {
        Err(error) => Line::warn("fee", format!("{name}: {error}"), "Look again later."),
        Ok(_) if on.generation == Generation::V1 => {
            Line::ok("fee", format!("{name}: none on payouts; a session fee at opening"))
        }
        Ok(fee) => {
            let found =
                format!("{name}: {}.{:02} % of what providers are paid, taken from them", fee.bps / 100, fee.bps % 100);
            match fee.bps > USUAL_FEE_BPS {
                true => Line::warn(
                    "fee",
                    found,
                    "It is higher than the usual 2 %: providers get less, your cost is the same.",
                ),
                false => Line::ok("fee", found),
            }
        }
    });
    lines
}

/// What the wallet holds.
pub(super) struct Holdings {
    pub(super) address: Address,
    pub(super) chain_id: u64,
    pub(super) usdc: Usdc,
    pub(super) pol_wei: U256,
    pub(super) bridged: Usdc,
}

pub(super) fn wallet(held: &Holdings) -> Vec<Line> {
    let Holdings { address, chain_id, usdc, pol_wei, bridged } = held;
    let no_gas = *pol_wei < U256::from(LITTLE_POL);
    let network = if *chain_id == deployment::POLYGON { " on Polygon".into() } else { format!(" on chain {chain_id}") };
    let mut lines = vec![match *usdc {
        none if none.is_zero() => Line::fail(
            "usdc",
            format!("{address} holds no USDC"),
            format!("Send it $1-5 of native USDC{network}. Use this wallet for nothing else."),
        ),
        much if much > MUCH_USDC => Line::warn(
            "usdc",
            format!("{much} USDC: much for a key that software can use"),
            "Keep less than $50 on it; drain-mcp wallet send moves the rest.",
        ),
        some => Line::ok("usdc", format!("{some} USDC")),
    }];
    let pol = shown_pol(*pol_wei);
    lines.push(match (no_gas, *usdc >= GAS_STATION_USDC) {
        (false, _) => Line::ok("gas", format!("{pol} POL")),
        (true, true) => Line::fail(
            "gas",
            format!("{pol} POL: too little for a transaction"),
            format!("Run drain-mcp wallet gas: the marketplace's gas station gives some to wallets with 5 USDC. Or send about 0.10 POL to {address}."),
        ),
        (true, false) => {
            Line::fail("gas", format!("{pol} POL: too little for a transaction"), format!("Send about 0.10 POL to {address}."))
        }
    });
    if !bridged.is_zero() {
        lines.push(Line::warn(
            "usdc.e",
            format!("{bridged} bridged USDC.e ({}) does not count", deployment::POLYGON_USDC_E),
            format!("Swap it for native USDC ({}).", deployment::POLYGON_USDC),
        ));
    }
    lines
}

/// The allowance against the limit on what may be locked (M9).
pub(super) fn allowance(on: &Deployment, allowance: U256, limit: Usdc, unlimited: bool) -> Line {
    let shown = Usdc::try_from(allowance).map_or_else(|_| "unlimited".into(), |amount| format!("{amount} USDC"));
    let found = format!("{} {} may take {shown}", on.generation, on.contract());
    if allowance > limit.to_u256() && !unlimited {
        return Line::warn(
            "allowance",
            format!("{found}, more than the limit of {limit}"),
            "Another program gave it. Revoke it with a wallet program, or approve less: drain-mcp lowers it at the next approval.",
        );
    }
    Line::ok("allowance", format!("{found}; opening raises it as needed"))
}

/// The contracts' count of this wallet's channels against the record.
pub(super) fn openings(found: &[OpeningsFound]) -> Line {
    let (on_chain, missing) = (found.iter().map(|on| on.on_chain).fold(0, u64::saturating_add), unknown(found));
    match missing {
        0 => Line::ok("openings", format!("all {on_chain} channels that the contracts count are in the record")),
        _ => Line::warn(
            "openings",
            format!(
                "{missing} of {on_chain} channels that the contracts count are not in the record; their deposits may be waiting"
            ),
            "Run drain-mcp channels recover.",
        ),
    }
}

/// POL with four decimals, rounded down.
fn shown_pol(wei: U256) -> String {
    let (whole, rest) = (wei / U256::from(100_000_000_000_000u64)).div_rem(U256::from(10_000u64));
    format!("{whole}.{rest:0>4}")
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    fn held(usdc: u32, wei: u64) -> Holdings {
        let usdc = Usdc::new(usdc);
        Holdings {
            address: Address::repeat_byte(1),
            chain_id: 137,
            usdc,
            pol_wei: U256::from(wei),
            bridged: Usdc::ZERO,
        }
    }

    fn statuses(lines: &[Line]) -> Vec<Status> {
        lines.iter().map(|line| line.status).collect()
    }

    #[test]
    fn wallets() {
        use Status::{Fail, Ok, Warn};
        let rich = 200_000_000_000_000_000;
        for (usdc, wei, expected) in [
            (2_000_000, rich, [Ok, Ok]),
            (0, rich, [Fail, Ok]),
            (0, 0, [Fail, Fail]),
            (50_000_001, rich, [Warn, Ok]),
            (5_000_000, 0, [Ok, Fail]),
        ] {
            assert_eq!(statuses(&wallet(&held(usdc, wei))), expected, "{usdc} {wei}");
        }
        let fix = |usdc| wallet(&held(usdc, 0))[1].fix.clone().unwrap();
        assert!(fix(5_000_000).contains("drain-mcp wallet gas"));
        assert!(!fix(4_999_999).contains("wallet gas") && fix(4_999_999).contains("0.10 POL"));
        assert!(wallet(&held(0, 0))[0].fix.clone().unwrap().contains("$1-5 of native USDC on Polygon"));
        let bridged = Holdings { bridged: Usdc::new(1), ..held(2_000_000, rich) };
        assert!(wallet(&bridged)[2].found.contains("0x2791Bca1f2de4661ED88A30C99A7a9449Aa84174"));
    }

    #[test]
    fn endpoints_by_age_and_number() {
        let latency = Duration::from_millis(12);
        assert_eq!(endpoint("h", Ok((7, 1_000)), latency, 1_030), Line::ok("rpc", "h: block 7 in 12 ms"));
        assert_eq!(endpoint("h", Ok((7, 1_000)), latency, 1_061).status, Status::Warn);
        let wrong = ChainError::WrongChain { expected: 137, found: 1, endpoint: "h".into() };
        let line = endpoint("h", Err(wrong), latency, 0);
        assert!(line.status == Status::Fail && line.fix.unwrap().contains("DRAIN_CHAIN_ID"));
        assert_eq!(endpoints(0, 2).unwrap().status, Status::Fail);
        assert_eq!(endpoints(1, 1).unwrap().status, Status::Warn);
        assert_eq!(endpoints(1, 2), None);
    }

    #[test]
    fn contracts() {
        let on = deployment::builtin(137)[0];
        let fee = |bps| Ok(Fee { bps, recipient: Address::repeat_byte(2) });
        let lines = contract(&on, Ok(()), Ok(Address::ZERO), fee(200));
        assert_eq!(statuses(&lines), [Status::Ok; 3]);
        assert!(lines[1].found.contains("nobody can change it") && lines[2].found.contains("2.00 %"));
        assert_eq!(contract(&on, Ok(()), Ok(Address::ZERO), fee(201))[2].status, Status::Warn);
        let frozen = ChainError::Frozen { what: "another token".into() };
        assert_eq!(statuses(&contract(&on, Err(frozen), Ok(Address::ZERO), fee(0))), [Status::Fail]);
    }

    #[test]
    fn allowances() {
        let on = deployment::builtin(137)[0];
        let limit = Usdc::new(20_000_000);
        assert_eq!(allowance(&on, U256::from(20_000_000), limit, false).status, Status::Ok);
        assert_eq!(allowance(&on, U256::MAX, limit, false).status, Status::Warn);
        assert_eq!(allowance(&on, U256::MAX, limit, true).status, Status::Ok);
    }
}
