"""`python -m bot catalogue`: the models and their prices, what the provider's description would change, and decisions.

What is decided is written into the database, so the program's own files stay read-only, and a running bot takes it over
within seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from bot import app
from bot.catalogue.catalogue import Catalogue, layered_data
from bot.catalogue.models import Model
from bot.catalogue.provider_description.changes import COMMAND_LINE, Change, ChangeState, RecordedChange
from bot.catalogue.provider_description.openapi import fetch_openapi
from bot.catalogue.provider_description.refresh import Refresh
from bot.catalogue.provider_description.refresh_words import WHY_HELD, when_words
from bot.domain.errors import DatabaseBusy, ProviderUnavailable, SettingsError, StoreError
from bot.domain.money.quota import format_usd
from bot.service.maintenance.catalogue_keeper import compare
from bot.settings import Settings, load_settings
from bot.startup.default_model import orderable_models, require_default_model, why_not_default
from bot.store.admin.readonly import recorded_catalogue, write_beside
from bot.store.core.connection import Connection
from bot.store.store import Store
from bot.store.tables.shared import catalogue as table

ALL = "all"


def catalogue(*, refresh: bool, accept: Sequence[str] | None, keep: Sequence[str] | None) -> int:
    """List the models, or show what the description would change, or decide about that."""
    settings = load_settings(credentials=False)
    if accept and keep and (set(accept) & set(keep) or ALL in (*accept, *keep)):
        raise SettingsError("--accept and --keep name the same changes; name each once")
    if accept or keep:
        return asyncio.run(_decide(settings, accept or (), keep or ()))
    return _show_changes(settings) if refresh else _list(settings)


def describe(settings: Settings, loaded: Catalogue) -> str:
    """Say in one line what can be ordered, for `check`. Raises SettingsError when the default model cannot."""
    require_default_model(settings, loaded)
    default = loaded.get(settings.default_model)
    if why := why_not_default(settings, default):
        raise SettingsError(f"the default model {default.id} {why}. {orderable_models(settings, loaded)}")
    offered = [model for model in loaded.models if model.orderable]
    parts = [f"{len(offered)} models can be ordered; the default is {settings.default_model}"]
    if assumed := assumed_prices(offered):
        parts.append(
            f"assumed prices, which the provider does not publish: {assumed}; set your own in the override file"
        )
    if held := [model.id for model in loaded.models if model.stopped == "held"]:
        parts.append(f"WARNING: {', '.join(held)} wait for your decision: python -m bot catalogue --refresh")
    if gone := [model.id for model in loaded.models if model.stopped == "gone"]:
        parts.append(f"not offered by the provider any more: {', '.join(gone)}")
    return "; ".join(parts)


def assumed_prices(models: Sequence[Model]) -> str:
    """Name each price that the provider does not publish: `pixazo/krea-2-large with moodboards $0.065`."""
    return ", ".join(
        f"{model.id} {when_words(point.when)} {format_usd(point.usd_micros)}".replace("  ", " ")
        for model in models
        for point in model.assumed_prices
    )


# -- listing -------------------------------------------------------------------------------------------------


def _list(settings: Settings) -> int:
    changes, _ = recorded_catalogue(settings.database_url)
    for model in app.load_catalogue(settings).models:
        print(f"{model.id:<44} {model.label:<34} {', '.join(model.modes):<28} {_price(model)}")
    for change in changes:
        if change.state in (ChangeState.ACCEPTED, ChangeState.KEPT) and change.decided_at is not None:
            print(f"change {change.id}: {change.model_id} {change.part} {change.state} by {change.decided_by} ", end="")
            print(f"on {change.decided_at:%Y-%m-%d %H:%M}")
    for line in layered_data(changes).overriding:
        print(f"accepted changes override the program: {line}")
    return 0


def _price(model: Model) -> str:
    if model.stopped == "held":
        return "held: waits for your decision (--refresh shows it)"
    if model.stopped == "gone":
        return "not offered by its provider any more" + (f"; {model.heir} takes its place" if model.heir else "")
    if not model.orderable or model.price_range is None:
        return "not orderable: no price" if not model.unfillable else f"not orderable: needs {model.unfillable}"
    low, high = model.price_range
    price = format_usd(low) if low == high else f"{format_usd(low)} to {format_usd(high)}"
    ending = "" if model.ends_at is None else f"; withdrawn on {model.ends_at:%Y-%m-%d}"
    return f"{price} (some assumed){ending}" if model.assumed_prices else f"{price}{ending}"


# -- what the description would change -----------------------------------------------------------------------


def _show_changes(settings: Settings) -> int:
    changes, _ = recorded_catalogue(settings.database_url)
    found = asyncio.run(_proposed(settings, changes))
    decided = {change.digest: change for change in changes if change.state is ChangeState.KEPT}
    for line in found.notes:
        print(line)
    for change in found.changes:
        for line in change.lines:
            print(line)
        print(f"    → {_effect(change, decided.get(change.digest))}")
    if not found.changes and not found.notes:
        print("the catalogue is up to date")
    return 0


def _effect(change: Change, kept: RecordedChange | None) -> str:
    if kept is not None and kept.decided_at is not None:
        return f"not taken over: kept by {kept.decided_by} on {kept.decided_at:%Y-%m-%d}; --accept {change.model_id}"
    if not change.is_held:
        return f"harmless: a running bot takes it over by itself, --accept {change.model_id} does now"
    why = "; ".join(WHY_HELD[reason] for reason in change.reasons)
    orders = "no orders until you decide" if change.stops else "orders go on as before until you decide"
    return f"held, {orders}: {why}; --accept {change.model_id} or --keep {change.model_id}"


async def _proposed(settings: Settings, changes: Sequence[RecordedChange]) -> Refresh:
    """Compare with the description. Raises ProviderUnavailable, StoreError."""
    async with aiohttp.ClientSession() as session:
        document = await fetch_openapi(session, settings.krea_api_base)
    try:
        return compare(changes, document, default_model=settings.default_model)
    except ValueError as error:
        raise StoreError(f"the description cannot be used: {error}") from error


# -- deciding ------------------------------------------------------------------------------------------------


async def _decide(settings: Settings, accept: Sequence[str], keep: Sequence[str]) -> int:
    """Accept or keep what the description asks for now; where it cannot be read, what is held already."""
    recorded, _ = recorded_catalogue(settings.database_url)
    is_read = True
    try:
        proposed: Sequence[Change] = (await _proposed(settings, recorded)).changes
    except ProviderUnavailable as error:
        is_read = False
        print(f"the description could not be read, so only what is held already is decided: {error}")
        proposed = [_proposal(change) for change in recorded if change.state is ChangeState.HELD]
    if missing := _unmatched(accept, proposed) + _unmatched(keep, proposed):
        raise StoreError(f"nothing to decide about {', '.join(missing)} (see: python -m bot catalogue --refresh)")
    decision = _Decision(
        accepted=[change for change in proposed if _is_named(change, accept)],
        kept=[change for change in proposed if change.is_held and _is_named(change, keep)],
        waiting=[change for change in proposed if change.is_held and not _is_named(change, (*accept, *keep))],
    )
    accepted, kept = await _write(settings, decision)
    loaded = app.load_catalogue(settings)
    for word, decided in (("accepted", accepted), ("kept", kept)):
        for change in decided:
            print(f"{word}, change {change.id}: {change.lines[0]}")
            print(f"    → {change.model_id}: {_price(loaded.get(change.model_id))}")
    if accepted or kept:
        print("a running bot takes this over within seconds")
    elif is_read:
        print("nothing to decide: the catalogue is up to date")
    else:
        print("nothing is held, so nothing was decided")
        return 1
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Decision:
    accepted: Sequence[Change]
    kept: Sequence[Change]
    waiting: Sequence[Change]


async def _write(settings: Settings, decision: _Decision) -> tuple[list[RecordedChange], list[RecordedChange]]:
    """Record the decision, also while a bot has the database file open; return what was accepted and kept."""

    def work(connection: Connection) -> tuple[list[RecordedChange], list[RecordedChange]]:
        now = datetime.now(UTC)
        accepted = table.accept_changes(connection, decision.accepted, now=now, decided_by=COMMAND_LINE)
        table.record_changes(connection, [*decision.kept, *decision.waiting], now=now)
        digests = {change.digest for change in decision.kept}
        ids = [change.id for change in table.held_changes(connection) if change.digest in digests]
        return accepted, table.decide_changes(
            connection, ids, state=ChangeState.KEPT, now=now, decided_by=COMMAND_LINE
        )  # fmt: skip

    try:
        store = await Store.open(settings.database_url)
    except DatabaseBusy:
        if not isinstance(settings.database_url, Path):
            raise
        return await asyncio.to_thread(write_beside, settings.database_url, work)
    async with store:
        return await store.database.write(work)


def _proposal(change: RecordedChange) -> Change:
    """Return a held change as it was proposed."""
    return Change(
        model_id=change.model_id,
        part=change.part,
        edits=change.edits,
        lines=change.lines,
        reasons=change.reasons,
        stops=change.stops,
    )


def _is_named(change: Change, names: Sequence[str]) -> bool:
    return ALL in names or change.model_id in names


def _unmatched(names: Sequence[str], proposed: Sequence[Change]) -> list[str]:
    known = {change.model_id for change in proposed}
    return [name for name in names if name != ALL and name not in known]
