-- A caller's own name for a request, what it asked (SHA-256), and the answer's SHA-256: the same request again is not paid
-- a second time.
ALTER TABLE vouchers ADD COLUMN request_key TEXT;
ALTER TABLE vouchers ADD COLUMN request_body TEXT;
ALTER TABLE vouchers ADD COLUMN answer_hash TEXT;
CREATE INDEX vouchers_by_key ON vouchers (agent, request_key, audit) WHERE request_key IS NOT NULL;
CREATE INDEX vouchers_by_time ON vouchers (created_at);

-- Requests with a name of a journal that a copy took the place of: they are not paid again either.
CREATE TABLE carried_requests (
    agent        TEXT    NOT NULL,
    request_key  TEXT    NOT NULL,
    request_body TEXT    NOT NULL,
    intent       INTEGER NOT NULL,
    nonce        INTEGER NOT NULL,
    channel_id   TEXT,
    bound        INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (agent, request_key)
) STRICT, WITHOUT ROWID;
