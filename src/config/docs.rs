//! `docs/configuration.md`, written from the table of keys.

use std::fmt::Write;

use super::keys::{Key, Kind};

const HEAD: &str = "# Configuration

<!-- Written from src/config/keys.rs: UPDATE_DOCS=1 cargo test --lib config -->

Nothing has to be set: without a key the server starts, finds providers and shows their docs. To pay it needs a wallet of
its own with $1-5 of native USDC on Polygon and about 0.10 POL: `drain-mcp wallet new` makes one.

A value comes from the defaults, then `config.toml`, then the environment, then flags; the later one counts. An empty
variable counts as unset. What is not known is reported when drain-mcp starts and by `drain-mcp doctor`. Limits are raised
here and nowhere else: no MCP tool can.

Amounts are USDC (`2.50`), of gas POL, times are `500ms`, `120s`, `2m` or whole seconds, switches are `on` or `off`. URLs without a
scheme mean https. Of `DRAIN_PRIVATE_KEY` and `DRAIN_PRIVATE_KEY_FILE`, set one: setting both is an error; so with the
other variables that have a `_FILE` form. `docs/config.minimal.toml`, `docs/config.maximal.toml` and `docs/config.fleet.toml` are complete files.

| variable | config.toml | default | meaning |
|---|---|---|---|
";

const TAIL: &str = "
Secrets have no place in `config.toml`: it takes the path of a file that holds one.

## Several wallets

`drain-mcp serve` pays from as many wallets as the file names. A table `[wallet.NAME]` takes the keys of `[signer]`, which then
may not stand beside it, nor any variable that says a key. Everything else counts for each of them. A command for one of
them takes `--wallet NAME`.

```toml
[wallet.trading]
keystore = \"/etc/drain-mcp/trading.json\"
keystore_password_file = \"/run/secrets/drain-trading-password\"

[wallet.research]
private_key_file = \"/run/secrets/drain-research-key\"
```

## Providers that a person lists

A provider that is not in the directory is refused unless it is listed here, with its id, URL and wallet:

```toml
[[providers]]
id = \"my-provider\"
api_url = \"https://provider.example\"
wallet = \"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\"
category = \"llm\"
```
";

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for key in Key::ALL {
        let spec = key.spec();
        let mut names = vec![spec.env];
        names.extend(spec.aliases);
        let file = spec.env_file();
        names.extend(file.as_deref());
        let code = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join("<br>");
        let toml: Vec<&str> = spec.toml.into_iter().chain(spec.toml_file).collect();
        let note = match spec.kind {
            Kind::Plain => "",
            Kind::Private => " May hold credentials: never shown, of a URL scheme and host alone.",
            Kind::Secret => " Never shown.",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {} | {} | {} | {}{note} |", code(&names), code(&toml), spec.default, spec.meaning);
    }
    page + TAIL
}
