-- Wallets: money that members paid in at Discord, version 14. A wallet belongs to a person over all servers and has no
-- period. `available` is what is left to spend, `held` what unfinished jobs have set aside; both follow the entries of
-- `wallet_ledger`, which a trigger adds up.

CREATE TABLE wallets (
    id                   INTEGER PRIMARY KEY,
    user_id              INTEGER UNIQUE,           -- NULL once the member asked to be forgotten and nothing was left
    available_usd_micros INTEGER NOT NULL DEFAULT 0 CHECK (available_usd_micros BETWEEN 0 AND 9999999999999),
    held_usd_micros      INTEGER NOT NULL DEFAULT 0 CHECK (held_usd_micros BETWEEN 0 AND 9999999999999)
) STRICT;

CREATE TRIGGER wallets_begin_empty BEFORE INSERT ON wallets
WHEN NEW.available_usd_micros <> 0 OR NEW.held_usd_micros <> 0
BEGIN
    SELECT RAISE(ABORT, 'a wallet begins empty');
END;

CREATE TRIGGER wallets_stay BEFORE DELETE ON wallets
BEGIN
    SELECT RAISE(ABORT, 'a wallet is never deleted');
END;

-- Purchases, each credited once by Discord's id of its entitlement; the amount is 0 for one that had ended before. One
-- is consumed at Discord only after its row is committed. A refund ends it, and takes back at most what is left.
CREATE TABLE entitlements (
    id                    INTEGER PRIMARY KEY,
    wallet_id             INTEGER NOT NULL REFERENCES wallets (id),
    sku_id                INTEGER NOT NULL,
    amount_usd_micros     INTEGER NOT NULL CHECK (amount_usd_micros BETWEEN 0 AND 9999999999999),
    taken_back_usd_micros INTEGER NOT NULL DEFAULT 0,
    credited_at           INTEGER NOT NULL,
    consumed_at           INTEGER,
    ended_at              INTEGER,
    CHECK (taken_back_usd_micros BETWEEN 0 AND amount_usd_micros),
    CHECK (taken_back_usd_micros = 0 OR ended_at IS NOT NULL)
) STRICT;

CREATE INDEX entitlements_by_wallet ON entitlements (wallet_id);
CREATE INDEX entitlements_to_consume ON entitlements (id) WHERE consumed_at IS NULL AND ended_at IS NULL;

CREATE TRIGGER entitlements_keep_their_terms BEFORE UPDATE OF id, wallet_id, sku_id, amount_usd_micros, credited_at
ON entitlements
BEGIN
    SELECT RAISE(ABORT, 'the terms of a purchase never change');
END;

CREATE TRIGGER entitlements_end_once BEFORE UPDATE OF ended_at, taken_back_usd_micros ON entitlements
WHEN OLD.ended_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'a purchase ends once');
END;

CREATE TRIGGER entitlements_stay BEFORE DELETE ON entitlements
BEGIN
    SELECT RAISE(ABORT, 'a purchase is never deleted');
END;

-- One row per transfer between two buckets of one wallet, for a purchase or for a job.
CREATE TABLE wallet_ledger (
    id                INTEGER PRIMARY KEY,
    wallet_id         INTEGER NOT NULL REFERENCES wallets (id),
    entitlement_id    INTEGER REFERENCES entitlements (id),
    job_id            TEXT    REFERENCES jobs (id),
    kind              TEXT    NOT NULL,
    from_bucket       TEXT    NOT NULL,
    to_bucket         TEXT    NOT NULL,
    amount_usd_micros INTEGER NOT NULL CHECK (amount_usd_micros BETWEEN 1 AND 9999999999999),
    created_at        INTEGER NOT NULL,
    CHECK ((kind IN ('credit', 'take_back')) = (entitlement_id IS NOT NULL)),
    CHECK ((entitlement_id IS NULL) = (job_id IS NOT NULL)),
    CHECK (kind || ': ' || from_bucket || ' to ' || to_bucket IN (
        'credit: paid_in to available',
        'take_back: available to paid_in',         -- refunded by Discord
        'reserve: available to set_aside',
        'settle: set_aside to spent',
        'remainder: set_aside to available',       -- reserved but not charged
        'release: set_aside to available'
    ))
) STRICT;

CREATE UNIQUE INDEX wallet_ledger_credits_once ON wallet_ledger (entitlement_id) WHERE kind = 'credit';
CREATE UNIQUE INDEX wallet_ledger_takes_back_once ON wallet_ledger (entitlement_id) WHERE kind = 'take_back';
CREATE UNIQUE INDEX wallet_ledger_reserves_once ON wallet_ledger (job_id) WHERE kind = 'reserve';
CREATE UNIQUE INDEX wallet_ledger_resolves_once ON wallet_ledger (job_id) WHERE kind IN ('settle', 'release');
CREATE UNIQUE INDEX wallet_ledger_remains_once ON wallet_ledger (job_id) WHERE kind = 'remainder';
CREATE INDEX wallet_ledger_by_wallet ON wallet_ledger (wallet_id, id);

CREATE TRIGGER wallet_ledger_rows_stay BEFORE DELETE ON wallet_ledger
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER wallet_ledger_rows_never_change BEFORE UPDATE ON wallet_ledger
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER wallet_ledger_changes_its_wallet AFTER INSERT ON wallet_ledger
BEGIN
    UPDATE wallets SET
        available_usd_micros = available_usd_micros + CASE 'available'
            WHEN NEW.to_bucket THEN NEW.amount_usd_micros WHEN NEW.from_bucket THEN -NEW.amount_usd_micros ELSE 0 END,
        held_usd_micros = held_usd_micros + CASE 'set_aside'
            WHEN NEW.to_bucket THEN NEW.amount_usd_micros WHEN NEW.from_bucket THEN -NEW.amount_usd_micros ELSE 0 END
    WHERE id = NEW.wallet_id;
END;

CREATE TRIGGER entitlements_are_credited AFTER INSERT ON entitlements WHEN NEW.amount_usd_micros > 0
BEGIN
    INSERT INTO wallet_ledger (wallet_id, entitlement_id, kind, from_bucket, to_bucket, amount_usd_micros, created_at)
    VALUES (NEW.wallet_id, NEW.id, 'credit', 'paid_in', 'available', NEW.amount_usd_micros, NEW.credited_at);
END;

CREATE TRIGGER entitlements_are_taken_back AFTER UPDATE OF taken_back_usd_micros ON entitlements
WHEN NEW.taken_back_usd_micros > 0
BEGIN
    INSERT INTO wallet_ledger (wallet_id, entitlement_id, kind, from_bucket, to_bucket, amount_usd_micros, created_at)
    VALUES (NEW.wallet_id, NEW.id, 'take_back', 'available', 'paid_in', NEW.taken_back_usd_micros, NEW.ended_at);
END;

-- `wallet_usd_micros` is the part of a reservation that a wallet pays: what the quota and the operator's caps had no
-- room for. A charge is paid from the other part first. The amounts that were there before include both parts.
ALTER TABLE reservations ADD COLUMN wallet_id INTEGER REFERENCES wallets (id);
ALTER TABLE reservations ADD COLUMN wallet_usd_micros INTEGER NOT NULL DEFAULT 0
    CHECK (wallet_usd_micros BETWEEN 0 AND reserved_usd_micros AND (wallet_usd_micros > 0) = (wallet_id IS NOT NULL));
ALTER TABLE reservations ADD COLUMN wallet_settled_usd_micros INTEGER NOT NULL DEFAULT 0
    CHECK (wallet_settled_usd_micros = CASE
        WHEN settled_usd_micros > reserved_usd_micros - wallet_usd_micros
        THEN settled_usd_micros - (reserved_usd_micros - wallet_usd_micros) ELSE 0 END);

CREATE TRIGGER reservations_keep_their_wallet BEFORE UPDATE OF wallet_id, wallet_usd_micros ON reservations
BEGIN
    SELECT RAISE(ABORT, 'the terms of a reservation never change');
END;

CREATE TRIGGER reservations_are_reserved_in_wallets AFTER INSERT ON reservations WHEN NEW.wallet_usd_micros > 0
BEGIN
    INSERT INTO wallet_ledger (wallet_id, job_id, kind, from_bucket, to_bucket, amount_usd_micros, created_at)
    VALUES (NEW.wallet_id, NEW.job_id, 'reserve', 'available', 'set_aside', NEW.wallet_usd_micros, NEW.reserved_at);
END;

CREATE TRIGGER reservations_are_resolved_in_wallets AFTER UPDATE OF state ON reservations
WHEN NEW.wallet_usd_micros > 0
BEGIN
    INSERT INTO wallet_ledger (wallet_id, job_id, kind, from_bucket, to_bucket, amount_usd_micros, created_at)
    SELECT NEW.wallet_id, NEW.job_id, 'settle', 'set_aside', 'spent', NEW.wallet_settled_usd_micros, NEW.resolved_at
    WHERE NEW.wallet_settled_usd_micros > 0
    UNION ALL
    SELECT NEW.wallet_id, NEW.job_id, 'remainder', 'set_aside', 'available',
        NEW.wallet_usd_micros - NEW.wallet_settled_usd_micros, NEW.resolved_at
    WHERE NEW.state = 'settled' AND NEW.wallet_settled_usd_micros < NEW.wallet_usd_micros
    UNION ALL
    SELECT NEW.wallet_id, NEW.job_id, 'release', 'set_aside', 'available', NEW.wallet_usd_micros, NEW.resolved_at
    WHERE NEW.state = 'released';
END;

-- What of `held` and `settled` wallets pay. A cap that moderators set for a channel or server counts all of it; a quota
-- and the operator's caps count the rest.
ALTER TABLE totals ADD COLUMN wallet_held_usd_micros INTEGER NOT NULL DEFAULT 0
    CHECK (wallet_held_usd_micros BETWEEN 0 AND held_usd_micros);
ALTER TABLE totals ADD COLUMN wallet_settled_usd_micros INTEGER NOT NULL DEFAULT 0
    CHECK (wallet_settled_usd_micros BETWEEN 0 AND settled_usd_micros);
ALTER TABLE daily_totals ADD COLUMN wallet_held_usd_micros INTEGER NOT NULL DEFAULT 0
    CHECK (wallet_held_usd_micros BETWEEN 0 AND held_usd_micros);
ALTER TABLE daily_totals ADD COLUMN wallet_settled_usd_micros INTEGER NOT NULL DEFAULT 0
    CHECK (wallet_settled_usd_micros BETWEEN 0 AND settled_usd_micros);

DROP TRIGGER totals_begin_a_quarter;
DROP TRIGGER totals_change_their_day;
DROP TRIGGER reservations_are_reserved;
DROP TRIGGER reservations_are_resolved;
DROP TRIGGER adjustments_forgive;

CREATE TRIGGER totals_begin_a_quarter AFTER INSERT ON totals
BEGIN
    INSERT INTO daily_totals (account_id, day, held_usd_micros, settled_usd_micros, forgiven_usd_micros,
        operator_cost_usd_micros, wallet_held_usd_micros, wallet_settled_usd_micros)
    VALUES (NEW.account_id, NEW.quarter / 96, NEW.held_usd_micros, NEW.settled_usd_micros, NEW.forgiven_usd_micros,
        NEW.operator_cost_usd_micros, NEW.wallet_held_usd_micros, NEW.wallet_settled_usd_micros)
    ON CONFLICT (account_id, day) DO UPDATE SET
        held_usd_micros = held_usd_micros + excluded.held_usd_micros,
        settled_usd_micros = settled_usd_micros + excluded.settled_usd_micros,
        forgiven_usd_micros = forgiven_usd_micros + excluded.forgiven_usd_micros,
        operator_cost_usd_micros = operator_cost_usd_micros + excluded.operator_cost_usd_micros,
        wallet_held_usd_micros = wallet_held_usd_micros + excluded.wallet_held_usd_micros,
        wallet_settled_usd_micros = wallet_settled_usd_micros + excluded.wallet_settled_usd_micros;
END;

CREATE TRIGGER totals_change_their_day AFTER UPDATE ON totals
BEGIN
    UPDATE daily_totals SET
        held_usd_micros = held_usd_micros + NEW.held_usd_micros - OLD.held_usd_micros,
        settled_usd_micros = settled_usd_micros + NEW.settled_usd_micros - OLD.settled_usd_micros,
        forgiven_usd_micros = forgiven_usd_micros + NEW.forgiven_usd_micros - OLD.forgiven_usd_micros,
        operator_cost_usd_micros = operator_cost_usd_micros + NEW.operator_cost_usd_micros
            - OLD.operator_cost_usd_micros,
        wallet_held_usd_micros = wallet_held_usd_micros + NEW.wallet_held_usd_micros - OLD.wallet_held_usd_micros,
        wallet_settled_usd_micros = wallet_settled_usd_micros + NEW.wallet_settled_usd_micros
            - OLD.wallet_settled_usd_micros
    WHERE account_id = NEW.account_id AND day = NEW.quarter / 96;
END;

CREATE TRIGGER reservations_are_reserved AFTER INSERT ON reservations
BEGIN
    INSERT INTO ledger (job_id, account_id, kind, from_bucket, to_bucket, amount_usd_micros, created_at)
    SELECT NEW.job_id, NEW.member_account_id, 'reserve', 'available', 'set_aside',
        NEW.reserved_usd_micros - NEW.wallet_usd_micros, NEW.reserved_at
    WHERE NEW.reserved_usd_micros > NEW.wallet_usd_micros;

    INSERT INTO totals (account_id, quarter, held_usd_micros, settled_usd_micros, wallet_held_usd_micros)
    VALUES (NEW.member_account_id, NEW.quarter, NEW.held_usd_micros, 0, NEW.wallet_usd_micros),
        (NEW.server_account_id, NEW.quarter, NEW.held_usd_micros, 0, NEW.wallet_usd_micros),
        (1, NEW.quarter, NEW.held_usd_micros, 0, NEW.wallet_usd_micros)
    ON CONFLICT (account_id, quarter) DO UPDATE SET
        held_usd_micros = held_usd_micros + excluded.held_usd_micros,
        wallet_held_usd_micros = wallet_held_usd_micros + excluded.wallet_held_usd_micros;
END;

CREATE TRIGGER reservations_are_resolved AFTER UPDATE OF state ON reservations
BEGIN
    INSERT INTO ledger (job_id, account_id, kind, from_bucket, to_bucket, amount_usd_micros, created_at)
    SELECT NEW.job_id, NEW.member_account_id, 'settle', 'set_aside', 'spent',
        NEW.settled_usd_micros - NEW.wallet_settled_usd_micros, NEW.resolved_at
    WHERE NEW.state = 'settled' AND NEW.settled_usd_micros > NEW.wallet_settled_usd_micros
    UNION ALL
    SELECT NEW.job_id, NEW.member_account_id, 'remainder', 'set_aside', 'available',
        NEW.reserved_usd_micros - NEW.wallet_usd_micros - (NEW.settled_usd_micros - NEW.wallet_settled_usd_micros),
        NEW.resolved_at
    WHERE NEW.state = 'settled' AND NEW.settled_usd_micros - NEW.wallet_settled_usd_micros
        < NEW.reserved_usd_micros - NEW.wallet_usd_micros
    UNION ALL
    SELECT NEW.job_id, NEW.member_account_id, 'release', 'set_aside', 'available',
        NEW.reserved_usd_micros - NEW.wallet_usd_micros, NEW.resolved_at
    WHERE NEW.state = 'released' AND NEW.reserved_usd_micros > NEW.wallet_usd_micros
    UNION ALL
    SELECT NEW.job_id, 2, 'house', 'available', 'spent', NEW.house_usd_micros, NEW.resolved_at
    WHERE NEW.house_usd_micros > 0;

    UPDATE totals SET
        held_usd_micros = held_usd_micros - OLD.held_usd_micros,
        settled_usd_micros = settled_usd_micros + NEW.settled_usd_micros,
        operator_cost_usd_micros = operator_cost_usd_micros + NEW.house_usd_micros,
        wallet_held_usd_micros = wallet_held_usd_micros - NEW.wallet_usd_micros,
        wallet_settled_usd_micros = wallet_settled_usd_micros + NEW.wallet_settled_usd_micros
    WHERE account_id IN (NEW.member_account_id, NEW.server_account_id, 1) AND quarter = NEW.quarter;
END;

CREATE TRIGGER adjustments_forgive AFTER INSERT ON adjustments WHEN NEW.kind = 'reset'
BEGIN
    UPDATE totals SET forgiven_usd_micros = settled_usd_micros - wallet_settled_usd_micros
    WHERE account_id = NEW.account_id
        AND quarter >= NEW.window_start_at / 900000000 AND quarter < NEW.window_end_at / 900000000;
END;
