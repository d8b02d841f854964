-- What a provider did with our vouchers, by wallet and host ("0x... host"): a hundred listings of one provider share it.
CREATE TABLE provider_records (
    provider  TEXT    PRIMARY KEY,
    answered  INTEGER NOT NULL CHECK (answered >= 0),
    failed    INTEGER NOT NULL CHECK (failed >= 0),
    refused   INTEGER NOT NULL CHECK (refused >= 0),
    offences  INTEGER NOT NULL CHECK (offences >= 0),
    -- Offences up to the last time that a person trusted it.
    forgiven  INTEGER NOT NULL CHECK (forgiven >= 0),
    -- The last outcomes, oldest first: 'a' answered, 'f' failed.
    recent    TEXT    NOT NULL,
    charged   INTEGER NOT NULL CHECK (charged >= 0),
    disputed  INTEGER NOT NULL CHECK (disputed >= 0),
    first_at  INTEGER NOT NULL,
    last_at   INTEGER NOT NULL,
    set_aside TEXT,
    set_aside_at INTEGER
) STRICT, WITHOUT ROWID;

-- The contract that a provider was first paid on.
ALTER TABLE provider_pins ADD COLUMN contract TEXT;

-- A request is counted as failed once; a close answer that breaks a rule once a channel.
ALTER TABLE vouchers ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN bad_close INTEGER NOT NULL DEFAULT 0;
