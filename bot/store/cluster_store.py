"""Neighbours: what a process asks and tells where others use the same books, on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from bot.domain.database_url import Location, PostgresAddress
from bot.store.database import Database
from bot.store.postgres.listener import Listener
from bot.store.tables import notifications, reply_queue_rows, shared_state, transactions
from bot.store.tables.guild_settings import PolicyMemory
from bot.store.tables.notifications import Notification, Topic
from bot.store.tables.shared_state import OpenBreaker


class ClusterStore:
    """Every call is one transaction, as the store's are. Notices come in from `listen` on."""

    def __init__(self, database: Database, policies: PolicyMemory, location: Location | None) -> None:
        self._write = database.write
        self._read = database.read
        self._policies = policies
        self._location = location
        self._listener: Listener | None = None

    def listen(
        self,
        on_notice: Callable[[Notification], None],
        *,
        on_back: Callable[[], None],
        channels: Mapping[str, Callable[[str, str], None]],
    ) -> None:
        """From now on hear what the others tell.

        `on_back` whenever something may have been missed. `channels` are further ones, with whom to tell what comes in.
        """
        assert isinstance(self._location, PostgresAddress), "a file has one process"
        reply_queue_rows.get_ready()

        def heard(channel: str, payload: str) -> None:
            if channel in channels:
                channels[channel](channel, payload)
            elif (notice := notifications.read(payload)) is not None:
                if notice.topic is Topic.POLICY:
                    self._policies.forget()
                on_notice(notice)

        def changed(hears: bool) -> None:
            self._policies.forget()
            self._policies.remembers = hears
            if hears:
                on_back()

        everything = (notifications.CHANNEL, *channels)
        self._listener = Listener(self._location, everything, on_notification=heard, on_listening=changed)

    async def close(self) -> None:
        """Hear nothing any more. Safe to call twice."""
        if self._listener is not None:
            await self._listener.close()

    # -- replies and those who follow them ----------------------------------------------------------------

    async def enqueue(self, reply_id: str) -> None:
        """Whoever follows the reply looks at it anew; where nobody does, somebody will."""
        await self._write(partial(transactions.enqueue, reply_id=reply_id))

    async def enqueue_orphaned(self, *, now: datetime) -> int:
        """Let somebody follow what nobody follows: what its gateway admitted and died, what came from a file, and the
        like. Returns how many replies that were."""
        forgotten = await self._read(partial(reply_queue_rows.orphaned, now=now))
        if forgotten:
            await self._write(partial(reply_queue_rows.enqueue, reply_ids=forgotten))
        return len(forgotten)

    async def trim_queue_log(self) -> None:
        """Forget what became of entries of the queue long ago."""
        await self._write(reply_queue_rows.trim_log)

    async def forward_webhook(self, token: str, remote_id: str | None) -> bool:
        """Pass a provider's call on to whoever follows the job of this webhook path; False when there is none."""
        return await self._write(partial(shared_state.forward_webhook, token=token, remote_id=remote_id))

    async def notify_poll(self, job_id: str, remote_id: str) -> None:
        """Tell whoever follows the job that there may be news of it at the provider."""
        work = partial(notifications.notify, matter=Topic.WEBHOOK, subject=job_id, detail=remote_id)
        await self._write(work)

    # -- providers ------------------------------------------------------------------------------------------

    async def slots_in_use(self, provider: str) -> int:
        """How many jobs are on their way to the provider or there, whoever sent them."""
        return await self._read(partial(shared_state.slots_in_use, provider=provider))

    async def queued_jobs(self, provider: str) -> Sequence[tuple[str, int]]:
        """Everybody in line for a provider, with the member, in the order in which they came."""
        return await self._read(partial(shared_state.queued_jobs, provider=provider))

    async def open_breaker(self, provider: str, reason: str, *, now: datetime) -> bool:
        """No process sends new jobs there any more. False when that was known."""
        return await self._write(partial(shared_state.open_breaker, provider=provider, reason=reason, now=now))

    async def close_breaker(self, provider: str) -> None:
        """It answers again."""
        await self._write(partial(shared_state.close_breaker, provider=provider))

    async def open_breakers(self) -> list[OpenBreaker]:
        """The providers that take no new jobs."""
        return await self._read(shared_state.open_breakers)

    # -- whatever only one may do at a time ---------------------------------------------------------------------

    async def acquire_turn(self, name: str, *, now: datetime, pause: timedelta) -> datetime:
        """When the caller may do what `name` stands for: nobody else at that time, nor for a `pause` after it."""
        return await self._write(partial(shared_state.acquire_turn, name=name, now=now, pause=pause))
