-- Refunds, version 21: what was charged for images that were lost before they were shown. A refund is an entry beside
-- those of the ledger: it moves the whole charge from the member's spending, and from what their wallet spent, to what the
-- operator bears. The reservation stays as it was settled.

-- `forgiven_usd_micros`: what of it a moderator's reset had stopped counting. The ids are those of the newest entries at that
-- time, so that the ledger can be replayed in order.
CREATE TABLE refunds (
    job_id                   TEXT    PRIMARY KEY REFERENCES reservations (job_id),
    usd_micros               INTEGER NOT NULL CHECK (usd_micros BETWEEN 1 AND 9999999999999),
    wallet_usd_micros        INTEGER NOT NULL CHECK (wallet_usd_micros BETWEEN 0 AND usd_micros),
    forgiven_usd_micros      INTEGER NOT NULL CHECK (forgiven_usd_micros IN (0, usd_micros - wallet_usd_micros)),
    through_ledger_id        INTEGER NOT NULL,
    through_wallet_ledger_id INTEGER NOT NULL,
    refunded_at              INTEGER NOT NULL
) STRICT;

CREATE TRIGGER refunds_are_of_a_charge BEFORE INSERT ON refunds
WHEN NOT EXISTS (
    SELECT 1 FROM reservations WHERE job_id = NEW.job_id AND state = 'settled'
        AND settled_usd_micros = NEW.usd_micros AND wallet_settled_usd_micros = NEW.wallet_usd_micros
)
BEGIN
    SELECT RAISE(ABORT, 'a refund is of the whole charge');
END;

CREATE TRIGGER refunds_never_change BEFORE UPDATE ON refunds
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER refunds_stay BEFORE DELETE ON refunds
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER refunds_are_booked AFTER INSERT ON refunds
BEGIN
    UPDATE totals SET
        settled_usd_micros = settled_usd_micros - NEW.usd_micros,
        operator_cost_usd_micros = operator_cost_usd_micros + NEW.usd_micros,
        wallet_settled_usd_micros = wallet_settled_usd_micros - NEW.wallet_usd_micros,
        forgiven_usd_micros = forgiven_usd_micros - CASE account_id
            WHEN (SELECT member_account_id FROM reservations WHERE job_id = NEW.job_id) THEN NEW.forgiven_usd_micros
            ELSE 0 END
    WHERE quarter = (SELECT quarter FROM reservations WHERE job_id = NEW.job_id) AND account_id IN (
        SELECT member_account_id FROM reservations WHERE job_id = NEW.job_id
        UNION ALL SELECT server_account_id FROM reservations WHERE job_id = NEW.job_id
        UNION ALL SELECT 1
    );

    UPDATE channel_totals SET settled_usd_micros = settled_usd_micros - NEW.usd_micros
    WHERE quarter = (SELECT quarter FROM reservations WHERE job_id = NEW.job_id) AND channel_id IN (
        SELECT channel_id FROM reservations WHERE job_id = NEW.job_id
        UNION ALL SELECT category_id FROM reservations WHERE job_id = NEW.job_id
    );

    UPDATE wallets SET available_usd_micros = available_usd_micros + NEW.wallet_usd_micros
    WHERE id = (SELECT wallet_id FROM reservations WHERE job_id = NEW.job_id);
END;

DROP TRIGGER jobs_move_legally;

CREATE TRIGGER jobs_move_legally BEFORE UPDATE OF status ON jobs
WHEN OLD.status || ' to ' || NEW.status NOT IN (
    'queued to submitting', 'queued to failed', 'queued to cancelled',
    'submitting to queued', 'submitting to running', 'submitting to failed', 'submitting to uncertain',
    'running to succeeded', 'running to failed', 'running to cancelled',
    'uncertain to running', 'uncertain to failed'
) AND NOT (
    OLD.status = 'failed' AND NEW.status = 'succeeded' AND OLD.follow_until_at IS NOT NULL AND NEW.late_at IS NOT NULL
) AND NOT (
    OLD.status = 'succeeded' AND NEW.status = 'failed' AND NEW.failure_reason = 'image_lost'
)
BEGIN
    SELECT RAISE(ABORT, 'a job cannot move like that');
END;
