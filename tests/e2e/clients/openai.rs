//! The official OpenAI clients, as their users have them: with their own retries.

use drain_sandbox::provider::{Faults, Times};

use super::{Clients, PATIENCE, scripts};
use crate::process_harness::served::Served;
use crate::process_harness::{Ended, Env, vouchers, world};

/// What a script says on its last line.
async fn run(clients: &Clients, language: &str, what: &str, served: &Served, token: &str) -> String {
    let env = Env::default().with("OPENAI_API_KEY", token).with("TOOLS", clients.0.display().to_string());
    let mut script = match language {
        "python" => {
            let mut python = env.program(clients.0.join("python/bin/python"));
            python.arg(scripts().join("openai.py"));
            python
        }
        _ => clients.node(&env, scripts().join("openai.mjs")),
    };
    script.arg(what).arg(format!("{}/v1", served.url));
    let ended = Ended::of(script, "", PATIENCE).await;
    println!("--- {language} {what}: {:?}\n{}{}", ended.code, ended.stdout, ended.stderr);
    assert_eq!(ended.code, Some(0), "{}", ended.everything());
    ended.stdout.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs others' clients: .ci/clients"]
async fn openai_clients_pay_by_changing_their_base_url() {
    let (clients, world) = (Clients::find(), world().await);
    let served = Served::start(&Env::of(&world).with("DRAIN_AUTO_OPEN", "1")).await;
    for language in ["python", "node"] {
        let token = served.agent(language, &["--allow-providers", "sim-llm", "--auto-open", "1"]).await;
        let before = vouchers(&world.sandbox.llm).len();
        assert_eq!(run(&clients, language, "pays", &served, &token).await, "paid");
        // One each: twice at once, one stream, one name asked twice.
        assert_eq!(vouchers(&world.sandbox.llm).len(), before + 4, "{language}");
    }
    served.stop().await;
}

/// M15: what a client repeats by itself is never what may have been paid.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs others' clients: .ci/clients"]
async fn m15_openai_clients_do_not_repeat_what_may_have_been_paid() {
    let clients = Clients::find();
    type Switch = fn(&mut Faults);
    let faults: [Switch; 3] = [
        |faults| faults.fail_500 = Times::ALWAYS,
        |faults| faults.cut_mid_body = Times::ALWAYS,
        |faults| faults.cut_before_answer = Times::ALWAYS,
    ];
    for language in ["python", "node"] {
        let world = world().await;
        let served = Served::start(&Env::of(&world).with("DRAIN_AUTO_OPEN", "1")).await;
        for (n, switch) in faults.into_iter().enumerate() {
            // A channel of its own: the one before may be in doubt.
            let name = format!("{language}{n}");
            let token = served.agent(&name, &["--allow-providers", "sim-llm", "--auto-open", "1"]).await;
            let before = vouchers(&world.sandbox.llm).len();
            world.sandbox.llm.set(switch);
            let said = run(&clients, language, "fails", &served, &token).await;
            assert!(said.starts_with("failed: 424 "), "{said}");
            assert_eq!(vouchers(&world.sandbox.llm).len(), before + 1, "{name}: it is sent once");
            world.sandbox.llm.set(|faults| *faults = Faults::default());
        }
        served.stop().await;
    }
}
