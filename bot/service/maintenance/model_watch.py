"""ModelWatch: acts on what a provider says about a model while it answers orders, and asks about models that are gone.

A model that is gone takes no orders in any process at once, and the operator is told once. It is asked for again with
growing pauses, and offered again when the provider has it or accepts an order for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from bot.catalogue.catalogue import Catalogue
from bot.catalogue.provider_description.model_notices import ModelNotice, NoticeKind, Withdrawal
from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.errors import ProviderError, StoreError
from bot.domain.jobs import JobKind
from bot.service.context import ServiceContext
from bot.service.maintenance.catalogue_keeper import CatalogueKeeper

_log = logging.getLogger(__name__)

FIRST_PROBE = timedelta(minutes=1)
MAX_PROBE_PAUSE = timedelta(hours=6)
"""Pauses before a model that is gone is asked for; they double, also when it was back only for a moment."""

TOLD_AGAIN_AFTER = timedelta(days=1)
CHECK_SECONDS = 15.0


class ModelWatch:
    """Knows what providers said about single models."""

    def __init__(
        self,
        context: ServiceContext,
        *,
        catalogue: Catalogue,
        catalogue_keeper: CatalogueKeeper,
        dispatchers: Mapping[str, ProviderDispatcher],
    ) -> None:
        self._store = context.store
        self._presenter = context.presenter
        self._supervisor = context.supervisor
        self._clock = context.clock
        self._catalogue = catalogue
        self._catalogue_keeper = catalogue_keeper
        self._dispatchers = dispatchers
        self._ending: dict[str, datetime | None] = {}
        """Models that are known to end, with the time, so that not every order writes it down."""
        self._pauses: dict[str, timedelta] = {}
        self._ask_at: dict[str, datetime] = {}
        self._told_at: dict[str, datetime] = {}

    def gone(self, model_id: str, *, heir: str) -> None:
        """Act on an order that the provider refused because it has no such model (any more)."""
        notice = ModelNotice(model_id=model_id, kind=NoticeKind.GONE, noticed_at=self._clock(), heir=heir[:200])
        self._supervisor.start(f"{model_id} gone", self._record(notice))

    def doubted(self) -> None:
        """Act on an order that was right by the catalogue and that the provider refused as malformed."""
        self._catalogue_keeper.read_soon()

    def accepted(self, model_id: str, withdrawal: Withdrawal | None) -> None:
        """Act on an order that the provider accepted, perhaps with the word that the model will be withdrawn."""
        model = self._catalogue.find(model_id)
        if model is not None and model.stopped == "gone":
            self._supervisor.start(f"{model_id} back", self._forget(model_id, NoticeKind.GONE))
        ends_at = None if withdrawal is None else withdrawal.ends_at
        if withdrawal is not None and (model_id not in self._ending or self._ending[model_id] != ends_at):
            self._ending[model_id] = ends_at
            notice = ModelNotice(
                model_id=model_id, kind=NoticeKind.ENDING, noticed_at=self._clock(), ends_at=ends_at
            )  # fmt: skip
            self._supervisor.start(f"{model_id} ends", self._record(notice))
        elif withdrawal is None and (model_id in self._ending or (model is not None and model.ends_at is not None)):
            self._ending.pop(model_id, None)
            self._supervisor.start(f"{model_id} stays", self._forget(model_id, NoticeKind.ENDING))

    async def _record(self, notice: ModelNotice) -> None:
        if not await self._store.note_model(notice):
            return
        await self._catalogue_keeper.load()
        text = self._text(notice)
        _log.warning("%s", text)
        told_at = self._told_at.get(notice.model_id)
        if told_at is None or self._clock() - told_at >= TOLD_AGAIN_AFTER:
            self._told_at[notice.model_id] = self._clock()
            self._presenter.operator_notice(f"model {notice.model_id}", text)

    def _text(self, notice: ModelNotice) -> str:
        model = self._catalogue.find(notice.model_id)
        heir = model.heir if model is not None else ""
        if not heir:
            found = self._catalogue.next_best(
                notice.model_id, kind=JobKind.IMAGINE, providers=frozenset(self._dispatchers)
            )
            heir = "" if found is None else found.id
        instead = f" {heir} takes its place where it was the default." if heir else ""
        if notice.kind is NoticeKind.GONE:
            named = f" The provider names {notice.heir} instead." if notice.heir else ""
            return (
                f"{notice.model_id} is not offered by its provider any more: it takes no orders until the "
                f"provider has it again.{named}{instead}"
            )
        when = "soon" if notice.ends_at is None else f"on {notice.ends_at:%Y-%m-%d}"
        return f"The provider will withdraw {notice.model_id} {when}; it takes orders until then.{instead}"

    async def _forget(self, model_id: str, kind: NoticeKind) -> None:
        try:
            if await self._store.remove_model_notice(model_id, kind):
                _log.warning("%s is offered as before", model_id)
            await self._catalogue_keeper.load()
        except StoreError as error:
            _log.info("it could not be recorded that %s is offered: %s", model_id, error)

    # -- asking -------------------------------------------------------------------------------------------

    async def run_probes(self) -> None:
        """Ask for the models that are gone, with growing pauses, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.probe()

    async def probe(self) -> None:
        """Ask for each model that is gone and due; offer again what the provider has."""
        now = self._clock()
        for notice in await self._store.model_notices():
            model = self._catalogue.find(notice.model_id)
            dispatcher = None if model is None else self._dispatchers.get(model.provider)
            if notice.kind is not NoticeKind.GONE or model is None or dispatcher is None:
                continue
            due_at = max(
                self._ask_at.get(model.id, notice.noticed_at),
                notice.noticed_at + self._pauses.get(model.id, FIRST_PROBE),
            )
            if now < due_at:
                continue
            self._pauses[model.id] = min(2 * self._pauses.get(model.id, FIRST_PROBE), MAX_PROBE_PAUSE)
            self._ask_at[model.id] = now + self._pauses[model.id]
            try:
                has_model = await dispatcher.provider.has_model(model.path)
            except ProviderError as error:
                _log.info("%s does not say whether it has %s: %s", model.provider, model.id, error)
                continue
            if has_model:
                await self._forget(model.id, NoticeKind.GONE)
