-- Whether the opener was given the channel: a call that a crash cut off is given it by the same call again, and does not
-- lock a second deposit.
ALTER TABLE channels ADD COLUMN told INTEGER NOT NULL DEFAULT 1;

-- Which journal this is and how many commits it holds: a file beside it tells when an older copy was put back.
CREATE TABLE identity (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    id      TEXT    NOT NULL,
    commits INTEGER NOT NULL,
    -- What a person should know of it, such as that an older copy was put back.
    notice  TEXT
) STRICT;
INSERT INTO identity (only, id, commits) VALUES (1, lower(hex(randomblob(16))), 0);
