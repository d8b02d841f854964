//! Fees, closes, costs, estimates.

use drain_protocol::Usdc;
use drain_protocol::chat::{self, Message, PREAUTH_OUTPUT_TOKENS};
use drain_protocol::contract::claim_fee;
use drain_protocol::pricing::{Price, largest_max_tokens, price_decimal, request_bound};

use super::{Vectors, keys, text, usdc};

fn bps(value: &serde_json::Value) -> u64 {
    text(value, "feeBps").parse().unwrap()
}

pub fn claim_fees(v: &mut Vectors) {
    for entry in v.list("claimFeeMaths") {
        keys(&entry, &["payout", "feeBps", "fee", "net"]);
        let payout = usdc(&entry, "payout");
        let fee = claim_fee(payout, bps(&entry));
        v.same("fee", fee, usdc(&entry, "fee"));
        v.same("net", payout.checked_sub(fee), Some(usdc(&entry, "net")));
    }
}

pub fn cooperative_closes(v: &mut Vectors) {
    for entry in v.list("cooperativeCloseMaths") {
        keys(
            &entry,
            &[
                "deposit",
                "claimed",
                "finalAmount",
                "feeBps",
                "payout",
                "fee",
                "providerReceives",
                "consumerRefund",
                "totalLockedDelta",
                "events",
            ],
        );
        let (deposit, claimed) = (usdc(&entry, "deposit"), usdc(&entry, "claimed"));
        let end = usdc(&entry, "finalAmount");
        let payout = end.checked_sub(claimed).unwrap();
        let fee = claim_fee(payout, bps(&entry));
        v.same("payout", payout, usdc(&entry, "payout"));
        v.same("fee", fee, usdc(&entry, "fee"));
        v.same("to the provider", payout.checked_sub(fee), Some(usdc(&entry, "providerReceives")));
        v.same("back", deposit.checked_sub(end), Some(usdc(&entry, "consumerRefund")));
        let unlocked = format!("-{}", deposit.checked_sub(claimed).unwrap().units());
        v.same("unlocked", unlocked.as_str(), text(&entry, "totalLockedDelta"));
        let mut events = vec!["ChannelClosed"];
        if !payout.is_zero() {
            events.insert(0, "ChannelClaimed");
        }
        if !fee.is_zero() {
            events.insert(0, "FeePaid");
        }
        v.same("events", serde_json::json!(events), entry["events"].clone());
    }
}

pub fn provider_costs(v: &mut Vectors) {
    for entry in v.list("providerCostMaths") {
        keys(
            &entry,
            &["inputPer1k", "outputPer1k", "inputTokens", "outputTokens", "costSumThenFloor", "costFloorEach"],
        );
        let count = |key: &str| entry[key].as_u64().unwrap();
        let amount = |key: &str| Usdc::from_units(count(key)).unwrap();
        let price = Price::per_1k(amount("inputPer1k"), amount("outputPer1k"));
        let (input, output) = (count("inputTokens"), count("outputTokens"));
        v.same("cost", price.cost(input, output), usdc(&entry, "costSumThenFloor"));
        v.same("cost, each rounded", price.cost_floor_each(input, output), usdc(&entry, "costFloorEach"));
        v.holds("bound", price.bound(input, output) >= price.cost(input, output));
    }
}

pub fn estimates(v: &mut Vectors) {
    for entry in v.list("upstreamClientEstimates") {
        keys(
            &entry,
            &[
                "messages",
                "inputPer1kTokens",
                "outputPer1kTokens",
                "maxTokens",
                "clientInputTokens",
                "clientOutputTokens",
                "upstreamClientEstimateUsdc",
                "upstreamClientEstimateUnits",
                "providerJsonChars",
                "providerPreauthInputTokens",
                "providerPreauthUnits_sumThenFloor",
                "upstreamVoucherAccepted",
                "pythonProviderJsonChars",
                "pythonProviderPreauthInputTokens",
            ],
        );
        let count = |key: &str| entry[key].as_u64().unwrap();
        let messages: Vec<Message> = chat::parse_messages(&entry["messages"], 100_000).unwrap();
        let price = Price::read(&entry).unwrap();
        let preauth_output = u64::from(PREAUTH_OUTPUT_TOKENS);

        // What providers count.
        let (chars, python_chars) = (chat::json_chars(&messages), chat::python_json_chars(&messages));
        v.same("characters", chars, count("providerJsonChars"));
        v.same("characters in Python", python_chars, count("pythonProviderJsonChars"));
        v.same("tokens", chars.div_ceil(4), count("providerPreauthInputTokens"));
        v.same("tokens in Python", python_chars.div_ceil(4), count("pythonProviderPreauthInputTokens"));
        v.same("ours is the longer", chat::preauth_input_tokens(&messages), chars.max(python_chars).div_ceil(4));
        let preauth = price.cost(chars.div_ceil(4), preauth_output);
        v.same("pre-authorisation", preauth, usdc(&entry, "providerPreauthUnits_sumThenFloor"));

        // What upstream's client promises, and whether that is enough.
        let content: usize = messages.iter().map(|message| message.content.encode_utf16().count()).sum();
        v.same("upstream's input", (content as u64).div_ceil(4), count("clientInputTokens"));
        let output = entry["maxTokens"].as_u64().unwrap_or(500);
        v.same("upstream's output", output, count("clientOutputTokens"));
        let thousandths = match price {
            Price::PerToken { input_per_1k, output_per_1k } => {
                count("clientInputTokens") * input_per_1k.units() + output * output_per_1k.units()
            }
            Price::Flat(price) => price.units() * 1_000,
            Price::Free => 0,
        };
        // Times 1.2, rounded to the nearest unit.
        let estimate = Usdc::from_units((thousandths * 12 + 5_000) / 10_000).unwrap();
        v.same("upstream's estimate", estimate, usdc(&entry, "upstreamClientEstimateUnits"));
        v.same("the same in USDC", Some(estimate), price_decimal(text(&entry, "upstreamClientEstimateUsdc")));
        v.same("accepted", estimate >= preauth, entry["upstreamVoucherAccepted"].as_bool().unwrap());

        // What ours promises is enough for both kinds of provider, for any wish and for the least that fits.
        let python_preauth = price.cost(python_chars.div_ceil(4), preauth_output);
        for max_tokens in [0, 10, 50, u32::try_from(output).unwrap(), 100_000] {
            let bound = request_bound(&price, &messages, max_tokens);
            v.holds("our bound covers", bound >= preauth && bound >= python_preauth);
        }
        let least = request_bound(&price, &messages, 0);
        v.holds("the least fits", largest_max_tokens(&price, &messages, least).is_some());
    }
}
