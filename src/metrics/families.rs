//! Every family there is: name, labels, unit, and what it says. `docs/metrics.md` is written from this table.

use std::sync::LazyLock;

use prometheus::Registry;

use super::kinds::{Counter, Gauge, Histogram, Unit};

/// What stands before each name.
pub(super) const PREFIX: &str = "drain";

/// A row of the table, for the documentation.
pub(super) struct Family {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! families {
    ($($kind:ident $name:ident [$($label:ident),*] $of:expr, $help:literal;)+) => {
        /// All families.
        pub(super) struct Families {
            $(pub $name: $kind<{ <[&str]>::len(&[$(stringify!($label)),*]) }>,)+
        }

        /// The same, for the documentation.
        pub(super) const ALL: &[Family] = &[$(Family {
            name: stringify!($name),
            kind: stringify!($kind),
            labels: &[$(stringify!($label)),*],
            help: $help,
        },)+];

        impl Families {
            fn new() -> Result<Self, prometheus::Error> {
                Ok(Self { $($name: $kind::new(stringify!($name), $help, [$(stringify!($label)),*], $of)?,)+ })
            }

            fn registered(&'static self) -> Result<Registry, prometheus::Error> {
                let registry = Registry::new_custom(Some(PREFIX.into()), None)?;
                $(registry.register(Box::new(&self.$name))?;)+
                Ok(registry)
            }
        }
    };
}

/// From a tenth of a millisecond: what this machine does.
const HERE: &[f64] = &[0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// What others do over a network.
const THERE: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// What a key does: in this process, at a service, by a person's press.
const SIGNING: &[f64] = &[0.000_1, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// What a person takes.
const PEOPLE: &[f64] = &[1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0];
/// Parts of a whole.
const PARTS: &[f64] = &[0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// Blocks.
const BLOCKS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

families! {
    Gauge build_info [version, features] Unit::One, "Always 1; the labels say which drain-mcp this is.";

    Gauge signer_info [wallet, backend, address, interactive, clear_signing] Unit::One, "Always 1; the labels say which key signs for a wallet, whether a person does something for each signature and is shown what is signed.";
    Gauge signer_available [wallet, backend] Unit::One, "1 if the key could be used when it was last needed, 0 if its backend failed then. Nothing asks for a signature only to know.";
    Histogram sign_duration_seconds [backend, kind] SIGNING, "Time from asking for a signature of a voucher or transaction until it was there, a person's press included.";
    Counter signer_errors_total [backend, kind] Unit::One, "Signatures that were not made, by the signer's code for why.";

    Counter vouchers_signed_total [provider, outcome] Unit::One, "Vouchers that were authorized, by what became of the request: answered, unusable (charged without a usable answer), refused (the provider says that it did no work), lost (unknown; stays reserved) or unsent.";
    Counter voucher_refusals_total [reason] Unit::One, "Vouchers that providers refused, by their code. invalid_nonce is one that does not rise: a second process signs, or an old backup is in use.";
    Counter voucher_corrections_total [outcome] Unit::One, "Times that a provider told other books than ours: adopted (what was unknown explains it), at_bound (it tells no books; what was unknown is booked whole) or unexplained (an offence; not paid).";

    Counter payments_total [protocol, outcome] Unit::One, "Payments without a channel, by what their server told: answered, failed (it took the money and gave no answer), no_receipt (an answer without a word on the money), lost (neither) or unsent.";
    Counter payments_resolved_total [outcome] Unit::One, "Payments without a channel of which the chain said what became of them: taken, or never_taken (their time is over, and budgets have them again).";
    Histogram payment_duration_seconds [protocol] THERE, "Time from sending a payment without a channel until its whole answer was there.";

    Gauge channels [wallet, state] Unit::One, "Channels that are recorded, by state. expired is open past its end, with money inside.";
    Gauge channel_deposit_usdc [wallet, provider] Unit::Usdc, "Deposits in channels that are not over, in USDC.";
    Gauge channel_signed_usdc [wallet, provider] Unit::Usdc, "The most that vouchers of channels that are not over let providers claim, in USDC.";
    Gauge channel_charged_usdc [wallet, provider] Unit::Usdc, "What requests on channels that are not over cost by our books, in USDC.";
    Gauge channel_claimed_usdc [wallet, provider] Unit::Usdc, "What providers have taken on chain from channels that are not over, in USDC.";
    Gauge channel_overhang_usdc [wallet, provider] Unit::Usdc, "Signed less charged of channels that are not over, in USDC: what providers could take without having worked for it.";
    Gauge channel_next_expiry_timestamp_seconds [wallet] Unit::One, "When the next open channel expires, in Unix seconds. Not there without one.";
    Gauge reclaimable_usdc [wallet] Unit::Usdc, "What expired channels hold beyond what was signed: it can be brought back now, in USDC. Left out is what is not worth its gas.";
    Counter spend_usdc_total [agent, provider] Unit::Usdc, "What requests were booked at since this process started, in USDC.";

    Gauge cap_limit_usdc [wallet, scope, name] Unit::Usdc, "An operator's limit in USDC. Scopes: hour, day, provider, agent and newcomers (newly signed; the last three in 24 hours), locked (deposits). The name is whose limit it is, all where it is everybody's.";
    Gauge cap_used_usdc [wallet, scope, name] Unit::Usdc, "What counts against the limit of the same labels now, in USDC.";
    Gauge cap_reserved_usdc [wallet, scope, name] Unit::Usdc, "Of what counts against the limit, the part whose outcome is not known yet: requests in flight; of locked, openings under way. In USDC.";
    Counter policy_decisions_total [decision, rule] Unit::One, "What was decided on vouchers, openings and transactions: allowed (rule none), refused, or ask_person, by the rule that decided; where that was none of the journal's, by the failure's code.";
    Gauge approvals_pending [wallet] Unit::One, "Questions that wait for a person.";
    Histogram approval_wait_seconds [via, outcome] PEOPLE, "Time from a question until a person's answer: approve or deny, at the terminal or the MCP client.";

    Gauge wallet_held [wallet] Unit::One, "1 while this process has the wallet and signs for it, 0 while another replica has it, or nobody.";
    Counter wallet_taken_total [wallet] Unit::One, "Times that this process got the wallet since it started.";
    Counter wallet_lost_total [wallet] Unit::One, "Times that another replica took the wallet over while this process still had it: it stood still, or was cut off from the journal's server, longer than the lease. One that is let go in order does not count.";

    Histogram journal_commit_duration_seconds [] HERE, "Time that a commit of the journal took, its sync to the disk included; on a server, the way there and back too.";
    Counter journal_reconnects_total [] Unit::One, "Times that the journal's server was reached anew, after a session broke off or nothing was heard of a commit.";
    Counter journal_errors_total [] Unit::One, "Operations that the journal could not record for a fault of disk or file. Signing has stopped when this rises.";

    Counter provider_requests_total [provider, outcome] Unit::One, "Paid requests that were sent: answered, refused, failed (an error with the voucher in hand), lost (no usable answer) or unreachable.";
    Histogram provider_request_duration_seconds [provider] THERE, "Time from sending a paid request until its whole answer was there.";
    Histogram provider_first_byte_seconds [provider] THERE, "Time from sending a paid request until the head of its answer was there.";
    Histogram provider_cost_to_bound_ratio [provider] PARTS, "What a request was booked at, as a part of what it was allowed to cost.";

    Counter rpc_requests_total [endpoint, outcome] Unit::One, "Requests to RPC endpoints: ok, reverted, refused (the node does not take it), unable (it has not this block, or not this range), wrong_chain or fault.";
    Histogram rpc_request_duration_seconds [endpoint] THERE, "Time that an RPC endpoint took to answer.";
    Gauge rpc_head_block [endpoint] Unit::One, "The newest block that an RPC endpoint told of.";
    Gauge watcher_last_block_timestamp_seconds [wallet] Unit::One, "Time of the newest block that the watcher saw, in Unix seconds. It looks only while something is there to watch: see drain_watcher_active.";
    Gauge watcher_active [wallet] Unit::One, "1 while the watcher reads the chain, 0 while it has nothing to watch.";
    Gauge chain_confirmed_block [] Unit::One, "The newest block that counts as final here.";
    Counter reorgs_total [] Unit::One, "Reorganisations that took back what was recorded as final.";
    Histogram reorg_depth_blocks [] BLOCKS, "How deep such a reorganisation was: blocks from the deepest recorded one that is gone to the newest final one.";

    Gauge wallet_usdc [wallet] Unit::Usdc, "The wallet's USDC, outside of channels.";
    Gauge wallet_pol [wallet] Unit::Pol, "The wallet's POL, for gas.";
    Gauge allowance_usdc [wallet, contract] Unit::Usdc, "What a channel contract may take from the wallet, in USDC. An allowance without bound is shown as 9223372036854.775.";
    Counter transactions_total [kind, outcome] Unit::One, "Transactions: sent, and how they ended: final, reverted or dropped. One that is replaced is dropped, and its replacement sent.";
    Gauge transaction_oldest_pending_seconds [wallet] Unit::One, "Age of the oldest transaction that is on its way; 0 without one.";
    Counter contract_admin_events_total [event] Unit::One, "What owners of the channel contracts did: fee_updated, usdc_updated, swept or ownership_renounced.";

    Counter actor_restarts_total [actor, cause] Unit::One, "Actors that were started anew: gone (it had stopped), or panic (a job broke off and the books were read again).";
    Gauge actor_mailbox_depth [actor] Unit::One, "What was asked of actors of this kind and is not answered yet, waiting and at work; of the journal, operations that wait. Actix does not tell a mailbox's own length.";
    Gauge actor_last_progress_timestamp_seconds [actor] Unit::One, "When an actor of this kind last answered or looked, in Unix seconds. Old is bad only where something waits.";

    Counter mcp_requests_total [tool, outcome] Unit::One, "Calls of tools and resources: ok, ask (a person is asked), or the code of the failure.";
    Histogram mcp_request_duration_seconds [tool] THERE, "Time that a call took.";
    Counter requests_forwarded_total [outcome] Unit::One, "Agents' requests that were passed on to the replica that has their wallet: answered, not_begun (surely not begun there, and tried again) or unknown (it broke off; nobody here knows what became of it).";
    Gauge mcp_sessions [transport] Unit::One, "Clients that are connected: stdio, http, or socket (another process that shares this one's wallet).";
}

/// The one set of this process.
#[expect(clippy::expect_used, reason = "made of the constants above: a test makes it, and no input reaches it")]
pub(super) static FAMILIES: LazyLock<Families> = LazyLock::new(|| Families::new().expect("the table is well formed"));

/// What is shown.
#[expect(clippy::expect_used, reason = "as above")]
pub(super) static REGISTRY: LazyLock<Registry> =
    LazyLock::new(|| FAMILIES.registered().expect("each name stands once"));
