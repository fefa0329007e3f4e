"""/usage and /models: what a member has spent, and what can be ordered."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.catalogue.models import Model
from bot.domain.errors import NotAllowedHere
from bot.domain.jobs import JobKind
from bot.service.job_service import JobService
from cogs.generate.ordering import autocomplete
from cogs.generate.ordering.permissions import permissions_of
from cogs.members import usage_page
from cogs.text import refusals
from cogs.ui.checks import member_of
from cogs.ui.initial_response import respond_privately

LAST_JOBS = 5

PERIODS = [
    app_commands.Choice(name="This period", value="this"),
    app_commands.Choice(name="Previous period", value="previous"),
]


class Usage(commands.Cog):
    """The commands /usage and /models, which cost nothing."""

    def __init__(self, service: JobService, *, sku_ids: tuple[int, ...] = ()) -> None:
        self._service = service
        self._sku_ids = sku_ids

    @app_commands.command(description="See what you have spent and what is left")
    @app_commands.describe(period="Which period to show")
    @app_commands.choices(period=PERIODS)
    @app_commands.guild_only()
    async def usage(
        self, interaction: discord.Interaction[Any], period: app_commands.Choice[str] | None = None
    ) -> None:
        """Show privately the quota, the amounts spent, reserved and left, the next reset and the last jobs."""
        service, now = self._service, self._service.now()
        member = member_of(interaction)
        service.heavy_work.count_page(member.requester)
        previous = period is not None and period.value == "previous"
        spendable = None
        if previous:
            default = service.limits.default_quota_of(member.guild_id)
            balance = await service.store.balance(member, default=default, now=now, previous=True)
        else:
            spendable = await service.store.spendable(member, limits=service.limits, now=now)
            balance = spendable.balance
        jobs = await service.store.recent_jobs(
            guild_id=member.guild_id, user_id=member.user_id, limit=LAST_JOBS, before=balance.window.end
        )
        in_window = [
            (job, service.model_label(job.request.model_id)) for job in jobs if job.created_at >= balance.window.start
        ]
        sku_ids = () if previous else self._sku_ids
        await respond_privately(interaction, usage_page.page(balance, in_window, spendable=spendable, sku_ids=sku_ids))

    @app_commands.command(description="See which image models there are and what they cost")
    @app_commands.describe(model="A model to see in detail")
    @app_commands.autocomplete(model=autocomplete.permitted_models)
    async def models(self, interaction: discord.Interaction[Any], model: str | None = None) -> None:
        """Show the catalogue, or one model of it, privately."""
        service = self._service
        if model is None:
            permissions = await permissions_of(service, interaction)
            default = await autocomplete.usual_model(interaction, permissions, JobKind.IMAGINE)
            permitted = autocomplete.permitted_of(service, permissions)
            await respond_privately(interaction, usage_page.models(permitted, default))
        else:
            await self._show(interaction, service.catalogue.get(model))

    async def _show(self, interaction: discord.Interaction[Any], model: Model) -> None:
        """Show one model, with the rule that forbids it here if there is one."""
        permissions = await permissions_of(self._service, interaction)
        refusal = None
        try:
            permissions.check_model(model)
        except NotAllowedHere as error:
            refusal = refusals.refusal(error)
        await respond_privately(interaction, usage_page.model(model, refusal=refusal))
