"""Odd answers: what Discord and the providers might answer and nobody documents, each in turn, at random moments."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import TypeVar

from sandbox.discord import LocalDiscord
from sandbox.discord.rest import Trouble as DiscordTrouble
from sandbox.plans import How, Plan, Trouble
from sandbox.provider import SandboxProvider

SHARE = 0.12
"""The part of the requests that meet an odd answer."""

BUSY_TIMES = 12
"""Answers of 429 without a time, one after the other: as good as without end."""

_PAGE = "<html><head><title>Attention Required!</title></head><body>error code: 1020</body></html>"
_HALF = '{"id": "123", "channel_id"'

DISCORD_ANSWERS: Mapping[str, Mapping[str, object]] = {
    "403 page of the edge": {"status": 403, "page": _PAGE},
    "403 code 40333": {"status": 403, "code": 40333, "message": "internal network error"},
    "401 code 0": {"status": 401, "code": 0, "message": "401: Unauthorized"},
    "429 in an unknown shape": {"status": 429, "page": "error code: 1015"},
    "200 with a page": {"status": 200, "page": _PAGE},
    "200 with a page, done": {"status": 200, "page": _PAGE, "after": True},
    "502 with a page": {"status": 502, "page": _PAGE},
    "503 with a page, done": {"status": 503, "page": _PAGE, "after": True},
    "400 of an unknown code": {"status": 400, "code": 99_999, "message": "odd"},
    "reset": {},
    "reset, done": {"after": True},
    "reset in the body, done": {"page": _HALF, "after": True},
}
"""Made of each: the arguments of the simulated Discord's fault. `done` ones take effect all the same."""

DISCORD_ROUTES = ("/interactions", "/webhooks", "/channels")
"""Logging in is left alone: a token that is refused there ends the bot, as it should."""

_ANY: Mapping[str, Trouble] = {
    "403 page": Trouble(status=403, body="<html>Forbidden</html>"),
    "200 with a page": Trouble(how=How.NOT_JSON),
    "200 without an id": Trouble(how=How.NO_ID),
    "429 without a time": Trouble(status=429, body={"error": "Too many requests"}),
    "409 of no meaning": Trouble(status=409, body=[None]),
    "502": Trouble(status=502, body="Bad gateway"),
    "reset": Trouble(how=How.RESET),
    "reset in the body": Trouble(how=How.CUT_SHORT),
    "no gzip": Trouble(how=How.BAD_ENCODING),
}
_LOST: Mapping[str, Trouble] = {
    f"{name}, accepted": Trouble(how=how, status=502, body="Bad gateway", accepted=True)
    for name, how in {
        "200 with a page": How.NOT_JSON,
        "200 without an id": How.NO_ID,
        "502": How.STATUS,
        "reset in the body": How.CUT_SHORT,
    }.items()
}
PROVIDER_ANSWERS: Mapping[str, Mapping[str, Trouble]] = {
    "order": {**_ANY, **_LOST},
    "read": _ANY,
    "list": _ANY,
    "cancel": _ANY,
    "upload": _ANY,
    "picture": {name: odd for name, odd in _ANY.items() if not name.startswith("200 without")},
}

_T = TypeVar("_T")


class OddAnswers:
    """Gives odd answers until `end`; `given` counts them by who gave which to what."""

    def __init__(self, chance: random.Random, discord: LocalDiscord, provider: SandboxProvider) -> None:
        self.given: Counter[str] = Counter()
        self._chance = chance
        self._discord = discord
        self._provider = provider
        self._busy_left = 0
        self._discord_turns = {route: _turns(chance, DISCORD_ANSWERS) for route in DISCORD_ROUTES}
        self._provider_turns = {name: _turns(chance, answers) for name, answers in PROVIDER_ANSWERS.items()}
        discord.rest.odd = self._of_discord
        provider.odd = self._of_provider
        provider.default_plan = Plan(webhook_copies=3)

    def end(self) -> None:
        """Answer as usual from now on."""
        self._discord.rest.odd = self._provider.odd = None

    @property
    def not_given(self) -> list[str]:
        """Every odd answer that none of the requests has met."""
        everything = [f"discord {route}: {name}" for route in DISCORD_ROUTES for name in DISCORD_ANSWERS]
        everything += [f"provider {what}: {name}" for what, answers in PROVIDER_ANSWERS.items() for name in answers]
        return [name for name in everything if not self.given[name]]

    def _of_discord(self, method: str, route: str) -> DiscordTrouble | None:
        begin = next((begin for begin in DISCORD_ROUTES if route.startswith(begin)), None)
        if begin is None or self._chance.random() >= SHARE:
            return None
        name, how = next(self._discord_turns[begin])
        self.given[f"discord {begin}: {name}"] += 1
        return DiscordTrouble(method=method, part=route, **how)  # pyright: ignore[reportArgumentType]

    def _of_provider(self, operation: str) -> Trouble | None:
        if self._busy_left and operation == "order":
            self._busy_left -= 1
            return _ANY["429 without a time"]
        if operation not in PROVIDER_ANSWERS or self._chance.random() >= SHARE:
            return None
        name, trouble = next(self._provider_turns[operation])
        self.given[f"provider {operation}: {name}"] += 1
        if operation == "order" and name.startswith("429"):
            self._busy_left = BUSY_TIMES
        return trouble


def _turns(chance: random.Random, answers: Mapping[str, _T]) -> Iterator[tuple[str, _T]]:
    """Repeat the answers in a random order."""
    order: Sequence[tuple[str, _T]] = chance.sample(list(answers.items()), len(answers))
    return cycle(order)
