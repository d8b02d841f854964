//! Choosing among many providers: what a list weighs, how it is sorted, filtered and paged, and what its short ids mean.

use drain_mcp::api::{Job, ProviderQuery, Sort};
use drain_mcp::error::Code;
use drain_mcp::policy::FleetAgent;
use drain_sandbox::directory::varied;
use serde_json::{Value, json};

use crate::harness::{World, ask, in_system, open, unspent, usdc};
use crate::process_harness::{Agent, Env, Greeting, world};

/// Most tokens of a list of 65 providers.
const MOST: usize = 1_500;

fn tokens(text: &str) -> usize {
    tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len()
}

/// The first cells of a table's rows.
fn column(data: &Value, at: usize) -> Vec<String> {
    let rows = data["rows"].as_array().unwrap_or_else(|| panic!("no rows: {data}"));
    rows.iter().map(|row| row[at].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_five_providers_weigh_less_than_1500_tokens() {
    let world = world().await;
    *world.sandbox.directory.listings() = varied(65);
    let env = Env::of(&world);
    let mut agent = Agent::start(&env, Greeting::Lines("2025-11-25")).await;
    let all = agent.ok("drain_providers", json!({})).await;
    let (text, data) = (tokens(&all.text), tokens(&all.data.to_string()));
    println!("65 providers: {text} tokens of text, {data} of structured content");
    assert!(text < MOST && data < MOST, "{text} and {data}");
    assert_eq!((column(&all.data, 0).len(), &all.data["matched"]), (65, &json!(65)));
    // What does not work comes last, and is told.
    assert_eq!(column(&all.data, 4)[62..], ["OFFLINE"; 3], "{}", all.data);
    assert!(tokens(&agent.read("drain://providers").await) < MOST);
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_sorted_filtered_and_paged_for_a_described_request() {
    let world = world().await;
    world.sandbox.directory.listings().extend(varied(65));
    let mut agent = Agent::start(&Env::of(&world), Greeting::Discover).await;

    // Page by page, each provider once.
    let mut seen = Vec::new();
    let mut page = 1;
    loop {
        let shown = agent.ok("drain_providers", json!({ "limit": 20, "page": page })).await;
        seen.extend(column(&shown.data, 0));
        match shown.data["next_page"].as_u64() {
            Some(next) => assert!(shown.text.contains(&format!("with page {next}")), "{}", shown.text),
            None => break,
        }
        page += 1;
    }
    assert_eq!((page, seen.len()), (4, 69));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 69);
    let beyond = agent.ok("drain_providers", json!({ "page": 9 })).await;
    assert!(column(&beyond.data, 0).is_empty() && beyond.text.contains("page 1"), "{}", beyond.text);

    // 10,000 tokens in at 225 and 2,000 out at 900 a thousand.
    let job = json!({ "model": "sim-small", "inputTokens": 10_000, "outputTokens": 2_000 });
    let priced = agent.ok("drain_providers", job).await;
    assert_eq!(priced.data["rows"][0], json!(["sim-llm", "Sim-LLM", "llm", "0.00405", "sim-small"]));
    assert!(priced.text.contains("10000 tokens in, 2000 out"), "{}", priced.text);

    let by_price = agent.ok("drain_providers", json!({ "sort": "price", "maxPrice": "0.005" })).await;
    let costs: Vec<_> = column(&by_price.data, 3).iter().map(|cost| usdc(cost)).collect();
    let offline = column(&by_price.data, 5).iter().filter(|note| note.contains("OFFLINE")).count();
    let works = costs.len() - offline;
    assert!(works > 5 && costs[..works].is_sorted() && costs.iter().all(|cost| *cost <= usdc("0.005")), "{costs:?}");

    let image = agent.ok("drain_providers", json!({ "category": "image", "sort": "price" })).await;
    assert!(column(&image.data, 2).iter().all(|category| category == "image") && image.data["matched"] == 6);

    // Not what every service means by a price.
    world.sandbox.directory.change("sim-image", |listing| listing.models[0].output = 5);
    let unknown = agent.ok("drain_providers", json!({ "model": "sim/image" })).await;
    assert_eq!(unknown.data["rows"][0][3], "?");
    let none = agent.ok("drain_providers", json!({ "model": "sim/image", "maxPrice": "100" })).await;
    assert_eq!(none.data["matched"], 0, "what is not known is not below a price");

    let full = agent.ok("drain_providers", json!({ "format": "full", "limit": 9, "sort": "latency" })).await;
    let fast: Vec<u64> =
        full.data["providers"].as_array().unwrap().iter().map(|p| p["latency_ms"].as_u64().unwrap()).collect();
    assert!(fast.len() == 9 && fast.is_sorted(), "{fast:?}");
    assert!(full.text.contains(&format!("{} ms", fast[0])) && full.text.contains("prov_"), "{}", full.text);

    let numbers = async |agent: &mut Agent, arguments: Value, field: &str| -> Vec<u64> {
        let full = agent.ok("drain_providers", arguments).await;
        full.data["providers"].as_array().unwrap().iter().map(|p| p[field].as_u64().unwrap()).collect()
    };
    let wish = json!({ "format": "full", "limit": 100, "maxLatencyMs": 500 });
    let fast = numbers(&mut agent, wish, "latency_ms").await;
    assert!(fast.len() > 4 && fast.iter().all(|ms| *ms <= 500), "{fast:?}");
    let wish = json!({ "format": "full", "limit": 100, "minQuality": 90, "sort": "quality" });
    let good = numbers(&mut agent, wish, "quality").await;
    assert!(good.len() > 2 && good.iter().all(|quality| *quality >= 90), "{good:?}");
    let known = agent.ok("drain_providers", json!({ "minScore": 1 })).await;
    assert_eq!(known.data["matched"], 0, "nobody was paid");

    for (bad, about) in [
        (json!({ "sort": "cheapest" }), "sort"),
        (json!({ "minQuality": 101 }), "minQuality"),
        (json!({ "maxLatencyMs": 0 }), "maxLatencyMs"),
        (json!({ "page": 0 }), "page"),
        (json!({ "inputTokens": -1 }), "inputTokens"),
        (json!({ "maxPrice": "-1" }), "maxPrice"),
    ] {
        let refused = agent.fails("drain_providers", bad, "invalid_argument").await;
        assert!(refused.text.contains(about), "{}", refused.text);
    }
    agent.leave().await;
}

#[test]
fn our_own_record_and_the_directorys_word_are_told_apart() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        world.sandbox.directory.change("sim-llm", |listing| (listing.quality, listing.latency_ms) = (0.1, 900));
        world.sandbox.directory.change("sim-image", |listing| listing.quality = 0.99);
        let first = async |sort| {
            let page = runtime.providers(ProviderQuery { sort, ..ProviderQuery::default() }).await.unwrap();
            page.providers.into_iter().next().unwrap()
        };
        let channel = open(&runtime, "sim-llm-v1", "1", "24h").await.unwrap();
        assert_eq!(first(Sort::Default).await.id, "sim-llm", "the directory's order, where nothing is known");
        for _ in 0..10 {
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        }
        for sort in [Sort::Default, Sort::Record] {
            let known = first(sort).await;
            let score = known.standing.and_then(|standing| standing.score);
            assert_eq!((known.id.as_str(), score), ("sim-llm-v1", Some(100)), "{sort:?}");
        }
        let query = ProviderQuery { min_score: Some(1), ..ProviderQuery::default() };
        assert_eq!(runtime.providers(query).await.unwrap().matched, 1, "whom we know");
        // The record is made of all agents' requests: one of a fleet sees none of it, not even by the order.
        let limits = runtime.config().limits.clone();
        let agent = runtime.for_agent(FleetAgent { name: "ann".into(), limits, share: false });
        let page = agent.providers(ProviderQuery { sort: Sort::Record, ..ProviderQuery::default() }).await.unwrap();
        assert!(page.providers[0].id == "sim-llm" && page.providers.iter().all(|known| known.standing.is_none()));
        let best = first(Sort::Quality).await;
        assert_eq!((best.id.as_str(), best.quality, best.standing), ("sim-image", Some(99), None));
        // The other scale.
        for id in ["sim-llm", "sim-image", "sim-weather", "sim-llm-v1"] {
            world.sandbox.directory.change(id, |listing| listing.quality = 61.0);
        }
        world.sandbox.directory.change("sim-weather", |listing| listing.quality = 93.4);
        let best = first(Sort::Quality).await;
        assert_eq!((best.id.as_str(), best.quality), ("sim-weather", Some(93)));
        let slow = runtime.providers(ProviderQuery { sort: Sort::Latency, ..ProviderQuery::default() }).await.unwrap();
        assert_eq!(slow.providers.last().unwrap().latency_ms, Some(900));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_sorts_prices_and_pages_too() {
    let world = world().await;
    world.sandbox.directory.listings().extend(varied(65));
    let env = Env::of(&world);
    let args =
        ["--sort", "price", "--input-tokens", "2000", "--output-tokens", "100", "--max-price", "0.01", "--online"];
    let args: Vec<&str> = ["providers", "--json", "--limit", "5"].into_iter().chain(args).collect();
    let page = env.run(&args).await.ok_json();
    let cost = |provider: &Value| usdc(provider["offer"]["cost"].as_str().unwrap());
    let costs: Vec<_> = page["providers"].as_array().unwrap().iter().map(cost).collect();
    assert!(costs.len() == 5 && costs.is_sorted() && costs[4] <= usdc("0.01"), "{costs:?}");
    assert_eq!((&page["page"], &page["next_page"]), (&json!(1), &json!(2)));
    let next = env.run(&[&args[..], &["--page", "2"]].concat()).await.ok_json();
    assert!(cost(&next["providers"][0]) >= costs[4] && next["providers"][0]["id"] != page["providers"][4]["id"]);
    // For people: whole ids, which a command takes as it takes the short ones.
    let shown = env.run(&["providers", "--limit", "1"]).await;
    assert!(shown.stdout.contains("sim-llm") && shown.stdout.contains("more with --page 2"), "{shown:?}");
    world.sandbox.directory.change("sim-llm", |listing| listing.id = "prov_1772323200000_ab12cd".into());
    let one = env.run(&["providers", "@ab12cd", "--json"]).await.ok_json();
    assert_eq!(one["listing"]["id"], "prov_1772323200000_ab12cd");
}

/// M14: a short id pays the provider that it was shown for, or nobody.
#[test]
fn m14_a_short_id_pays_the_provider_that_it_was_shown_for_or_nobody() {
    const OURS: &str = "prov_1772323200000_ab12cd";
    in_system(async {
        let world = World::start().await;
        let directory = &world.sandbox.directory;
        directory.change("sim-llm", |listing| listing.id = OURS.into());
        let runtime = world.runtime().await;
        let short = async || {
            let page = runtime.providers(ProviderQuery { model: Some("sim-small".into()), ..ProviderQuery::default() });
            page.await.unwrap().providers[0].short_id.clone()
        };
        assert_eq!(short().await, "@ab12cd");
        assert_eq!(runtime.provider("@ab12cd").await.unwrap().listing.id, OURS);
        unspent(open(&runtime, "@b12cd", "1", "24h").await, Code::InvalidArgument);
        unspent(open(&runtime, "@zzzzzz", "1", "24h").await, Code::UnknownProvider);
        // A name is its provider's choice: it means nobody.
        unspent(open(&runtime, "Sim-LLM", "1", "24h").await, Code::UnknownProvider);

        let channel = open(&runtime, "@ab12cd", "1", "24h").await.unwrap();
        assert_eq!(runtime.channel(channel).await.unwrap().provider_id, OURS);

        // Somebody lists the very letters as an id of its own.
        let mut twin = directory.listings().iter().find(|listing| listing.id == "sim-llm-v1").unwrap().clone();
        twin.id = "ab12cd".into();
        directory.listings().push(twin);
        let refused = unspent(open(&runtime, "@ab12cd", "1", "24h").await, Code::AmbiguousProvider);
        assert!(refused.next.contains(OURS) && refused.next.contains("\"ab12cd\""), "{refused:?}");
        assert_eq!(short().await, "@_ab12cd", "a longer one is shown");
        // And the one that was paid is gone from the directory.
        directory.listings().retain(|listing| listing.id != OURS);
        let refused = unspent(open(&runtime, "@ab12cd", "1", "24h").await, Code::AmbiguousProvider);
        assert!(!refused.next.contains(OURS), "{refused:?}");
        assert!(world.sandbox.v1.request_log().paid.is_empty());
        // Its own id is nobody else's.
        assert_eq!(runtime.provider("ab12cd").await.unwrap().listing.id, "ab12cd");
    });
}

#[test]
fn a_job_is_for_whoever_describes_one() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let job = Some(Job { input_tokens: 100, output_tokens: 100 });
        let query = ProviderQuery { model: Some("sim".into()), job, sort: Sort::Price, ..ProviderQuery::default() };
        let page = runtime.providers(query).await.unwrap();
        let offers: Vec<_> = page.providers.into_iter().map(|p| (p.id, p.offer.unwrap().cost.unwrap())).collect();
        let expected =
            [("sim-llm", "0.000113"), ("sim-llm-v1", "0.000113"), ("sim-weather", "0.005"), ("sim-image", "0.02")];
        assert_eq!(offers, expected.map(|(id, cost)| (id.to_owned(), usdc(cost))));
    });
}
