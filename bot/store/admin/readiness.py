"""Readiness: whether a PostgreSQL server can serve several processes of the bot, and how many."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass

import psycopg

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import StoreError
from bot.store.postgres import schema
from bot.store.postgres.connection import (
    CONNECTIONS_PER_PROCESS,
    PostgresConnection,
    no_room,
    require_sessions,
    translated_error,
    unreachable,
)
from bot.store.tables.shared.notifications import CHANNEL

_NOTIFICATION_TIMEOUT_SECONDS = 3.0
_CONNECTIONS = """
SELECT CAST(current_setting('max_connections') AS INT)
    - CAST(current_setting('superuser_reserved_connections') AS INT) AS allowed,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
        AND pid <> pg_backend_pid()) AS used,
    (SELECT count(DISTINCT id) FROM writers WHERE seen_at > extract(epoch FROM now() - INTERVAL '1 minute') * 1000000)
        AS processes
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Readiness:
    """Connections that the server allows and has, and processes that wrote within the last minute."""

    allowed: int
    used: int
    processes: int

    @property
    def room(self) -> int:
        """The number of processes that can still connect."""
        return max(0, self.allowed - self.used) // CONNECTIONS_PER_PROCESS


def readiness(address: PostgresAddress) -> Readiness:
    """Ask the server.

    Raises StoreError when it cannot be reached, takes no writes, keeps no sessions, delivers no notifications, or has
    no room for another process: only the attempt shows limits of a pooler and of the user.
    """
    try:
        connection = PostgresConnection.open(address)
    except psycopg.Error as error:
        raise unreachable(address, error) from error
    with closing(connection):
        try:
            require_sessions(connection, address)
            schema.require_writable(connection, address)
            connection.execute(f'LISTEN "{CHANNEL}"')
            connection.execute("SELECT pg_notify(?, ?)", (CHANNEL, "readiness check"))
            if not any(connection.raw.notifies(timeout=_NOTIFICATION_TIMEOUT_SECONDS, stop_after=1)):
                raise StoreError(
                    f"{address} passes on no notices, so processes would not hear of each other: connect to the server "
                    f"itself, or to a pooler that keeps sessions."
                )
            row = connection.execute(_CONNECTIONS).fetchone()
        except psycopg.Error as error:
            raise translated_error(error, address) from error
        with ExitStack() as others:
            for _ in range(CONNECTIONS_PER_PROCESS - 1):
                try:
                    others.enter_context(closing(PostgresConnection.open(address)))
                except psycopg.Error as error:
                    raise no_room(address, unreachable(address, error)) from error
        return Readiness(allowed=row["allowed"], used=row["used"], processes=row["processes"])
