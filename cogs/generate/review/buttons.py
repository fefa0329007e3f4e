"""Review buttons: Approve and Refuse under a question in the review channel, for moderators. They never expire."""

from __future__ import annotations

from typing import Any

import discord
from discord import ui

from bot.domain.jobs import Reply, ReviewState
from bot.domain.texts import visible_or_none
from bot.service.views import ReplyView
from cogs.generate.delivery.posted_card import posted_card
from cogs.generate.review import question
from cogs.text import job_card
from cogs.text.locale import use_locale
from cogs.ui import card
from cogs.ui.checks import require_moderator
from cogs.ui.client import Interaction
from cogs.ui.components import View
from cogs.ui.discord_api.message_api import NO_MENTIONS
from cogs.ui.error_handler import DynamicComponent, ReasonForm
from cogs.ui.initial_response import respond_privately


class ReviewButton(DynamicComponent[ui.Button[Any]], template=question.CUSTOM_ID):
    """Approve, or Refuse, which asks for the reason first."""

    async def handle(self, interaction: Interaction) -> None:
        """Check who clicks, then approve or ask for the reason."""
        reply = await _asked_about(interaction, self._match["reply_id"])
        if reply is None:
            return
        if self._match["choice"] == question.APPROVE:
            await _decide(interaction, reply, approves=True, reason=None)
        else:
            await interaction.response.send_modal(RefuseForm(reply.id))


class RefuseForm(ReasonForm):
    """Form that asks for the reason, which may stay empty, and then refuses."""

    def __init__(self, reply_id: str) -> None:
        super().__init__(title=job_card.REFUSE_TITLE(), label=job_card.REFUSE_REASON(), required=False)
        self._reply_id = reply_id

    async def on_submit(self, interaction: discord.Interaction[Any]) -> None:
        """Refuse, unless another moderator was first."""
        reply = await _asked_about(interaction, self._reply_id)
        if reply is not None:
            await _decide(interaction, reply, approves=False, reason=visible_or_none(self._reason.value))


async def _asked_about(interaction: Interaction, reply_id: str) -> Reply | None:
    """Return the order that waits; or say that nothing is to be decided any more and return None."""
    guild_id = require_moderator(interaction)
    reply = await interaction.client.service.store.reply(reply_id)
    if reply is None or reply.is_forgotten or reply.deleted_at is not None or reply.address.guild_id != guild_id:
        await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
        return None
    if reply.review is not ReviewState.WAITING:
        await interaction.response.defer()
        # The process that recorded the decision may have ended before it showed it. What shows it says who decided.
        is_left_open = question.is_open(interaction.message) and question.is_open(await interaction.original_response())
        if is_left_open and not interaction.client.review_requests.is_being_decided(reply.id):
            await _show_decision(interaction, await interaction.client.service.view(reply.id), decided_by=None)
        await respond_privately(interaction, card.note(_already(reply)))
        return None
    return reply


def _already(reply: Reply) -> str:
    is_approved = reply.review is ReviewState.APPROVED
    return job_card.REVIEW_ALREADY_APPROVED() if is_approved else job_card.REVIEW_ALREADY_REFUSED()


async def _decide(interaction: Interaction, reply: Reply, *, approves: bool, reason: str | None) -> None:
    """Record the decision and show it in place of the question."""
    service, message = interaction.client.service, interaction.message
    assert message is not None, "the button is under a message"
    await interaction.response.defer()
    with interaction.client.review_requests.deciding_about(reply.id):
        decided = await service.decide_review(
            reply.id,
            guild_id=reply.address.guild_id,
            message_id=message.id,
            approves=approves,
            actor_id=interaction.user.id,
            reason=reason,
        )
        view = await service.view(reply.id)
        if decided is not None and view is not None:
            await _show_decision(interaction, view, decided_by=interaction.user.id)
            return
    await respond_privately(interaction, card.note(job_card.REVIEW_ELSEWHERE()))


async def _show_decision(interaction: Interaction, view: ReplyView | None, *, decided_by: int | None) -> None:
    """Show what was decided in place of the question; without `decided_by` only the state and no buttons."""
    message = interaction.message
    if view is None or message is None:
        return
    posted = posted_card(message, view)
    with use_locale(view.reply.address.language):
        layout = question.layout(
            view,
            posted.images,
            lost_images=posted.lost_images,
            hide_prompt=posted.hide_prompt,
            decided_by=decided_by,
        )
    await interaction.edit_original_response(view=View(layout), allowed_mentions=NO_MENTIONS)
