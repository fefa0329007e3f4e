-- The queue of replies between gateways and workers, with a lease on each. It replaces the tables of the library pgqueuer,
-- which stay for as long as processes of an older version run beside newer ones.

CREATE TABLE reply_queue (
    reply_id     TEXT COLLATE "C" PRIMARY KEY,
    worker       TEXT COLLATE "C", -- NULL: none
    claimable_at TIMESTAMPTZ NOT NULL DEFAULT now() -- the end of the worker's lease
);

CREATE INDEX reply_queue_claimable ON reply_queue (claimable_at);

-- What an older gateway enqueues, and what an older worker returns, goes into the new queue. An older worker keeps what it
-- runs while it sends heartbeats, and gets nothing more.

CREATE FUNCTION move_from_pgqueuer() RETURNS TRIGGER AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM reply_queue WHERE reply_id = OLD.dedupe_key AND worker = 'pgqueuer';
    ELSIF NEW.status = 'queued' THEN
        UPDATE reply_queue SET worker = NULL, claimable_at = now()
        WHERE reply_id = NEW.dedupe_key AND worker = 'pgqueuer';
        INSERT INTO reply_queue (reply_id) VALUES (NEW.dedupe_key) ON CONFLICT DO NOTHING;
        DELETE FROM pgqueuer WHERE id = NEW.id;
        PERFORM pg_notify('image_bot', '["queue", "", null]');
    ELSE
        UPDATE reply_queue SET claimable_at = now() + INTERVAL '15 seconds'
        WHERE reply_id = NEW.dedupe_key AND worker = 'pgqueuer';
    END IF;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER move_from_pgqueuer AFTER INSERT OR UPDATE OR DELETE ON pgqueuer
FOR EACH ROW EXECUTE FUNCTION move_from_pgqueuer();

CREATE FUNCTION keep_from_pgqueuer() RETURNS TRIGGER AS $$
BEGIN
    RETURN NULL; -- a worker whose heartbeats stopped is followed by one of the new version
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER keep_from_pgqueuer BEFORE UPDATE ON pgqueuer
FOR EACH ROW WHEN (NEW.status = 'picked' AND NEW.queue_manager_id IS DISTINCT FROM OLD.queue_manager_id)
EXECUTE FUNCTION keep_from_pgqueuer();

INSERT INTO reply_queue (reply_id, worker, claimable_at)
SELECT dedupe_key, CASE WHEN status = 'picked' THEN 'pgqueuer' END,
    CASE WHEN status = 'picked' THEN heartbeat + INTERVAL '15 seconds' ELSE created END
FROM pgqueuer WHERE status IN ('queued', 'picked');

DELETE FROM pgqueuer WHERE status = 'queued';
