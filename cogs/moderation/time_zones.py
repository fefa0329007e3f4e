"""Time zones by the names people type: cities and regions of the IANA database."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from bot.domain.texts import squashed
from cogs.text.moderation import ZONE_NOW

_OLD_FAMILIES = ("Etc/", "SystemV/", "US/", "posix/", "right/", "Factory")


@cache
def _zones() -> dict[str, str]:
    """Map normalised names to names. The first call reads several hundred files."""
    names = sorted(name for name in available_timezones() if not name.startswith(_OLD_FAMILIES) and "/" in name)
    return {squashed(name): name for name in ("UTC", *names)}


def load() -> None:
    """Read the names in advance, because the first call is slow."""
    _zones()


def find(text: str) -> ZoneInfo | None:
    """Return the zone of that name or of the only city of that name; None if there is none.

    Case, blanks and punctuation are ignored.
    """
    wanted = squashed(text)
    if (name := _zones().get(wanted)) is not None:
        return ZoneInfo(name)
    cities = [name for name in _zones().values() if squashed(name.rpartition("/")[2]) == wanted]
    return ZoneInfo(cities[0]) if len(cities) == 1 else None


def search(text: str, *, limit: int) -> list[str]:
    """Return names that contain `text`, first those whose city begins with it."""
    wanted = squashed(text)
    found = [(key, name) for key, name in _zones().items() if wanted in key]
    found.sort(key=lambda pair: not squashed(pair[1].rpartition("/")[2]).startswith(wanted))
    return [name for _, name in found[:limit]]


def described(name: str, now: datetime) -> str:
    """Return `Europe/Berlin · 14:05 now`."""
    return ZONE_NOW(zone=name.replace("_", " "), time=f"{now.astimezone(ZoneInfo(name)):%H:%M}")
