"""The setting DATABASE_URL: a SQLite file, or a database on a PostgreSQL server."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_POSTGRESQL = ("postgresql", "postgres")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A database on a PostgreSQL server. `str()` omits the password; only `url` contains it."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        # Without the query, which may contain a password as well.
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Passwords, which must never appear in a log or an error."""
        parts = urlsplit(self.url)
        given = [parts.password or "", *parse_qs(parts.query).get("password", ())]
        found = {secret for text in given if text for secret in (text, unquote(text))}
        return tuple(sorted(found, key=len, reverse=True))

    def hide(self, text: str) -> str:
        """Return `text` without the password."""
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return text


Location = Path | PostgresAddress


def parse_location(text: str) -> Location:
    """Parse DATABASE_URL. Raises ValueError.

    `sqlite:///data/x` is relative to the working directory, `sqlite:////data/x` is absolute.
    """
    text = text.strip()
    if text.partition("://")[0] in _POSTGRESQL:
        return _parse_postgres(text)
    path = text.removeprefix("sqlite:///")
    # An in-memory database would lose the ledger.
    if path == text or not path or path.startswith(":") or "?" in path or path.endswith("/"):
        raise ValueError("not a database address")
    if not path.isprintable():  # a Windows path in double quotes, whose \\n and \\b became control characters
        raise ValueError("not a database address")
    # Docker takes a comment as a part of the value, and nothing replaces ~ here: either would begin an empty ledger.
    if " #" in path or path.startswith("~"):
        raise ValueError("not a database address")
    return Path(path)


def _parse_postgres(text: str) -> PostgresAddress:
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("not a database address")
    parts = urlsplit(text)
    # PostgreSQL's library ends the password at the first @, and would show the rest of it as the name of a host.
    if parts.netloc.count("@") > 1 or _BAD_ESCAPE.search(text):
        raise ValueError("not a database address")
    unquote(text, errors="strict")  # raises UnicodeDecodeError, a ValueError
    for host in parts.netloc.rpartition("@")[2].split(","):  # a list of hosts is allowed
        _ = urlsplit(f"//{host}").port  # raises ValueError for an invalid port
    # Without a host, libpq would use a local server; without a database name, the user's name.
    if (
        not (parts.netloc.rpartition("@")[2] or "host" in parse_qs(parts.query))
        or len(parts.path) < 2
        or parts.fragment
    ):
        raise ValueError("not a database address")
    if "/" in parts.path[1:]:
        raise ValueError("not a database address")
    return PostgresAddress(text)
