"""Cost alerts: tell the operator when a limit on what they pay is reached, once per kind of limit and UTC day."""

from __future__ import annotations

import logging
from datetime import UTC, date

from bot.domain.errors import (
    MemberCostReached,
    OperatorCostCapReached,
    OperatorServerCapReached,
    RequestRefused,
    StoreError,
)
from bot.domain.jobs import DIRECT_GUILD_ID, Job
from bot.domain.money.quota import CostLimit, Limits, format_usd
from bot.providers.base import Update
from bot.service.context import ServiceContext

_log = logging.getLogger(__name__)

_WHO = "`python -m bot ledger house` lists who cost what."


class CostAlerts:
    """Checks the limits when a job has cost the operator something, and when an order was refused.

    The database records what was told, so that several processes tell it once. A refusal counts as well as a cost: the
    process may have ended between a member's last cost and its check, and after it the member causes none.
    """

    def __init__(self, context: ServiceContext, *, limits: Limits) -> None:
        self._store = context.store
        self._presenter = context.presenter
        self._supervisor = context.supervisor
        self._clock = context.clock
        self._limits = limits
        self._checked_on: dict[CostLimit, date] = {}
        """When a refusal last led to a check, so that further ones of that day write nothing."""

    def stated_too_much(self, job: Job, update: Update) -> None:
        """Tell the operator of a price for an ended job that is not believed."""
        text = (
            f"{job.provider} states {format_usd(update.cost_usd_micros or 0)} for job {job.id}, which was expected "
            f"to cost {format_usd(job.reserved_usd_micros)}. This is not believed: the expected price is booked. "
            "Compare it with the bill; `python -m bot ledger reconcile` lists such differences."
        )
        _log.error("%s", text)
        self._presenter.operator_notice("stated cost", text)

    def job_cost_something(self, job: Job) -> None:
        """Tell the operator, in the background, if the cost of this job has reached a limit."""
        self._supervisor.start(f"cost of job {job.id}", self._check_costs(job.request.user_id))

    def order_refused(self, guild_id: int, user_id: int, error: RequestRefused) -> None:
        """Tell the operator, in the background, if an order was refused because of a limit they were not told of."""
        match error:
            case OperatorServerCapReached():
                limit = CostLimit.SERVER
            case MemberCostReached():
                limit = CostLimit.MEMBER
            case OperatorCostCapReached():
                limit = CostLimit.ALL_MEMBERS
            case _:
                return
        if self._checked_on.get(limit) != self._today():
            self._supervisor.start(f"{limit} cost limit", self._check_once(limit, guild_id, user_id, error))

    async def _check_once(self, limit: CostLimit, guild_id: int, user_id: int, error: RequestRefused) -> None:
        today = self._today()
        if isinstance(error, OperatorServerCapReached):
            is_checked = await self._tell_of_server(guild_id, error)
        else:
            is_checked = await self._check_costs(user_id)
        if is_checked:
            self._checked_on[limit] = today

    async def _check_costs(self, user_id: int) -> bool:
        """Tell of the limits on uncharged costs that are reached; False if the database cannot say which."""
        try:
            reached = await self._store.cost_limits_reached(user_id, limits=self._limits, now=self._clock())
        except StoreError:
            _log.exception("the limits on uncharged costs could not be checked for member %d", user_id)
            return False
        for limit in reached:
            self._tell(limit, self._text(limit, user_id))
        return True

    def _text(self, limit: CostLimit, user_id: int) -> str:
        if limit is CostLimit.MEMBER:
            amount = format_usd(self._limits.operator_cost_per_member_usd_micros)
            return (
                f"Failed jobs of member {user_id} have cost you at least {amount} today without being charged "
                f"(OPERATOR_COST_PER_MEMBER_USD). Nothing more is taken from this member until midnight UTC, and the "
                f"same holds for every other member who gets there today. {_WHO}"
            )
        amount = format_usd(self._limits.operator_cost_daily_cap_usd_micros)
        return (
            f"Failed jobs have cost you at least {amount} today without being charged (OPERATOR_COST_DAILY_CAP_USD). "
            f"Members who caused some of it wait until midnight UTC, all others go on; what still comes counts towards "
            f"OPERATOR_DAILY_CAP_USD. {_WHO}"
        )

    async def _tell_of_server(self, guild_id: int, error: OperatorServerCapReached) -> bool:
        try:
            is_first = await self._store.claim_notice(CostLimit.SERVER, now=self._clock())
        except StoreError:
            _log.exception("it could not be recorded that server %d reached its cap", guild_id)
            return False
        if is_first:
            cap, left = self._limits.operator_cap_of(guild_id), error.available_usd_micros
            is_direct = guild_id == DIRECT_GUILD_ID
            who = "People who order outside servers have" if is_direct else f"Server {guild_id} has"
            whose = "they together" if is_direct else "one server"
            text = (
                f"{who} {format_usd(left)} left of the {format_usd(cap)} that {whose} may use in a "
                f"day (OPERATOR_SERVER_CAP_USD): an order of {format_usd(error.asked_usd_micros)} was refused. "
                f"Other servers that get there today are not reported."
            )
            self._tell(CostLimit.SERVER, text)
        return True

    def _today(self) -> date:
        return self._clock().astimezone(UTC).date()

    def _tell(self, limit: CostLimit, text: str) -> None:
        _log.warning("%s", text)
        # The day belongs to the matter, or what is due soon after midnight would seem to be told already.
        self._presenter.operator_notice(f"{limit} cost limit of {self._today()}", text)
