"""Bill reconciliation: every night, compare the ledger with the provider's list, and tell the operator what is open."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, timedelta

from bot.domain.errors import ProviderError, StoreError
from bot.domain.money.bill import Difference, compare_list
from bot.providers.base import Provider
from bot.service.context import ServiceContext

_log = logging.getLogger(__name__)

HOUR_OF_DAY = 3
"""When it is done, in UTC."""

LOOKED_BACK = timedelta(days=2)
"""How far back: an order may end up to hours after it was sent, and a night may be missed."""

ONCE_IN = timedelta(hours=20)
CHECK_SECONDS = 600.0
MAX_NAMED = 10
TURN = "bill reconciliation"


class BillReconciliation:
    """Compares once a night, in one process of a cluster, where `lists_costs`. Nothing is changed by it."""

    def __init__(self, context: ServiceContext, provider: Provider) -> None:
        self._store = context.store
        self._presenter = context.presenter
        self._clock = context.clock
        self._provider = provider

    async def run(self) -> None:
        """Compare every night, until cancelled."""
        while True:
            now = self._clock()
            if now.astimezone(UTC).hour == HOUR_OF_DAY and await self._store.claim_turn(TURN, now=now, pause=ONCE_IN):
                await self.compare()
            await asyncio.sleep(CHECK_SECONDS)

    async def compare(self) -> list[Difference]:
        """Compare now, and tell the operator if anything is open."""
        now = self._clock()
        try:
            listed = await self._provider.listed_costs(since=now - LOOKED_BACK, now=now)
            # Read after the list, so that what is listed was recorded by then.
            jobs = await self._store.ledger_jobs(since=now - LOOKED_BACK - timedelta(days=1))
        except (ProviderError, StoreError) as error:
            _log.warning("the ledger could not be compared with %s: %s", self._provider.name, error)
            return []
        found = compare_list(jobs, listed, now=now)
        if found:
            _log.warning("%d differences between the ledger and %s", len(found), self._provider.name)
            named = "\n".join(f"• {difference}" for difference in found[:MAX_NAMED])
            more = f"\n• and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
            self._presenter.operator_notice(
                "bill",
                f"The ledger and {self._provider.name} differ about {len(found)} recent jobs:\n{named}{more}\n"
                "python -m bot ledger reconcile lists all; nothing was changed.",
            )
        else:
            _log.info("the ledger and %s agree", self._provider.name)
        return found
