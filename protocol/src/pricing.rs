//! What a request costs: a provider's price list and its arithmetic (protocol.md sections 5.2 and 7).

use std::collections::BTreeMap;
use std::fmt;

use alloy::primitives::Address;
use serde_json::Value;

use crate::chat::{Message, PREAUTH_OUTPUT_TOKENS, input_tokens_upper};
use crate::shape::{self, ShapeError};
use crate::text::{is_unclean, quoted};
use crate::usdc::Usdc;

/// Models of one price list at most; the rest is dropped and counted.
pub const MAX_MODELS: usize = 5_000;
/// Characters of a model's id at most.
pub(crate) const MAX_MODEL_ID: usize = 200;

/// How a model is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// By token, each price in USDC per 1000 tokens.
    PerToken {
        /// USDC per 1000 input tokens.
        input_per_1k: Usdc,
        /// USDC per 1000 output tokens; not zero when read from a list.
        output_per_1k: Usdc,
    },
    /// USDC per request: a list says so with output price zero and input price above zero.
    Flat(Usdc),
    /// Both prices zero.
    Free,
}

/// Thousandths of base units that tokens cost. Below 2^128 for every input: amounts have 63 bits, counts 64.
fn thousandths(input: (u64, Usdc), output: (u64, Usdc)) -> u128 {
    u128::from(input.0) * u128::from(input.1.units()) + u128::from(output.0) * u128::from(output.1.units())
}

fn saturated(units: u128) -> Usdc {
    u64::try_from(units).ok().and_then(Usdc::from_units).unwrap_or(Usdc::MAX)
}

impl Price {
    /// From the two prices per 1000 tokens of a list.
    pub fn per_1k(input_per_1k: Usdc, output_per_1k: Usdc) -> Self {
        match (input_per_1k.is_zero(), output_per_1k.is_zero()) {
            (true, true) => Self::Free,
            (false, true) => Self::Flat(input_per_1k),
            _ => Self::PerToken { input_per_1k, output_per_1k },
        }
    }

    /// The most that so many tokens can cost, whatever way the provider rounds: summed, then rounded up; at most
    /// [`Usdc::MAX`].
    pub fn bound(&self, input_tokens: u64, output_tokens: u64) -> Usdc {
        match *self {
            Self::PerToken { input_per_1k, output_per_1k } => {
                saturated(thousandths((input_tokens, input_per_1k), (output_tokens, output_per_1k)).div_ceil(1_000))
            }
            Self::Flat(price) => price,
            Self::Free => Usdc::ZERO,
        }
    }

    /// What most providers charge for so many tokens: summed, then rounded down; at most [`Usdc::MAX`].
    pub fn cost(&self, input_tokens: u64, output_tokens: u64) -> Usdc {
        match *self {
            Self::PerToken { input_per_1k, output_per_1k } => {
                saturated(thousandths((input_tokens, input_per_1k), (output_tokens, output_per_1k)) / 1_000)
            }
            Self::Flat(price) => price,
            Self::Free => Usdc::ZERO,
        }
    }

    /// What some providers charge: each part rounded down, then summed (at most one unit less than [`Price::cost`]).
    pub fn cost_floor_each(&self, input_tokens: u64, output_tokens: u64) -> Usdc {
        match self {
            Self::PerToken { .. } => self.cost(input_tokens, 0).saturating_add(self.cost(0, output_tokens)),
            _ => self.cost(input_tokens, output_tokens),
        }
    }

    /// Reads the price of a model object: `inputPer1kTokens` and `outputPer1kTokens`, or the older `inputCostPer1k`
    /// and `outputCostPer1k`. `None` unless both are there and are amounts.
    pub fn read(model: &Value) -> Option<Self> {
        let amount = |keys: [&str; 2]| {
            let value = keys.iter().find_map(|key| model.get(key).filter(|value| !value.is_null()))?;
            price_decimal(&shape::scalar(value)?)
        };
        Some(Self::per_1k(
            amount(["inputPer1kTokens", "inputCostPer1k"])?,
            amount(["outputPer1kTokens", "outputCostPer1k"])?,
        ))
    }
}

impl fmt::Display for Price {
    /// `0.000225 in / 0.0009 out per 1k tokens`, `0.005 per request`, `free`; in USDC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::PerToken { input_per_1k, output_per_1k } => {
                format!("{input_per_1k} in / {output_per_1k} out per 1k tokens")
            }
            Self::Flat(price) => format!("{price} per request"),
            Self::Free => "free".to_owned(),
        })
    }
}

/// A price as lists write it: a decimal number of USDC, also with an exponent as JSON numbers have one. More than six
/// decimals round up, so that a bound stays a bound.
pub fn price_decimal(text: &str) -> Option<Usdc> {
    const DECIMALS: i32 = 6;
    let text = text.trim();
    if text.len() > 100 {
        return None;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok().filter(|e| (-1_000..=1_000).contains(e))?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let shift = exponent + DECIMALS - i32::try_from(fraction.len()).ok()?;
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(Usdc::ZERO);
    }
    let distance = usize::try_from(shift.unsigned_abs()).ok()?;
    let units = if shift >= 0 {
        // More than 20 digits are more than there is; no need to write them all.
        format!("{digits}{}", "0".repeat(distance.min(20))).parse::<u64>().ok()?
    } else {
        let (kept, dropped) = digits.split_at(digits.len().saturating_sub(distance));
        let kept = if kept.is_empty() { 0 } else { kept.parse::<u64>().ok()? };
        kept.checked_add(u64::from(dropped.bytes().any(|b| b != b'0')))?
    };
    Usdc::from_units(units)
}

/// A model's entry in a price list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPrice {
    /// How it is billed.
    pub price: Price,
    /// USDC per run, where the list repeats the flat price under this name.
    pub price_per_run: Option<Usdc>,
    /// The provider's words, sanitised and bounded.
    pub description: Option<String>,
}

/// A provider's `GET /v1/pricing` (protocol.md section 5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceList {
    /// The provider's wallet.
    pub provider: Option<Address>,
    /// The provider's name, sanitised; some send none.
    pub provider_name: String,
    /// The chain it is paid on.
    pub chain_id: Option<u64>,
    /// By the provider's own id of the model.
    pub models: BTreeMap<String, ModelPrice>,
    /// Entries that could not be read, or were too many.
    pub skipped: usize,
}

impl PriceList {
    /// Reads a price list. An entry without two readable prices is dropped and counted, never guessed.
    pub fn parse(body: &[u8]) -> Result<Self, ShapeError> {
        const WHAT: &str = "the price list";
        let list = shape::json(WHAT, body)?;
        let Some(entries) = list.get("models").and_then(Value::as_object) else {
            let said = shape::error_text(&list)
                .map_or_else(|| "it has no object \"models\"".into(), |said| format!("it says {}", quoted(&said, 300)));
            return Err(ShapeError::new(WHAT, said));
        };
        let mut models = BTreeMap::new();
        let mut skipped = 0;
        for (id, entry) in entries {
            match Price::read(entry) {
                Some(price) if models.len() < MAX_MODELS && !is_unclean(id, MAX_MODEL_ID) => {
                    let price_per_run = entry.get("pricePerRun").and_then(shape::scalar);
                    let model = ModelPrice {
                        price,
                        price_per_run: price_per_run.and_then(|text| price_decimal(&text)),
                        description: shape::line(entry, "description", 500),
                    };
                    models.insert(id.clone(), model);
                }
                _ => skipped += 1,
            }
        }
        Ok(Self {
            provider: list.get("provider").and_then(Value::as_str).and_then(|text| text.trim().parse().ok()),
            provider_name: shape::line(&list, "providerName", 200).unwrap_or_default(),
            chain_id: list.get("chainId").and_then(shape::whole),
            models,
            skipped,
        })
    }
}

/// The most a request can cost (design.md section 4): by token, input from above and at least the output tokens that
/// the provider wants covered; else the price.
pub fn request_bound(price: &Price, messages: &[Message], max_tokens: u32) -> Usdc {
    price.bound(input_tokens_upper(messages), u64::from(max_tokens.max(PREAUTH_OUTPUT_TOKENS)))
}

/// The largest `max_tokens` whose [`request_bound`] fits into `budget` (below [`Usdc::MAX`]); `None` when not even the
/// provider's 50 output tokens do. `u32::MAX` where output costs nothing.
pub fn largest_max_tokens(price: &Price, messages: &[Message], budget: Usdc) -> Option<u32> {
    if request_bound(price, messages, 0) > budget {
        return None;
    }
    let Price::PerToken { input_per_1k, output_per_1k } = *price else { return Some(u32::MAX) };
    let input = thousandths((input_tokens_upper(messages), input_per_1k), (0, output_per_1k));
    let left = (u128::from(budget.units()) * 1_000).saturating_sub(input);
    match left.checked_div(u128::from(output_per_1k.units())) {
        Some(tokens) => Some(u32::try_from(tokens).unwrap_or(u32::MAX)),
        None => Some(u32::MAX),
    }
}

#[cfg(test)]
#[path = "pricing_tests.rs"]
mod tests;
