-- Images that moderators see before everybody else, and images that are covered until they are clicked. Both are
-- decided by the server's settings at the time of the order.

-- NULL: no review. `waiting` until a moderator decides, which may take as long as it takes.
ALTER TABLE replies ADD COLUMN review TEXT CHECK (review IN ('waiting', 'approved', 'refused'));
ALTER TABLE replies ADD COLUMN review_reason TEXT;
ALTER TABLE replies ADD COLUMN review_channel_id BIGINT;
ALTER TABLE replies ADD COLUMN spoiler BOOLEAN NOT NULL DEFAULT FALSE;

CREATE INDEX replies_reviewed ON replies (review, created_at) WHERE review IS NOT NULL;

-- The message that asks moderators. A process that posts it claims it until `claimed_until_at`; after a crash the next
-- one looks for the message first.
CREATE TABLE reviews (
    reply_id         TEXT COLLATE "C" PRIMARY KEY REFERENCES replies (id),
    channel_id       BIGINT  NOT NULL,
    message_id       BIGINT,
    first_claimed_at BIGINT  NOT NULL,
    claimed_until_at BIGINT  NOT NULL CHECK (claimed_until_at >= first_claimed_at)
);
