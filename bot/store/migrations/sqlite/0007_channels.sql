-- Limits of channels and categories: where each order was made, and what was ordered there. A thread counts as its
-- channel. Orders from before this version count for no channel.

ALTER TABLE reservations ADD COLUMN channel_id INTEGER;
ALTER TABLE reservations ADD COLUMN category_id INTEGER CHECK (category_id IS NULL OR channel_id IS NOT NULL);

CREATE TRIGGER reservations_keep_their_channel BEFORE UPDATE OF channel_id, category_id ON reservations
BEGIN
    SELECT RAISE(ABORT, 'the channel of a reservation never changes');
END;

-- Sums per channel and per category in each quarter, and in each day of UTC, like those of an account.
CREATE TABLE channel_totals (
    channel_id         INTEGER NOT NULL,
    quarter            INTEGER NOT NULL,
    held_usd_micros    INTEGER NOT NULL CHECK (held_usd_micros >= 0),
    settled_usd_micros INTEGER NOT NULL CHECK (settled_usd_micros >= 0),
    PRIMARY KEY (channel_id, quarter)
) STRICT, WITHOUT ROWID;

CREATE TABLE channel_daily_totals (
    channel_id         INTEGER NOT NULL,
    day                INTEGER NOT NULL,
    held_usd_micros    INTEGER NOT NULL CHECK (held_usd_micros >= 0),
    settled_usd_micros INTEGER NOT NULL CHECK (settled_usd_micros >= 0),
    PRIMARY KEY (channel_id, day)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER channel_totals_begin_a_quarter AFTER INSERT ON channel_totals
BEGIN
    INSERT INTO channel_daily_totals (channel_id, day, held_usd_micros, settled_usd_micros)
    VALUES (NEW.channel_id, NEW.quarter / 96, NEW.held_usd_micros, NEW.settled_usd_micros)
    ON CONFLICT (channel_id, day) DO UPDATE SET
        held_usd_micros = held_usd_micros + excluded.held_usd_micros,
        settled_usd_micros = settled_usd_micros + excluded.settled_usd_micros;
END;

CREATE TRIGGER channel_totals_change_their_day AFTER UPDATE ON channel_totals
BEGIN
    UPDATE channel_daily_totals SET
        held_usd_micros = held_usd_micros + NEW.held_usd_micros - OLD.held_usd_micros,
        settled_usd_micros = settled_usd_micros + NEW.settled_usd_micros - OLD.settled_usd_micros
    WHERE channel_id = NEW.channel_id AND day = NEW.quarter / 96;
END;

CREATE TRIGGER channel_totals_keep_their_quarter BEFORE UPDATE OF channel_id, quarter ON channel_totals
BEGIN
    SELECT RAISE(ABORT, 'a total stays the one of its channel and quarter');
END;

CREATE TRIGGER reservations_are_reserved_in_channels AFTER INSERT ON reservations WHEN NEW.channel_id IS NOT NULL
BEGIN
    INSERT INTO channel_totals (channel_id, quarter, held_usd_micros, settled_usd_micros)
    SELECT NEW.channel_id, NEW.quarter, NEW.held_usd_micros, 0
    UNION ALL SELECT NEW.category_id, NEW.quarter, NEW.held_usd_micros, 0 WHERE NEW.category_id IS NOT NULL
    ON CONFLICT (channel_id, quarter) DO UPDATE SET held_usd_micros = held_usd_micros + excluded.held_usd_micros;
END;

CREATE TRIGGER reservations_are_resolved_in_channels AFTER UPDATE OF state ON reservations
WHEN NEW.channel_id IS NOT NULL
BEGIN
    UPDATE channel_totals SET
        held_usd_micros = held_usd_micros - OLD.held_usd_micros,
        settled_usd_micros = settled_usd_micros + NEW.settled_usd_micros
    WHERE channel_id IN (NEW.channel_id, NEW.category_id) AND quarter = NEW.quarter;
END;

-- `warned_until_at` is the end of the window in which the moderators were told that little is left for a channel.
CREATE TABLE limits_with_channels (
    guild_id          INTEGER NOT NULL,
    subject           TEXT    NOT NULL CHECK (subject IN ('member', 'role', 'channel', 'default', 'server')),
    subject_id        INTEGER NOT NULL,            -- 0 where there is only one: default and server
    amount_usd_micros INTEGER CHECK (amount_usd_micros BETWEEN 0 AND 9999999999999),   -- NULL: unlimited
    period            TEXT    NOT NULL CHECK (period IN ('day', 'week', 'month')),
    warned_until_at   INTEGER CHECK (warned_until_at IS NULL OR subject = 'channel'),
    PRIMARY KEY (guild_id, subject, subject_id),
    CHECK ((subject IN ('default', 'server')) = (subject_id = 0))
) STRICT, WITHOUT ROWID;

INSERT INTO limits_with_channels (guild_id, subject, subject_id, amount_usd_micros, period)
SELECT guild_id, subject, subject_id, amount_usd_micros, period FROM limits;

DROP TABLE limits;
ALTER TABLE limits_with_channels RENAME TO limits;
