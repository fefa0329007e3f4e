-- Weekly reports: which week of which server was reported, by the date on which it began in the server's time zone.
-- A process that posts one claims it until `claimed_until_at`; after a crash another one goes on from there.

CREATE TABLE weekly_reports (
    guild_id         INTEGER NOT NULL,
    week             TEXT    NOT NULL CHECK (week GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'),
    first_claimed_at INTEGER NOT NULL,
    claimed_until_at INTEGER NOT NULL CHECK (claimed_until_at >= first_claimed_at),
    done_at          INTEGER,
    PRIMARY KEY (guild_id, week)
) STRICT, WITHOUT ROWID;
