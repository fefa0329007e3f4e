"""Plans: what happens to an order at the simulated provider, set by a test or by words in the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class How(StrEnum):
    """In which way an answer is wrong."""

    STATUS = "status"
    """A complete answer with this status and body."""
    RESET = "reset"
    """The connection breaks before a byte of the answer."""
    HANG = "hang"
    """No answer is sent."""
    NOT_JSON = "not_json"
    CUT_SHORT = "cut_short"
    """Fewer bytes than announced are sent."""
    NO_ID = "no_id"
    """JSON, but without the id of the job."""
    TOO_BIG = "too_big"
    BAD_ENCODING = "bad_encoding"
    """Declared as gzip, but not compressed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """An answer that is not the usual one. `accepted` says whether the order was accepted nevertheless."""

    how: How = How.STATUS
    status: int = 500
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    accepted: bool = False


LOST_ANSWER = Trouble(how=How.RESET, accepted=True)


class Ending(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    MODERATED = "moderated"
    ERROR = "error"
    """A fault of the system itself; only Pixazo distinguishes it from a failure."""
    CANCELLED = "cancelled"
    NEVER = "never"


class Shape(StrEnum):
    """How the addresses of a finished job are written."""

    LIST = "list"
    STRING = "string"
    TYPED = "typed"
    """`{type, url}` entries, a preview among them."""
    NAMED = "named"
    EMPTY = "empty"
    MISSING = "missing"


class ErrorForm(StrEnum):
    """Where and in which form a failed job states its reason."""

    OBJECT = "object"
    TEXT = "text"
    IN_RESULT = "in_result"
    NONE = "none"


class FileTrouble(StrEnum):
    """What is wrong with the finished file at its address."""

    NONE = "none"
    TRUNCATED = "truncated"
    HTML = "html"
    MISSING = "missing"
    SLOW = "slow"
    REDIRECT = "redirect"
    HUGE = "huge"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The course of one order. `words` are (status word, seconds) after 'queued'; None means the usual ones."""

    trouble: Trouble | None = None
    words: tuple[tuple[str, float], ...] | None = None
    seconds_factor: float = 1.0
    ending: Ending = Ending.COMPLETED
    code: str = "internal_error"
    message: str = "The model could not finish this image."
    error_form: ErrorForm = ErrorForm.OBJECT
    shape: Shape = Shape.LIST
    urls: tuple[str | dict[str, str], ...] = ()
    """Instead of the list with the one address; `{base}` and `{id}` are filled in."""
    first_urls: tuple[str, ...] = ()
    """The same, but only the first time that the addresses are read."""
    file_trouble: FileTrouble = FileTrouble.NONE
    redirect_to: str = ""
    """For `FileTrouble.REDIRECT`."""
    states_cost: bool = False
    bills_failure: bool = False
    polling_url: str | None = None
    webhook_copies: int = 1


# What a user of the demo can write into a prompt.
_WORDS_IN_PROMPTS: Mapping[str, Plan] = {
    "[fail]": Plan(ending=Ending.FAILED),
    "[nsfw]": Plan(ending=Ending.MODERATED),
    "[slow]": Plan(seconds_factor=6.0),
    "[stuck]": Plan(ending=Ending.NEVER),
    "[lost]": Plan(trouble=LOST_ANSWER),
    "[refuse]": Plan(trouble=Trouble(status=422, body={"error": "This combination of options is not supported"})),
    "[busy]": Plan(
        trouble=Trouble(status=429, body={"error": "Too many concurrent jobs"}, headers={"Retry-After": "5"})
    ),
    "[huge]": Plan(file_trouble=FileTrouble.HUGE),
    "[gone]": Plan(file_trouble=FileTrouble.MISSING),
}


def plan_in(prompt: str) -> Plan | None:
    """Return the plan that a prompt asks for by one of the words in brackets."""
    return next((plan for word, plan in _WORDS_IN_PROMPTS.items() if word in prompt.lower()), None)
