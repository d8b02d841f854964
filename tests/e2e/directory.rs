//! The directory: how it is filtered, how it lies, and what works without it (M13).

use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ProviderPage, ProviderQuery};
use drain_mcp::config::Config;
use drain_sandbox::directory::{DirectoryFaults, Form};

use crate::harness::{World, ask, in_system, open};

async fn page(runtime: &Runtime, query: ProviderQuery) -> ProviderPage {
    runtime.providers(query).await.unwrap()
}

async fn ids(runtime: &Runtime, query: ProviderQuery) -> Vec<String> {
    page(runtime, query).await.providers.into_iter().map(|provider| provider.id).collect()
}

fn query(change: impl FnOnce(&mut ProviderQuery)) -> ProviderQuery {
    let mut query = ProviderQuery::default();
    change(&mut query);
    query
}

fn quick(world: &World) -> Config {
    let mut config = world.config();
    config.marketplace.timeout = Duration::from_millis(1_000);
    config
}

type Fault = fn(&mut DirectoryFaults);

/// Each makes the catalogue useless.
const USELESS: [(&str, Fault); 5] = [
    ("down", |faults| faults.down = true),
    ("malformed", |faults| faults.malformed = true),
    ("html", |faults| faults.html = true),
    ("huge", |faults| faults.huge = Some((16 << 20) + 1)),
    ("hanging", |faults| faults.hang = true),
];

#[test]
fn a_useless_directory_is_said_so_and_the_server_goes_on() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(quick(&world)).await;
        for (name, fault) in USELESS {
            world.sandbox.directory.set(fault);
            let failure = runtime.providers(ProviderQuery::default()).await.unwrap_err();
            assert_eq!(failure.code.as_str(), "directory_unavailable", "{name}");
            assert!(failure.message.len() < 600, "{name}: {failure}");
            assert_eq!(open(&runtime, "sim-llm", "1", "24h").await.unwrap_err().code.as_str(), "directory_unavailable");
            world.sandbox.directory.set(|faults| *faults = DirectoryFaults::default());
        }
        world.sandbox.directory.set_down(true);
        assert_eq!(runtime.provider("sim-llm").await.unwrap_err().code.as_str(), "directory_unavailable");
        assert_eq!(world.sent().await, 0);
        // It was never so bad that it could not come back.
        world.sandbox.directory.set_down(false);
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
    });
}

#[test]
fn a_directory_that_fails_later_leaves_a_copy_that_is_marked_and_channels_that_pay() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(quick(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        assert!(!page(&runtime, ProviderQuery::default()).await.stale);
        for (name, fault) in USELESS {
            world.sandbox.directory.set(fault);
            let old = page(&runtime, ProviderQuery::default()).await;
            assert!(old.stale && old.matched == 4, "{name}");
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
            world.sandbox.directory.set(|faults| *faults = DirectoryFaults::default());
            assert!(!page(&runtime, ProviderQuery::default()).await.stale, "{name}");
        }
    });
}

#[test]
fn a_fresh_copy_is_served_without_asking_again() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.marketplace.max_age = Duration::from_secs(3_600);
        let runtime = world.runtime_with(config).await;
        for _ in 0..5 {
            page(&runtime, ProviderQuery::default()).await;
        }
        // Those who ask at once wait for one request.
        futures::future::join_all((0..5).map(|_| page(&runtime, ProviderQuery::default()))).await;
        assert_eq!(world.sandbox.directory.requests().len(), 1);
    });
}

#[test]
fn filters_combine() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let directory = &world.sandbox.directory;
        let all = ["sim-llm", "sim-weather", "sim-image", "sim-llm-v1"];
        assert_eq!(ids(&runtime, ProviderQuery::default()).await, all);

        directory.change("sim-llm-v1", |listing| listing.online = false);
        assert_eq!(ids(&runtime, ProviderQuery::default()).await, all, "offline ones are shown, as such");
        assert_eq!(ids(&runtime, query(|q| q.online_only = true)).await, all[..3]);

        assert_eq!(ids(&runtime, query(|q| q.category = Some("LLM".into()))).await, ["sim-llm", "sim-llm-v1"]);
        assert_eq!(ids(&runtime, query(|q| q.model = Some("Sim-Small".into()))).await, ["sim-llm", "sim-llm-v1"]);
        assert_eq!(ids(&runtime, query(|q| q.model = Some("sim/".into()))).await, ["sim-weather", "sim-image"]);
        let online_llm = |q: &mut ProviderQuery| (q.online_only, q.model) = (true, Some("sim-small".into()));
        assert_eq!(ids(&runtime, query(online_llm)).await, ["sim-llm"]);
        let nobody = |q: &mut ProviderQuery| (q.category, q.model) = (Some("image".into()), Some("sim-small".into()));
        assert_eq!(page(&runtime, query(nobody)).await.matched, 0);

        let limited = page(&runtime, query(|q| q.limit = Some(2))).await;
        assert_eq!((limited.providers.len(), limited.matched), (2, 4));
    });
}

#[test]
fn mpp_listings_are_shown_only_when_asked_for_and_with_their_tool() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        assert!(page(&runtime, ProviderQuery::default()).await.providers.iter().all(|provider| provider.payable));
        let mpp = page(&runtime, query(|q| q.protocol = Some("mpp".into()))).await.providers;
        assert_eq!(mpp.iter().map(|p| (p.id.as_str(), p.payable)).collect::<Vec<_>>(), [("sim-mpp", true)]);
        assert_eq!(mpp[0].tool, "mpp_chat");
        world.sandbox.list_mpp_rest();
        let mpp = page(&runtime, query(|q| q.protocol = Some("mpp".into()))).await.providers;
        let tools: Vec<_> = mpp.iter().map(|provider| (provider.id.as_str(), provider.tool.as_str())).collect();
        assert_eq!(tools, [("sim-mpp", "mpp_chat"), ("sim-mpp-rest", "mpp_request")]);
        let details = runtime.provider("sim-mpp").await.unwrap();
        assert!(details.warnings.join(" ").contains("without a channel"), "{:?}", details.warnings);
    });
}

#[test]
fn every_form_of_the_catalogue_is_read_alike() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let shown = async || {
            let page = page(&runtime, ProviderQuery::default()).await;
            page.providers.into_iter().map(|p| (p.id, p.online, p.models.len(), p.wallet)).collect::<Vec<_>>()
        };
        let usual = shown().await;
        let forms: [Fault; 4] = [
            |faults| faults.bare_array = true,
            |faults| faults.form = Form::Flat,
            |faults| (faults.bare_array, faults.form) = (true, Form::Flat),
            |faults| faults.duplicated = true,
        ];
        for fault in forms {
            world.sandbox.directory.set(fault);
            assert_eq!(shown().await, usual);
            world.sandbox.directory.set(|faults| *faults = DirectoryFaults::default());
        }
        // Fields that nobody promised.
        let optional = ["protocol", "chainId", "status", "category", "minDuration", "maxDuration", "description"];
        world.sandbox.directory.change("sim-llm", |l| l.omit = optional.map(str::to_owned).to_vec());
        assert_eq!(shown().await.len(), 4);
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
    });
}

#[test]
fn both_spellings_of_the_path_are_tried() {
    in_system(async {
        let world = World::start().await;
        for path in ["/api/mcp/providers", "/api/mcpproviders", "/api/mcp/providers/"] {
            let home = tempfile::tempdir().unwrap();
            let mut config = world.config();
            config.home = home.path().to_owned();
            config.marketplace.directory_url = format!("{}{path}", world.sandbox.directory.origin()).parse().unwrap();
            assert_eq!(page(&world.runtime_with(config).await, ProviderQuery::default()).await.matched, 4, "{path}");
        }
    });
}

#[test]
fn m13_hostile_names_are_bounded_and_without_control_characters() {
    in_system(async {
        let world = World::start().await;
        world.sandbox.directory.set(|faults| faults.hostile = true);
        world.sandbox.directory.change("sim-llm", |listing| {
            listing.name = "x".repeat(100_000);
            listing.description = "y\n".repeat(100_000);
            listing.category = "llm\u{7}".into();
        });
        // An id in which something hides could stand for another one: it is left out.
        let mut twin = world.sandbox.directory.listings()[0].clone();
        twin.id = "sim-llm\u{200b}".into();
        world.sandbox.directory.listings().push(twin);
        let runtime = world.runtime().await;
        let page = page(&runtime, ProviderQuery::default()).await;
        assert_eq!(page.matched, 4);
        for provider in &page.providers {
            let unseen = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
            for text in [&provider.name, &provider.category, &provider.description] {
                assert!(!text.contains(unseen), "{text:?}");
            }
            assert!(!provider.name.contains('\n') && provider.name.chars().count() <= 201, "{}", provider.name);
            assert!(provider.description.chars().count() <= 2_100);
        }
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let view = runtime.channel(channel).await.unwrap();
        assert!(!view.provider_name.contains(char::is_control) && view.provider_name.chars().count() <= 201);
    });
}

#[test]
fn a_provider_that_is_broken_is_shown_with_its_troubles() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        world.sandbox.llm.set_down(true);
        let details = runtime.provider("sim-llm").await.unwrap();
        assert!(details.docs.is_none() && details.warnings.len() >= 2, "{:?}", details.warnings);
        world.sandbox.llm.set_down(false);
        world.sandbox.llm.set(|faults| {
            (faults.huge_docs, faults.pricing_wallet) = (Some(1 << 20), Some(world.agent()));
        });
        let details = runtime.provider("sim-llm").await.unwrap();
        assert!(details.warnings.join(" ").contains("names another wallet"), "{:?}", details.warnings);
        assert!(details.docs.unwrap().len() < 100_000);
        world.sandbox.llm.set(|faults| (faults.huge_docs, faults.hostile_docs) = (None, true));
        let docs = runtime.provider("sim-llm").await.unwrap().docs.unwrap();
        assert!(!docs.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{docs:?}");
    });
}
