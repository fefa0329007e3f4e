-- A member's history takes a reply when its final state was shown, version 3: an admission, which somebody waits for,
-- changes one page less. Until then the reply is among those that are not delivered.

DROP INDEX replies_by_member;
CREATE INDEX replies_by_member ON replies (user_id, guild_id, created_at) WHERE delivery <> 'pending';
