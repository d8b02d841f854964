//! `drain-mcp install` and `uninstall`, on copies of clients' files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process_harness::{Agent, Ended, Env, Greeting, PATIENCE, PROGRAM, world};

/// Name, file for a user, object of the servers, and whether an entry says its type.
const CLIENTS: [(&str, &str, &str, bool); 8] = [
    ("claude-code", ".claude.json", "mcpServers", true),
    ("claude-desktop", ".config/Claude/claude_desktop_config.json", "mcpServers", false),
    ("cursor", ".cursor/mcp.json", "mcpServers", false),
    ("vscode", ".config/Code/User/mcp.json", "servers", true),
    ("windsurf", ".codeium/windsurf/mcp_config.json", "mcpServers", false),
    ("zed", ".config/zed/settings.json", "context_servers", false),
    (
        "cline",
        ".config/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
        "mcpServers",
        false,
    ),
    ("gemini", ".gemini/settings.json", "mcpServers", false),
];

fn program() -> String {
    fs::canonicalize(PROGRAM).unwrap().display().to_string()
}

/// A person's home, and nothing else in the environment.
struct Home {
    folder: TempDir,
    env: Env,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = Env::default().with("HOME", folder.path().display().to_string());
        Self { folder, env }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A client's file.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    async fn install(&self, client: &str) -> Ended {
        self.env.run(&["install", "--client", client, "--yes", "--json"]).await
    }

    async fn uninstall(&self, client: &str) -> Ended {
        self.env.run(&["uninstall", "--client", client, "--yes", "--json"]).await
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn backup(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.before-drain", path.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_gets_its_entry_and_a_second_time_changes_nothing() {
    let home = Home::new();
    for (client, file, servers, typed) in CLIENTS {
        let done = home.install(client).await.ok_json();
        let path = home.path(file);
        assert_eq!((&done["changed"], &done["file"]), (&json!(true), &json!(path)), "{client}");
        let text = read(&path);
        let mut entry = json!({ "command": program(), "args": [] });
        if typed {
            entry["type"] = "stdio".into();
        }
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({ servers: { "drain": entry } }), "{client}");
        assert_eq!(home.install(client).await.ok_json()["changed"], false, "{client}");
        assert_eq!(read(&path), text, "{client}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{client}");
        let gone = home.uninstall(client).await.ok_json();
        assert!(gone["changed"] == true && !path.exists(), "{client}: {gone}");
        assert_eq!(home.uninstall(client).await.ok_json()["changed"], false, "{client}");
    }
    home.install("codex").await.ok_json();
    let toml: toml::Table = read(&home.path(".codex/config.toml")).parse().unwrap();
    assert_eq!(toml["mcp_servers"]["drain"]["command"].as_str(), Some(program().as_str()));
}

/// What a person's file looks like, and what it looks like with the entry.
fn files() -> Vec<(&'static str, &'static str, &'static str, String)> {
    let program = program();
    let of = |client, file, before, after: &str| (client, file, before, after.replace("PROGRAM", &program));
    vec![
        of(
            "vscode",
            ".config/Code/User/mcp.json",
            "{\n\t// mine\n\t\"servers\": {\n\t\t\"git\": { \"command\": \"uvx\" } // keep, here\n\t},\n\t/* none */ \"inputs\": []\n}\n",
            "{\n\t// mine\n\t\"servers\": {\n\t\t\"git\": { \"command\": \"uvx\" }, // keep, here\n\t\t\"drain\": {\n\t\t\t\"type\": \"stdio\",\n\t\t\t\"command\": \"PROGRAM\",\n\t\t\t\"args\": []\n\t\t}\n\t},\n\t/* none */ \"inputs\": []\n}\n",
        ),
        of(
            "zed",
            ".config/zed/settings.json",
            "// Zed\n{\n  \"theme\": \"One\",\n  \"vim\": true, // last\n}",
            "// Zed\n{\n  \"theme\": \"One\",\n  \"vim\": true, // last\n  \"context_servers\": {\n    \"drain\": {\n      \"command\": \"PROGRAM\",\n      \"args\": []\n    }\n  },\n}",
        ),
        of(
            "claude-desktop",
            ".config/Claude/claude_desktop_config.json",
            "{\r\n    \"mcpServers\": {\r\n    }\r\n}\r\n",
            "{\r\n    \"mcpServers\": {\r\n        \"drain\": {\r\n            \"command\": \"PROGRAM\",\r\n            \"args\": []\r\n        }\r\n    }\r\n}\r\n",
        ),
        of(
            "claude-code",
            ".claude.json",
            "{\"numStartups\":7.50,\"mcpServers\":{\"a\":{\"url\":\"http://a, // b\"}},\"x\":\"\\u00e9\"}",
            "{\"numStartups\":7.50,\"mcpServers\":{\"a\":{\"url\":\"http://a, // b\"},\"drain\":{\"args\":[],\"command\":\"PROGRAM\",\"type\":\"stdio\"}},\"x\":\"\\u00e9\"}",
        ),
        of(
            "cursor",
            ".cursor/mcp.json",
            "\u{feff}{}",
            "\u{feff}{\n  \"mcpServers\": {\n    \"drain\": {\n      \"command\": \"PROGRAM\",\n      \"args\": []\n    }\n  }\n}",
        ),
        of(
            "gemini",
            ".gemini/settings.json",
            " \n",
            "{\n  \"mcpServers\": {\n    \"drain\": {\n      \"command\": \"PROGRAM\",\n      \"args\": []\n    }\n  }\n}\n",
        ),
        of(
            "codex",
            ".codex/config.toml",
            "# mine\nmodel = \"o\"\r\n\r\n[mcp_servers.git]\r\ncommand = \"uvx\" # keep",
            "# mine\nmodel = \"o\"\r\n\r\n[mcp_servers.git]\r\ncommand = \"uvx\" # keep\r\n\r\n[mcp_servers.drain]\r\nargs = []\r\ncommand = \"PROGRAM\"\r\n",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_a_byte_beside_the_entry_changes_and_uninstall_puts_each_back() {
    for (client, file, before, after) in files() {
        let home = Home::new();
        let path = home.write(file, before);
        home.install(client).await.ok_json();
        assert_eq!(read(&path), after, "{client}");
        assert_eq!(read(&backup(&path)), before, "{client}");
        home.uninstall(client).await.ok_json();
        assert_eq!(read(&path), before, "{client}");
        assert!(!backup(&path).exists(), "{client}: no copy of a person's secrets is left behind");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_changed_after_the_installation_stays() {
    let json = "{\n  \"mcpServers\": {\n    \"a\": {} // first\n  }\n}\n";
    let toml = "[mcp_servers.a]\ncommand = \"a\"\n";
    for (client, file, before, later) in [
        ("cursor", ".cursor/mcp.json", json, ("\"a\": {}", "\"a\": { \"command\": \"b\" }")),
        ("cursor", ".cursor/mcp.json", json, ("\n    }\n  }", "\n    },\n    // second\n    \"z\": {}\n  }")),
        ("codex", ".codex/config.toml", toml, ("[mcp_servers.a]", "# new\n[mcp_servers.a]")),
    ] {
        let home = Home::new();
        let path = home.write(file, before);
        home.install(client).await.ok_json();
        fs::write(&path, read(&path).replace(later.0, later.1)).unwrap();
        home.uninstall(client).await.ok_json();
        let wanted = match later.1 {
            text if text.contains("second") => {
                "{\n  \"mcpServers\": {\n    \"a\": {}, // first\n    // second\n    \"z\": {}\n  }\n}\n".to_owned()
            }
            text => before.replace(later.0, text),
        };
        assert_eq!(read(&path), wanted, "{client}");
    }
    // A table that others follow, with one of its own within.
    let home = Home::new();
    let path = home.write(
        ".codex/config.toml",
        "a = 1\n\n[mcp_servers.drain]\ncommand = \"/x/drain-mcp\"\n\n[mcp_servers.drain.env]\nB = \"[c]\"\n\n# of z\n[z]\n",
    );
    home.uninstall("codex").await.ok_json();
    assert_eq!(read(&path), "a = 1\n\n# of z\n[z]\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mode_and_link_stay_and_a_file_that_cannot_be_used_is_left_alone() {
    let home = Home::new();
    let real = home.write("dotfiles/mcp.json", "{}\n");
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    let link = home.path(".cursor/mcp.json");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink("../dotfiles/mcp.json", &link).unwrap();
    home.install("cursor").await.ok_json();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && read(&real).contains("drain"));
    for path in [&real, &backup(&fs::canonicalize(&real).unwrap())] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640, "{path:?}");
    }
    let left: Vec<_> = fs::read_dir(home.path("dotfiles")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");

    for (text, part) in [
        ("{\n  \"mcpServers\": {\n    'a': 1\n", "line 3"),
        ("{\n  \"a\": 1\n  \"b\": 2\n}", "line 2"),
        ("{", "line 1"),
        ("[]", "no JSON object"),
        ("{ \"mcpServers\": [] }", "\"mcpServers\" is no object"),
        ("{ \"mcpServers\": {}, \"mcpServers\": {} }", "twice"),
        ("{ \"mcpServers\": { \"drain\": 1 } }", "\"drain\" in \"mcpServers\" is no object"),
    ] {
        let home = Home::new();
        let path = home.write(".cursor/mcp.json", text);
        for ended in [home.install("cursor").await, home.uninstall("cursor").await] {
            let error = &ended.json()["error"];
            let message = error["message"].as_str().unwrap();
            assert!(ended.code == Some(2) && message.contains(part) && message.contains("mcp.json"), "{text}: {error}");
        }
        assert!(read(&path) == text && !backup(&path).exists(), "{text}");
    }
    let home = Home::new();
    let toml = home.write(".codex/config.toml", "a = 1\nkey = hush\n");
    let ended = home.install("codex").await;
    assert!(ended.code == Some(2) && ended.stdout.contains("line 2") && !ended.stdout.contains("hush"), "{ended:?}");
    fs::write(&toml, "mcp_servers = { a = {} }\n").unwrap();
    assert_eq!(home.install("codex").await.code, Some(2));
    assert_eq!(read(&toml), "mcp_servers = { a = {} }\n");

    let path = home.write(".cursor/mcp.json", "{}");
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    let ended = home.install("cursor").await;
    assert!(ended.code == Some(2) && ended.stdout.contains("read-only") && read(&path) == "{}", "{ended:?}");
    fs::remove_file(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    assert!(home.install("cursor").await.stdout.contains("link"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"{ \"a\": \"\xff\" }").unwrap();
    assert_eq!(home.install("cursor").await.code, Some(2));
    assert_eq!(fs::read(&path).unwrap(), b"{ \"a\": \"\xff\" }");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m12_an_entry_of_somebody_else_is_kept_and_its_key_never_shown() {
    let home = Home::new();
    let theirs = json!({ "mcpServers": { "drain": {
        "command": "npx", "args": ["drain-mcp", "--key", "hush"], "env": { "DRAIN_PRIVATE_KEY": "hush" }
    } } });
    let path = home.write(".cursor/mcp.json", &theirs.to_string());
    for ended in [home.install("cursor").await, home.uninstall("cursor").await] {
        assert!(ended.code == Some(2) && !ended.everything().contains("hush"), "{ended:?}");
        assert_eq!(read(&path), theirs.to_string());
    }
    let ended = home.env.run(&["install", "--client", "cursor", "--yes", "--replace"]).await;
    assert!(ended.code == Some(0) && ended.stderr.contains("- ") && ended.stderr.contains("npx"), "{ended:?}");
    assert!(!ended.everything().contains("hush") && !read(&path).contains("hush"), "{ended:?}");
    assert_eq!(read(&backup(&path)), theirs.to_string());

    // Ours from another place: the path is mended, what the person added stays and is not shown.
    let ours = json!({ "mcpServers": { "drain": {
        "command": "/old/drain-mcp", "env": { "DRAIN_PRIVATE_KEY": "hush" }, "disabled": true
    } } });
    fs::write(&path, ours.to_string()).unwrap();
    let ended = home.install("cursor").await;
    assert!(ended.ok_json()["changed"] == true && !ended.everything().contains("hush"), "{ended:?}");
    let entry = &serde_json::from_str::<Value>(&read(&path)).unwrap()["mcpServers"]["drain"];
    let wanted = json!({ "command": program(), "args": [], "env": { "DRAIN_PRIVATE_KEY": "hush" }, "disabled": true });
    assert_eq!(*entry, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_wrongly_is_said_and_nobody_who_cannot_answer_is_taken_for_a_yes() {
    let home = Home::new();
    let ended = home.env.run(&["install", "--client", "emacs", "--yes"]).await;
    for (client, ..) in CLIENTS {
        assert!(ended.code == Some(2) && ended.stderr.contains(client), "{ended:?}");
    }
    let path = home.write(".cursor/mcp.json", "{}");
    let ended = home.env.run(&["install", "--client", "cursor"]).await;
    assert!(ended.code == Some(2) && ended.stderr.contains("terminal"), "{ended:?}");
    assert!(ended.stderr.contains(&program()), "the change is shown first: {ended:?}");
    assert_eq!(read(&path), "{}");
    let ended = home.env.run(&["install", "--client", "windsurf", "--scope", "project", "--yes"]).await;
    assert!(ended.code == Some(2) && ended.stderr.contains("no file for a project"), "{ended:?}");
    let nobody = Env::default();
    let ended = nobody.run(&["install", "--client", "cursor", "--yes"]).await;
    assert!(ended.code == Some(2) && ended.stderr.contains("HOME is not set"), "{ended:?}");
    let named = path.display().to_string();
    let ended = nobody.run(&["install", "--client", "cursor", "--yes", "--file", &named]).await;
    assert!(ended.code == Some(0) && read(&path).contains("drain"), "{ended:?}");

    let project = home.path("project");
    fs::create_dir_all(&project).unwrap();
    let mut command = home.env.command(&["install", "--client", "vscode", "--scope", "project", "--yes"]);
    command.current_dir(&project);
    assert_eq!(Ended::of(command, "", PATIENCE).await.code, Some(0));
    assert!(read(&project.join(".vscode/mcp.json")).contains("\"servers\""));

    let shell = home.env.clone().with("DRAIN_RPC_URL", "http://127.0.0.1:1/hush");
    let ended = shell.run(&["install", "--client", "gemini", "--yes"]).await;
    assert!(ended.stderr.contains("DRAIN_RPC_URL") && !ended.everything().contains("hush"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_installed_entry_speaks_mcp() {
    let home = Home::new();
    let ended = home.env.run(&["install", "--client", "claude-desktop", "--sandbox", "--read-only", "--yes"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let file: Value = serde_json::from_str(&read(&home.path(CLIENTS[1].1))).unwrap();
    let entry = &file["mcpServers"]["drain"];
    assert!(entry["command"] == program().as_str() && entry["env"].is_null(), "{entry}");
    let args: Vec<&str> = entry["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    let mut agent = Agent::start_with(&home.env, &args, Greeting::Initialize).await;
    let tools: Vec<Value> = agent.tools().await;
    assert!(tools.iter().all(|tool| tool["name"] != "drain_chat") && tools.len() > 3, "{tools:?}");
    assert!(agent.ok("drain_balance", json!({})).await.text.contains("PLAY MONEY"));
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleets_entry_names_the_tokens_file_and_no_token() {
    let home = Home::new();
    let token = home.write("token", "drain_hush\n");
    let server = "https://drain.example.com";
    let args = ["install", "--client", "cursor", "--yes", "--server", server];
    assert_eq!(home.env.run(&args).await.code, Some(2), "a server needs a token");
    let with: Vec<&str> = args.into_iter().chain(["--token-file", token.to_str().unwrap()]).collect();
    assert_eq!(home.env.run(&with).await.code, Some(0));
    let text = read(&home.path(".cursor/mcp.json"));
    let entry = &serde_json::from_str::<Value>(&text).unwrap()["mcpServers"]["drain"];
    assert_eq!(entry["env"], json!({ "DRAIN_SERVER_URL": server, "DRAIN_AGENT_TOKEN_FILE": token }));
    assert!(!text.contains("hush"));
    let gone = home.uninstall("cursor").await.ok_json();
    assert!(gone["channels"]["untold"].as_str().unwrap().contains("server"), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstall_tells_first_what_is_in_channels() {
    let world = world().await;
    let home = Home::new();
    let env = Env::of(&world).with("HOME", home.env.get("HOME"));
    let mut agent = Agent::start(&env, Greeting::Initialize).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.leave().await;
    assert_eq!(env.run(&["install", "--client", "cursor", "--yes"]).await.code, Some(0));
    let path = home.path(".cursor/mcp.json");
    let entry = &serde_json::from_str::<Value>(&read(&path)).unwrap()["mcpServers"]["drain"];
    assert_eq!(entry["args"], json!(["--home", env.get("DRAIN_HOME")]));

    let asked = env.run(&["uninstall", "--client", "cursor"]).await;
    assert!(asked.code == Some(2) && asked.stderr.contains(&id) && path.exists(), "{asked:?}");
    let gone = env.run(&["uninstall", "--client", "cursor", "--yes"]).await;
    let (told, change) = (gone.stderr.find(&id), gone.stderr.find("- \"drain\""));
    assert!(gone.code == Some(0) && told < change && told.is_some(), "{gone:?}");
    assert!(gone.stderr.contains("At least 1.00 USDC") || gone.stderr.contains("At least 1 USDC"), "{gone:?}");
    assert!(!path.exists());

    home.install("cursor").await.ok_json();
    let none = home.uninstall("cursor").await.ok_json();
    assert!(none["channels"]["untold"].as_str().unwrap().contains("no wallet"), "{none}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_says_what_install_does() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let home = Home::new();
    for (client, file) in CLIENTS.iter().map(|c| (c.0, c.1)).chain([("codex", ".codex/config.toml")]) {
        assert!(readme.contains(&format!("| `{client}` | `~/{file}` |")), "{client}");
        let shown = home.env.run(&["install", "--client", client, "--print"]).await;
        assert!(shown.code == Some(0) && shown.stderr.contains(file) && !home.path(file).exists(), "{shown:?}");
        if client == "cursor" || client == "codex" {
            let text = shown.stdout.replace(&program(), "/usr/local/bin/drain-mcp");
            assert!(readme.contains(&format!("\n{text}```")), "{text}");
        }
    }
}
