"""Sealing: rows that older versions wrote with readable interaction tokens and webhook paths.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from bot.runtime.sealing import DIGEST, SEALED, Sealer
from bot.store.core.connection import Connection

BATCH_ROWS = 500

_TOKENS = "SELECT id, token FROM replies WHERE token IS NOT NULL AND token NOT LIKE ?"
_REPLACE = "UPDATE replies SET token = ? WHERE id = ?"
# Those of unfinished jobs first: providers still call them.
_PATHS_OF_UNFINISHED = f"""
SELECT id, webhook_token FROM jobs
WHERE finished_at IS NULL AND webhook_token IS NOT NULL AND webhook_token NOT LIKE '{DIGEST}%'
"""  # noqa: S608 - our own words
_PATHS = f"""
SELECT id, webhook_token FROM jobs
WHERE webhook_token IS NOT NULL AND webhook_token NOT LIKE '{DIGEST}%' AND webhook_token > :after
ORDER BY webhook_token LIMIT :limit
"""  # noqa: S608
_SET_PATH = "UPDATE jobs SET webhook_token = ? WHERE id = ?"


def seal_tokens(connection: Connection, *, sealer: Sealer) -> None:
    """Seal interaction tokens, forget those that were sealed with another bot token, and hash paths still in use."""
    for reply_id, token in connection.execute(_TOKENS, (f"{sealer.sealed_prefix}%",)).fetchall():
        connection.execute(_REPLACE, (None if token.startswith(SEALED) else sealer.seal(token), reply_id))
    for job_id, path in connection.execute(_PATHS_OF_UNFINISHED).fetchall():
        connection.execute(_SET_PATH, (sealer.digest(path), job_id))


def hash_old_paths(connection: Connection, *, sealer: Sealer, after: str) -> str | None:
    """Replace up to `BATCH_ROWS` readable webhook paths after `after` by digests. Return the last path, or None."""
    found = connection.execute(_PATHS, {"after": after, "limit": BATCH_ROWS}).fetchall()
    for job_id, path in found:
        connection.execute(_SET_PATH, (sealer.digest(path), job_id))
    return found[-1][1] if found else None
