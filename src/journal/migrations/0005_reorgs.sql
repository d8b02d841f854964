-- The block that a transaction was final in: another one in its place is a reorganisation deeper than was waited for.
ALTER TABLE transactions ADD COLUMN block_number INTEGER;
ALTER TABLE transactions ADD COLUMN block_hash TEXT;

-- What a person should know of a channel.
ALTER TABLE channels ADD COLUMN note TEXT;

-- A channel's key holds its id (M2), which a reorganisation may change: under another id its books are fresh.
DROP TRIGGER channels_never_fall;
CREATE TRIGGER channels_never_fall BEFORE UPDATE OF signed, nonce ON channels
WHEN (NEW.signed < OLD.signed OR NEW.nonce < OLD.nonce) AND NEW.channel_id IS OLD.channel_id
BEGIN SELECT RAISE(ABORT, 'signed amount or nonce would fall'); END;
