-- Orders whose outcome is not known in time: their reservation is released, and they are followed until the provider can
-- no longer have them. An image that turns up then is free for the member; the operator bears its cost.

-- `follow_until_at`: until when a failed job is followed; NULL for one that is not, or not any more.
ALTER TABLE jobs ADD COLUMN follow_until_at BIGINT
    CHECK (follow_until_at IS NULL OR (status = 'failed' AND submitted_at IS NOT NULL AND erased_at IS NULL));
-- `late_at`: when the image of a job came that had failed before.
ALTER TABLE jobs ADD COLUMN late_at BIGINT
    CHECK (late_at IS NULL OR (status = 'succeeded' AND charged_usd_micros = 0));
-- `lost_images`: results that the provider named and that could not be fetched.
ALTER TABLE jobs ADD COLUMN lost_images BIGINT NOT NULL DEFAULT 0
    CHECK (lost_images >= 0 AND (lost_images = 0 OR status = 'succeeded'));

CREATE INDEX jobs_followed ON jobs (user_id) WHERE follow_until_at IS NOT NULL;

DROP TRIGGER jobs_move_legally ON jobs;

CREATE TRIGGER jobs_move_legally BEFORE UPDATE OF status ON jobs FOR EACH ROW
WHEN (OLD.status || ' to ' || NEW.status NOT IN (
    'queued to submitting', 'queued to failed', 'queued to cancelled',
    'submitting to queued', 'submitting to running', 'submitting to failed', 'submitting to uncertain',
    'running to succeeded', 'running to failed', 'running to cancelled',
    'uncertain to running', 'uncertain to failed'
) AND NOT (
    OLD.status = 'failed' AND NEW.status = 'succeeded' AND OLD.follow_until_at IS NOT NULL AND NEW.late_at IS NOT NULL
))
EXECUTE FUNCTION refuse('a job cannot move like that');

-- `late_cost_at`: when it was booked what the provider charged for a job whose reservation had been released.
ALTER TABLE reservations ADD COLUMN late_cost_at BIGINT
    CHECK (late_cost_at IS NULL OR (state = 'released' AND house_usd_micros > 0));

DROP TRIGGER reservations_resolve_once ON reservations;

CREATE TRIGGER reservations_resolve_once BEFORE UPDATE ON reservations FOR EACH ROW
WHEN (NOT (OLD.state = 'open' AND NEW.state <> 'open' AND NEW.late_cost_at IS NULL) AND NOT (
    OLD.state = 'released' AND NEW.state = 'released' AND NEW.resolved_at = OLD.resolved_at
    AND OLD.house_usd_micros = 0 AND NEW.house_usd_micros > 0 AND NEW.late_cost_at IS NOT NULL
))
EXECUTE FUNCTION refuse('a reservation is resolved once and for all');

CREATE FUNCTION book_late_cost() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger (job_id, account_id, kind, from_bucket, to_bucket, amount_usd_micros, created_at)
    VALUES (NEW.job_id, 2, 'house', 'available', 'spent', NEW.house_usd_micros, NEW.late_cost_at);

    UPDATE totals SET operator_cost_usd_micros = operator_cost_usd_micros + NEW.house_usd_micros
    WHERE account_id IN (NEW.member_account_id, NEW.server_account_id, 1) AND quarter = NEW.quarter;
    RETURN NULL;
END
$$;

CREATE TRIGGER reservations_cost_late AFTER UPDATE OF late_cost_at ON reservations FOR EACH ROW
WHEN (NEW.late_cost_at IS NOT NULL)
EXECUTE FUNCTION book_late_cost();

-- The provider's names for a job, as calls on its webhook path gave them before its order was answered.
CREATE TABLE callbacks (
    job_id      TEXT COLLATE "C" NOT NULL REFERENCES jobs (id),
    remote_id   TEXT COLLATE "C" NOT NULL CHECK (length(remote_id) BETWEEN 1 AND 200),
    received_at BIGINT NOT NULL,
    PRIMARY KEY (job_id, remote_id)
);
