-- Amounts are USDC base units; times are Unix seconds; addresses, ids and hashes are lower-case 0x text.

CREATE TABLE channels (
    intent          INTEGER PRIMARY KEY AUTOINCREMENT,
    chain_id        INTEGER NOT NULL,
    contract        TEXT    NOT NULL,
    generation      TEXT    NOT NULL CHECK (generation IN ('v1', 'v2')),
    token           TEXT    NOT NULL,
    consumer        TEXT    NOT NULL,
    provider_id     TEXT    NOT NULL,
    provider_name   TEXT    NOT NULL,
    provider_wallet TEXT    NOT NULL,
    api_url         TEXT    NOT NULL,
    category        TEXT    NOT NULL,
    prices          TEXT    NOT NULL,
    duration        INTEGER NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('opening', 'open', 'closing', 'closed', 'failed')),
    channel_id      TEXT,
    expires_at      INTEGER NOT NULL DEFAULT 0,
    deposit         INTEGER NOT NULL CHECK (deposit >= 0),
    cap             INTEGER NOT NULL CHECK (cap >= 0),
    claimed         INTEGER NOT NULL DEFAULT 0 CHECK (claimed >= 0),
    signed          INTEGER NOT NULL DEFAULT 0 CHECK (signed >= 0),
    charged         INTEGER NOT NULL DEFAULT 0 CHECK (charged >= 0),
    disputed        INTEGER NOT NULL DEFAULT 0 CHECK (disputed >= 0),
    nonce           INTEGER NOT NULL DEFAULT 0 CHECK (nonce >= 0),
    requests        INTEGER NOT NULL DEFAULT 0,
    recovered       INTEGER NOT NULL DEFAULT 0,
    books_known     INTEGER NOT NULL DEFAULT 1,
    offences        INTEGER NOT NULL DEFAULT 0,
    refunded        INTEGER,
    created_at      INTEGER NOT NULL,
    used_at         INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX channels_by_id ON channels (chain_id, contract, channel_id) WHERE channel_id IS NOT NULL;

-- M2 in the database itself: whatever the code does, signed and nonce never fall.
CREATE TRIGGER channels_never_fall BEFORE UPDATE OF signed, nonce ON channels
WHEN NEW.signed < OLD.signed OR NEW.nonce < OLD.nonce
BEGIN SELECT RAISE(ABORT, 'signed amount or nonce would fall'); END;

CREATE TABLE vouchers (
    intent     INTEGER NOT NULL REFERENCES channels (intent),
    nonce      INTEGER NOT NULL,
    amount     INTEGER NOT NULL,
    bound      INTEGER NOT NULL,
    growth     INTEGER NOT NULL,
    model      TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('in_flight', 'settled', 'not_charged', 'probe')),
    cost       INTEGER,
    disputed   INTEGER,
    note       TEXT,
    created_at INTEGER NOT NULL,
    settled_at INTEGER,
    PRIMARY KEY (intent, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX vouchers_in_flight ON vouchers (intent) WHERE state = 'in_flight';

CREATE TABLE spent_by_day (
    day     INTEGER PRIMARY KEY,
    charged INTEGER NOT NULL
) STRICT;

CREATE TABLE transactions (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    intent        INTEGER REFERENCES channels (intent),
    kind          TEXT    NOT NULL,
    chain_id      INTEGER NOT NULL,
    wallet        TEXT    NOT NULL,
    target        TEXT    NOT NULL,
    amount        INTEGER,
    account_nonce INTEGER,
    raw           BLOB,
    hash          TEXT,
    state         TEXT    NOT NULL CHECK (state IN ('planned', 'signed', 'broadcast', 'final', 'reverted', 'dropped')),
    reason        TEXT,
    gas_wei       TEXT,
    used_by       INTEGER REFERENCES channels (intent),
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER
) STRICT;
CREATE INDEX transactions_unfinished ON transactions (state) WHERE state IN ('planned', 'signed', 'broadcast');

-- What a person would have to confirm if it changed (M14, design section 6).
CREATE TABLE provider_pins (
    provider_id TEXT PRIMARY KEY,
    api_url     TEXT NOT NULL,
    wallet      TEXT NOT NULL,
    prices      TEXT,
    pinned_at   INTEGER NOT NULL
) STRICT;
CREATE TABLE fee_wallet_pin (
    chain_id INTEGER PRIMARY KEY,
    wallet   TEXT NOT NULL
) STRICT;

-- Providers whose instructions an agent was shown.
CREATE TABLE docs_read (
    provider_id TEXT PRIMARY KEY,
    at          INTEGER NOT NULL
) STRICT;
