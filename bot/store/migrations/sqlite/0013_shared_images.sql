-- Images that were shared in a server's showcase channel, each at most once: `removed_at` stays when a copy is taken
-- back. A click claims the image until `claimed_until_at`; after a crash a later one looks for the copy first.

CREATE TABLE shared_images (
    job_id           TEXT    PRIMARY KEY REFERENCES jobs (id),
    reply_id         TEXT    NOT NULL REFERENCES replies (id),
    channel_id       INTEGER NOT NULL,
    message_id       INTEGER,
    first_claimed_at INTEGER NOT NULL,
    claimed_until_at INTEGER NOT NULL CHECK (claimed_until_at >= first_claimed_at),
    removed_at       INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX shared_images_by_reply ON shared_images (reply_id);
