"""Words for what the record of changes holds.

The books keep English, whoever reads them, so that a line means the same for ever. Here its words are said again in the
language that is spoken; names, ids and amounts stay as they are.
"""

from __future__ import annotations

import re

from bot.quota import Period
from cogs.language import Phrase
from cogs.moderation_words import FOR_ROLE
from cogs.usage_words import NOT_SET, PER_PERIOD, UNLIMITED

_STATES = {
    "allowed": Phrase("allowed"),
    "denied": Phrase("denied"),
    "listed": Phrase("listed"),
    "not listed": Phrase("not listed"),
    "blocked": Phrase("blocked"),
    "not blocked": Phrase("not blocked"),
    "not set": NOT_SET,
    "unlimited": UNLIMITED,
}
_LIMIT = re.compile(rf"(?P<amount>\$[\d,.]+) per (?P<period>{'|'.join(Period)})")
_STATE = re.compile(rf"(?:(?P<name>.+?) )?(?P<state>{'|'.join(sorted(_STATES, key=len, reverse=True))})", re.DOTALL)
_FOR_ROLE = re.compile(r"(?P<name>.+) for (?P<role><@&\d+>)", re.DOTALL)


def recorded(value: str) -> str:
    """A value as the books have it ('$5.00 per day', '`gore` not listed'), said in the language that is spoken."""
    if limit := _LIMIT.fullmatch(value):
        return PER_PERIOD[Period(limit["period"])](amount=limit["amount"])
    state = _STATE.fullmatch(value)
    if state is None:
        return value
    said = _STATES[state["state"]]()
    return f"{_name(state['name'])} {said}" if state["name"] else said


def _name(text: str) -> str:
    named = _FOR_ROLE.fullmatch(text)
    return FOR_ROLE(name=named["name"], role=named["role"]) if named else text
