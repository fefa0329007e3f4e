"""Server settings: the policy of each server as one JSON value, changed as a whole and recorded line by line.

Synchronous functions inside the caller's transaction. `PolicyMemory` keeps what was read, so that orders ask no query.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from pydantic import TypeAdapter

from bot.domain.money.quota import LimitSubject
from bot.domain.policy import Policy, PolicyEdit, policy_changes
from bot.store.core.connection import Connection
from bot.store.tables.audit_log import Change, record
from bot.store.tables.members import reviews
from bot.store.tables.shared.notifications import Topic, notify

_POLICY = "SELECT policy FROM server_settings WHERE guild_id = ?"
_SET_POLICY = """
INSERT INTO server_settings (guild_id, policy) VALUES (?, ?)
ON CONFLICT (guild_id) DO UPDATE SET policy = excluded.policy
"""

_JSON = TypeAdapter(Policy)


def policy(connection: Connection, guild_id: int) -> Policy:
    """Return the policy that the server's moderators set; everything is allowed until they set one."""
    row = connection.execute(_POLICY, (guild_id,)).fetchone()
    return Policy() if row is None else _JSON.validate_json(row["policy"])


def change_policy(
    connection: Connection, guild_id: int, alter: PolicyEdit, *, actor_id: int, reason: str | None, now: datetime
) -> tuple[Policy, Policy]:
    """Replace the policy by what `alter` makes of it and record every difference. Returns the old and the new one."""
    change = Change(actor_id=actor_id, reason=reason, now=now)
    old = policy(connection, guild_id)
    new = alter(old)
    if new != old:
        connection.execute(_SET_POLICY, (guild_id, _JSON.dump_json(new).decode()))
        notify(connection, Topic.POLICY, guild_id)
    if new.review_channel_id is not None and new.review_channel_id != old.review_channel_id:
        reviews.move_questions(connection, guild_id, channel_id=new.review_channel_id, now=now)
    for line in policy_changes(old, new):
        record(
            connection,
            guild_id,
            line.setting,
            LimitSubject.SERVER,
            None,
            topic=line.topic,
            old=line.old,
            new=line.new,
            change=change,
        )
    return old, new


class PolicyMemory:
    """Cache of the policies in the database.

    This process is the only writer of a file, so nothing in here becomes stale. Of a database that other processes
    change as well, policies are cached (`remembers`) only while every notification arrives.

    While a change is under way its server is not cached. A caller that is cancelled in the middle never reports how
    the change ended: from then on that server is read from the database, which is slower and always right.
    """

    def __init__(self, *, remembers: bool) -> None:
        self.remembers = remembers
        self.age = 0
        """Grows whenever the cache is emptied: what was read before that may be stale."""
        self._known: dict[int, Policy] = {}
        self._changing: Counter[int] = Counter()

    def get(self, guild_id: int) -> Policy | None:
        """Return the policy, if it is cached."""
        return self._known.get(guild_id)

    def read(self, guild_id: int, value: Policy, asked_at: int = 0) -> None:
        """Cache a policy that was asked for at that `age`, unless there was a change in the meantime."""
        if not self._changing[guild_id] and self.remembers and asked_at == self.age:
            self._known.setdefault(guild_id, value)

    def forget(self) -> None:
        """Empty the cache: another process changed a policy, which is rare, and reading is cheap."""
        self.age += 1
        self._known.clear()

    def changing(self, guild_id: int) -> None:
        """Record that a change begins."""
        self._changing[guild_id] += 1
        self._known.pop(guild_id, None)

    def changed(self, guild_id: int, value: Policy | None) -> None:
        """Record that the change is in the database, or (None) that it failed and nothing changed."""
        self._changing[guild_id] -= 1
        # Once the cache was emptied other processes exist, which may have changed the policy again meanwhile.
        if value is not None and not self._changing[guild_id] and self.remembers and not self.age:
            self._known[guild_id] = value
