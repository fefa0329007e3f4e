"""Top-ups: purchases of Discord consumables that pay into their buyers' wallets.

Each is credited in the database first, once by its id, and only then consumed at Discord, which lets its buyer buy
again. A process that ends in between, in any place, leaves something that the list of all purchases shows at the next
start: it is credited then if it was not, and consumed if it was not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta

import aiohttp
import discord

from bot.domain.money.quota import Purchase, format_usd
from bot.service.job_service import JobService
from cogs.alerts.operator_alerts import OperatorAlerts

_log = logging.getLogger(__name__)

READ_AGAIN_SECONDS = 3600.0
"""Pause between two readings of the newest purchases, in case Discord's news of one did not arrive."""

TRY_AGAIN_SECONDS = 60.0
"""Pause after Discord did not answer."""

NEWEST = timedelta(days=3)
"""Age of the purchases that are read again; at the start all are."""

PAGE = 100
"""Purchases that Discord lists at a time."""

MAX_LISTED = 20
"""Purchases that one message to the operator names."""

_UNREACHABLE = (discord.HTTPException, discord.RateLimited, aiohttp.ClientError, OSError, TimeoutError)


class TopUps:
    """Credits purchases, consumes them, and takes back what Discord refunds."""

    def __init__(
        self,
        *,
        client: discord.Client,
        service: JobService,
        operator_alerts: OperatorAlerts,
        skus: Mapping[int, int],
    ) -> None:
        self._client = client
        self._service = service
        self._operator_alerts = operator_alerts
        self._skus = skus
        self._retry = asyncio.Event()
        """Set when something is left to do before the next reading."""
        self._untold = asyncio.Event()
        """Set when the operator is to be told of something."""
        self._unknown: dict[int, int] = {}
        """Consumed purchases that the ledger does not know and the operator was not told of, with their buyers."""

    async def run(self) -> None:
        """Read all purchases now, and the newest from time to time."""
        is_first = True
        while True:
            self._retry.clear()
            is_complete = await self._read(newest_only=not is_first)
            is_first = is_first and not is_complete
            try:
                async with asyncio.timeout(READ_AGAIN_SECONDS if is_complete else TRY_AGAIN_SECONDS):
                    await self._retry.wait()
                await asyncio.sleep(TRY_AGAIN_SECONDS)
            except TimeoutError:
                continue

    async def _read(self, *, newest_only: bool) -> bool:
        """Handle every purchase on Discord's list. Return whether nothing is left to do."""
        after = discord.utils.time_snowflake(self._service.now() - NEWEST) if newest_only else 0
        is_complete = True
        try:
            async for purchase in self._purchases(after):
                is_complete = await self.changed(purchase) and is_complete
        except _UNREACHABLE as error:
            _log.warning("Discord's list of purchases could not be read: %s", error)
            is_complete = False
        for entitlement_id in await self._service.store.to_consume():
            is_complete = await self._consume(entitlement_id) and is_complete
        return is_complete

    async def _purchases(self, after: int) -> AsyncGenerator[discord.Entitlement]:
        """Yield the purchases of our SKUs with an id above this, oldest first, also those that were refunded.

        Ours are those that the operator sells, and those that were sold once and may be refunded.

        Not `Client.entitlements`, which leaves those out: on this way through the list it does not pass on that they
        are wanted, and Discord omits them unless told.
        """
        skus: list[str | int] = sorted({*self._skus, *await self._service.store.sold_skus()})
        while skus:
            page = await self._client.http.get_entitlements(
                self._application_id,
                sku_ids=skus,
                after=after,
                limit=PAGE,
                exclude_deleted=False,
            )
            for data in page:
                after = max(after, int(data["id"]))
                yield discord.Entitlement(self._client._connection, data)  # pyright: ignore[reportPrivateUsage]
            if len(page) < PAGE:
                return

    @property
    def _application_id(self) -> int:
        assert self._client.application_id is not None, "known since the login"
        return self._client.application_id

    async def changed(self, entitlement: discord.Entitlement) -> bool:
        """Do what a purchase needs that is new or has changed. Return whether it is done with.

        Whatever is done already is not done again, so news may come twice, in any order and to several processes.
        """
        if entitlement.deleted:
            await self.ended(entitlement)
            return True
        amount_usd_micros = self._skus.get(entitlement.sku_id)
        if amount_usd_micros is None or entitlement.user_id is None:
            return True  # not ours: another SKU of this application, or bought for a server
        store, now = self._service.store, self._service.now()
        known = await store.purchase(entitlement.id)
        if known is None and entitlement.consumed:
            if await store.get_value(_told_note(entitlement.id)) is None:
                self._note_unknown(entitlement.id, entitlement.user_id)
                self._untold.set()
            return True
        credited = await store.credit(
            entitlement.id,
            user_id=entitlement.user_id,
            sku_id=entitlement.sku_id,
            amount_usd_micros=amount_usd_micros,
            now=now,
        )
        if credited is not None:
            _log.info("purchase %d paid %s into a wallet", entitlement.id, format_usd(amount_usd_micros))
        purchase = credited or await store.purchase(entitlement.id)
        if purchase is None or purchase.consumed_at is not None or purchase.ended_at is not None:
            return True
        if entitlement.consumed:  # before a crash that came before it was recorded
            await store.mark_consumed(entitlement.id, now=now)
            return True
        is_done = await self._consume(entitlement.id)
        if not is_done:
            self._retry.set()
        return is_done

    async def ended(self, entitlement: discord.Entitlement) -> None:
        """Take back what Discord refunded or deleted, as far as it is left, and tell the operator."""
        store, now = self._service.store, self._service.now()
        if entitlement.user_id is None:
            return
        if entitlement.sku_id not in self._skus and await store.purchase(entitlement.id) is None:
            return
        purchase = await store.take_back(
            entitlement.id, user_id=entitlement.user_id, sku_id=entitlement.sku_id, now=now
        )
        if purchase is None or purchase.amount_usd_micros == 0:  # told before, or never credited
            return
        _log.warning("%s", _refunded(purchase, entitlement.user_id))
        self._untold.set()

    async def _consume(self, entitlement_id: int) -> bool:
        """Tell Discord that a purchase is used up. Return whether it knows that now."""
        try:
            await self._client.http.consume_entitlement(self._application_id, entitlement_id)
        except discord.NotFound:
            _log.warning("purchase %d is credited, and Discord does not know it any more", entitlement_id)
        except _UNREACHABLE as error:
            _log.warning("purchase %d is credited, but not consumed at Discord yet: %s", entitlement_id, error)
            return False
        await self._service.store.mark_consumed(entitlement_id, now=self._service.now())
        return True

    # -- the operator -------------------------------------------------------------------------------------

    async def tell_forever(self) -> None:
        """Tell the operator of refunds until each message arrived, also after a restart, until cancelled."""
        while True:
            self._untold.clear()
            await self._tell()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRY_AGAIN_SECONDS):
                    await self._untold.wait()

    async def _tell(self) -> None:
        for purchase, user_id in await self._service.store.untold_refunds():
            if await self._operator_alerts.ask("refund", _refunded(purchase, user_id), []):
                await self._service.store.refund_told(purchase.entitlement_id)
        if unknown := dict(self._unknown):
            text = _not_in_ledger(unknown)
            if await self._operator_alerts.ask("unknown purchases", text, []):
                for entitlement_id in unknown:
                    await self._service.store.set_value(_told_note(entitlement_id), "told")
                    del self._unknown[entitlement_id]

    def _note_unknown(self, entitlement_id: int, user_id: int) -> None:
        _log.warning("%s", _not_in_ledger({entitlement_id: user_id}))
        self._unknown[entitlement_id] = user_id


def _told_note(entitlement_id: int) -> str:
    """Return the key of the note that the operator was told of an unknown purchase."""
    return f"unknown purchase {entitlement_id}"


def _not_in_ledger(buyers: Mapping[int, int]) -> str:
    listed = [f"{entitlement_id} of member {user_id}" for entitlement_id, user_id in buyers.items()]
    more = f", and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    return (
        f"These purchases were consumed at Discord, but they are not in this ledger, so nothing was credited: "
        f"{', '.join(listed[:MAX_LISTED])}{more}. Either another database was used for this application, or a backup "
        f"was restored that is older than the purchases: then grant the members what is missing."
    )


def _refunded(purchase: Purchase, user_id: int | None) -> str:
    buyer = "a member who asked to be forgotten" if user_id is None else f"member {user_id}"
    missing = purchase.amount_usd_micros - purchase.taken_back_usd_micros
    rest = f" {format_usd(missing)} of it are spent or set aside, which you bear." if missing else ""
    return (
        f"Discord refunded or deleted purchase {purchase.entitlement_id} of {buyer}: "
        f"{format_usd(purchase.taken_back_usd_micros)} of {format_usd(purchase.amount_usd_micros)} were taken back out "
        f"of the wallet.{rest}"
    )
