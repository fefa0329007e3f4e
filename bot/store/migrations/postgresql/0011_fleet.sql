-- What each process that shares this database says about itself every few seconds, so that `check` and /readyz can tell
-- who is there and where they disagree. A process that died is no longer seen.

CREATE TABLE processes (
    id            TEXT COLLATE "C" PRIMARY KEY,
    role          TEXT   NOT NULL CHECK (role IN ('gateway', 'worker')),
    version       TEXT   NOT NULL,
    shards        TEXT   NOT NULL,
    provider_keys TEXT   NOT NULL CHECK (length(provider_keys) <= 1000),
    settings      TEXT   NOT NULL CHECK (length(settings) <= 10000),
    seen_at       BIGINT NOT NULL
);
