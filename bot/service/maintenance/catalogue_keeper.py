"""CatalogueKeeper: keeps the catalogue of this process as the database says, and the database as the provider says.

read      compare with the provider's description; what is harmless is applied, what is suspicious is held
tell      ask the operator about what is held, once, in one message
decide    what they answer, by a button or on the command line
load      lay what the database holds over the shipped catalogue; every process does, also after others changed it
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from bot.catalogue.catalogue import Catalogue, assembled, layered_data
from bot.catalogue.models import Model
from bot.catalogue.provider_description.changes import ChangeState, RecordedChange
from bot.catalogue.provider_description.refresh import Refresh, refresh
from bot.catalogue.provider_description.refresh_words import WHY_HELD
from bot.domain.errors import ProviderError, StoreError
from bot.domain.jobs import JobKind
from bot.service.context import ServiceContext
from bot.store.store import Store

_log = logging.getLogger(__name__)

FOLLOW_SECONDS = 5.0
"""Interval at which a process looks for changes that others made: another process, or the command line."""

TELL_AGAIN_SECONDS = 60.0
"""Pause after a message to the operator that could not be sent."""

START_PAUSE = timedelta(seconds=10)
"""The description is read at every start, but not by every process of a cluster that starts at the same time."""

REFUSED_PAUSE = timedelta(minutes=1)
"""Pause after a reading before an order that the provider refused as malformed brings another one."""

JITTER = 0.05
READING = "catalogue read"
MAX_TOLD_MODELS = 12

Json = Mapping[str, Any]


class CatalogueKeeper:
    """Owns the catalogue of this process; commands only read it."""

    def __init__(
        self,
        context: ServiceContext,
        *,
        catalogue: Catalogue,
        overrides: Path | None,
        default_model: str,
        providers: Collection[str],
    ) -> None:
        self._store = context.store
        self._presenter = context.presenter
        self._supervisor = context.supervisor
        self._clock = context.clock
        self._catalogue = catalogue
        self._overrides = overrides
        self._default_model = default_model
        self._providers = providers
        self._token = ""
        self._loading = asyncio.Lock()
        self._is_doubted = asyncio.Event()
        """Set when the provider refused an order that was right by the catalogue."""

    # -- what the database says ---------------------------------------------------------------------------

    async def load(self) -> None:
        """Take over what the database holds, if it changed since. Raises StoreError, SettingsError."""
        async with self._loading:
            token = await self._store.catalogue_token()
            if token == self._token:
                return
            changes, notices = await self._store.catalogue_changes(), await self._store.model_notices()
            # In a thread, because the whole catalogue is read again.
            models = await asyncio.to_thread(assembled, self._overrides, changes=changes, notices=notices)
            self._catalogue.replace(models, now=self._clock())
            is_first, self._token = not self._token, token
        if is_first:
            for line in layered_data(changes).overriding:
                _log.warning("catalogue: %s", line)
        _log.info("the catalogue has %d models that can be ordered", sum(model.orderable for model in models))

    def load_soon(self) -> None:
        """Look at the database in the background: another process changed something."""
        self._supervisor.start("catalogue load", self._load_or_log())

    async def _load_or_log(self) -> None:
        try:
            await self.load()
        except StoreError as error:
            _log.info("the catalogue could not be read from the database: %s", error)

    async def follow(self) -> None:
        """Take over what others change, until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            await self._load_or_log()

    # -- what the provider says ---------------------------------------------------------------------------

    async def read_forever(self, fetch: Callable[[], Awaitable[Json]], *, every: timedelta) -> None:
        """Read the description at the start, at this interval and on `read_soon`, in one process of a cluster."""
        pause = START_PAUSE
        while True:
            self._is_doubted.clear()
            if await self._store.claim_turn(READING, now=self._clock(), pause=pause):
                try:
                    await self.read(await fetch())
                except (ProviderError, ValueError) as error:
                    _log.warning("the provider's description was not used: %s", error)
            pause = every * 0.9
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every.total_seconds() * random.uniform(1, 1 + JITTER)):  # noqa: S311
                    await self._is_doubted.wait()
                    pause = min(REFUSED_PAUSE, pause)

    def read_soon(self) -> None:
        """Read the description out of turn: an order that was right by the catalogue was refused as malformed."""
        self._is_doubted.set()

    async def read(self, document: Json) -> list[RecordedChange]:
        """Compare with the description and record what changed; return what is new.

        Raises ValueError for a document that cannot be used, and StoreError.
        """
        found = await proposed_changes(self._store, document, default_model=self._default_model)
        new = await self._store.record_catalogue_changes(found.changes, now=self._clock())
        await self.load()
        for line in (*found.notes, *(line for change in new for line in change.lines)):
            _log.warning("catalogue: %s", line) if line.startswith(("!", "-")) else _log.info("catalogue: %s", line)
        return new

    # -- the operator -------------------------------------------------------------------------------------

    async def tell_forever(self) -> None:
        """Tell the operator what no process told them yet, until cancelled."""
        while True:
            is_told = await self.tell()
            await asyncio.sleep(FOLLOW_SECONDS if is_told else TELL_AGAIN_SECONDS)

    async def tell(self) -> bool:
        """Send the operator one message about everything new; False if it did not arrive, so it is sent again later."""
        changes = await self._store.take_untold_changes(now=self._clock())
        if not changes:
            return True
        held = [change for change in changes if change.state is ChangeState.HELD]
        is_told = await self._presenter.ask_operator(
            self.question(changes), [change.id for change in held], topic="catalogue"
        )
        if not is_told:
            await self._store.put_back_untold_changes([change.id for change in changes])
        return is_told

    def question(self, changes: Sequence[RecordedChange]) -> str:
        """Return the message about changes: what is held and why, then what was taken over."""
        held = [change for change in changes if change.state is ChangeState.HELD]
        done = [change for change in changes if change.state is not ChangeState.HELD]
        parts: list[str] = []
        if held:
            parts.append(
                "The provider describes some models differently. These changes are held until you decide; models whose "
                "orders they concern take none meanwhile:\n" + _listed(held, with_reasons=True)
            )
        if done:
            parts.append(f"{'Taken over' if held else 'The provider changed, and was taken over'}:\n{_listed(done)}")
        if stand_in := self._stand_in():
            parts.append(stand_in)
        if held:
            parts.append(
                "Accept takes all of these over, Keep goes on with what there was. One by one: "
                "python -m bot catalogue --accept ID or --keep ID."
            )
        return "\n".join(parts)

    def _stand_in(self) -> str:
        """Say what is ordered instead of the default model; '' while that can be ordered."""
        model = self._catalogue.find(self._default_model)
        if model is not None and model.orderable:
            return ""
        instead = self.instead_of_default()
        return (
            f"The default model {self._default_model} cannot be ordered now; "
            + (f"{instead.id} takes its place." if instead else "no other model can.")
        )  # fmt: skip

    def instead_of_default(self) -> Model | None:
        """Return the model that is ordered where nobody names one and the default cannot be ordered."""
        return self._catalogue.next_best(
            self._default_model, kind=JobKind.IMAGINE, providers=frozenset(self._providers)
        )

    async def decide_between(
        self, first_id: int, last_id: int, *, accept: bool, decided_by: str
    ) -> list[RecordedChange]:
        """Decide about the changes of one message to the operator. Raises StoreError."""
        changes = await self._store.catalogue_changes()
        ids = [change.id for change in changes if first_id <= change.id <= last_id]
        return await self.decide(ids, accept=accept, decided_by=decided_by)

    async def decide(self, ids: Collection[int], *, accept: bool, decided_by: str) -> list[RecordedChange]:
        """Accept held changes, or keep what there was; return those that were still held. Raises StoreError."""
        state = ChangeState.ACCEPTED if accept else ChangeState.KEPT
        decided = await self._store.decide_catalogue_changes(ids, state=state, now=self._clock(), decided_by=decided_by)
        for change in decided:
            _log.warning("catalogue: change %d of %s was %s by %s", change.id, change.model_id, state, decided_by)
        await self.load()
        return decided


async def proposed_changes(store: Store, document: Json, *, default_model: str) -> Refresh:
    """Compare the catalogue of the database with a description. Raises ValueError, StoreError."""
    changes = await store.catalogue_changes()
    # In a thread, because a description may be large.
    return await asyncio.to_thread(compare, changes, document, default_model=default_model)


def compare(changes: Sequence[RecordedChange], document: Json, *, default_model: str) -> Refresh:
    """Compare the shipped catalogue, with these changes over it, with a description. Raises ValueError."""
    try:
        return refresh(
            layered_data(changes).data,
            document,
            agreed=layered_data(changes, by_people_only=True).data,
            default_model=default_model,
        )
    except RecursionError:
        raise ValueError("the description is nested too deeply") from None


def why_held(change: RecordedChange) -> str:
    """Return the reasons in words."""
    return "; ".join(WHY_HELD[reason] for reason in change.reasons)


def _listed(changes: Sequence[RecordedChange], *, with_reasons: bool = False) -> str:
    lines = [
        f"• {change.lines[-1].lstrip('!~-+ ')}" + (f" ({why_held(change)})" if with_reasons else "")
        for change in changes[:MAX_TOLD_MODELS]
    ]
    more = len(changes) - MAX_TOLD_MODELS
    return "\n".join([*lines, *([f"• and {more} more: python -m bot catalogue --refresh"] if more > 0 else [])])
