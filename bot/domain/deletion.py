"""Deletion: the messages of an order at Discord, and what an erased order leaves. Values only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MessageKind(StrEnum):
    """What a message of an order is."""

    CARD = "card"
    LOG = "log"
    """The copy in the log channel of the moderators."""
    SHARED = "shared"
    """The copy in the showcase channel."""
    REVIEW = "review"
    """The question in the review channel of the moderators."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderMessage:
    """A message at Discord that shows an order."""

    channel_id: int
    message_id: int
    kind: MessageKind

    @property
    def place(self) -> tuple[int, int]:
        """The channel and the message."""
        return self.channel_id, self.message_id


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageDeletion:
    """A message that Discord has yet to delete, and how often that was tried."""

    channel_id: int
    message_id: int
    attempts: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class DeletedOrder:
    """What an erased order leaves outside the database: images that nothing needs now, and messages at Discord."""

    unneeded_sha256: frozenset[str]
    messages: tuple[OrderMessage, ...]
