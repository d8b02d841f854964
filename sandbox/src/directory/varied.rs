//! A catalogue as large and as mixed as the live one, of providers that nobody reaches: what a list looks like, and weighs.

use alloy::primitives::{Address, keccak256};
use serde_json::Map;

use super::Listing;
use crate::provider::Model;

/// Name, category and models of a kind of provider; prices in base units per 1000 tokens, or per request with output zero.
type Line = (&'static str, &'static str, &'static [(&'static str, u64, u64)]);

const LINES: [Line; 13] = [
    ("OpenAI Direct", "llm", &[("gpt-4o", 3_750, 15_000), ("gpt-4o-mini", 225, 900), ("o3-mini", 1_650, 6_600)]),
    (
        "Chutes DeepSeek",
        "llm",
        &[("deepseek-ai/DeepSeek-V3-0324", 400, 1_350), ("deepseek-ai/DeepSeek-R1", 825, 3_285)],
    ),
    ("Claude Relay", "llm", &[("claude-sonnet-4.5", 4_500, 22_500), ("claude-haiku-4.5", 1_500, 7_500)]),
    ("Groq Turbo", "llm", &[("llama-3.3-70b-versatile", 885, 1_185), ("llama-3.1-8b-instant", 75, 120)]),
    ("Mistral Europe", "llm", &[("mistral-large-2411", 3_000, 9_000), ("mistral-small-latest", 150, 450)]),
    ("Serper Search", "search", &[("serper/search", 5_000, 0), ("serper/news", 5_000, 0)]),
    ("Desearch AI", "search", &[("desearch/web", 7_500, 0)]),
    ("FLUX Images", "image", &[("black-forest-labs/FLUX.1-dev", 20_000, 0)]),
    ("Whisper Audio", "audio", &[("whisper-large-v3", 6_000, 0)]),
    ("Scrape Ninja", "scraping", &[("scrape/page", 3_000, 0), ("scrape/screenshot", 8_000, 0)]),
    ("Numinous Forecast", "data", &[("numinous/forecast", 50_000, 0)]),
    ("E2B Sandbox", "code", &[("e2b/run-python", 12_000, 0)]),
    ("Video Forge", "video", &[("forge/text-to-video", 900_000, 0)]),
];

/// So many listings, always the same ones: ids as the marketplace makes them, every twentieth offline, no two alike.
pub fn varied(count: usize) -> Vec<Listing> {
    (0..count).map(listing).collect()
}

fn listing(number: usize) -> Listing {
    let (name, category, models) = LINES[number % LINES.len()];
    let seed = keccak256(number.to_be_bytes());
    let (round, percent) = (number / LINES.len(), u64::from(seed[0]) % 40);
    let dearer = |units: u64| units + units * percent / 100;
    let name = if round == 0 { name.to_owned() } else { format!("{name} {}", round + 1) };
    let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let end: String = seed[1..7].iter().map(|byte| char::from(digits[usize::from(*byte) % digits.len()])).collect();
    Listing {
        id: format!("prov_{}_{end}", 1_772_323_200_000 + number * 86_477),
        description: format!(
            "{name} sells {category} by the request, with an uptime of 99.9 percent and a fair price."
        ),
        name,
        api_url: format!("https://provider-{number}.example"),
        wallet: Address::from_slice(&seed[12..]).to_string(),
        chain_id: 137,
        category: category.into(),
        protocol: "drain".into(),
        tier: if number.is_multiple_of(3) { "bittensor" } else { "community" }.into(),
        score: 0.42,
        quality: f64::from(seed[7] % 101) / 100.0,
        min_duration: Some(300),
        max_duration: Some(2_592_000),
        online: number % 20 != 19,
        latency_ms: 80 + u64::from(seed[8]) * 10,
        models: models.iter().map(|(id, input, output)| Model::new(*id, dearer(*input), dearer(*output))).collect(),
        mpp_endpoint: None,
        mpp_type: None,
        omit: Vec::new(),
        extra: Map::new(),
    }
}
