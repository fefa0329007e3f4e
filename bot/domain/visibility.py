"""Visibility: who may do what with an order, whose images may be held back; and images that were shared. No I/O.

Whether its images may be shown where everybody sees them is `Reply.is_held_back`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from bot.domain.jobs import Reply, ReviewState


class Person(Enum):
    """Who asks for something, as seen from an order."""

    MEMBER = auto()
    """Who ordered it."""
    MODERATOR = auto()
    """A moderator of the server in which it was ordered."""
    ONLOOKER = auto()
    """Everybody else who sees its message."""
    STRANGER = auto()
    """Everybody who does not see it."""


class Action(Enum):
    """What is asked for."""

    END = auto()
    """Cancelling or deleting it."""
    USE = auto()
    """What any member may do with a public image: its recipe, a remix, sharing it."""
    ORDER = auto()
    """What is the member's own: ordering from it once more."""


class Refusal(Enum):
    """Why not."""

    NOT_REVIEWED = auto()
    """Its images wait for moderators."""
    REFUSED_BY_REVIEW = auto()
    NOT_YOURS = auto()
    PRIVATE = auto()
    """Its contents are the member's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedImage:
    """What became of sharing an image; `message_id` is None as long as it is not known to be posted."""

    channel_id: int
    message_id: int | None
    is_removed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareClaim:
    """The right to post an image for a while. `is_first` is False if an earlier attempt may have posted it."""

    channel_id: int
    is_first: bool
    first_claimed_at: datetime


def why_refused(reply: Reply, person: Person, action: Action) -> Refusal | None:
    """Return why this person may not do that with an order; None if they may."""
    if action is not Action.END and (withheld := why_withheld(reply)) is not None:
        return withheld
    match person:
        case Person.MEMBER:
            return None
        case Person.MODERATOR:
            return Refusal.PRIVATE if reply.address.private and action is not Action.END else None
        case Person.ONLOOKER if action is Action.USE and _is_public_result(reply):
            return None
        case _:
            return Refusal.NOT_YOURS


def why_withheld(reply: Reply) -> Refusal | None:
    """Return why nobody, not even its member, may use the images of an order; None if it has none or they may."""
    if reply.deleted_at is not None:
        return None
    if reply.review is ReviewState.REFUSED:
        return Refusal.REFUSED_BY_REVIEW
    return Refusal.NOT_REVIEWED if reply.is_held_back and reply.has_images else None


def _is_public_result(reply: Reply) -> bool:
    return reply.has_images and not reply.address.private and reply.deleted_at is None
