-- Newly signed amounts in buckets of time: minutes for the window of an hour, half hours for that of a day (M4).
CREATE TABLE usage (
    scope  TEXT    NOT NULL,
    window TEXT    NOT NULL CHECK (window IN ('hour', 'day')),
    bucket INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (scope, window, bucket)
) STRICT, WITHOUT ROWID;

-- The time that windows are measured by; it never falls.
CREATE TABLE window_clock (at INTEGER NOT NULL) STRICT;
INSERT INTO window_clock VALUES (0);

-- Who asked, whether the provider was without history, and when the growth was counted.
ALTER TABLE vouchers ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE vouchers ADD COLUMN newcomer INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vouchers ADD COLUMN counted_at INTEGER NOT NULL DEFAULT 0;

-- Gas money in gwei: the most that a transaction may take, and what it took.
ALTER TABLE transactions DROP COLUMN gas_wei;
ALTER TABLE transactions ADD COLUMN gas_most INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transactions ADD COLUMN gas_used INTEGER;
