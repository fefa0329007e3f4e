"""/jobs: moderators list the jobs of their server and cancel them, with a reason that is shown to the member."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import discord
from discord import app_commands, ui
from discord.ext import commands

from bot.domain.texts import visible_or_none
from bot.service.job_service import CancelOutcome, JobService
from cogs.generate.job_buttons import CANCEL_WORDS, cancel_all, clicked_reply
from cogs.moderation import jobs_page
from cogs.text import job_card, moderation
from cogs.text.locale import use_locale
from cogs.ui import card, card_buttons, delete_question
from cogs.ui.checks import requester_of, require_moderator
from cogs.ui.client import Interaction
from cogs.ui.components import Layout
from cogs.ui.error_handler import DynamicComponent, ReasonForm
from cogs.ui.initial_response import edit_in_place, respond_privately

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Jobs(commands.Cog):
    """The command /jobs, which lists the jobs of a server."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    @app_commands.command(description="See what is in progress in this server, and cancel it")
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.guild_only()
    async def jobs(self, interaction: discord.Interaction[Any]) -> None:
        """Show the first page, privately."""
        guild_id = require_moderator(interaction)
        self._service.heavy_work.count_page(requester_of(interaction))
        await respond_privately(interaction, await _first_page(self._service, guild_id))


class JobsButton(DynamicComponent[ui.Button[Any]], template=jobs_page.CUSTOM_ID):
    """Turns a page of the list. The page shows the jobs of the server in which the button is pressed."""

    async def handle(self, interaction: Interaction) -> None:
        """Show another page; only for moderators of this server."""
        guild_id = require_moderator(interaction)
        interaction.client.service.heavy_work.count_page(requester_of(interaction))
        await edit_in_place(interaction, await self._page(interaction.client.service, guild_id))

    async def _page(self, service: JobService, guild_id: int) -> Layout:
        micros = int(self._match["before"])
        if not micros:
            return await _first_page(service, guild_id)
        is_recent = self._match["part"] == jobs_page.RECENT
        before = _EPOCH + timedelta(microseconds=micros)
        part = await _part(service, guild_id, finished=is_recent, before=before)
        return jobs_page.page(
            running=None if is_recent else part,
            recent=part if is_recent else None,
            first=False,
            label=service.model_label,
        )


class CancelChoice(DynamicComponent[ui.Select[Any]], template=jobs_page.CANCEL_CUSTOM_ID):
    """Selects the command to cancel and opens the form for the reason."""

    async def handle(self, interaction: Interaction) -> None:
        """Open the form for the reason."""
        require_moderator(interaction)
        await interaction.response.send_modal(CancelModal(interaction.client.service, self.item.values[0]))


class DeleteChoice(DynamicComponent[ui.Select[Any]], template=jobs_page.DELETE_CUSTOM_ID):
    """Selects the finished order to delete, and asks once."""

    async def handle(self, interaction: Interaction) -> None:
        """Ask; the value is the first job of the order."""
        require_moderator(interaction)
        reply = await clicked_reply(interaction, self.item.values[0], action=card_buttons.DELETE)
        if reply is not None:
            await respond_privately(interaction, delete_question.question(reply.jobs[0].id))


class CancelModal(ReasonForm):
    """Form that asks for a reason and then cancels the jobs of a command."""

    def __init__(self, service: JobService, reply_id: str) -> None:
        super().__init__(title=moderation.CANCEL_TITLE(), label=moderation.CANCEL_REASON(), required=True)
        self._service = service
        self._reply_id = reply_id

    async def on_submit(self, interaction: discord.Interaction[Any]) -> None:
        """Cancel the jobs; the reason is stored first, because the card shows it as soon as a job is cancelled."""
        guild_id = require_moderator(interaction)
        await interaction.response.defer(ephemeral=True, thinking=True)
        store = self._service.store
        reply = await store.reply(self._reply_id)
        if reply is None or reply.address.guild_id != guild_id:
            await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
            return
        reason = visible_or_none(self._reason.value)
        if reason is None:
            with use_locale(reply.address.language):
                reason = moderation.NO_REASON()
        noted = await store.ask_to_cancel(
            reply.id, actor_id=interaction.user.id, reason=reason, now=self._service.now()
        )
        if noted is None:
            await respond_privately(interaction, card.refused(moderation.CANCEL_GONE()))
            return
        outcome = await cancel_all(self._service, noted)
        await respond_privately(interaction, card.note(_OUTCOMES.get(outcome, CANCEL_WORDS[outcome])()))


_OUTCOMES = {
    CancelOutcome.CANCELLED: moderation.CANCELLED_FOR_MEMBER,
    CancelOutcome.ASKED: moderation.CANCEL_UNDER_WAY,
}


async def _first_page(service: JobService, guild_id: int) -> Layout:
    return jobs_page.page(
        running=await _part(service, guild_id, finished=False, before=None),
        recent=await _part(service, guild_id, finished=True, before=None),
        first=True,
        label=service.model_label,
    )


async def _part(service: JobService, guild_id: int, *, finished: bool, before: datetime | None) -> jobs_page.Part:
    found = await service.store.replies_of_server(guild_id, finished=finished, limit=jobs_page.PAGE + 1, before=before)
    return jobs_page.Part.of(found)
