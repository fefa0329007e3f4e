"""The circuit breaker of a provider: it opens when orders fail or our key is refused, and closes when a probe succeeds.

Orders that fail for a few members alone do not open it: it may be what they ask for. The provider is probed first.

While it is open, new jobs are refused and queued jobs wait. When it has been open for too long, or our key is refused,
it gives up: queued jobs are started all the same, find this, and release their reservations.

A worker that alone is refused or out of reach, while another worker is answered, leaves the provider's jobs to others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial

from bot.dispatch.coordinator import Coordinator
from bot.domain.deployment.process_role import Role
from bot.domain.errors import ProviderDenied, ProviderError
from bot.domain.presenter import ReplyPresenter
from bot.providers.base import Provider
from bot.runtime.retry import backoff_seconds
from bot.runtime.supervisor import Supervisor

_log = logging.getLogger(__name__)

FAILURES_BEFORE_OPENING = 5
"""Submissions in a row without a usable answer that open the breaker."""

MEMBERS_BEFORE_OPENING = 3
"""Members whose submissions these have to be; for fewer, the breaker opens only if a probe fails as well."""

FIRST_PROBE_SECONDS = 10.0
MAX_PROBE_SECONDS = 300.0
"""Pauses before the first probe and, after doubling, between later ones."""

MAX_OUTAGE_SECONDS = 1800.0
"""How long queued jobs wait for a provider that is down before their reservations are released."""


FIRST_TRIAL_SECONDS = 300.0
MAX_TRIAL_SECONDS = 3600.0
"""Pauses before one order is let through to an account that was empty and, after doubling, between later ones."""

FIRST_FORBIDDEN_TRIAL_SECONDS = 10.0
MAX_FORBIDDEN_TRIAL_SECONDS = 300.0
"""The same where an order was forbidden."""


EMPTY_STATUS = 402
FORBIDDEN_STATUS = 403
_FORBIDDEN_ADVICE = (
    ". Orders are refused although the account can be read: look at its plan and its bills there. The bot lets one "
    "order through now and then and goes on when it is accepted."
)
_EMPTY_ADVICE = (
    ". Fill the account; the bot lets one order through now and then and goes on when it is accepted. A restart of "
    "a bot that runs alone goes on at once."
)


class BreakerState(StrEnum):
    """Whether the provider takes new jobs, and if not, why."""

    CLOSED = "closed"
    """It takes new jobs."""
    DENIED = "denied"
    """Our key or balance was refused: the operator has to act."""
    ORDERS_REFUSED = "empty"
    """Our balance was refused (402), or an order of ours (403). Reading still works then, so only an accepted order
    proves that it is filled, or free again."""
    DOWN = "down"
    """Too many failures in a row."""


_PROBED = (BreakerState.DOWN, BreakerState.DENIED)
"""What an answered probe proves wrong."""


class CircuitBreaker:
    """Counts failures of one provider, refuses new jobs while it cannot be used, and probes it until it can."""

    def __init__(
        self, provider: Provider, *, coordinator: Coordinator, presenter: ReplyPresenter, supervisor: Supervisor
    ) -> None:
        self.state = BreakerState.CLOSED
        self.changed = asyncio.Event()
        """Set when queued jobs may have become free to start; the dispatcher waits for it and clears it."""
        self._provider = provider
        self._coordinator = coordinator
        self._presenter = presenter
        self._supervisor = supervisor
        self._failures_in_a_row = 0
        self._failing_members: set[int] = set()
        """Whose submissions the failures in a row were."""
        self._is_asking = False
        """Whether the provider is being probed because of the failures of a few members."""
        self.is_checking_key = False
        """Whether the provider is being probed because it denied one job or file; queued jobs wait for the outcome."""
        self._opened_at = 0.0
        self._trial_pause_seconds = FIRST_TRIAL_SECONDS
        self._max_trial_pause_seconds = MAX_TRIAL_SECONDS
        self._trial_at = 0.0
        self._denied_status: int | None = None
        self._opened = asyncio.Event()
        """Set while the breaker is open."""
        self._closed = asyncio.Event()
        """Set when the breaker closes; each opening has an event of its own."""
        self._has_failed_here = False
        """Whether this process itself got no usable answer since the breaker opened."""
        self._is_denied_here = False
        """Whether a probe of this process was denied since the breaker opened."""
        self._others_are_answered = False
        """Whether another process closed the breaker, so that what is found out here is about this process alone."""
        self.is_left_to_others = False
        """Whether other workers have to run the provider's jobs: they are answered, and this one is not."""
        self.announcement: asyncio.Task[None] | None = None
        """Tells the other processes of the newest change that was found out here, after those before it."""

    @property
    def is_open(self) -> bool:
        """Whether new jobs are refused."""
        return self.state is not BreakerState.CLOSED

    @property
    def refuses_orders(self) -> bool:
        """Whether members' orders are refused now."""
        return self.is_open and not self.may_try

    @property
    def gave_up(self) -> bool:
        """Whether no job should wait here: our key is refused, or the provider has been down for too long.

        Queued jobs are started all the same, so that each of them finds this and releases its reservation. A worker
        whose key is refused first hears whether others are refused as well: they probe as soon as they are told.
        """
        if self.is_left_to_others:
            return False
        if self.state is BreakerState.DENIED and self._coordinator.role is Role.WORKER:
            return self._is_denied_here
        if self.state is BreakerState.DOWN:
            return asyncio.get_running_loop().time() - self._opened_at >= MAX_OUTAGE_SECONDS
        return self.state in (BreakerState.DENIED, BreakerState.ORDERS_REFUSED)

    @property
    def may_try(self) -> bool:
        """Whether one order may be let through, to find out whether an account that was empty is filled."""
        return self.state is BreakerState.ORDERS_REFUSED and asyncio.get_running_loop().time() >= self._trial_at

    def begin_trial(self) -> bool:
        """Take the right to let one order through; False if it is not due. The next one is due later."""
        if not self.may_try:
            return False
        pause_seconds = self._trial_pause_seconds
        if self._coordinator.role is Role.WORKER:
            # Gateways space the trials already; the order that one of them lets through must not be too early here.
            pause_seconds = min(pause_seconds, FIRST_TRIAL_SECONDS)
        self._trial_at = asyncio.get_running_loop().time() + pause_seconds
        self._trial_pause_seconds = min(2 * self._trial_pause_seconds, self._max_trial_pause_seconds)
        return True

    @contextmanager
    def trial(self) -> Generator[None]:
        """Begin a trial if one is due; it is due again when the body fails."""
        due = self._trial_at, self._trial_pause_seconds
        is_begun = self.begin_trial()
        try:
            yield
        except BaseException:
            if is_begun:
                self._trial_at, self._trial_pause_seconds = due
            raise

    def record_success(self) -> None:
        """Count an order that the provider answered: it took it, or said what is wrong with it."""
        self._forget_failures()

    def record_acceptance(self) -> None:
        """Count an order that the provider accepted, which also proves that our account there is not empty."""
        self._forget_failures()
        if self.state is BreakerState.ORDERS_REFUSED:
            name = self._provider.name
            _log.warning("%s accepted an order: the account is not empty any more", name)
            self.set_state(BreakerState.CLOSED)
            self._announce("opened", self._announce_closed)

    def record_failure(self, error: ProviderError, user_id: int) -> None:
        """Count a member's order without a usable answer."""
        self._failures_in_a_row += 1
        self._failing_members.add(user_id)
        if self._failures_in_a_row < FAILURES_BEFORE_OPENING:
            return
        if len(self._failing_members) >= MEMBERS_BEFORE_OPENING:
            self._open(BreakerState.DOWN, error)
        elif not self._is_asking and not self.is_open:
            self._is_asking = True
            self._supervisor.start(f"{self._provider.name} asked", self._open_unless_it_answers(error))

    def record_denial(self, error: ProviderDenied, *, of_order: bool = False) -> None:
        """Open because our key or balance was refused: no order of any member can succeed.

        An order that is forbidden (403) while reading works may be forbidden for its model alone, so the next one is
        let through soon.
        """
        if error.status == EMPTY_STATUS:
            self._open(BreakerState.ORDERS_REFUSED, error, advice=_EMPTY_ADVICE)
        elif of_order and error.status == FORBIDDEN_STATUS:
            was_closed = not self.is_open
            self._open(BreakerState.ORDERS_REFUSED, error, advice=_FORBIDDEN_ADVICE)
            if was_closed:
                self._trial_at = self._opened_at + FIRST_FORBIDDEN_TRIAL_SECONDS
                self._trial_pause_seconds = 2 * FIRST_FORBIDDEN_TRIAL_SECONDS
                self._max_trial_pause_seconds = MAX_FORBIDDEN_TRIAL_SECONDS
        else:
            self._open(BreakerState.DENIED, error)

    def record_denial_of_one(self, error: ProviderDenied) -> None:
        """Count a denied poll of one job or upload of one file.

        A 403 may be about that one alone, so it opens the breaker only if a probe is denied as well.
        """
        if error.status != FORBIDDEN_STATUS:
            self.record_denial(error)
        elif not self.is_checking_key and not self.is_open:
            self.is_checking_key = True
            self._supervisor.start(f"{self._provider.name} key checked", self._open_if_denied(error))

    async def _open_if_denied(self, error: ProviderDenied) -> None:
        name = self._provider.name
        try:
            await self._provider.probe()
        except ProviderDenied as denied:
            self.record_denial(denied)
        except ProviderError as problem:
            _log.info("%s does not say whether it takes our key: %s", name, problem)
        else:
            _log.warning("%s takes our key, so it stays open for orders although it denied one: %s", name, error)
        finally:
            self.is_checking_key = False
            self.changed.set()

    async def _open_unless_it_answers(self, error: ProviderError) -> None:
        """Probe the provider after failures of a few members; open only if it does not answer us either."""
        name = self._provider.name
        try:
            await self._provider.probe()
        except ProviderDenied as denied:
            self.record_denial(denied)
        except ProviderError:
            if self._failures_in_a_row >= FAILURES_BEFORE_OPENING:  # no order was answered meanwhile
                self._open(BreakerState.DOWN, error)
        else:
            _log.warning(
                "%s answers, so it stays open for orders although %d in a row failed, of %d members: %s",
                *(name, self._failures_in_a_row, len(self._failing_members), error),
            )
            self._forget_failures()
        finally:
            self._is_asking = False

    def _forget_failures(self) -> None:
        self._failures_in_a_row = 0
        self._failing_members.clear()

    def heard(self, state: BreakerState, *, seconds_ago: float = 0.0) -> None:
        """Open or close the breaker as another process found out, `seconds_ago`; a worker probes what concerns it."""
        was = self.state
        is_worker = self._coordinator.role is Role.WORKER
        if is_worker and state is BreakerState.CLOSED and self._has_failed_here and was in _PROBED:
            if not self._others_are_answered:
                self._others_are_answered = True
                self._supervisor.start(f"{self._provider.name} answers others", self._join_others())
            return
        self.set_state(state, seconds_ago=seconds_ago)
        if is_worker and state is BreakerState.DENIED and was is not state:
            self._supervisor.start(f"{self._provider.name} key checked", self._probe(self._closed))

    async def _join_others(self) -> None:
        """Close the breaker as another process did, unless the provider does not answer this one."""
        await self._probe(self._closed)
        if not self._others_are_answered:
            return
        self.is_left_to_others = True
        name = self._provider.name
        _log.error("%s answers other workers and not this one (%s): it is left to them", name, self.state)
        self._presenter.operator_notice(
            f"{name} is left to other workers",
            f"{name} answers other workers, and not one of them ({self.state}), which leaves its jobs to the others. "
            f"python -m bot check lists that worker without {name}: look at its key and its network.",
        )

    def set_state(self, state: BreakerState, *, seconds_ago: float = 0.0) -> None:
        """Open or close the breaker, as found out here or, `seconds_ago`, by another process."""
        if state is self.state:
            return
        was_open, self.state = self.is_open, state
        if state is BreakerState.CLOSED:
            self._forget_failures()
            self._has_failed_here = self._is_denied_here = False
            self._others_are_answered = self.is_left_to_others = False
            self._opened.clear()
            self._closed.set()
        else:
            if not was_open:
                self._closed = asyncio.Event()
            self._opened_at = asyncio.get_running_loop().time() - seconds_ago
            self._trial_pause_seconds = 2 * FIRST_TRIAL_SECONDS
            self._max_trial_pause_seconds = MAX_TRIAL_SECONDS
            self._trial_at = self._opened_at + FIRST_TRIAL_SECONDS
            self._opened.set()
        self.changed.set()

    async def run_probes(self) -> None:
        """Probe the provider with growing pauses while the breaker is open; close it when a probe succeeds."""
        while True:
            await self._opened.wait()
            await self._probe_until(self._closed)

    async def _probe_until(self, closed: asyncio.Event) -> None:
        probes = 0
        while not closed.is_set():
            probes += 1
            pause_seconds = backoff_seconds(probes, first_seconds=FIRST_PROBE_SECONDS, max_seconds=MAX_PROBE_SECONDS)
            try:
                await asyncio.wait_for(closed.wait(), pause_seconds)
            except TimeoutError:
                await self._probe(closed)
                self.changed.set()  # also when it is still open: it may have given up meanwhile

    async def _probe(self, closed: asyncio.Event) -> None:
        name = self._provider.name
        try:
            await self._provider.probe()
        except ProviderError as error:
            _log.info("%s still takes no jobs (%s): %s", name, self.state, error)
            self._has_failed_here = True
            if isinstance(error, ProviderDenied):
                self._is_denied_here = True
                self.record_denial(error)
                self.changed.set()
        else:
            if closed.is_set() or self.state is BreakerState.ORDERS_REFUSED:
                return  # closed meanwhile; or without money, and then an account can be read all the same
            _log.warning("%s answers again: it takes new jobs", name)
            self.set_state(BreakerState.CLOSED)
            self._announce("opened", self._announce_closed)

    def _open(self, reason: BreakerState, error: ProviderError, *, advice: str = "") -> None:
        self._has_failed_here = True
        # One reason may follow the other: a provider that is down may turn out to refuse our key.
        if self.state in (reason, BreakerState.DENIED) or (
            self.state is BreakerState.ORDERS_REFUSED and reason is BreakerState.DOWN
        ):
            return
        is_told = self.state is BreakerState.ORDERS_REFUSED and error.status == self._denied_status
        self._denied_status = error.status
        self.set_state(reason)
        if is_told or self._others_are_answered:
            return  # reading is refused as orders were; or it is so for this process alone
        name = self._provider.name
        _log.error("%s takes no jobs (%s): %s", name, reason, error)
        notice = f"{name} takes no jobs ({reason}): {error}{advice}"
        self._announce("closed", partial(self._announce_open, reason, notice))

    async def announced(self) -> asyncio.Task[None] | None:
        """Wait until the other processes know every change that was found out here; return the newest announcement."""
        while self.announcement is not None and not self.announcement.done():
            await asyncio.wait({self.announcement})
        return self.announcement

    def _announce(self, what: str, tell: Callable[[], Awaitable[None]]) -> None:
        """Tell the other processes of a change, after those before it."""
        earlier = self.announcement

        async def tell_in_order() -> None:
            if earlier is not None:
                await asyncio.wait({earlier})
            await tell()

        if not self._supervisor.closed:
            self.announcement = self._supervisor.start(f"{self._provider.name} {what}", tell_in_order())

    async def _announce_closed(self) -> None:
        await self._coordinator.close_breaker(self._provider.name)

    async def _announce_open(self, reason: BreakerState, notice: str) -> None:
        """Tell the other processes; the first process that opens the breaker tells the operator."""
        name = self._provider.name
        if await self._coordinator.open_breaker(name, reason.value):
            self._presenter.operator_notice(f"{name} closed: {reason}", notice)
