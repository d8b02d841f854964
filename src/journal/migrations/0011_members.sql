-- Whose a channel is in a fleet. Channels of the operator have no row here, and are no agent's.
CREATE TABLE channel_members (
    intent    INTEGER NOT NULL REFERENCES channels (intent),
    agent     TEXT    NOT NULL,
    joined_at INTEGER NOT NULL,
    -- Who has left sees the channel no more.
    left_at   INTEGER,
    -- USDC base units: by how much this agent's requests raised what is signed, what was booked for them, and what was
    -- claimed beyond.
    signed    INTEGER NOT NULL DEFAULT 0 CHECK (signed >= 0),
    charged   INTEGER NOT NULL DEFAULT 0 CHECK (charged >= 0),
    disputed  INTEGER NOT NULL DEFAULT 0 CHECK (disputed >= 0),
    requests  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (intent, agent)
) STRICT, WITHOUT ROWID;
CREATE INDEX channel_members_now ON channel_members (agent) WHERE left_at IS NULL;

-- Whether other agents of the wallet that share may use it too.
ALTER TABLE channels ADD COLUMN joinable INTEGER NOT NULL DEFAULT 0;

-- What was booked for an agent's requests, by day.
CREATE TABLE spent_by_agent (
    agent   TEXT    NOT NULL,
    day     INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    PRIMARY KEY (agent, day)
) STRICT, WITHOUT ROWID;
INSERT INTO spent_by_agent (agent, day, charged)
    SELECT agent, settled_at / 86400, SUM(cost) FROM vouchers
    WHERE settled_at IS NOT NULL AND cost > 0 GROUP BY agent, settled_at / 86400;
