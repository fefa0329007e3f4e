-- The books on PostgreSQL, version 1: the same tables, conditions and triggers as in the file (see ../sqlite).
-- Amounts are integer micro-dollars (`_usd_micros`); `_at` columns are microseconds since 1970 in UTC.
-- A quarter is a quarter of an hour since 1970: every time zone's offset is a multiple of it, so every calendar
-- day, week and month of every zone is a whole number of quarters.

-- Whatever is ordered or is a key compares byte by byte, COLLATE "C", as in SQLite: the order of two ids must not depend
-- on the language of the server.

CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation';
END
$$;

-- -- commands and jobs -------------------------------------------------------------------------------

CREATE TABLE replies (
    id               TEXT COLLATE "C" PRIMARY KEY,
    user_id          BIGINT,                       -- NULL once the member asked to be forgotten
    role_ids         TEXT    NOT NULL,
    application_id   BIGINT  NOT NULL,
    interaction_id   BIGINT  NOT NULL UNIQUE,      -- the same command event is accepted once
    token            TEXT,                         -- a credential for 15 minutes; NULL once erased
    token_expires_at BIGINT  NOT NULL,
    guild_id         BIGINT  NOT NULL,
    channel_id       BIGINT  NOT NULL,
    message_id       BIGINT, 
    private          BOOLEAN NOT NULL,
    file_limit_bytes BIGINT  NOT NULL CHECK (file_limit_bytes >= 0),
    locale           TEXT    NOT NULL,
    language         TEXT    NOT NULL CHECK (language ~ '^[a-z]{2,8}$'),
    accepted         BOOLEAN NOT NULL,
    delivery         TEXT    NOT NULL CHECK (delivery IN ('pending', 'delivered', 'impossible')),
    cancel_reason    TEXT,                         -- what the moderator wrote who cancelled it
    created_at       BIGINT  NOT NULL
);

CREATE INDEX replies_undelivered ON replies (delivery, created_at) WHERE delivery <> 'delivered';
CREATE INDEX replies_private ON replies (created_at) WHERE private;
CREATE INDEX replies_by_member ON replies (user_id, guild_id, created_at);
CREATE INDEX replies_with_token ON replies (token_expires_at) WHERE token IS NOT NULL;

CREATE TABLE jobs (
    id                  TEXT COLLATE "C" PRIMARY KEY,
    reply_id            TEXT COLLATE "C" NOT NULL REFERENCES replies (id),
    ordinal             BIGINT  NOT NULL CHECK (ordinal >= 0),
    guild_id            BIGINT  NOT NULL,
    user_id             BIGINT,                    -- NULL once the member asked to be forgotten
    kind                TEXT    NOT NULL CHECK (kind IN ('imagine', 'edit', 'upscale')),
    model_id            TEXT COLLATE "C" NOT NULL,
    prompt              TEXT    NOT NULL,
    options             TEXT    NOT NULL,
    provider            TEXT COLLATE "C" NOT NULL,
    path                TEXT    NOT NULL,
    body                TEXT    NOT NULL,
    seed                BIGINT, 
    reserved_usd_micros BIGINT  NOT NULL CHECK (reserved_usd_micros >= 0),
    status              TEXT    NOT NULL CHECK (
        status IN ('queued', 'submitting', 'running', 'uncertain', 'succeeded', 'failed', 'cancelled')
    ),
    remote_id           TEXT,
    webhook_token       TEXT,
    created_at          BIGINT  NOT NULL,
    submitted_at        BIGINT, 
    deadline_at         BIGINT, 
    finished_at         BIGINT, 
    took_micros         BIGINT  CHECK (took_micros > 0), -- how long the provider worked on it, as far as can be told
    charged_usd_micros  BIGINT,                     -- as settled in the reservation, which bounds it
    failure_reason      TEXT,
    failure_hint        TEXT    NOT NULL DEFAULT '',
    erased_at           BIGINT,                     -- when what was asked for was forgotten: on request, or by age
    UNIQUE (reply_id, ordinal),
    CHECK ((status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK ((status = 'succeeded') = (charged_usd_micros IS NOT NULL)),
    CHECK ((status = 'failed') = (failure_reason IS NOT NULL)),
    CHECK (status NOT IN ('running', 'succeeded') OR remote_id IS NOT NULL),
    CHECK (erased_at IS NULL OR (finished_at IS NOT NULL AND prompt = '' AND options = '{}' AND body = '{}'
        AND seed IS NULL AND failure_hint = ''))
);

CREATE INDEX jobs_to_erase ON jobs (created_at) WHERE erased_at IS NULL;
CREATE INDEX jobs_forgotten ON jobs (finished_at) WHERE user_id IS NULL;
CREATE INDEX jobs_unfinished ON jobs (user_id) WHERE finished_at IS NULL;
CREATE INDEX jobs_unfinished_by_server ON jobs (guild_id, finished_at) WHERE finished_at IS NULL;
CREATE INDEX jobs_by_server ON jobs (guild_id, created_at);
CREATE INDEX jobs_lost ON jobs (provider, submitted_at)
    WHERE status = 'uncertain' OR failure_reason IN ('outcome_unknown', 'internal');
CREATE UNIQUE INDEX jobs_remote ON jobs (provider, remote_id) WHERE remote_id IS NOT NULL;
CREATE UNIQUE INDEX jobs_webhook ON jobs (webhook_token) WHERE webhook_token IS NOT NULL;

CREATE INDEX jobs_timed ON jobs (created_at, id) WHERE took_micros IS NOT NULL;

CREATE TRIGGER jobs_begin_queued BEFORE INSERT ON jobs FOR EACH ROW WHEN (NEW.status <> 'queued')
EXECUTE FUNCTION refuse('a job begins queued');

CREATE TRIGGER jobs_move_legally BEFORE UPDATE OF status ON jobs FOR EACH ROW
WHEN (OLD.status || ' to ' || NEW.status NOT IN (
    'queued to submitting', 'queued to failed', 'queued to cancelled',
    'submitting to queued', 'submitting to running', 'submitting to failed', 'submitting to uncertain',
    'running to succeeded', 'running to failed', 'running to cancelled',
    'uncertain to running', 'uncertain to failed'
))
EXECUTE FUNCTION refuse('a job cannot move like that');

CREATE TRIGGER jobs_stay BEFORE DELETE ON jobs FOR EACH ROW
EXECUTE FUNCTION refuse('a job is never deleted: the ledger refers to it');

CREATE TRIGGER jobs_stay_all BEFORE TRUNCATE ON jobs
EXECUTE FUNCTION refuse('a job is never deleted: the ledger refers to it');

-- Input pictures. Their bytes lie in the picture store under their SHA-256.
CREATE TABLE inputs (
    job_id       TEXT COLLATE "C" NOT NULL REFERENCES jobs (id),
    ordinal      BIGINT  NOT NULL,
    sha256       TEXT COLLATE "C" NOT NULL,
    role         TEXT    NOT NULL CHECK (role IN ('source', 'reference')),
    content_type TEXT    NOT NULL,
    width        BIGINT  NOT NULL,
    height       BIGINT  NOT NULL,
    public_url   TEXT,
    created_at   BIGINT  NOT NULL,
    PRIMARY KEY (job_id, ordinal)
);

CREATE INDEX inputs_by_age ON inputs (created_at, sha256);

-- Results.
CREATE TABLE pictures (
    job_id        TEXT COLLATE "C" NOT NULL REFERENCES jobs (id),
    ordinal       BIGINT  NOT NULL,
    sha256        TEXT COLLATE "C" NOT NULL,
    content_type  TEXT    NOT NULL,
    width         BIGINT  NOT NULL,
    height        BIGINT  NOT NULL,
    size_bytes    BIGINT  NOT NULL,
    source_url    TEXT    NOT NULL,
    attachment_id BIGINT, 
    PRIMARY KEY (job_id, ordinal)
);

-- The address a provider gave for a picture we uploaded before.
CREATE TABLE uploads (
    provider   TEXT COLLATE "C" NOT NULL,
    sha256     TEXT COLLATE "C" NOT NULL,
    url        TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    PRIMARY KEY (provider, sha256)
);

-- -- money ------------------------------------------------------------------------------------------

-- A member who asks to be forgotten closes their account: what comes later goes to a new one, and both count. The closed
-- one loses its user id, and keeps its sums, when every window that counts it has ended (see privacy.py).
-- `warned_until_at` is the end of the window in which its owner was told that little is left.
CREATE TABLE accounts (
    id              BIGINT  GENERATED BY DEFAULT AS IDENTITY (START WITH 3) PRIMARY KEY,
    kind            TEXT    NOT NULL CHECK (kind IN ('member', 'server', 'operator', 'house')),
    guild_id        BIGINT, 
    user_id         BIGINT, 
    closed_at       BIGINT, 
    warned_until_at BIGINT, 
    CHECK ((kind IN ('operator', 'house')) = (guild_id IS NULL)),
    CHECK (kind = 'member' OR (user_id IS NULL AND closed_at IS NULL))
);

CREATE UNIQUE INDEX accounts_open ON accounts (user_id, guild_id) WHERE kind = 'member' AND closed_at IS NULL;
CREATE INDEX accounts_by_member ON accounts (user_id, guild_id) WHERE kind = 'member';
CREATE UNIQUE INDEX accounts_server ON accounts (guild_id) WHERE kind = 'server';
CREATE UNIQUE INDEX accounts_single ON accounts (kind) WHERE kind IN ('operator', 'house');

INSERT INTO accounts (id, kind) VALUES (1, 'operator'), (2, 'house');

-- The ledger: one row per transfer between two buckets of one account, so that every transfer sums to zero.
CREATE TABLE ledger (
    id                BIGINT  GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    job_id            TEXT COLLATE "C" NOT NULL REFERENCES jobs (id),
    account_id        BIGINT  NOT NULL REFERENCES accounts (id),
    kind              TEXT    NOT NULL,
    from_bucket       TEXT    NOT NULL,
    to_bucket         TEXT    NOT NULL,
    amount_usd_micros BIGINT  NOT NULL CHECK (amount_usd_micros > 0),
    created_at        BIGINT  NOT NULL,
    CHECK (kind || ': ' || from_bucket || ' to ' || to_bucket IN (
        'reserve: available to set_aside',
        'settle: set_aside to spent',
        'remainder: set_aside to available',       -- reserved but not charged
        'release: set_aside to available',
        'house: available to spent'                -- what the provider charges and no member pays
    ))
);

CREATE UNIQUE INDEX ledger_reserves_once ON ledger (job_id) WHERE kind = 'reserve';
CREATE UNIQUE INDEX ledger_resolves_once ON ledger (job_id) WHERE kind IN ('settle', 'release');
CREATE UNIQUE INDEX ledger_remains_once ON ledger (job_id) WHERE kind = 'remainder';
CREATE UNIQUE INDEX ledger_house_once ON ledger (job_id) WHERE kind = 'house';

CREATE TRIGGER ledger_rows_stay BEFORE DELETE ON ledger FOR EACH ROW
EXECUTE FUNCTION refuse('the ledger is append-only');

CREATE TRIGGER ledger_rows_stay_all BEFORE TRUNCATE ON ledger
EXECUTE FUNCTION refuse('the ledger is append-only');

CREATE TRIGGER ledger_rows_never_change BEFORE UPDATE ON ledger FOR EACH ROW
EXECUTE FUNCTION refuse('the ledger is append-only');

-- What a job holds or has cost. The triggers below write the ledger and the totals: no caller can forget them.
-- `limit_usd_micros` and the window are those the reservation was held against, so that the books can be proved later.
CREATE TABLE reservations (
    job_id              TEXT COLLATE "C" PRIMARY KEY REFERENCES jobs (id),
    member_account_id   BIGINT  NOT NULL REFERENCES accounts (id),
    server_account_id   BIGINT  NOT NULL REFERENCES accounts (id),
    quarter             BIGINT  NOT NULL,
    limit_usd_micros    BIGINT, 
    window_start_at     BIGINT  NOT NULL,
    window_end_at       BIGINT  NOT NULL,
    reserved_usd_micros BIGINT  NOT NULL CHECK (reserved_usd_micros >= 0),
    held_usd_micros     BIGINT  NOT NULL,
    settled_usd_micros  BIGINT  NOT NULL DEFAULT 0,
    house_usd_micros    BIGINT  NOT NULL DEFAULT 0 CHECK (house_usd_micros >= 0),
    state               TEXT    NOT NULL DEFAULT 'open',
    reserved_at         BIGINT  NOT NULL,
    resolved_at         BIGINT, 
    CHECK (quarter = reserved_at / 900000000),
    CHECK (reserved_at >= window_start_at AND reserved_at < window_end_at),
    CHECK (CASE state
        WHEN 'open' THEN held_usd_micros = reserved_usd_micros AND settled_usd_micros = 0
            AND house_usd_micros = 0 AND resolved_at IS NULL
        WHEN 'settled' THEN held_usd_micros = 0 AND settled_usd_micros BETWEEN 1 AND reserved_usd_micros
            AND resolved_at IS NOT NULL
        WHEN 'released' THEN held_usd_micros = 0 AND settled_usd_micros = 0 AND resolved_at IS NOT NULL
        ELSE FALSE
    END)
);

CREATE INDEX reservations_by_server ON reservations (server_account_id, reserved_at) WHERE state = 'settled';

-- Sums per account and quarter, for the member, the server and the operator, so that an admission costs the same
-- however long the history is. A job counts in the quarter in which it was reserved. `forgiven` is what a moderator's
-- reset no longer counts; it concerns the member's account alone. The operator's account also counts what the house paid.
CREATE TABLE totals (
    account_id          BIGINT  NOT NULL REFERENCES accounts (id),
    quarter             BIGINT  NOT NULL,
    held_usd_micros     BIGINT  NOT NULL CHECK (held_usd_micros >= 0),
    settled_usd_micros  BIGINT  NOT NULL CHECK (settled_usd_micros >= 0),
    forgiven_usd_micros BIGINT  NOT NULL DEFAULT 0 CHECK (forgiven_usd_micros BETWEEN 0 AND settled_usd_micros),
    PRIMARY KEY (account_id, quarter)
) WITH (fillfactor = 50); -- the same few rows change all the time: room for their next version on the same page

-- The same sums per day of UTC, so that a month is thirty rows and not three thousand.
CREATE TABLE daily_totals (
    account_id          BIGINT  NOT NULL REFERENCES accounts (id),
    day                 BIGINT  NOT NULL,          -- since 1970
    held_usd_micros     BIGINT  NOT NULL CHECK (held_usd_micros >= 0),
    settled_usd_micros  BIGINT  NOT NULL CHECK (settled_usd_micros >= 0),
    forgiven_usd_micros BIGINT  NOT NULL CHECK (forgiven_usd_micros BETWEEN 0 AND settled_usd_micros),
    PRIMARY KEY (account_id, day)
) WITH (fillfactor = 50);

CREATE FUNCTION begin_a_quarter() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO daily_totals (account_id, day, held_usd_micros, settled_usd_micros, forgiven_usd_micros)
    VALUES (NEW.account_id, NEW.quarter / 96, NEW.held_usd_micros, NEW.settled_usd_micros, NEW.forgiven_usd_micros)
    ON CONFLICT (account_id, day) DO UPDATE SET
        held_usd_micros = daily_totals.held_usd_micros + excluded.held_usd_micros,
        settled_usd_micros = daily_totals.settled_usd_micros + excluded.settled_usd_micros,
        forgiven_usd_micros = daily_totals.forgiven_usd_micros + excluded.forgiven_usd_micros;
    RETURN NULL;
END
$$;

CREATE FUNCTION change_the_day() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    UPDATE daily_totals SET
        held_usd_micros = held_usd_micros + NEW.held_usd_micros - OLD.held_usd_micros,
        settled_usd_micros = settled_usd_micros + NEW.settled_usd_micros - OLD.settled_usd_micros,
        forgiven_usd_micros = forgiven_usd_micros + NEW.forgiven_usd_micros - OLD.forgiven_usd_micros
    WHERE account_id = NEW.account_id AND day = NEW.quarter / 96;
    RETURN NULL;
END
$$;

CREATE TRIGGER totals_begin_a_quarter AFTER INSERT ON totals FOR EACH ROW
EXECUTE FUNCTION begin_a_quarter();

CREATE TRIGGER totals_change_their_day AFTER UPDATE ON totals FOR EACH ROW
EXECUTE FUNCTION change_the_day();

CREATE TRIGGER totals_keep_their_quarter BEFORE UPDATE OF account_id, quarter ON totals FOR EACH ROW
EXECUTE FUNCTION refuse('a total stays the one of its account and quarter');

CREATE FUNCTION book_reservation() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger (job_id, account_id, kind, from_bucket, to_bucket, amount_usd_micros, created_at)
    SELECT NEW.job_id, NEW.member_account_id, 'reserve', 'available', 'set_aside', NEW.reserved_usd_micros,
        NEW.reserved_at
    WHERE NEW.reserved_usd_micros > 0;

    INSERT INTO totals (account_id, quarter, held_usd_micros, settled_usd_micros)
    VALUES (NEW.member_account_id, NEW.quarter, NEW.held_usd_micros, 0),
        (NEW.server_account_id, NEW.quarter, NEW.held_usd_micros, 0),
        (1, NEW.quarter, NEW.held_usd_micros, 0)
    ON CONFLICT (account_id, quarter)
    DO UPDATE SET held_usd_micros = totals.held_usd_micros + excluded.held_usd_micros;
    RETURN NULL;
END
$$;

CREATE FUNCTION book_resolution() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger (job_id, account_id, kind, from_bucket, to_bucket, amount_usd_micros, created_at)
    SELECT NEW.job_id, NEW.member_account_id, 'settle', 'set_aside', 'spent', NEW.settled_usd_micros, NEW.resolved_at
    WHERE NEW.state = 'settled'
    UNION ALL
    SELECT NEW.job_id, NEW.member_account_id, 'remainder', 'set_aside', 'available',
        NEW.reserved_usd_micros - NEW.settled_usd_micros, NEW.resolved_at
    WHERE NEW.state = 'settled' AND NEW.settled_usd_micros < NEW.reserved_usd_micros
    UNION ALL
    SELECT NEW.job_id, NEW.member_account_id, 'release', 'set_aside', 'available', NEW.reserved_usd_micros,
        NEW.resolved_at
    WHERE NEW.state = 'released' AND NEW.reserved_usd_micros > 0
    UNION ALL
    SELECT NEW.job_id, 2, 'house', 'available', 'spent', NEW.house_usd_micros, NEW.resolved_at
    WHERE NEW.house_usd_micros > 0;

    UPDATE totals SET
        held_usd_micros = held_usd_micros - OLD.held_usd_micros,
        settled_usd_micros = settled_usd_micros + NEW.settled_usd_micros
            + CASE account_id WHEN 1 THEN NEW.house_usd_micros ELSE 0 END
    WHERE account_id IN (NEW.member_account_id, NEW.server_account_id, 1) AND quarter = NEW.quarter;
    RETURN NULL;
END
$$;

CREATE TRIGGER reservations_begin_open BEFORE INSERT ON reservations FOR EACH ROW WHEN (NEW.state <> 'open')
EXECUTE FUNCTION refuse('a reservation begins open');

CREATE TRIGGER reservations_are_reserved AFTER INSERT ON reservations FOR EACH ROW
EXECUTE FUNCTION book_reservation();

CREATE TRIGGER reservations_resolve_once BEFORE UPDATE ON reservations FOR EACH ROW
WHEN (OLD.state <> 'open' OR NEW.state = 'open')
EXECUTE FUNCTION refuse('a reservation is resolved once and for all');

CREATE TRIGGER reservations_keep_their_terms BEFORE UPDATE OF job_id, member_account_id, server_account_id, quarter,
    limit_usd_micros, window_start_at, window_end_at, reserved_usd_micros, reserved_at ON reservations FOR EACH ROW
EXECUTE FUNCTION refuse('the terms of a reservation never change');

CREATE TRIGGER reservations_are_resolved AFTER UPDATE OF state ON reservations FOR EACH ROW
EXECUTE FUNCTION book_resolution();

CREATE TRIGGER reservations_stay BEFORE DELETE ON reservations FOR EACH ROW
EXECUTE FUNCTION refuse('a reservation is never deleted');

CREATE TRIGGER reservations_stay_all BEFORE TRUNCATE ON reservations
EXECUTE FUNCTION refuse('a reservation is never deleted');

-- -- moderators ----------------------------------------------------------------------------------------

CREATE TABLE limits (
    guild_id          BIGINT  NOT NULL,
    subject           TEXT COLLATE "C" NOT NULL CHECK (subject IN ('member', 'role', 'default', 'server')),
    subject_id        BIGINT  NOT NULL,            -- 0 where there is only one: default and server
    amount_usd_micros BIGINT  CHECK (amount_usd_micros BETWEEN 0 AND 9999999999999),   -- NULL: unlimited
    period            TEXT    NOT NULL CHECK (period IN ('day', 'week', 'month')),
    PRIMARY KEY (guild_id, subject, subject_id),
    CHECK ((subject IN ('default', 'server')) = (subject_id = 0))
);

-- Grants count in the window that contains their instant. A reset forgives what was settled so far in its window:
-- everything up to ledger row `through_ledger_id`.
CREATE TABLE adjustments (
    id                BIGINT  GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    account_id        BIGINT  NOT NULL REFERENCES accounts (id),
    kind              TEXT    NOT NULL CHECK (kind IN ('grant', 'reset')),
    amount_usd_micros BIGINT  NOT NULL CHECK (amount_usd_micros >= 0),
    window_start_at   BIGINT  NOT NULL,
    window_end_at     BIGINT  NOT NULL,
    through_ledger_id BIGINT  NOT NULL,
    created_at        BIGINT  NOT NULL
);

CREATE INDEX adjustments_by_account ON adjustments (account_id, created_at);

CREATE FUNCTION forgive() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    UPDATE totals SET forgiven_usd_micros = settled_usd_micros
    WHERE account_id = NEW.account_id
        AND quarter >= NEW.window_start_at / 900000000 AND quarter < NEW.window_end_at / 900000000;
    RETURN NULL;
END
$$;

CREATE TRIGGER adjustments_forgive AFTER INSERT ON adjustments FOR EACH ROW WHEN (NEW.kind = 'reset')
EXECUTE FUNCTION forgive();

CREATE TRIGGER adjustments_never_change BEFORE UPDATE ON adjustments FOR EACH ROW
EXECUTE FUNCTION refuse('adjustments are append-only');

CREATE TRIGGER adjustments_stay BEFORE DELETE ON adjustments FOR EACH ROW
EXECUTE FUNCTION refuse('adjustments are append-only');

CREATE TRIGGER adjustments_stay_all BEFORE TRUNCATE ON adjustments
EXECUTE FUNCTION refuse('adjustments are append-only');

CREATE TABLE blocks (
    guild_id   BIGINT  NOT NULL,
    user_id    BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL,
    PRIMARY KEY (guild_id, user_id)
);

CREATE TABLE server_settings (
    guild_id  BIGINT  PRIMARY KEY,
    time_zone TEXT    NOT NULL DEFAULT 'UTC',
    policy    TEXT    NOT NULL DEFAULT '{}'            -- see settings.py
);

-- Topic and values are facts as JSON objects, see audit.py.
CREATE TABLE audit (
    id         BIGINT  GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    guild_id   BIGINT  NOT NULL,
    actor_id   BIGINT,                             -- NULL once they asked to be forgotten
    action     TEXT    NOT NULL,
    subject    TEXT COLLATE "C" NOT NULL,
    subject_id BIGINT, 
    topic      TEXT             CHECK (topic LIKE '{"%}'),
    old_value  TEXT             CHECK (old_value LIKE '{"%}'),
    new_value  TEXT    NOT NULL CHECK (new_value LIKE '{"%}'),
    reason     TEXT,
    created_at BIGINT  NOT NULL
);

CREATE INDEX audit_by_server ON audit (guild_id, id);
CREATE INDEX audit_by_subject ON audit (guild_id, subject, subject_id, id);

-- Who and whom may be forgotten on request; what happened may not.
CREATE TRIGGER audit_never_changes BEFORE UPDATE OF id, guild_id, action, subject, topic, old_value, new_value, created_at
ON audit FOR EACH ROW
EXECUTE FUNCTION refuse('the audit is append-only');

CREATE TRIGGER audit_stays BEFORE DELETE ON audit FOR EACH ROW
EXECUTE FUNCTION refuse('the audit is append-only');

CREATE TRIGGER audit_stays_all BEFORE TRUNCATE ON audit
EXECUTE FUNCTION refuse('the audit is append-only');

-- Small facts about the bot itself, such as which commands it has registered.
CREATE TABLE notes (
    key   TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL
);

-- -- this engine's own -----------------------------------------------------------------------------------

-- The last group of transactions that each process has committed. A process whose connection breaks during COMMIT reads
-- here what became of it (see postgres_writer.py).
CREATE TABLE writers (
    id           TEXT COLLATE "C" PRIMARY KEY,
    group_number BIGINT NOT NULL,
    seen_at      BIGINT NOT NULL
);
