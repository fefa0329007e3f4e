-- Bounds of every amount, version 6: no amount of ours is near ten million dollars. They are triggers, because SQLite can
-- add a CHECK to a table only by copying it, which takes minutes and leaves old prompts behind in free pages.

CREATE TRIGGER jobs_begin_within_bounds BEFORE INSERT ON jobs
WHEN NEW.reserved_usd_micros NOT BETWEEN 0 AND 9999999999999
BEGIN
    SELECT RAISE(ABORT, 'an amount is out of bounds');
END;

CREATE TRIGGER jobs_stay_within_bounds BEFORE UPDATE OF reserved_usd_micros, charged_usd_micros ON jobs
WHEN NEW.reserved_usd_micros NOT BETWEEN 0 AND 9999999999999
    OR coalesce(NEW.charged_usd_micros, 0) NOT BETWEEN 0 AND NEW.reserved_usd_micros
BEGIN
    SELECT RAISE(ABORT, 'an amount is out of bounds');
END;

CREATE TRIGGER ledger_rows_are_within_bounds BEFORE INSERT ON ledger
WHEN NEW.amount_usd_micros NOT BETWEEN 1 AND 9999999999999
BEGIN
    SELECT RAISE(ABORT, 'an amount is out of bounds');
END;

CREATE TRIGGER reservations_begin_within_bounds BEFORE INSERT ON reservations
WHEN NEW.reserved_usd_micros NOT BETWEEN 0 AND 9999999999999
BEGIN
    SELECT RAISE(ABORT, 'an amount is out of bounds');
END;

CREATE TRIGGER reservations_end_within_bounds BEFORE UPDATE OF held_usd_micros, settled_usd_micros, house_usd_micros
ON reservations
WHEN NEW.held_usd_micros NOT BETWEEN 0 AND 9999999999999 OR NEW.settled_usd_micros NOT BETWEEN 0 AND 9999999999999
    OR NEW.house_usd_micros NOT BETWEEN 0 AND 9999999999999
BEGIN
    SELECT RAISE(ABORT, 'an amount is out of bounds');
END;

CREATE TRIGGER totals_begin_within_bounds BEFORE INSERT ON totals
WHEN NEW.held_usd_micros NOT BETWEEN 0 AND 9999999999999 OR NEW.settled_usd_micros NOT BETWEEN 0 AND 9999999999999
    OR NEW.operator_cost_usd_micros NOT BETWEEN 0 AND 9999999999999
BEGIN
    SELECT RAISE(ABORT, 'an amount is out of bounds');
END;

CREATE TRIGGER totals_stay_within_bounds BEFORE UPDATE ON totals
WHEN NEW.held_usd_micros NOT BETWEEN 0 AND 9999999999999 OR NEW.settled_usd_micros NOT BETWEEN 0 AND 9999999999999
    OR NEW.operator_cost_usd_micros NOT BETWEEN 0 AND 9999999999999
BEGIN
    SELECT RAISE(ABORT, 'an amount is out of bounds');
END;

CREATE TRIGGER daily_totals_begin_within_bounds BEFORE INSERT ON daily_totals
WHEN NEW.held_usd_micros NOT BETWEEN 0 AND 9999999999999 OR NEW.settled_usd_micros NOT BETWEEN 0 AND 9999999999999
    OR NEW.operator_cost_usd_micros NOT BETWEEN 0 AND 9999999999999
BEGIN
    SELECT RAISE(ABORT, 'an amount is out of bounds');
END;

CREATE TRIGGER daily_totals_stay_within_bounds BEFORE UPDATE ON daily_totals
WHEN NEW.held_usd_micros NOT BETWEEN 0 AND 9999999999999 OR NEW.settled_usd_micros NOT BETWEEN 0 AND 9999999999999
    OR NEW.operator_cost_usd_micros NOT BETWEEN 0 AND 9999999999999
BEGIN
    SELECT RAISE(ABORT, 'an amount is out of bounds');
END;

CREATE TRIGGER adjustments_are_within_bounds BEFORE INSERT ON adjustments
WHEN NEW.amount_usd_micros NOT BETWEEN 0 AND 9999999999999
BEGIN
    SELECT RAISE(ABORT, 'an amount is out of bounds');
END;
