"""The file of /privacy export: JSON, written while it is read from the database, packed if it is too large otherwise.

It is never in memory as a whole. What is written is bounded by what Discord takes: reading ends where that is exceeded.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import Any, Self, cast

from bot.domain.jobs import NO_CHANNEL_ID
from cogs.text import formatting

EXPORT_FILE = "privacy-export.json"

MAX_PLAIN_BYTES = 10_000_000
"""A larger file is packed, even where Discord takes more: the disk for temporary files may be memory."""

_SPOOL_BYTES = 1_000_000
"""A longer file goes to the disk."""

_PACKING_LEVEL = 4
"""Half the processor time of the highest level, for a file that is a tenth larger."""


class ExportFile:
    """Use with `with`; every method may block. The lists come one after the other, one item on each line."""

    def __init__(self, *, about: str, user_id: int, exported_at: datetime, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._plain_limit_bytes = min(limit_bytes, MAX_PLAIN_BYTES)
        self._is_plain = True
        self._list: str | None = None
        self._is_first = True
        with ExitStack() as files:
            self._plain = files.enter_context(SpooledTemporaryFile(_SPOOL_BYTES))
            self._packed = files.enter_context(SpooledTemporaryFile(_SPOOL_BYTES))
            packer = gzip.GzipFile(filename="", mode="wb", compresslevel=_PACKING_LEVEL, fileobj=self._packed)
            self._packer = files.enter_context(packer)
            self._files = files.pop_all()
        head = {"about": about, "exported_at": exported_at.isoformat(), "user_id": str(user_id)}
        self._write("{\n" + ",\n".join(f"{_json(name)}: {_json(value)}" for name, value in head.items()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    @property
    def is_too_large(self) -> bool:
        """Whether it does not fit into one file at Discord, however it is packed."""
        return not self._is_plain and self._packed.tell() > self._limit_bytes

    def add(self, name: str, items: Iterable[dict[str, Any]]) -> None:
        """Add items to the list `name`, which is begun if it is not the last one."""
        parts: list[str] = []
        if name != self._list:
            parts.append(f"{self._end_of_list()},\n{_json(name)}: [")
            self._list, self._is_first = name, True
        for item in items:
            parts.append(f"{'' if self._is_first else ','}\n{_json(_with_link(item) if name == 'commands' else item)}")
            self._is_first = False
        self._write("".join(parts))

    def finish(self) -> tuple[str, io.BufferedIOBase] | None:
        """Return the name and the file, to be read from its beginning; None when it is too large."""
        self._write(f"{self._end_of_list()}\n}}\n")
        self._packer.close()
        if self.is_too_large:
            return None
        name, file = (EXPORT_FILE, self._plain) if self._is_plain else (f"{EXPORT_FILE}.gz", self._packed)
        file.seek(0)
        return name, cast("io.BufferedIOBase", file)

    def _end_of_list(self) -> str:
        if self._list is None:
            return ""
        return "]" if self._is_first else "\n]"

    def _write(self, text: str) -> None:
        data = text.encode()
        self._packer.write(data)
        if self._is_plain and self._plain.tell() + len(data) > self._plain_limit_bytes:
            self._is_plain = False
            self._plain.close()
        if self._is_plain:
            self._plain.write(data)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _with_link(order: dict[str, Any]) -> dict[str, Any]:
    """Add the link to the message of a public order."""
    if order["message_id"] is None or order["private"] or order["channel_id"] == str(NO_CHANNEL_ID):
        return order
    link = formatting.message_link(order["server_id"], order["channel_id"], order["message_id"])
    return {**order, "message_link": link}
