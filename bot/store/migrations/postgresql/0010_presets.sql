-- Presets and defaults of orders, votes in comparisons, and favourites.

-- A preset is a server's (user_id is NULL) or a member's own, in every server (guild_id is NULL). `name_key` is the
-- name as it is compared: without case and outer space.
CREATE TABLE presets (
    id           TEXT COLLATE "C" PRIMARY KEY,
    guild_id     BIGINT,
    user_id      BIGINT,
    name         TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 50),
    name_key     TEXT COLLATE "C" NOT NULL CHECK (length(name_key) BETWEEN 1 AND 100),
    model_id     TEXT,
    more         TEXT    NOT NULL CHECK (length(more) <= 2000),
    words_before TEXT    NOT NULL CHECK (length(words_before) <= 1000),
    words_after  TEXT    NOT NULL CHECK (length(words_after) <= 1000),
    created_at   BIGINT  NOT NULL,
    CHECK ((guild_id IS NULL) <> (user_id IS NULL))
);

CREATE UNIQUE INDEX presets_of_server ON presets (guild_id, name_key) WHERE guild_id IS NOT NULL;
CREATE UNIQUE INDEX presets_of_member ON presets (user_id, name_key) WHERE user_id IS NOT NULL;

-- The name of the preset that an order was made with, for its card.
ALTER TABLE replies ADD COLUMN preset_name TEXT CHECK (length(preset_name) BETWEEN 1 AND 50);

-- What a member's orders in one server begin with, where a command does not say otherwise. NULL: not set.
CREATE TABLE member_defaults (
    guild_id     BIGINT  NOT NULL,
    user_id      BIGINT  NOT NULL,
    model_id     TEXT,
    aspect_ratio TEXT,
    resolution   TEXT,
    private      BOOLEAN,
    preset_name  TEXT    CHECK (length(preset_name) BETWEEN 1 AND 50),
    PRIMARY KEY (guild_id, user_id)
);

CREATE INDEX member_defaults_by_member ON member_defaults (user_id);

-- One vote a member in each comparison, for the image of one of its jobs.
CREATE TABLE votes (
    reply_id TEXT COLLATE "C" NOT NULL REFERENCES replies (id),
    user_id  BIGINT  NOT NULL,
    job_id   TEXT COLLATE "C" NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (reply_id, user_id)
);

CREATE INDEX votes_by_member ON votes (user_id);

-- Orders that their member marked in /history.
CREATE TABLE favourites (
    reply_id TEXT COLLATE "C" PRIMARY KEY REFERENCES replies (id)
);
