-- Images that were shared in a server's showcase channel, each at most once: `removed_at` stays when a copy is taken
-- back. A click claims the image until `claimed_until_at`; after a crash a later one looks for the copy first.

CREATE TABLE shared_images (
    job_id           TEXT COLLATE "C" PRIMARY KEY REFERENCES jobs (id),
    reply_id         TEXT COLLATE "C" NOT NULL REFERENCES replies (id),
    channel_id       BIGINT  NOT NULL,
    message_id       BIGINT,
    first_claimed_at BIGINT  NOT NULL,
    claimed_until_at BIGINT  NOT NULL CHECK (claimed_until_at >= first_claimed_at),
    removed_at       BIGINT
);

CREATE INDEX shared_images_by_reply ON shared_images (reply_id);
