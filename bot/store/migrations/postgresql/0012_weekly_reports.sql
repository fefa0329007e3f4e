-- Weekly reports: which week of which server was reported, by the date on which it began in the server's time zone.
-- A process that posts one claims it until `claimed_until_at`; after a crash another one goes on from there.

CREATE TABLE weekly_reports (
    guild_id         BIGINT  NOT NULL,
    week             TEXT COLLATE "C" NOT NULL CHECK (week ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$'),
    first_claimed_at BIGINT  NOT NULL,
    claimed_until_at BIGINT  NOT NULL CHECK (claimed_until_at >= first_claimed_at),
    done_at          BIGINT,
    PRIMARY KEY (guild_id, week)
);
