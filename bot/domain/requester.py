"""Requester: the member for whom work is done, by which everything that is shared takes turns."""

from __future__ import annotations

from typing import NamedTuple


class Requester(NamedTuple):
    """A member of a server. Servers take turns, and in each of them its members."""

    server_id: int
    """Outside servers the person's own id: each person then takes turns as a server does."""
    user_id: int

    @classmethod
    def of(cls, guild_id: int, user_id: int) -> Requester:
        """Return the requester for the server id of an order, which is 0 outside servers."""
        return cls(guild_id or user_id, user_id)


NOBODY = Requester(0, 0)
"""For work that is done for nobody in particular; all of it takes turns as that of one member."""
