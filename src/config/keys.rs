//! The one table of everything that can be set. The loader, the documentation and the examples' tests read it.

/// How a value is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shown freely.
    Plain,
    /// May hold credentials (an RPC URL): never shown whole; may also come from a file of its own.
    Private,
    /// Never shown, never accepted in config.toml; may come from a file of its own (M12).
    Secret,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The environment variable.
    pub env: &'static str,
    /// Other spellings of the variable.
    pub aliases: &'static [&'static str],
    /// `section.key` in config.toml, where it can be set there.
    pub toml: Option<&'static str>,
    /// `section.key` of the file that holds the value, for what is private or secret.
    pub toml_file: Option<&'static str>,
    /// What counts when nobody says, for people.
    pub default: &'static str,
    /// How the value is treated.
    pub kind: Kind,
    /// What it means.
    pub meaning: &'static str,
}

impl Spec {
    /// The variable that names a file with the value.
    pub fn env_file(&self) -> Option<String> {
        (self.kind != Kind::Plain).then(|| format!("{}_FILE", self.env))
    }
}

macro_rules! keys {
    ($($variant:ident: $env:literal $(or $alias:literal)*, $toml:expr, $file:expr, $kind:ident, $default:literal, $meaning:literal;)+) => {
        /// Everything that can be set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Key { $(#[doc = $meaning] $variant,)+ }

        impl Key {
            /// All keys, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The key's row.
            pub const fn spec(self) -> &'static Spec {
                match self {
                    $(Self::$variant => &Spec {
                        env: $env,
                        aliases: &[$($alias,)*],
                        toml: $toml,
                        toml_file: $file,
                        default: $default,
                        kind: Kind::$kind,
                        meaning: $meaning,
                    },)+
                }
            }
        }
    };
}

keys! {
    Home: "DRAIN_HOME", None, None, Plain, "~/.drain-mcp",
        "Folder of journal, lock, keystore and config.toml. An absolute path, or one that starts with ~/.";
    ConfigFile: "DRAIN_CONFIG", None, None, Plain, "DRAIN_HOME/config.toml",
        "The configuration file. The default one may be missing, a named one may not.";
    JournalUrl: "DRAIN_JOURNAL_URL", None, Some("journal.url_file"), Secret, "a file in DRAIN_HOME",
        "A PostgreSQL server that holds the journal in place of a file, for several replicas of drain-mcp serve: postgres://user:password@host/database?sslmode=require. Each wallet has a schema of its own there.";
    JournalLease: "DRAIN_JOURNAL_LEASE", Some("journal.lease"), None, Plain, "10s",
        "With DRAIN_JOURNAL_URL: within which time another replica has taken over the wallet of one of which nothing is heard any more.";
    Log: "DRAIN_LOG", None, None, Plain, "warn",
        "What is logged to stderr: error, warn, info, debug, trace, or filters such as drain_mcp=debug. The fleet's server tells of every paid call by itself: warn,drain_mcp=info.";
    LogFormat: "DRAIN_LOG_FORMAT", None, None, Plain, "text",
        "How a line of the log is written: text, or json, which is one object a line.";
    LogContent: "DRAIN_LOG_CONTENT", None, None, Plain, "off",
        "Whether what agents ask and providers answer is logged too: on or off. Whoever reads the log then reads that.";

    ServerUrl: "DRAIN_SERVER_URL", Some("client.server_url"), None, Plain, "none: this process pays itself",
        "Where drain-mcp serve is reached, such as https://mcp.example.com. With it drain-mcp without a command carries MCP between its client and that server; it reads no key, opens no wallet, and the limits that count are the server's. http only on this machine. Other commands work with what is configured here.";
    AgentToken: "DRAIN_AGENT_TOKEN", None, Some("client.agent_token_file"), Secret, "none",
        "With DRAIN_SERVER_URL: the agent's token, as drain-mcp agents add showed it.";

    PrivateKey: "DRAIN_PRIVATE_KEY", None, Some("signer.private_key_file"), Secret, "none",
        "The wallet's private key: 64 hexadecimal digits, with or without 0x. Use a wallet of its own for this.";
    Signer: "DRAIN_SIGNER", Some("signer.kind"), None, Plain, "inferred",
        "Which key signs: local (DRAIN_PRIVATE_KEY), keystore, ledger, aws-kms (docs/signers.md), or none. Inferred from what else is set.";
    Keystore: "DRAIN_KEYSTORE", Some("signer.keystore"), None, Plain, "DRAIN_HOME/keystore.json, if it exists",
        "An encrypted key file, as drain-mcp wallet new and geth write it.";
    KeystorePassword: "DRAIN_KEYSTORE_PASSWORD", None, Some("signer.keystore_password_file"), Secret, "asked for on a terminal",
        "The keystore's password.";
    KeystorePasswordCommand: "DRAIN_KEYSTORE_PASSWORD_COMMAND", Some("signer.keystore_password_command"), Some("signer.keystore_password_command_file"), Private, "none",
        "A shell command that writes the keystore's password to its standard output, such as secret-tool lookup service drain-mcp: one line, within a minute. It sees nothing of our environment but PATH, HOME and the session's own variables.";
    KmsKeyId: "DRAIN_KMS_KEY_ID", Some("signer.kms_key_id"), None, Plain, "none",
        "A key in AWS KMS (spec ECC_SECG_P256K1): its id or ARN, not an alias. Credentials come from AWS's own settings.";
    KmsAddress: "DRAIN_KMS_ADDRESS", Some("signer.kms_address"), None, Plain, "asked of KMS at start",
        "The KMS key's account. With it drain-mcp starts where AWS cannot be reached; the key is held against it before it signs.";
    KmsRegion: "DRAIN_KMS_REGION", Some("signer.kms_region"), None, Plain, "of the ARN, else AWS_REGION or the AWS profile",
        "The AWS region of the KMS key.";
    KmsEndpoint: "DRAIN_KMS_ENDPOINT", Some("signer.kms_endpoint"), None, Plain, "the region's own",
        "Another endpoint of KMS: a VPC's, or a local one for tests. https, or http on this machine.";
    KmsConcurrency: "DRAIN_KMS_CONCURRENCY", Some("signer.kms_concurrency"), None, Plain, "16",
        "How many signatures are asked of KMS at the same time; more wait their turn.";
    KmsTimeout: "DRAIN_KMS_TIMEOUT", Some("signer.kms_timeout"), None, Plain, "10s",
        "The longest that a signature of KMS may take, turn and new tries included.";

    LedgerAddress: "DRAIN_LEDGER_ADDRESS", Some("signer.ledger_address"), None, Plain, "none",
        "The account of a Ledger device that signs, each signature by a press on it. drain-mcp wallet ledger list shows the accounts.";
    LedgerPath: "DRAIN_LEDGER_PATH", Some("signer.ledger_path"), None, Plain, "m/44'/60'/0'/0/0",
        "Where the Ledger has that account.";
    LedgerEmulator: "DRAIN_LEDGER_EMULATOR", Some("signer.ledger_emulator"), None, Plain, "none: USB",
        "Host and port of an emulator's command port in place of a device on USB. For tests.";
    LedgerTimeout: "DRAIN_LEDGER_TIMEOUT", Some("signer.ledger_timeout"), None, Plain, "5m",
        "How long a press on the Ledger is waited for.";
    DeviceWait: "DRAIN_DEVICE_WAIT", Some("signer.device_wait"), None, Plain, "45s",
        "With a Ledger: a tool call that still waits after so long answers waiting_for_device and goes on; the same call again collects its result. Less than the MCP client's own limit.";

    Treasury: "DRAIN_TREASURY", Some("treasury.at"), None, Plain, "none",
        "Where the operator's own money is: ledger (the account of DRAIN_LEDGER_ADDRESS, which funds the wallet), or an address. Sweeps go there and nowhere else.";
    RefillBelow: "DRAIN_REFILL_BELOW", Some("treasury.refill_below"), None, Plain, "1",
        "With a treasury: below so much USDC in the wallet a refill is asked for.";
    SweepKeep: "DRAIN_SWEEP_KEEP", Some("treasury.keep"), None, Plain, "5",
        "What drain-mcp wallet sweep leaves in the wallet, beside what pending openings need. At least twice DRAIN_REFILL_BELOW.";
    SweepKeepPol: "DRAIN_SWEEP_KEEP_POL", Some("treasury.keep_pol"), None, Plain, "0.5",
        "What a sweep leaves of POL, and the most that one refill brings.";
    FundPerDay: "DRAIN_MAX_FUND_PER_DAY", Some("treasury.fund_per_day"), None, Plain, "20",
        "The most USDC that refills bring in a day.";
    SweepsPerDay: "DRAIN_MAX_SWEEPS_PER_DAY", Some("treasury.sweeps_per_day"), None, Plain, "4",
        "How many sweeps a day sends.";

    ChainId: "DRAIN_CHAIN_ID" or "DRAINCHAIN_ID", Some("chain.chain_id"), None, Plain, "137",
        "137 is Polygon, 80002 its test network Amoy. Another chain needs DRAIN_RPC_URL, DRAIN_CONTRACT and DRAIN_USDC.";
    RpcUrls: "DRAIN_RPC_URL", Some("chain.rpc_urls"), Some("chain.rpc_urls_file"), Private, "public endpoints of the chain",
        "RPC endpoints in order of preference, several separated by commas or blanks. Only these are contacted.";
    RpcTimeout: "DRAIN_RPC_TIMEOUT", Some("chain.rpc_timeout"), None, Plain, "10s",
        "Longest wait for one RPC answer.";
    Contract: "DRAIN_CONTRACT", Some("chain.contract"), None, Plain, "built-in table",
        "Your own channel contracts in place of the built-in ones: 0xADDRESS:v2, several separated by commas or blanks.";
    ContractGeneration: "DRAIN_CONTRACT_GENERATION", Some("chain.contract_generation"), None, Plain, "what each provider takes",
        "v1 or v2: the generation of a DRAIN_CONTRACT that names none; without DRAIN_CONTRACT, the one to open on whatever providers say.";
    Usdc: "DRAIN_USDC", Some("chain.usdc"), None, Plain, "the chain's native USDC",
        "The token that your own DRAIN_CONTRACT holds. It counts only together with DRAIN_CONTRACT.";
    TempoUrls: "DRAIN_TEMPO_RPC_URL", Some("chain.tempo_rpc_urls"), Some("chain.tempo_rpc_urls_file"), Private, "none",
        "RPC endpoints of Tempo's chain, as in DRAIN_RPC_URL. Without one nothing is paid over Tempo, whose dollars and gas are the same account's there.";
    TempoChainId: "DRAIN_TEMPO_CHAIN_ID", Some("chain.tempo_chain_id"), None, Plain, "4217",
        "4217 is Tempo, 42431 its test network.";
    Confirmations: "DRAIN_CONFIRMATIONS", Some("chain.confirmations"), None, Plain, "16",
        "Blocks on top of a transaction before it is final, where the node knows no finalized block.";
    PollInterval: "DRAIN_POLL_INTERVAL", Some("chain.poll_interval"), None, Plain, "5s",
        "How often head and events are read while channels are open.";
    TransactionTimeout: "DRAIN_TRANSACTION_TIMEOUT", Some("chain.transaction_timeout"), None, Plain, "2m",
        "How long an open, approve or close is waited for before the answer is \"pending\". It goes on by itself.";
    ReplaceAfter: "DRAIN_REPLACE_AFTER", Some("chain.replace_after"), None, Plain, "90s",
        "How long a transaction may stay unmined before it is replaced in its slot by the same one with a higher fee.";

    DirectoryUrl: "DRAIN_DIRECTORY_URL", Some("marketplace.directory_url"), None, Plain, "https://handshake58.com/api/mcp/providers",
        "The catalogue of providers. Without a scheme it means https.";
    MarketplaceUrl: "DRAIN_MARKETPLACE_URL", Some("marketplace.base_url"), None, Plain, "origin of the directory",
        "Base of the marketplace's other services: fee, channel status, gas station, feedback.";
    MarketplaceTimeout: "DRAIN_MARKETPLACE_TIMEOUT", Some("marketplace.timeout"), None, Plain, "10s",
        "Longest wait for an answer of the marketplace.";
    DirectoryMaxAge: "DRAIN_DIRECTORY_MAX_AGE", Some("marketplace.max_age"), None, Plain, "1m",
        "Age up to which the catalogue is served without asking again; 0 asks every time.";
    Telemetry: "DRAIN_TELEMETRY", Some("marketplace.telemetry"), None, Plain, "off",
        "Send latency, status and cost of paid requests to the marketplace: on or off.";

    Agent: "DRAIN_AGENT", Some("agent.name"), None, Plain, "default",
        "The agent's name: its payments are recorded, and limited by DRAIN_MAX_PER_AGENT, under it.";

    Tools: "DRAIN_TOOLS", Some("agent.tools"), None, Plain, "all",
        "Which tools MCP clients are given: read (looks only), pay (pays, opens and closes too) or all (sets the allowance and rates providers too). Flags: --tools, --read-only.";

    MaxPerRequest: "DRAIN_MAX_PER_REQUEST", Some("limits.per_request"), None, Plain, "0.25",
        "The most USDC that one request may cost.";
    MaxPerPayment: "DRAIN_MPP_MAX_DEPOSIT", Some("limits.per_payment"), None, Plain, "1",
        "The most USDC that one payment without a channel (MPP or x402) may be, within DRAIN_MAX_PER_REQUEST.";
    PayHosts: "DRAIN_PAY_HOSTS", Some("limits.pay_hosts"), None, Plain, "none",
        "Hosts that may be paid without a channel (MPP or x402) within the limits, with their port where it is not the usual one, several separated by commas or blanks. What the directory lists is allowed too; for every other host a person is asked.";
    MaxPerHour: "DRAIN_MAX_PER_HOUR", Some("limits.per_hour"), None, Plain, "5",
        "The most USDC newly signed in any hour. What was signed and not taken comes back when the channel is closed.";
    MaxPerDay: "DRAIN_MAX_PER_DAY", Some("limits.per_day"), None, Plain, "20",
        "The most USDC newly signed in any 24 hours.";
    MaxPerProvider: "DRAIN_MAX_PER_PROVIDER", Some("limits.per_provider"), None, Plain, "10",
        "The most USDC newly signed in any 24 hours for one provider, by wallet and host, however often it is listed.";
    MaxPerAgent: "DRAIN_MAX_PER_AGENT", Some("limits.per_agent"), None, Plain, "20",
        "The most USDC newly signed in any 24 hours for one agent.";
    MaxNewcomers: "DRAIN_MAX_NEWCOMERS", Some("limits.newcomers"), None, Plain, "1",
        "The most USDC newly signed in any 24 hours for all providers without history together.";
    MaxPerChannel: "DRAIN_MAX_PER_CHANNEL", Some("limits.per_channel"), None, Plain, "5",
        "The most USDC that the vouchers of one channel may reach, and the highest deposit.";
    MaxLocked: "DRAIN_MAX_LOCKED", Some("limits.locked"), None, Plain, "20",
        "The most USDC in open channels together, and the highest allowance that is ever given.";
    MaxOpenChannels: "DRAIN_MAX_OPEN_CHANNELS", Some("limits.open_channels"), None, Plain, "20",
        "Channels that may be open at once.";
    MaxOpensPerHour: "DRAIN_MAX_OPENS_PER_HOUR", Some("limits.opens_per_hour"), None, Plain, "20",
        "Channels that may be opened in any hour.";
    MaxGasPerTransaction: "DRAIN_MAX_GAS_PER_TRANSACTION", Some("limits.gas_per_transaction"), None, Plain, "0.5",
        "The most POL that the gas of one transaction may cost.";
    MaxGasPerDay: "DRAIN_MAX_GAS_PER_DAY", Some("limits.gas_per_day"), None, Plain, "2",
        "The most POL for gas in any 24 hours. Closes are exempt: they bring money back.";
    AutoOpen: "DRAIN_AUTO_OPEN", Some("limits.auto_open"), None, Plain, "off",
        "What a paid request that names a provider may lock in a new channel where no open one pays for it, in USDC: a call need not say maxDeposit then. off locks nothing by itself.";
    AllowProviders: "DRAIN_ALLOW_PROVIDERS", Some("limits.allow_providers"), None, Plain, "everybody",
        "Pay these providers only: ids, wallets or hosts, several separated by commas or blanks.";
    DenyProviders: "DRAIN_DENY_PROVIDERS", Some("limits.deny_providers"), None, Plain, "nobody",
        "Never pay these providers: ids, wallets or hosts. Closing goes on.";
    AllowCategories: "DRAIN_ALLOW_CATEGORIES", Some("limits.allow_categories"), None, Plain, "all",
        "Pay providers of these categories only.";
    DenyCategories: "DRAIN_DENY_CATEGORIES", Some("limits.deny_categories"), None, Plain, "none",
        "Never pay providers of these categories.";
    Freeze: "DRAIN_FREEZE", Some("limits.freeze"), None, Plain, "off",
        "Pay, open and approve nothing: on or off. Closing goes on. drain-mcp wallet freeze does the same while it runs.";
    ApproveRequestsAbove: "DRAIN_APPROVE_REQUESTS_ABOVE", Some("approvals.requests_above"), None, Plain, "off",
        "Ask a person before a request that may cost more USDC than this, within the limits. off asks nobody.";
    ApproveDepositsAbove: "DRAIN_APPROVE_DEPOSITS_ABOVE", Some("approvals.deposits_above"), None, Plain, "off",
        "Ask a person before a larger deposit is locked, within the limits. off asks nobody.";
    ApprovalsVia: "DRAIN_APPROVALS_VIA", Some("approvals.via"), None, Plain, "terminal",
        "How a person may answer: terminal (drain-mcp approvals, with the operator's passphrase), elicitation (the MCP client asks; only where a person sits at it: a client without one may answer by itself).";
    ApprovalWait: "DRAIN_APPROVAL_WAIT", Some("approvals.wait"), None, Plain, "45s",
        "How long a call waits for a person before it answers with the command that the person types; 0 waits not at all.";
    ApprovalValid: "DRAIN_APPROVAL_VALID", Some("approvals.valid"), None, Plain, "1h",
        "How long a question can be answered and a yes be used.";
    NotifyCommand: "DRAIN_NOTIFY_COMMAND", Some("notify.command"), Some("notify.command_file"), Private, "none",
        "A shell command that is run for each event (approval_waiting, cap_reached, alarm, refund_done, refill_needed, press_needed), with the event as JSON on its standard input.";
    NotifyWebhook: "DRAIN_NOTIFY_WEBHOOK", Some("notify.webhook"), Some("notify.webhook_file"), Private, "none",
        "An https URL that each event is posted to as JSON.";
    MaxSessionFee: "DRAIN_MAX_SESSION_FEE", Some("limits.session_fee"), None, Plain, "0.01",
        "The highest session fee in USDC for opening a V1 channel.";
    MaxDuration: "DRAIN_MAX_DURATION", Some("limits.max_duration"), None, Plain, "30d",
        "The longest that a new channel may be open. Without the provider's consent a deposit comes back only at its end.";
    UnlimitedAllowance: "DRAIN_UNLIMITED_ALLOWANCE", Some("limits.unlimited_allowance"), None, Plain, "off",
        "Give the contract an allowance without bound: on or off. It then may take all USDC of the wallet.";

    MetricsAddr: "DRAIN_METRICS_ADDR", Some("metrics.addr"), None, Plain, "off",
        "Where the process that has the wallet serves GET /metrics for Prometheus (docs/metrics.md): a port of this machine, such as 9464, or an address and a port, which may be one that others reach. No password guards it.";

    CloseIdle: "DRAIN_CLOSE_IDLE", Some("refunds.idle"), None, Plain, "6h",
        "A V2 channel that paid nothing for so long is closed with its provider's consent, at the latest 75 minutes before expiry; off waits for expiry. For runtimes that serve.";
    PolUsdc: "DRAIN_POL_USDC", Some("refunds.pol_usdc"), None, Plain, "0.50",
        "What one POL is worth in USDC. Nothing looks it up: it decides whether the gas of an automatic close costs more than it brings back.";

    DefaultMaxTokens: "DRAIN_DEFAULT_MAX_TOKENS", Some("requests.default_max_tokens"), None, Plain, "1024",
        "max_tokens of a request that names none.";
    DefaultMaxCost: "DRAIN_DEFAULT_MAX_COST", Some("requests.default_max_cost"), None, Plain, "0.05",
        "The most USDC that a request may cost where the price is not by token and the caller names no maxCost.";
    RequestTimeout: "DRAIN_REQUEST_TIMEOUT", Some("requests.timeout"), None, Plain, "2m",
        "Longest wait for a provider's whole answer.";
    Stream: "DRAIN_STREAM", Some("requests.stream"), None, Plain, "on",
        "Ask LLM providers for their answer as a stream where the MCP client wants progress, and pass its parts on while they come: on or off.";
    MaxAnswerBytes: "DRAIN_MAX_ANSWER_BYTES", Some("requests.max_answer_bytes"), None, Plain, "16777216",
        "Largest answer of a provider.";
    MaxRequestBytes: "DRAIN_MAX_REQUEST_BYTES", Some("requests.max_request_bytes"), None, Plain, "4194304",
        "Largest conversation that is sent.";
    Queue: "DRAIN_QUEUE", Some("requests.queue"), None, Plain, "64",
        "Requests that may wait on one channel; further ones are answered \"busy\".";
    RequestIdTime: "DRAIN_REQUEST_ID_TIME", Some("requests.request_id_time"), None, Plain, "24h",
        "How long a requestId stands for its request: the same request under it is answered as the first one and not paid again, another one is refused.";
    KeepAnswers: "DRAIN_KEEP_ANSWERS", Some("requests.keep_answers"), None, Plain, "7d",
        "How long paid answers are kept in the wallet's folder, so that a lost one can be fetched by its receipt; 0 keeps none.";
    AnswersMaxBytes: "DRAIN_ANSWERS_MAX_BYTES", Some("requests.answers_max_bytes"), None, Plain, "268435456",
        "How many bytes of paid answers are kept; the oldest go first.";
    PriceTolerance: "DRAIN_PRICE_TOLERANCE", Some("requests.price_tolerance_percent"), None, Plain, "25",
        "By how many percent a provider may raise a price over the one first seen before a person is asked.";
    DefaultDuration: "DRAIN_DEFAULT_DURATION", Some("requests.default_duration"), None, Plain, "24h",
        "How long a new channel is open when nobody says, within what the provider accepts.";
    AllowInsecure: "DRAIN_ALLOW_INSECURE", Some("requests.allow_insecure"), None, Plain, "off",
        "Allow providers on http and private addresses: on or off. For your own network only.";
    Wallet: "DRAIN_WALLET", None, None, Plain, "the only one",
        "Which wallet is meant where the configuration file has several, as tables [wallet.NAME]. drain-mcp serve runs all of them.";
    Listen: "DRAIN_LISTEN", Some("serve.listen"), None, Plain, "127.0.0.1:5858",
        "Where drain-mcp serve listens: address and port. Plain HTTP: TLS is the business of a proxy in front.";
    ListenPublic: "DRAIN_LISTEN_PUBLIC", Some("serve.listen_public"), None, Plain, "off",
        "Let DRAIN_LISTEN be an address that other machines reach: on or off. Tokens and answers are not encrypted on it, so only a proxy may reach it.";
    ReplicaUrl: "DRAIN_REPLICA_URL", Some("serve.replica_url"), None, Plain, "none",
        "With DRAIN_JOURNAL_URL: where other replicas reach this one, such as http://10.0.0.5:5858. They pass on to it what agents of a wallet ask that this one has. Tokens and answers cross that network: it must be private, or the URL https.";
    AllowedHosts: "DRAIN_ALLOWED_HOSTS", Some("serve.allowed_hosts"), None, Plain, "this machine",
        "Names by which clients call drain-mcp serve, such as a proxy's: hosts with or without a port, several separated by commas or blanks. Other Host headers are refused.";
    AllowedOrigins: "DRAIN_ALLOWED_ORIGINS", Some("serve.allowed_origins"), None, Plain, "none",
        "Web pages that may call drain-mcp serve, such as https://app.example.com. Requests of other pages are refused; programs send no Origin.";
    MetricsToken: "DRAIN_METRICS_TOKEN", None, Some("serve.metrics_token_file"), Secret, "none: this machine only",
        "What a scraper of drain-mcp serve shows as bearer token to see /metrics. Metrics hold what was spent.";
    ConsoleToken: "DRAIN_CONSOLE_TOKEN", None, Some("serve.console_token_file"), Secret, "none: no console",
        "What the operator shows to open /console of drain-mcp serve. drain-mcp console opens one for this machine without it.";
    DrainTime: "DRAIN_DRAIN_TIME", Some("serve.drain_time"), None, Plain, "20s",
        "How long calls that run may go on after drain-mcp serve was told to end. Then what channels have begun gets 20 seconds more.";
    MaxConnections: "DRAIN_MAX_CONNECTIONS", Some("serve.max_connections"), None, Plain, "1024",
        "Connections to drain-mcp serve at once; further ones are answered 503.";
    MaxAgentRequests: "DRAIN_MAX_AGENT_REQUESTS", Some("serve.max_agent_requests"), None, Plain, "64",
        "Calls of one agent of a fleet at once; further ones are answered 429. Of a client of the server (DRAIN_SERVER_URL): how many it has under way.";
    MaxAgentSessions: "DRAIN_MAX_AGENT_SESSIONS", Some("serve.max_agent_sessions"), None, Plain, "32",
        "Sessions of one agent of a fleet at once; further ones are answered 429. Clients of MCP 2026-07-28 need none.";
    SessionIdle: "DRAIN_SESSION_IDLE", Some("serve.session_idle"), None, Plain, "30m",
        "A session of a fleet's agent that is unused for so long ends; not before DRAIN_CALL_TIME, since a call of it may run.";
    MaxBodyBytes: "DRAIN_MAX_BODY_BYTES", Some("serve.max_body_bytes"), None, Plain, "8388608",
        "The largest request that drain-mcp serve reads, and that its client (DRAIN_SERVER_URL) sends; a larger one is answered 413.";
    CallTime: "DRAIN_CALL_TIME", Some("serve.call_time"), None, Plain, "15m",
        "The longest that a call of a fleet's agent is waited for; what it has begun goes on and is recorded. A client of the server (DRAIN_SERVER_URL) waits half a minute more.";

    GatewayChannels: "DRAIN_GATEWAY_CHANNELS", Some("serve.gateway_channels"), None, Plain, "4",
        "Channels to one provider that the OpenAI-compatible gateway opens for an agent where its requests overlap; beyond that they wait for each other. Only for agents that may open by themselves.";

    PlayMoney: "DRAIN_PLAY_MONEY", None, None, Plain, "off",
        "Mark every answer PLAY MONEY. Set by the sandbox; accepted only where every RPC endpoint is on loopback.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_well_formed() {
        let mut seen = BTreeSet::new();
        for key in Key::ALL {
            let spec = key.spec();
            let mut names = vec![spec.env.to_string()];
            names.extend(spec.aliases.iter().map(ToString::to_string));
            names.extend(spec.env_file());
            names.extend(spec.toml.iter().chain(&spec.toml_file).map(ToString::to_string));
            for name in names {
                assert!(seen.insert(name.clone()), "{name} twice");
            }
            assert!(spec.env.starts_with("DRAIN_"), "{}", spec.env);
            assert!(spec.meaning.ends_with('.'), "{}", spec.env);
            assert!(!spec.default.is_empty());
            for toml in spec.toml.iter().chain(&spec.toml_file) {
                assert_eq!(toml.matches('.').count(), 1, "{toml}");
            }
        }
    }

    #[test]
    fn no_secret_has_a_place_in_the_file() {
        for key in Key::ALL {
            let spec = key.spec();
            assert!(spec.kind != Kind::Secret || spec.toml.is_none(), "{}", spec.env);
            assert_eq!(spec.kind != Kind::Plain, spec.toml_file.is_some(), "{}", spec.env);
        }
    }
}
