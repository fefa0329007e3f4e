"""ErasureList: a file outside the database that names what was erased, so that an older backup erases it again.

One JSON object on each line. It holds numbers of members and orders for as long as a backup may be restored.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

KEPT = timedelta(days=90)
_END_BYTES = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Erasure:
    """All data of a member, or one order, erased at a time that no other entry has."""

    at: datetime
    user_id: int | None = None
    reply_id: str | None = None


class ErasureList:
    """Several processes may have the file, each of them in turn. Its methods block, for a moment."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin_turn(self) -> int | None:
        """Keep other processes from the list until `end_turn`; None while another one has it. Raises OSError.

        An erasure is written down, done and remembered in one turn: the database remembers only the newest one.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A file of its own, because trimming replaces the list. It ends with the process at the latest.
        descriptor = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def end_turn(self, turn: int) -> None:
        """Let other processes have the list."""
        os.close(turn)

    def lacks(self, moment: datetime | None, *, now: datetime) -> bool:
        """Return whether an erasure of that moment, which the database knows, should be here and is not.

        Raises OSError.
        """
        if moment is None or moment < now - KEPT:
            return False
        latest = self.latest()
        return latest is None or latest < moment

    def latest(self) -> datetime | None:
        """Return the time of the newest entry. Raises OSError."""
        # Entries are in the order of their times. All of the file is read if its end has only withdrawn ones.
        return max(self._entries(end_bytes=_END_BYTES) or self._entries(), default=None)

    def add(self, *, now: datetime, user_id: int | None = None, reply_id: str | None = None) -> Erasure:
        """Write down what is about to be erased. Raises OSError."""
        latest = self.latest()
        at = now if latest is None or latest < now else latest + timedelta(microseconds=1)
        erasure = Erasure(at=at, user_id=user_id, reply_id=reply_id)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _append(self.path, _line_of(erasure))
        return erasure

    def withdraw(self, erasure: Erasure) -> None:
        """Take back an entry, because nothing was erased. Raises OSError."""
        _append(self.path, _line({"withdrawn": erasure.at.isoformat()}))

    def since(self, moment: datetime | None, *, waiting: Collection[datetime] = ()) -> list[Erasure]:
        """Return what was erased after `moment` or is `waiting`, oldest first; with None everything. Raises OSError."""
        entries = sorted(self._entries().items())
        return [entry for at, entry in entries if moment is None or at > moment or at in waiting]

    def trim(self, now: datetime) -> None:
        """Forget entries that are older than `KEPT`. Raises OSError."""
        entries = self._entries().values()
        kept = [entry for entry in entries if entry.at >= now - KEPT]
        if len(kept) == len(entries):
            return
        shorter = self.path.with_name(f"{self.path.name}.new")
        shorter.unlink(missing_ok=True)
        _append(shorter, "".join(map(_line_of, kept)))
        shorter.replace(self.path)

    def _entries(self, *, end_bytes: int | None = None) -> dict[datetime, Erasure]:
        """Read all entries, or those in the last `end_bytes` of the file."""
        entries: dict[datetime, Erasure] = {}
        try:
            with self.path.open("rb") as file:
                if end_bytes is not None:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - end_bytes))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return {}
        for line in lines:
            try:
                found: dict[str, Any] = json.loads(line)
                if "withdrawn" in found:
                    entries.pop(datetime.fromisoformat(found["withdrawn"]), None)
                else:
                    at = datetime.fromisoformat(found["at"])
                    entries[at] = Erasure(at=at, user_id=found["member"], reply_id=found["order"])
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut off when the machine stopped, or by `end_bytes`
        return entries


def _line_of(erasure: Erasure) -> str:
    return _line({"at": erasure.at.isoformat(), "member": erasure.user_id, "order": erasure.reply_id})


def _line(document: dict[str, Any]) -> str:
    # It begins with a line break, in case the line before was cut off.
    return f"\n{json.dumps(document)}"


def _append(path: Path, lines: str) -> None:
    with open(path, "ab", opener=partial(os.open, mode=0o600)) as file:
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())
