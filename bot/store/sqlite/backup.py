"""Backup and restore: consistent copies of a database, and restoring one without losing newer data."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from bot.domain.errors import DatabaseUnusable, StoreError
from bot.store.core.columns import to_moment_or_none
from bot.store.core.connection import Connection
from bot.store.sqlite import schema
from bot.store.sqlite.connection import connect, connect_for_reading
from bot.store.sqlite.file_lock import ProcessLock, replace_durably

_NEWEST_ORDER = "SELECT max(created_at) FROM replies"
_PROGRESS = {
    # Counts that only ever grow: restoring a copy with a smaller one would lose data.
    "accepted commands": "SELECT count(*) FROM replies WHERE accepted",
    "jobs": "SELECT count(*) FROM jobs",
    "orders sent": "SELECT coalesce(max(submitted_at), 0) FROM jobs",
    "orders known to a provider": "SELECT count(*) FROM jobs WHERE remote_id IS NOT NULL",
    "ledger entries": "SELECT coalesce(max(id), 0) FROM ledger",
    "grants and resets": "SELECT coalesce(max(id), 0) FROM adjustments",
    "recorded changes": "SELECT coalesce(max(id), 0) FROM audit",
    "wallet entries": "SELECT coalesce(max(id), 0) FROM wallet_ledger",
}
_WALLETS_SINCE = 14
"""The version of the schema that has wallets."""


def copy_database(source: Path, target: Path) -> None:
    """Write everything committed in `source` to `target`, replaced whole or not at all. Works while it is in use.

    Raises DatabaseUnusable when `source` is emptied or not ours, so that no copy of nothing replaces a good one, and
    StoreError.
    """
    if not source.is_file():
        raise StoreError(f"There is no database {source}.")
    if target.resolve() == source.resolve():
        raise StoreError(f"{target} is the database itself. Name another file for the copy.")
    if not target.parent.is_dir():
        raise StoreError(f"There is no folder {target.parent} for the copy.")
    unfinished = Path(f"{target}.unfinished")
    try:
        _check_replaceable(target)
        schema.check_header(source)
        unfinished.unlink(missing_ok=True)
        with closing(connect_for_reading(source)) as connection:
            schema.check_program(connection, source)
            connection.execute("PRAGMA query_only = OFF")  # it would forbid writing the copy, too
            connection.execute("VACUUM INTO ?", (str(unfinished),))
        unfinished.chmod(0o600)  # tokens and prompts are private
        replace_durably(unfinished, target)
    except (sqlite3.Error, OSError) as error:
        unfinished.unlink(missing_ok=True)
        raise StoreError(f"{source} could not be copied to {target}: {error}.") from error


def _check_replaceable(target: Path) -> None:
    """Raise StoreError when a copy would replace something else than an older copy: a device, a log, settings."""
    if Path(f"{target}.lock").exists():
        raise StoreError(f"{target} is the database of a bot. Name another file for the copy.")
    if target.exists() and not (target.is_file() and (target.stat().st_size == 0 or schema.has_header(target))):
        raise StoreError(f"{target} is there already and is no backup. Name another file for the copy.")


def restore(source: Path, target: Path) -> datetime | None:
    """Replace `target` by the backup `source`. The old file is kept as `<target>.replaced`.

    Return the time of the newest order in the backup; None if it has none.

    Raises DatabaseBusy when a process uses `target`, DatabaseUnusable when the backup is damaged, not ours or newer
    than the program, or when `target` can be read and has anything that the backup lacks, and StoreError.
    """
    try:
        lock = ProcessLock(target)
    except OSError as error:
        raise StoreError(f"{target} cannot be replaced: {error.strerror}.") from error
    copy = Path(f"{target}.restoring")
    try:
        copy_database(_checked_backup(source), copy)
        with closing(connect_for_reading(copy)) as connection:
            newest_order_at = to_moment_or_none(connection.execute(_NEWEST_ORDER).fetchone()[0])
        if target.exists():
            _refuse_to_lose(copy, target)
            _keep(target)
        # A log of the old file would be applied to the new one, so it is moved first.
        for leftover in (f"{target}-wal", f"{target}-shm"):
            Path(leftover).unlink(missing_ok=True)
        replace_durably(copy, target)
        return newest_order_at
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{source} could not be restored to {target}: {error}.") from error
    finally:
        with suppress(OSError):
            copy.unlink(missing_ok=True)  # a refusal leaves it, with every prompt
        lock.release()


def _checked_backup(source: Path) -> Path:
    if not source.is_file():
        raise StoreError(f"There is no backup {source}.")
    try:
        if not schema.has_header(source):
            raise sqlite3.DatabaseError("it does not begin like an SQLite file")
        with closing(connect_for_reading(source)) as connection:
            schema.check_ours(connection, source)
            findings = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        if not schema.is_damage(error):
            raise
        raise DatabaseUnusable(f"The backup {source} is damaged ({error}). Try an older one.") from error
    except DatabaseUnusable as error:
        raise DatabaseUnusable(f"The backup cannot be used. {error}") from error
    if findings != ["ok"] or orphans:
        raise DatabaseUnusable(f"The backup {source} is damaged. Try an older one.")
    return source


def _refuse_to_lose(backup: Path, target: Path) -> None:
    """Raise DatabaseUnusable when `target` has something that the backup lacks. A damaged target is not compared."""
    try:
        schema.check_header(target)
        with closing(connect(target)) as connection:  # also writes a log left by a crash back into the file
            version = schema.version_of(connection)
            in_target = progress(connection, version=version)
    except DatabaseUnusable:
        return
    except sqlite3.DatabaseError as error:
        if schema.is_damage(error):
            return
        raise StoreError(
            f"{target} could not be compared with the backup: {error}. End what else uses it, or move it and its -wal "
            f"file away if it is to be lost."
        ) from error
    with closing(connect_for_reading(backup)) as connection:
        version_of_backup = schema.version_of(connection)
        in_backup = progress(connection, version=version_of_backup)
        lost = [name for name, count in in_target.items() if count > in_backup[name]]
        if version > version_of_backup:
            lost.append("schema version")
    if lost:
        raise DatabaseUnusable(
            f"{target} is newer than the backup ({', '.join(lost)}): restoring would lose that. If it is to be lost, "
            f"move {target} and its -wal file away first."
        )


def progress(connection: Connection, *, version: int) -> dict[str, int]:
    """Return the counts that only ever grow, by what they count, of a database of this version."""
    return {
        name: 0 if name == "wallet entries" and version < _WALLETS_SINCE else connection.execute(query).fetchone()[0]
        for name, query in _PROGRESS.items()
    }


def _keep(target: Path) -> None:
    """Put the old file, and its log if a damaged one left it, aside under another name."""
    for suffix in ("-wal", "-shm"):
        Path(f"{target}.replaced{suffix}").unlink(missing_ok=True)
    if Path(f"{target}-wal").exists():
        Path(f"{target}-wal").replace(f"{target}.replaced-wal")
    # A link, not a move: at every instant there is a whole database at `target`.
    Path(f"{target}.replaced").unlink(missing_ok=True)
    os.link(target, f"{target}.replaced")
