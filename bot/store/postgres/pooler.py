"""A check that a pooler between this process and the server keeps sessions: the bot's locks and notices need them."""

from __future__ import annotations

import secrets
from contextlib import closing

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import DatabaseUnusable
from bot.store.postgres.connection import PostgresConnection

_SETTING = "image_bot.session"
_ROUNDS = 3


def require_sessions(connection: PostgresConnection, address: PostgresAddress) -> None:
    """Raise DatabaseUnusable when what one transaction sets in its session is gone in the next. Raises psycopg.Error.

    A pooler in transaction mode gives an idle client's connection to others, so a second client has to be busy.
    """
    with closing(PostgresConnection.open(address)) as other:
        for count in range(_ROUNDS):
            value = secrets.token_hex(8)
            connection.execute("SELECT set_config(?, ?, false)", (_SETTING, value))
            for _ in range(count):  # a pooler that takes turns among its connections would pass every equal round
                other.execute("SELECT 1")
            other.execute(f"BEGIN; SET LOCAL {_SETTING} = ''")
            found = connection.execute(f"SELECT current_setting('{_SETTING}', true)").fetchone()[0]
            other.execute("ROLLBACK")
            if found != value:
                raise DatabaseUnusable(
                    f"The database {address} is reached through a pooler that changes the connection after each "
                    f"transaction, which loses the bot's locks and notices. Set pool_mode = session for this database "
                    f"in PgBouncer, or set DATABASE_URL to the server's own address."
                )
