-- Limits of channels and categories: where each order was made, and what was ordered there. A thread counts as its
-- channel. Orders from before this version count for no channel.

ALTER TABLE reservations ADD COLUMN channel_id BIGINT;
ALTER TABLE reservations ADD COLUMN category_id BIGINT CHECK (category_id IS NULL OR channel_id IS NOT NULL);

CREATE TRIGGER reservations_keep_their_channel BEFORE UPDATE OF channel_id, category_id ON reservations FOR EACH ROW
EXECUTE FUNCTION refuse('the channel of a reservation never changes');

-- Sums per channel and per category in each quarter, and in each day of UTC, like those of an account.
CREATE TABLE channel_totals (
    channel_id         BIGINT  NOT NULL,
    quarter            BIGINT  NOT NULL,
    held_usd_micros    BIGINT  NOT NULL CHECK (held_usd_micros >= 0),
    settled_usd_micros BIGINT  NOT NULL CHECK (settled_usd_micros >= 0),
    PRIMARY KEY (channel_id, quarter)
) WITH (fillfactor = 50);

CREATE TABLE channel_daily_totals (
    channel_id         BIGINT  NOT NULL,
    day                BIGINT  NOT NULL,
    held_usd_micros    BIGINT  NOT NULL CHECK (held_usd_micros >= 0),
    settled_usd_micros BIGINT  NOT NULL CHECK (settled_usd_micros >= 0),
    PRIMARY KEY (channel_id, day)
) WITH (fillfactor = 50);

CREATE FUNCTION begin_a_quarter_of_channel() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO channel_daily_totals (channel_id, day, held_usd_micros, settled_usd_micros)
    VALUES (NEW.channel_id, NEW.quarter / 96, NEW.held_usd_micros, NEW.settled_usd_micros)
    ON CONFLICT (channel_id, day) DO UPDATE SET
        held_usd_micros = channel_daily_totals.held_usd_micros + excluded.held_usd_micros,
        settled_usd_micros = channel_daily_totals.settled_usd_micros + excluded.settled_usd_micros;
    RETURN NULL;
END
$$;

CREATE FUNCTION change_the_day_of_channel() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    UPDATE channel_daily_totals SET
        held_usd_micros = held_usd_micros + NEW.held_usd_micros - OLD.held_usd_micros,
        settled_usd_micros = settled_usd_micros + NEW.settled_usd_micros - OLD.settled_usd_micros
    WHERE channel_id = NEW.channel_id AND day = NEW.quarter / 96;
    RETURN NULL;
END
$$;

CREATE TRIGGER channel_totals_begin_a_quarter AFTER INSERT ON channel_totals FOR EACH ROW
EXECUTE FUNCTION begin_a_quarter_of_channel();

CREATE TRIGGER channel_totals_change_their_day AFTER UPDATE ON channel_totals FOR EACH ROW
EXECUTE FUNCTION change_the_day_of_channel();

CREATE TRIGGER channel_totals_keep_their_quarter BEFORE UPDATE OF channel_id, quarter ON channel_totals FOR EACH ROW
EXECUTE FUNCTION refuse('a total stays the one of its channel and quarter');

CREATE FUNCTION book_reservation_in_channels() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO channel_totals (channel_id, quarter, held_usd_micros, settled_usd_micros)
    SELECT NEW.channel_id, NEW.quarter, NEW.held_usd_micros, 0
    UNION ALL SELECT NEW.category_id, NEW.quarter, NEW.held_usd_micros, 0 WHERE NEW.category_id IS NOT NULL
    ON CONFLICT (channel_id, quarter)
    DO UPDATE SET held_usd_micros = channel_totals.held_usd_micros + excluded.held_usd_micros;
    RETURN NULL;
END
$$;

CREATE FUNCTION book_resolution_in_channels() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    UPDATE channel_totals SET
        held_usd_micros = held_usd_micros - OLD.held_usd_micros,
        settled_usd_micros = settled_usd_micros + NEW.settled_usd_micros
    WHERE channel_id IN (NEW.channel_id, NEW.category_id) AND quarter = NEW.quarter;
    RETURN NULL;
END
$$;

CREATE TRIGGER reservations_are_reserved_in_channels AFTER INSERT ON reservations FOR EACH ROW
WHEN (NEW.channel_id IS NOT NULL)
EXECUTE FUNCTION book_reservation_in_channels();

CREATE TRIGGER reservations_are_resolved_in_channels AFTER UPDATE OF state ON reservations FOR EACH ROW
WHEN (NEW.channel_id IS NOT NULL)
EXECUTE FUNCTION book_resolution_in_channels();

-- `warned_until_at` is the end of the window in which the moderators were told that little is left for a channel.
ALTER TABLE limits ADD COLUMN warned_until_at BIGINT;
ALTER TABLE limits ADD CONSTRAINT limits_warned_channel CHECK (warned_until_at IS NULL OR subject = 'channel');
ALTER TABLE limits DROP CONSTRAINT limits_subject_check;
ALTER TABLE limits ADD CONSTRAINT limits_subject_check
    CHECK (subject IN ('member', 'role', 'channel', 'default', 'server'));
