-- Every decision about money, as it was taken, in the transaction that took it: who asked, by which rule, what was signed,
-- and what came of it. Rows are only ever added.
CREATE TABLE audit (
    seq      INTEGER PRIMARY KEY,
    -- By the machine's clock.
    at       INTEGER NOT NULL,
    -- The call that asked; NULL where the runtime acts by itself.
    request  TEXT,
    agent    TEXT    NOT NULL,
    tool     TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    decision TEXT    NOT NULL CHECK (decision IN ('allowed', 'refused', 'recorded')),
    -- What allowed or refused it.
    rule     TEXT,
    provider TEXT,
    intent   INTEGER,
    nonce    INTEGER,
    tx       INTEGER,
    approval TEXT,
    -- The channel's id on chain, and a transaction's hash.
    channel  TEXT,
    hash     TEXT,
    -- USDC base units: the voucher's amount or what is moved, by how much it grew, the most that the request can cost, what
    -- was left of the limit that refused, what was booked, claimed beyond, and what came back.
    amount   INTEGER,
    growth   INTEGER,
    bound    INTEGER,
    left     INTEGER,
    charged  INTEGER,
    disputed INTEGER,
    refunded INTEGER,
    outcome  TEXT,
    -- The row of the decision that this is the outcome of.
    decided  INTEGER
) STRICT;
CREATE INDEX audit_refused ON audit (agent, kind, rule, at) WHERE decision = 'refused';

CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit record is only added to'); END;
CREATE TRIGGER audit_never_shrinks BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit record is only added to'); END;
CREATE TRIGGER audit_never_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'the audit record is only added to'); END;

-- A refusal that repeats within a minute is counted beside its first row: a flood of refused calls fills no disk.
CREATE TABLE audit_repeats (
    seq     INTEGER PRIMARY KEY REFERENCES audit (seq),
    times   INTEGER NOT NULL CHECK (times > 0),
    last_at INTEGER NOT NULL
) STRICT;
CREATE TRIGGER audit_repeats_never_fall BEFORE UPDATE ON audit_repeats
WHEN NEW.seq != OLD.seq OR NEW.times <= OLD.times
BEGIN SELECT RAISE(ABORT, 'the audit record is only added to'); END;
CREATE TRIGGER audit_repeats_never_shrink BEFORE DELETE ON audit_repeats
BEGIN SELECT RAISE(ABORT, 'the audit record is only added to'); END;

-- Each voucher names its decision's row: no path forgets one.
ALTER TABLE vouchers ADD COLUMN audit INTEGER;
CREATE TRIGGER vouchers_are_audited BEFORE INSERT ON vouchers
WHEN NEW.audit IS NULL
BEGIN SELECT RAISE(ABORT, 'a voucher without its row in the audit record'); END;

-- Whose call a transaction belongs to, whenever its end is recorded.
ALTER TABLE transactions ADD COLUMN request TEXT;
ALTER TABLE transactions ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE transactions ADD COLUMN tool TEXT NOT NULL DEFAULT '';
