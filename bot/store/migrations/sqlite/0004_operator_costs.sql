-- What the provider charges and no member pays, version 4: summed for the member's account, the server's and the
-- operator's, in the quarter of the reservation, because it has limits of its own. Until now the operator's account
-- counted it together with what members were charged.

DROP TRIGGER totals_begin_a_quarter;
DROP TRIGGER totals_change_their_day;
DROP TRIGGER reservations_are_resolved;

ALTER TABLE totals ADD COLUMN operator_cost_usd_micros INTEGER NOT NULL DEFAULT 0
    CHECK (operator_cost_usd_micros >= 0);
ALTER TABLE daily_totals ADD COLUMN operator_cost_usd_micros INTEGER NOT NULL DEFAULT 0
    CHECK (operator_cost_usd_micros >= 0);

CREATE TRIGGER totals_begin_a_quarter AFTER INSERT ON totals
BEGIN
    INSERT INTO daily_totals (account_id, day, held_usd_micros, settled_usd_micros, forgiven_usd_micros,
        operator_cost_usd_micros)
    VALUES (NEW.account_id, NEW.quarter / 96, NEW.held_usd_micros, NEW.settled_usd_micros, NEW.forgiven_usd_micros,
        NEW.operator_cost_usd_micros)
    ON CONFLICT (account_id, day) DO UPDATE SET
        held_usd_micros = held_usd_micros + excluded.held_usd_micros,
        settled_usd_micros = settled_usd_micros + excluded.settled_usd_micros,
        forgiven_usd_micros = forgiven_usd_micros + excluded.forgiven_usd_micros,
        operator_cost_usd_micros = operator_cost_usd_micros + excluded.operator_cost_usd_micros;
END;

CREATE TRIGGER totals_change_their_day AFTER UPDATE ON totals
BEGIN
    UPDATE daily_totals SET
        held_usd_micros = held_usd_micros + NEW.held_usd_micros - OLD.held_usd_micros,
        settled_usd_micros = settled_usd_micros + NEW.settled_usd_micros - OLD.settled_usd_micros,
        forgiven_usd_micros = forgiven_usd_micros + NEW.forgiven_usd_micros - OLD.forgiven_usd_micros,
        operator_cost_usd_micros = operator_cost_usd_micros + NEW.operator_cost_usd_micros
            - OLD.operator_cost_usd_micros
    WHERE account_id = NEW.account_id AND day = NEW.quarter / 96;
END;

CREATE TRIGGER reservations_are_resolved AFTER UPDATE OF state ON reservations
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
        settled_usd_micros = settled_usd_micros + NEW.settled_usd_micros,
        operator_cost_usd_micros = operator_cost_usd_micros + NEW.house_usd_micros
    WHERE account_id IN (NEW.member_account_id, NEW.server_account_id, 1) AND quarter = NEW.quarter;
END;

-- Every reservation has its rows in `totals` already.
INSERT INTO totals (account_id, quarter, held_usd_micros, settled_usd_micros, operator_cost_usd_micros)
SELECT costs.account_id, costs.quarter, 0, 0, sum(costs.amount_usd_micros)
FROM (
    SELECT member_account_id AS account_id, quarter, house_usd_micros AS amount_usd_micros
    FROM reservations WHERE house_usd_micros > 0
    UNION ALL SELECT server_account_id, quarter, house_usd_micros FROM reservations WHERE house_usd_micros > 0
    UNION ALL SELECT 1, quarter, house_usd_micros FROM reservations WHERE house_usd_micros > 0
) AS costs
WHERE TRUE
GROUP BY costs.account_id, costs.quarter
ON CONFLICT (account_id, quarter) DO UPDATE SET operator_cost_usd_micros = excluded.operator_cost_usd_micros;

UPDATE totals SET settled_usd_micros = settled_usd_micros - operator_cost_usd_micros
WHERE account_id = 1 AND operator_cost_usd_micros > 0;
