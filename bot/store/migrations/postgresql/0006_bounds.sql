-- Bounds of every amount, version 6: no amount of ours is near ten million dollars.

ALTER TABLE jobs ADD CONSTRAINT jobs_amounts_in_bounds CHECK (
    reserved_usd_micros BETWEEN 0 AND 9999999999999
    AND coalesce(charged_usd_micros, 0) BETWEEN 0 AND reserved_usd_micros
);
ALTER TABLE ledger ADD CONSTRAINT ledger_amounts_in_bounds CHECK (amount_usd_micros BETWEEN 1 AND 9999999999999);
ALTER TABLE reservations ADD CONSTRAINT reservations_amounts_in_bounds CHECK (
    reserved_usd_micros BETWEEN 0 AND 9999999999999
    AND held_usd_micros BETWEEN 0 AND 9999999999999
    AND settled_usd_micros BETWEEN 0 AND 9999999999999
    AND house_usd_micros BETWEEN 0 AND 9999999999999
);
ALTER TABLE totals ADD CONSTRAINT totals_amounts_in_bounds CHECK (
    held_usd_micros BETWEEN 0 AND 9999999999999
    AND settled_usd_micros BETWEEN 0 AND 9999999999999
    AND operator_cost_usd_micros BETWEEN 0 AND 9999999999999
);
ALTER TABLE daily_totals ADD CONSTRAINT daily_totals_amounts_in_bounds CHECK (
    held_usd_micros BETWEEN 0 AND 9999999999999
    AND settled_usd_micros BETWEEN 0 AND 9999999999999
    AND operator_cost_usd_micros BETWEEN 0 AND 9999999999999
);
ALTER TABLE adjustments ADD CONSTRAINT adjustments_amounts_in_bounds CHECK (
    amount_usd_micros BETWEEN 0 AND 9999999999999
);
