-- Refunds, version 21: what was charged for images that were lost before they were shown. A refund is an entry beside
-- those of the ledger: it moves the whole charge from the member's spending, and from what their wallet spent, to what the
-- operator bears. The reservation stays as it was settled.

-- `forgiven_usd_micros`: what of it a moderator's reset had stopped counting. The ids are those of the newest entries at that
-- time, so that the ledger can be replayed in order.
CREATE TABLE refunds (
    job_id                   TEXT COLLATE "C" PRIMARY KEY REFERENCES reservations (job_id),
    usd_micros               BIGINT NOT NULL CHECK (usd_micros BETWEEN 1 AND 9999999999999),
    wallet_usd_micros        BIGINT NOT NULL CHECK (wallet_usd_micros BETWEEN 0 AND usd_micros),
    forgiven_usd_micros      BIGINT NOT NULL CHECK (forgiven_usd_micros IN (0, usd_micros - wallet_usd_micros)),
    through_ledger_id        BIGINT NOT NULL,
    through_wallet_ledger_id BIGINT NOT NULL,
    refunded_at              BIGINT NOT NULL
);

CREATE FUNCTION check_refund() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM reservations WHERE job_id = NEW.job_id AND state = 'settled'
            AND settled_usd_micros = NEW.usd_micros AND wallet_settled_usd_micros = NEW.wallet_usd_micros
    ) THEN
        RAISE EXCEPTION 'a refund is of the whole charge' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER refunds_are_of_a_charge BEFORE INSERT ON refunds FOR EACH ROW
EXECUTE FUNCTION check_refund();

CREATE TRIGGER refunds_never_change BEFORE UPDATE ON refunds FOR EACH ROW
EXECUTE FUNCTION refuse('the ledger is append-only');

CREATE TRIGGER refunds_stay BEFORE DELETE ON refunds FOR EACH ROW
EXECUTE FUNCTION refuse('the ledger is append-only');

CREATE TRIGGER refunds_stay_all BEFORE TRUNCATE ON refunds
EXECUTE FUNCTION refuse('the ledger is append-only');

CREATE FUNCTION book_refund() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    UPDATE totals SET
        settled_usd_micros = totals.settled_usd_micros - NEW.usd_micros,
        operator_cost_usd_micros = totals.operator_cost_usd_micros + NEW.usd_micros,
        wallet_settled_usd_micros = totals.wallet_settled_usd_micros - NEW.wallet_usd_micros,
        forgiven_usd_micros = totals.forgiven_usd_micros
            - CASE WHEN account_id = member_account_id THEN NEW.forgiven_usd_micros ELSE 0 END
    FROM reservations
    WHERE reservations.job_id = NEW.job_id AND totals.quarter = reservations.quarter
        AND account_id IN (member_account_id, server_account_id, 1);

    UPDATE channel_totals SET settled_usd_micros = channel_totals.settled_usd_micros - NEW.usd_micros
    FROM reservations
    WHERE reservations.job_id = NEW.job_id AND channel_totals.quarter = reservations.quarter
        AND channel_totals.channel_id IN (reservations.channel_id, reservations.category_id);

    UPDATE wallets SET available_usd_micros = available_usd_micros + NEW.wallet_usd_micros
    FROM reservations
    WHERE reservations.job_id = NEW.job_id AND wallets.id = reservations.wallet_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER refunds_are_booked AFTER INSERT ON refunds FOR EACH ROW
EXECUTE FUNCTION book_refund();

DROP TRIGGER jobs_move_legally ON jobs;

CREATE TRIGGER jobs_move_legally BEFORE UPDATE OF status ON jobs FOR EACH ROW
WHEN (OLD.status || ' to ' || NEW.status NOT IN (
    'queued to submitting', 'queued to failed', 'queued to cancelled',
    'submitting to queued', 'submitting to running', 'submitting to failed', 'submitting to uncertain',
    'running to succeeded', 'running to failed', 'running to cancelled',
    'uncertain to running', 'uncertain to failed'
) AND NOT (
    OLD.status = 'failed' AND NEW.status = 'succeeded' AND OLD.follow_until_at IS NOT NULL AND NEW.late_at IS NOT NULL
) AND NOT (
    OLD.status = 'succeeded' AND NEW.status = 'failed' AND NEW.failure_reason = 'image_lost'
))
EXECUTE FUNCTION refuse('a job cannot move like that');
