-- What stands until a person lifts it: a freeze of the wallet (M11), one row a source.
CREATE TABLE flags (
    name  TEXT    PRIMARY KEY,
    value TEXT    NOT NULL,
    at    INTEGER NOT NULL
) STRICT;
