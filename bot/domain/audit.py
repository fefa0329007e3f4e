"""The audit log: changes by moderators, with old and new values, as facts that are put into words when shown.

Values only, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bot.domain.money.quota import Period, Quota


class Standing(StrEnum):
    """The state of a setting that has no other value."""

    NOT_SET = "not_set"
    LISTED = "listed"
    NOT_LISTED = "not_listed"
    ALLOWED = "allowed"
    DENIED = "denied"
    BLOCKED = "blocked"
    NOT_BLOCKED = "not_blocked"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A spending limit; None is unlimited."""

    amount_usd_micros: int | None
    period: Period


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """An amount of money: a grant, or what was spent before a reset."""

    amount_usd_micros: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """A channel or category of the server."""

    channel_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """A role of the server."""

    role_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """The models that match the pattern, for members with the role or (None) for everyone."""

    pattern: str
    role_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """A name that is the same in every language: a model, a time zone, a word on the word list."""

    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """A language by its tag."""

    tag: str


Topic = Channel | Role | Models | Name
"""Which element was changed, where a setting has several."""

Fact = Standing | Limit | Amount | Topic | Language
"""An old or new value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """One recorded change by a moderator: `action` with `topic` for `subject`.

    `actor_id`, and the `subject_id` of a member, are None once that person had their data deleted. `old_value`
    is None where nothing was replaced.
    """

    id: int
    guild_id: int
    actor_id: int | None
    action: str
    subject: str
    subject_id: int | None
    topic: Topic | None
    old_value: Fact | None
    new_value: Fact
    reason: str | None
    created_at: datetime


def as_limit(quota: Quota | None) -> Fact:
    """Convert a quota, or its absence, to a fact."""
    if quota is None:
        return Standing.NOT_SET
    return Limit(amount_usd_micros=quota.amount_usd_micros, period=quota.period)


def as_name(name: str | None) -> Fact:
    """Convert a name, or its absence, to a fact."""
    return Standing.NOT_SET if name is None else Name(name=name)


def as_channel(channel_id: int | None) -> Fact:
    """Convert a channel, or its absence, to a fact."""
    return Standing.NOT_SET if channel_id is None else Channel(channel_id=channel_id)


def as_language(tag: str | None) -> Fact:
    """Convert a language, or its absence, to a fact."""
    return Standing.NOT_SET if tag is None else Language(tag=tag)
