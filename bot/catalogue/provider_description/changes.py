"""Changes of the catalogue: what is different in one model, attribute by attribute, and how that is laid over the file.

A change is kept as edits, not as a whole model, so that an upgrade of the program brings everything else it ships.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from bot.domain.json_values import Json

ENTRY, PRICE = "entry", "price"
"""The parts of a model that change separately: everything but its price, and its price."""

BOT = "bot"
COMMAND_LINE = "command line"
"""Who decided, where it was no person in Discord."""


class ChangeState(StrEnum):
    """What became of a change that a provider's description asked for."""

    HELD = "held"
    """A person has to decide; the model is stopped meanwhile, where the change concerns orders."""
    APPLIED = "applied"
    """Harmless: taken over by the bot itself."""
    ACCEPTED = "accepted"
    """A person took it over."""
    KEPT = "kept"
    """A person decided to keep what there was."""
    WITHDRAWN = "withdrawn"
    """The provider took it back, or changed it again, before a person decided."""

    @property
    def counts(self) -> bool:
        """Whether the edits are part of the catalogue."""
        return self in (ChangeState.APPLIED, ChangeState.ACCEPTED)


class Reason(StrEnum):
    """Why a change is held."""

    PRICE = "price"
    """A price moves to more than twice or less than half of what a person last agreed to."""
    MEANING = "meaning"
    """A price has another type, currency or unit."""
    NO_PRICE = "no_price"
    """The model would have no price that is known."""
    NO_ORDER = "no_order"
    """No order could be made any more: a field that each needs takes values that are not understood."""
    REQUIRED = "required"
    """A field is required that was not."""
    DEFAULT = "default"
    """The default model would be gone."""
    MANY = "many"
    """More than a fifth of the models change at once."""
    UNREADABLE = "unreadable"
    """The model's description is not understood."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One attribute of a model before and after; None stands for 'not there', and an empty path for the whole model."""

    path: tuple[str, ...]
    before: Any
    after: Any

    def to_data(self) -> list[Any]:
        """Return the edit as JSON data."""
        return [list(self.path), self.before, self.after]

    @classmethod
    def from_data(cls, data: Iterable[Any]) -> Edit:
        """Return the edit written by `to_data`."""
        path, before, after = data
        return cls(tuple(path), before, after)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One change of one part of a model: its edits, what it does in words, and why a person should look at it."""

    model_id: str
    part: str
    edits: tuple[Edit, ...]
    lines: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()
    stops: bool = False
    """Whether orders at the former terms could fail or cost something else: the model stops while this is held."""

    @property
    def is_held(self) -> bool:
        """Whether a person has to decide."""
        return bool(self.reasons)

    @property
    def digest(self) -> str:
        """What tells whether two descriptions ask for the same change."""
        wanted = [[list(edit.path), edit.after] for edit in self.edits]
        text = json.dumps([self.model_id, self.part, wanted], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedChange:
    """A change as the database keeps it. `id` is its version: later ones are laid over earlier ones."""

    id: int
    model_id: str
    part: str
    state: ChangeState
    digest: str
    edits: tuple[Edit, ...]
    lines: tuple[str, ...]
    reasons: tuple[Reason, ...]
    stops: bool
    seen_at: datetime
    decided_at: datetime | None = None
    decided_by: str | None = None


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> tuple[Edit, ...]:
    """Return the edits that turn one model's data into the other."""
    if before is None:
        return (Edit((), None, dict(after)),)
    edits = [
        Edit((key,), before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if key != "fields" and before.get(key) != after.get(key)
    ]
    old: Mapping[str, Json] = before["fields"]
    new: Mapping[str, Json] = after["fields"]
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            edits.append(Edit(("fields", name), old.get(name), new.get(name)))
            continue
        edits += [
            Edit(("fields", name, key), old[name].get(key), new[name].get(key))
            for key in dict.fromkeys([*old[name], *new[name]])
            if old[name].get(key) != new[name].get(key)
        ]
    return tuple(edits)


def apply_edits(entry: Mapping[str, Any] | None, edits: Iterable[Edit]) -> tuple[Json | None, list[Edit]]:
    """Return a model's data with the edits laid over it, and the edits that override what an upgrade changed.

    An edit of something that is not there any more, such as an attribute of a field that is gone, is left out.
    """
    result = None if entry is None else _copied(entry)
    overriding: list[Edit] = []
    for edit in edits:
        if not edit.path:
            if result is None:
                result = _copied(edit.after)
            elif result["price"] != edit.after["price"]:
                # An upgrade ships the model by now, better described; its price stays what was taken over.
                overriding.append(Edit(("price",), result["price"], edit.after["price"]))
                result["price"] = edit.after["price"]
            continue
        here = _holder(result, edit.path)
        if here is None:
            continue
        name = edit.path[-1]
        if here.get(name) not in (edit.before, edit.after):
            overriding.append(Edit(edit.path, here.get(name), edit.after))
        if edit.after is None:
            here.pop(name, None)
        else:
            here[name] = edit.after
    return result, overriding


def _holder(entry: Json | None, path: tuple[str, ...]) -> Json | None:
    """Return the object that the last step of the path is in; None if it is not there."""
    for step in path[:-1]:
        inside: Any = (entry or {}).get(step)
        entry = cast("Json", inside) if isinstance(inside, dict) else None
    return entry


def _copied(entry: Mapping[str, Any]) -> Json:
    """Return a copy whose fields can be changed."""
    return {**entry, "fields": {name: dict(field) for name, field in entry["fields"].items()}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layered:
    """The shipped data with every change that counts laid over it, and what of the shipped data that overrides."""

    data: Json
    overriding: tuple[str, ...]


def layered(shipped: Mapping[str, Any], changes: Iterable[RecordedChange], *, by_people_only: bool = False) -> Layered:
    """Lay changes over the shipped data, in the order in which they came.

    `by_people_only` leaves out those that no person agreed to.
    """
    entries: dict[str, Json] = {entry["id"]: entry for entry in shipped["models"]}
    overriding: list[str] = []
    for change in sorted(changes, key=lambda change: change.id):
        if not change.state.counts or (by_people_only and change.state is ChangeState.APPLIED and not _is_new(change)):
            continue
        entry, over = apply_edits(entries.get(change.model_id), change.edits)
        if entry is not None:
            entries[change.model_id] = entry
        overriding += [
            f"{change.model_id}: {'.'.join(edit.path)} stays as accepted (change {change.id}); the program ships "
            f"{json.dumps(edit.before, ensure_ascii=False)[:200]}"
            for edit in over
        ]
    return Layered(data={**shipped, "models": list(entries.values())}, overriding=tuple(overriding))


def _is_new(change: RecordedChange) -> bool:
    """Whether the change adds a model: its first price is what later ones are compared with."""
    return any(not edit.path for edit in change.edits)
