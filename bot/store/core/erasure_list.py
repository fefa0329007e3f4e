"""ErasureList: a file outside the database that names what was erased, so that an older backup erases it again.

One JSON object on each line. It holds numbers of members and orders for as long as a backup may be restored.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

KEPT = timedelta(days=90)


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
        latest = max(self._entries(), default=None)
        return latest is None or latest < moment

    def add(self, *, now: datetime, user_id: int | None = None, reply_id: str | None = None) -> Erasure:
        """Write down what is about to be erased. Raises OSError."""
        latest = max(self._entries(), default=None)
        at = now if latest is None or latest < now else latest + timedelta(microseconds=1)
        self._append({"at": at.isoformat(), "member": user_id, "order": reply_id})
        return Erasure(at=at, user_id=user_id, reply_id=reply_id)

    def withdraw(self, erasure: Erasure) -> None:
        """Take back an entry, because nothing was erased. Raises OSError."""
        self._append({"withdrawn": erasure.at.isoformat()})

    def since(self, moment: datetime | None) -> list[Erasure]:
        """Return what was erased after `moment`, oldest first; with None everything. Raises OSError."""
        return [entry for at, entry in sorted(self._entries().items()) if moment is None or at > moment]

    def trim(self, now: datetime) -> None:
        """Forget entries that are older than `KEPT`. Raises OSError."""
        entries = self._entries().values()
        if all(entry.at >= now - KEPT for entry in entries):
            return
        shorter = ErasureList(self.path.with_name(f"{self.path.name}.new"))
        shorter.path.unlink(missing_ok=True)
        shorter.path.touch(0o600)
        for entry in entries:
            if entry.at >= now - KEPT:
                shorter.add(now=entry.at, user_id=entry.user_id, reply_id=entry.reply_id)
        shorter.path.replace(self.path)

    def _entries(self) -> dict[datetime, Erasure]:
        entries: dict[datetime, Erasure] = {}
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
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
                continue  # a line that was cut off when the machine stopped
        return entries

    def _append(self, document: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # It begins with a line break, in case the line before was cut off.
            os.write(descriptor, f"\n{json.dumps(document)}".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
