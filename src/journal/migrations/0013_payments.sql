-- Payments of single requests, without a channel: each is one signed transfer that its payee may send (EIP-3009, or a
-- transaction over Tempo).
CREATE TABLE payments (
    id             INTEGER PRIMARY KEY,
    protocol       TEXT    NOT NULL CHECK (protocol IN ('mpp', 'mpp_tempo', 'x402v1', 'x402v2')),
    chain_id       INTEGER NOT NULL,
    wallet         TEXT    NOT NULL,
    token          TEXT    NOT NULL,
    payee          TEXT    NOT NULL,
    -- Who is asked: host, and port where it is not the usual one.
    host           TEXT    NOT NULL,
    -- The listing's id where the directory lists it, else the host.
    provider_id    TEXT    NOT NULL,
    -- Method and path.
    what           TEXT    NOT NULL,
    -- The most that it can cost; over Tempo with its gas.
    amount         INTEGER NOT NULL CHECK (amount > 0),
    -- How much of that is for gas, at most.
    gas            INTEGER NOT NULL,
    -- What budgets count of it: what it cost once the chain has said so, zero where it can never be taken.
    growth         INTEGER NOT NULL CHECK (growth BETWEEN 0 AND amount),
    valid_before   INTEGER NOT NULL,
    -- The token takes each once; over Tempo the transfer's memo, which is kept to one payment here alone.
    transfer_nonce TEXT    NOT NULL UNIQUE,
    state          TEXT    NOT NULL CHECK (state IN ('in_flight', 'settled', 'not_charged')),
    -- What was booked for it.
    cost           INTEGER,
    -- The chain has said, at a block that stays, what became of it.
    confirmed      INTEGER NOT NULL DEFAULT 0,
    -- The transaction that took it, by the payee's word; over Tempo the one that was signed.
    tx_hash        TEXT,
    note           TEXT,
    created_at     INTEGER NOT NULL,
    settled_at     INTEGER,
    agent          TEXT    NOT NULL,
    newcomer       INTEGER NOT NULL,
    counted_at     INTEGER NOT NULL,
    audit          INTEGER NOT NULL,
    request_key    TEXT,
    request_body   TEXT,
    answer_hash    TEXT
) STRICT;
CREATE INDEX payments_unconfirmed ON payments (id) WHERE confirmed = 0;
CREATE INDEX payments_by_key ON payments (agent, request_key, audit) WHERE request_key IS NOT NULL;
CREATE INDEX payments_by_time ON payments (created_at);

-- Whom a host was first paid to; another one waits for a person. Nobody where a person has said that the next one is right.
CREATE TABLE payee_pins (
    host      TEXT    NOT NULL,
    chain_id  INTEGER NOT NULL,
    payee     TEXT    NOT NULL,
    pinned_at INTEGER NOT NULL,
    PRIMARY KEY (host, chain_id)
) STRICT, WITHOUT ROWID;
