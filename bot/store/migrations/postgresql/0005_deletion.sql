-- Deleting an order: when that was done, which other messages show the order, and what Discord has yet to delete.

ALTER TABLE replies ADD COLUMN deleted_at BIGINT CHECK (deleted_at IS NULL OR (token IS NULL AND message_id IS NULL));

-- Emptied a day later by the sweep, which erases the number of the command event.
CREATE INDEX replies_deleted ON replies (deleted_at) WHERE deleted_at IS NOT NULL AND interaction_id > 0;

-- Messages that show an order besides the one of its reply: the copy in the log channel, and a card that could not be
-- edited any more and was replaced by a direct message.
CREATE TABLE reply_copies (
    channel_id BIGINT  NOT NULL,
    message_id BIGINT  NOT NULL,
    reply_id   TEXT COLLATE "C" NOT NULL REFERENCES replies (id),
    kind       TEXT    NOT NULL CHECK (kind IN ('card', 'log')),
    PRIMARY KEY (channel_id, message_id)
);

CREATE INDEX reply_copies_by_reply ON reply_copies (reply_id);

-- Messages that Discord has yet to delete. Nothing here says whose they are.
CREATE TABLE message_deletions (
    channel_id      BIGINT  NOT NULL,
    message_id      BIGINT  NOT NULL,
    attempts        BIGINT  NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at BIGINT  NOT NULL,
    PRIMARY KEY (channel_id, message_id)
);

CREATE INDEX message_deletions_due ON message_deletions (next_attempt_at);

-- Entries of the record of changes that still say who, whom or why; the sweep empties it as they reach their age.
CREATE INDEX audit_with_names ON audit (created_at)
    WHERE actor_id IS NOT NULL OR reason IS NOT NULL OR (subject = 'member' AND subject_id IS NOT NULL);
