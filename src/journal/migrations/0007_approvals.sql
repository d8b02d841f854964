-- What a person was asked, and what the answer was (M5). Bound to exactly one kind of payment; used once.
CREATE TABLE approvals (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    kind          TEXT    NOT NULL CHECK (kind IN ('request', 'deposit')),
    agent         TEXT    NOT NULL,
    provider_id   TEXT    NOT NULL,
    provider_name TEXT    NOT NULL,
    wallet        TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    chain_id      INTEGER NOT NULL,
    contract      TEXT    NOT NULL,
    amount        INTEGER NOT NULL,
    duration      INTEGER NOT NULL,
    prices        TEXT    NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('waiting', 'approved', 'denied', 'used')),
    asked_at      INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    decided_at    INTEGER,
    decided_via   TEXT,
    used_by       TEXT
) STRICT;
-- Whose channel it is.
ALTER TABLE channels ADD COLUMN agent TEXT NOT NULL DEFAULT '';

CREATE INDEX approvals_alive ON approvals (expires_at) WHERE state != 'used';
