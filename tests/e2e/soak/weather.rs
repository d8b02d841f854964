//! What goes wrong around an agent: one thing after another, counted by kind.

use drain_sandbox::chain::{Endpoint, FailKind, ReorgTxs};
use drain_sandbox::provider::{CloseAmount, CloseSignature, Correction, Faults, ForgedHeaders, Times};

use super::{Dice, Tally};
use crate::harness::World;

/// A kind of fault.
pub type Kind = &'static str;

/// Everything that goes wrong.
pub const KINDS: [Kind; 34] = [
    "provider: overcharge",
    "provider: total too high",
    "provider: tokens inflated",
    "provider: arrears insisted on",
    "provider: forged correction",
    "provider: forged cost",
    "provider: no figures",
    "provider: totals double count",
    "provider: 500 after the voucher",
    "provider: 500, voucher kept",
    "provider: refuses after the work",
    "provider: hangs",
    "provider: cut before the answer",
    "provider: cut in the answer",
    "provider: empty or HTML answer",
    "provider: endless answer",
    "provider: redirect",
    "provider: nonce refused",
    "provider: channel not found",
    "provider: books lost",
    "provider: down",
    "provider: close inflated",
    "provider: close by another key",
    "provider: close fails",
    "provider: claims",
    "node: dropped transaction",
    "node: reverted transaction",
    "node: lagging reads",
    "node: failing",
    "node: hanging",
    "node: forged receipt",
    "chain: hours pass",
    "directory: down or malformed",
    "chain: reorg",
];

/// The nodes that the agent uses.
pub struct Nodes<'a> {
    /// The chain's main endpoint and a second one.
    pub endpoints: [&'a Endpoint; 2],
}

/// Good weather.
pub fn clear(world: &World, nodes: &Nodes<'_>) {
    let sandbox = &world.sandbox;
    for provider in [&sandbox.llm, &sandbox.data, &sandbox.image, &sandbox.v1] {
        provider.reset_faults();
        provider.set_down(false);
    }
    sandbox.directory.set(|faults| *faults = Default::default());
    for endpoint in nodes.endpoints {
        endpoint.update_faults(|faults| *faults = Default::default());
    }
    world.chain().revert_next(0);
}

/// One change of the weather.
pub async fn turn(world: &World, nodes: &Nodes<'_>, dice: &mut Dice, tally: &mut Tally) -> Kind {
    let kind = dice.one_of(&KINDS);
    let sandbox = &world.sandbox;
    let provider = dice.one_of(&[&sandbox.llm, &sandbox.data, &sandbox.image, &sandbox.v1]);
    let chain = world.chain();
    match kind {
        "provider: books lost" => provider.lose_books(),
        "provider: down" => provider.set_down(true),
        "provider: claims" => drop(provider.claim_all().await),
        "chain: hours pass" => chain.advance(600 + dice.below(3 * 3_600)),
        "chain: reorg" => {
            let transactions = match dice.below(3) {
                0 => ReorgTxs::Drop,
                1 => ReorgTxs::Requeue,
                _ => ReorgTxs::Remine { shift: 1 + dice.below(5) },
            };
            chain.reorg(1 + dice.below(super::fleet::FINALITY), transactions);
            tally.reorgs += 1;
        }
        "node: reverted transaction" => chain.revert_next(1),
        "directory: down or malformed" => {
            let which = dice.below(3);
            sandbox.directory.set(|faults| {
                (faults.down, faults.malformed, faults.huge) =
                    (which == 0, which == 1, (which == 2).then_some(64 << 20));
            });
        }
        _ if kind.starts_with("node: ") => {
            let endpoint = dice.one_of(&nodes.endpoints);
            endpoint.update_faults(|faults| match kind {
                "node: dropped transaction" => faults.drop_next = 1,
                "node: lagging reads" => faults.lagging_reads = 5,
                "node: failing" => (faults.fail_next, faults.fail_kind) = (20, FailKind::RpcError),
                "node: hanging" => faults.hang = true,
                // Of one node alone: a person configures several for this.
                _ => faults.forged_receipt = Some(drain_sandbox::chain::ForgedReceipt::Failure),
            });
        }
        // Whichever is closed next.
        _ if kind.starts_with("provider: close") => {
            for provider in [&sandbox.llm, &sandbox.data, &sandbox.image] {
                provider.set(|faults| misbehave(kind, faults));
            }
        }
        _ => provider.set(|faults| misbehave(kind, faults)),
    }
    *tally.faults.entry(kind).or_default() += 1;
    kind
}

fn misbehave(kind: Kind, faults: &mut Faults) {
    let soon = Times::next(2);
    match kind {
        "provider: overcharge" => faults.overcharge = 700,
        "provider: total too high" => faults.overcharge_total = 100_000,
        "provider: tokens inflated" => faults.inflated_usage = 50,
        "provider: arrears insisted on" => faults.insist_arrears = 3_000,
        "provider: forged correction" => {
            faults.forged_correction = Some(Correction { provided: "1".into(), required: "900000".into() });
        }
        "provider: forged cost" => {
            faults.forged_headers = ForgedHeaders { cost: Some("123456789".into()), ..ForgedHeaders::default() };
        }
        "provider: no figures" => faults.forged_headers = ForgedHeaders { omit: true, ..ForgedHeaders::default() },
        "provider: totals double count" => faults.double_count_totals = true,
        "provider: 500 after the voucher" => faults.fail_500 = soon,
        "provider: 500, voucher kept" => (faults.fail_500, faults.keep_voucher_on_failure) = (soon, true),
        "provider: refuses after the work" => faults.post_check_failure = soon,
        "provider: hangs" => faults.hang = Times::next(1),
        "provider: cut before the answer" => faults.cut_before_answer = soon,
        "provider: cut in the answer" => faults.cut_mid_body = soon,
        "provider: empty or HTML answer" => {
            (faults.empty_answer, faults.html_answer) = (Times::next(1), Times::next(2))
        }
        "provider: endless answer" => faults.endless_body = Times::next(1),
        "provider: redirect" => faults.redirect = Some((307, "http://127.0.0.1:1/".into())),
        "provider: nonce refused" => faults.invalid_nonce = Times::next(1),
        "provider: channel not found" => faults.channel_not_found = Times::next(1),
        "provider: close inflated" => faults.close_amount = CloseAmount::Plus(50_000),
        "provider: close by another key" => faults.close_signature = CloseSignature::WrongSigner,
        "provider: close fails" => faults.close_500 = soon,
        other => panic!("{other}"),
    }
}
