"""Catalogue changes: what providers' descriptions asked for, what became of it, and what providers say about models.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from bot.catalogue.provider_description.changes import BOT, Change, ChangeState, Edit, Reason, RecordedChange
from bot.catalogue.provider_description.model_notices import ModelNotice, NoticeKind
from bot.store.core.columns import to_json, to_micros, to_moment, to_moment_or_none
from bot.store.core.connection import Connection, Row
from bot.store.tables.shared.notifications import Topic, notify

_CHANGES = "SELECT * FROM catalogue_changes WHERE state <> 'withdrawn' ORDER BY id"
_LATEST = """
SELECT * FROM catalogue_changes WHERE id IN (SELECT max(id) FROM catalogue_changes GROUP BY model_id, part)
"""
_HELD = "SELECT * FROM catalogue_changes WHERE state = 'held' ORDER BY id"
_INSERT = """
INSERT INTO catalogue_changes
    (model_id, part, state, digest, edits, lines, reasons, stops, seen_at, told_at, decided_at, decided_by)
VALUES (:model_id, :part, :state, :digest, :edits, :lines, :reasons, :stops, :seen_at, :told_at, :decided_at,
    :decided_by)
"""
_DECIDE = """
UPDATE catalogue_changes SET state = :state, decided_at = :now, decided_by = :by, told_at = coalesce(told_at, :now)
WHERE id = :id AND state = 'held'
"""
_UNTOLD = "SELECT * FROM catalogue_changes WHERE told_at IS NULL ORDER BY id"
_TELL = "UPDATE catalogue_changes SET told_at = ? WHERE id = ? AND told_at IS NULL"
_UNTELL = "UPDATE catalogue_changes SET told_at = NULL WHERE id = ?"
_FORGET_PERSON = "UPDATE catalogue_changes SET decided_by = 'a former operator' WHERE decided_by = ?"
_DECISIONS_OF = "SELECT * FROM catalogue_changes WHERE decided_by = ? ORDER BY id"
_STATE = """
SELECT (SELECT count(*) || ' ' || coalesce(max(id), 0) || ' ' || coalesce(max(decided_at), 0) FROM catalogue_changes)
    || ' ' || (SELECT count(*) || ' ' || coalesce(max(noticed_at), 0) FROM model_notices)
"""
_NOTE = """
INSERT INTO model_notices (model_id, kind, heir, ends_at, noticed_at)
VALUES (:model_id, :kind, :heir, :ends_at, :noticed_at)
ON CONFLICT (model_id) DO UPDATE SET
    kind = excluded.kind, heir = excluded.heir, ends_at = excluded.ends_at, noticed_at = excluded.noticed_at
WHERE model_notices.kind <> excluded.kind OR model_notices.heir <> excluded.heir
    OR coalesce(model_notices.ends_at, 0) <> coalesce(excluded.ends_at, 0)
"""
_NOTICES = "SELECT * FROM model_notices ORDER BY model_id"
_REMOVE_NOTICE = "DELETE FROM model_notices WHERE model_id = ? AND kind = ?"

LOUD = ("!", "-")
"""Beginnings of lines that the operator is told of, besides what is held."""


def changes(connection: Connection) -> list[RecordedChange]:
    """Return every change but those that were withdrawn, oldest first."""
    return [_change(row) for row in connection.execute(_CHANGES).fetchall()]


def held_changes(connection: Connection) -> list[RecordedChange]:
    """Return the changes that wait for a decision, oldest first."""
    return [_change(row) for row in connection.execute(_HELD).fetchall()]


def record_changes(connection: Connection, proposed: Iterable[Change], *, now: datetime) -> list[RecordedChange]:
    """Record what one reading of the description asks for; return what is new: applied or held.

    What is held already, or was decided to be kept, is not recorded again. Held changes that the description does not
    ask for any more are withdrawn.
    """
    latest = {(change.model_id, change.part): change for change in map(_change, connection.execute(_LATEST).fetchall())}
    wanted = {(change.model_id, change.part): change for change in proposed}
    for place, before in latest.items():
        if before.state is ChangeState.HELD and (place not in wanted or wanted[place].digest != before.digest):
            _decide(connection, before, ChangeState.WITHDRAWN, now=now, decided_by=BOT)
    inserted: list[tuple[str, str]] = []
    for place, change in wanted.items():
        before = latest.get(place)
        if before and before.digest == change.digest and before.state in (ChangeState.HELD, ChangeState.KEPT):
            continue
        state = ChangeState.HELD if change.is_held else ChangeState.APPLIED
        is_quiet = not change.is_held and not any(line.startswith(LOUD) for line in change.lines)
        _insert(connection, change, state=state, now=now, decided_by=BOT, is_told=is_quiet)
        inserted.append(place)
    notify(connection, Topic.CATALOGUE, "")
    rows = map(_change, connection.execute(_LATEST).fetchall())
    return [change for change in rows if (change.model_id, change.part) in inserted]


def accept_changes(
    connection: Connection, proposed: Iterable[Change], *, now: datetime, decided_by: str
) -> list[RecordedChange]:
    """Record changes as accepted by a person, held before or not; return them."""
    accepted: list[tuple[str, str]] = []
    held = {(change.model_id, change.part): change for change in held_changes(connection)}
    for change in proposed:
        place = (change.model_id, change.part)
        before = held.get(place)
        if before is not None and before.digest == change.digest:
            _decide(connection, before, ChangeState.ACCEPTED, now=now, decided_by=decided_by)
        else:
            if before is not None:
                _decide(connection, before, ChangeState.WITHDRAWN, now=now, decided_by=BOT)
            _insert(connection, change, state=ChangeState.ACCEPTED, now=now, decided_by=decided_by, is_told=True)
        accepted.append(place)
    notify(connection, Topic.CATALOGUE, "")
    rows = map(_change, connection.execute(_LATEST).fetchall())
    return [change for change in rows if (change.model_id, change.part) in accepted]


def decide_changes(
    connection: Connection, ids: Collection[int], *, state: ChangeState, now: datetime, decided_by: str
) -> list[RecordedChange]:
    """Decide what is held among these changes; return what was."""
    waiting = [change for change in held_changes(connection) if change.id in ids]
    for change in waiting:
        _decide(connection, change, state, now=now, decided_by=decided_by)
    notify(connection, Topic.CATALOGUE, "")
    return waiting


def _decide(
    connection: Connection, change: RecordedChange, state: ChangeState, *, now: datetime, decided_by: str
) -> None:  # fmt: skip
    row = {"state": state, "now": to_micros(now), "by": decided_by, "id": change.id}
    connection.execute(_DECIDE, row)


def _insert(
    connection: Connection, change: Change, *, state: ChangeState, now: datetime, decided_by: str, is_told: bool
) -> None:
    is_decided = state is not ChangeState.HELD
    row = {
        "model_id": change.model_id,
        "part": change.part,
        "state": state,
        "digest": change.digest,
        "edits": to_json([edit.to_data() for edit in change.edits]),
        "lines": to_json(change.lines),
        "reasons": to_json(change.reasons),
        "stops": change.stops,
        "seen_at": to_micros(now),
        "told_at": to_micros(now) if is_told else None,
        "decided_at": to_micros(now) if is_decided else None,
        "decided_by": decided_by if is_decided else None,
    }
    connection.execute(_INSERT, row)


def take_untold(connection: Connection, *, now: datetime) -> list[RecordedChange]:
    """Return the changes that the operator is to be told of; the caller tells them, no other process does."""
    rows = connection.execute(_UNTOLD).fetchall()
    return [_change(row) for row in rows if connection.execute(_TELL, (to_micros(now), row["id"])).rowcount == 1]


def put_back_untold(connection: Connection, ids: Sequence[int]) -> None:
    """Have changes told later: the message did not arrive."""
    for change_id in ids:
        connection.execute(_UNTELL, (change_id,))


def forget_person(connection: Connection, user_id: int) -> None:
    """Forget who made the decisions of this person."""
    connection.execute(_FORGET_PERSON, (str(user_id),))


def decisions_of(connection: Connection, user_id: int) -> list[RecordedChange]:
    """Return the decisions of this person, oldest first."""
    return [_change(row) for row in connection.execute(_DECISIONS_OF, (str(user_id),)).fetchall()]


def catalogue_token(connection: Connection) -> str:
    """Return a text that changes with everything that the catalogue is made of here."""
    return connection.execute(_STATE).fetchone()[0]


def _change(row: Row) -> RecordedChange:
    return RecordedChange(
        id=row["id"],
        model_id=row["model_id"],
        part=row["part"],
        state=ChangeState(row["state"]),
        digest=row["digest"],
        edits=tuple(map(Edit.from_data, json.loads(row["edits"]))),
        lines=tuple(json.loads(row["lines"])),
        reasons=tuple(map(Reason, json.loads(row["reasons"]))),
        stops=bool(row["stops"]),
        seen_at=to_moment(row["seen_at"]),
        decided_at=to_moment_or_none(row["decided_at"]),
        decided_by=row["decided_by"],
    )


# -- what providers say about models ---------------------------------------------------------------------


def note_model(connection: Connection, notice: ModelNotice) -> bool:
    """Record what a provider says about a model. False when it said so before."""
    row = {
        "model_id": notice.model_id,
        "kind": notice.kind,
        "heir": notice.heir,
        "ends_at": None if notice.ends_at is None else to_micros(notice.ends_at),
        "noticed_at": to_micros(notice.noticed_at),
    }
    is_new = connection.execute(_NOTE, row).rowcount == 1
    if is_new:
        notify(connection, Topic.CATALOGUE, notice.model_id)
    return is_new


def model_notices(connection: Connection) -> list[ModelNotice]:
    """Return the latest word about each model that a provider said something about."""
    return [
        ModelNotice(
            model_id=row["model_id"],
            kind=NoticeKind(row["kind"]),
            heir=row["heir"],
            ends_at=to_moment_or_none(row["ends_at"]),
            noticed_at=to_moment(row["noticed_at"]),
        )
        for row in connection.execute(_NOTICES).fetchall()
    ]


def remove_model_notice(connection: Connection, model_id: str, kind: NoticeKind) -> bool:
    """Forget that a provider said so. False when nothing was recorded."""
    removed = connection.execute(_REMOVE_NOTICE, (model_id, kind)).rowcount == 1
    if removed:
        notify(connection, Topic.CATALOGUE, model_id)
    return removed
