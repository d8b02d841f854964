//! The directory's listings of the server.

use serde_json::json;

use crate::world::{PRICE, World};

#[tokio::test]
async fn the_directory_lists_what_answers() {
    let world = World::new().await;
    world.sandbox.list_mpp_rest();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body: serde_json::Value = http.get(world.sandbox.directory.url()).send().await.unwrap().json().await.unwrap();
    let entries: Vec<_> =
        body["providers"].as_array().unwrap().iter().filter(|entry| entry["protocol"] == "mpp").cloned().collect();
    let url = world.paid().url();
    let told = |name: &str| entries.iter().map(|entry| entry[name].clone()).collect::<Vec<_>>();
    assert_eq!(told("id"), ["sim-mpp", "sim-mpp-rest"]);
    assert_eq!(told("mppType"), ["llm", "rest"]);
    let endpoints = [format!("{url}/mpp/v1/chat/completions"), format!("{url}/mpp/echo")];
    assert_eq!(told("mppEndpoint"), endpoints);
    // Where there is no endpoint, readers put the path behind the address.
    assert_eq!(format!("{}/v1/chat/completions", entries[0]["apiUrl"].as_str().unwrap()), endpoints[0]);
    for entry in &entries {
        assert_eq!(entry["providerAddress"], world.paid().payee().to_string());
        assert_eq!(entry["chainId"], json!(137));
    }
    let chat = json!({"messages": [{"role": "user", "content": "hello"}]}).to_string();
    for endpoint in endpoints {
        let path = endpoint.strip_prefix(&url).unwrap();
        let header = world.ready(path).await;
        assert_eq!(world.post(path, Some(&header), &chat).await.unwrap().status, 200);
    }
    assert_eq!(world.earned().await, 2 * PRICE);
}
