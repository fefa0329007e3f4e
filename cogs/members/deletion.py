"""Deletion: the question before an order is erased (from a card, a page of /history or /jobs), and its answer.

The data go first, in one transaction that also lists the messages; whatever Discord says then, they are gone.
"""

from __future__ import annotations

from typing import Any

from discord import ui

from bot.domain.deletion import DeletedOrder, MessageKind, OrderMessage
from bot.domain.jobs import GalleryFilter, Reply
from cogs.generate.job_buttons import clicked_reply
from cogs.members.history import HistoryPage
from cogs.text import formatting, job_card
from cogs.ui import card, card_buttons, delete_question
from cogs.ui.checks import account_of, requester_of
from cogs.ui.client import Interaction
from cogs.ui.components import Layout, View
from cogs.ui.delete_question import ASK, HISTORY_OF_MODEL, NO, SEPARATE, YES
from cogs.ui.discord_api.message_api import NO_MENTIONS
from cogs.ui.discord_api.message_deletions import Outcome
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import edit_in_place, respond_privately


class DeleteButton(DynamicComponent[ui.Button[Any]], template=delete_question.CUSTOM_ID):
    """Delete on a page of /history, and the two answers to the question. The custom id names the order."""

    async def handle(self, interaction: Interaction) -> None:
        """Check who clicks, then ask, keep or delete."""
        reply = await clicked_reply(interaction, self._match["job_id"], action=card_buttons.DELETE)
        if reply is not None:
            with interaction.client.service.heavy_work.page(requester_of(interaction)):
                await self._act(interaction, reply)

    async def _act(self, interaction: Interaction, reply: Reply) -> None:
        if self._match["choice"] == NO:
            await self._keep(interaction, reply)
        elif (refusal := _why_not(reply)) is not None:
            await respond_privately(interaction, card.refused(refusal))
        elif self._match["choice"] == ASK:
            question = delete_question.question(
                self._match["job_id"], self._match["place"], is_direct=reply.address.is_direct
            )
            await edit_in_place(interaction, question, attachments=[])
        elif self._match["choice"] == YES:
            await self._delete(interaction, reply)

    async def _keep(self, interaction: Interaction, reply: Reply) -> None:
        await interaction.response.defer()
        if self._match["place"] == SEPARATE:
            await _replace(interaction, card.note(job_card.DELETE_KEPT()))
        else:
            await self._show_history(interaction, reply, reply_id=reply.id)

    async def _delete(self, interaction: Interaction, reply: Reply) -> None:
        """Erase the order, then its messages, and say what could not be removed."""
        await interaction.response.defer()
        neighbour_id = await self._neighbour(interaction, reply)
        client = interaction.client
        deleted = await client.service.delete_order(reply.id, actor_id=interaction.user.id)
        if deleted is None:
            result = card.refused(job_card.DELETE_ALREADY())  # another click was first
        else:
            deletions = client.message_deletions
            gone_id = await deletions.delete_clicked(self._match["job_id"], interaction.user.id)
            card_is_gone = gone_id is not None or await deletions.delete_by_token(reply.address)
            places = [message.place for message in deleted.messages]
            outcomes = await deletions.delete_now(places, gone_message_id=gone_id)
            lines = [
                job_card.DELETE_DONE(),
                *(_trouble(message, outcomes[message.place]) for message in deleted.messages),
            ]
            lines += await _notes(interaction, reply, deleted, card_is_gone=card_is_gone)
            result = card.note("\n".join(line for line in lines if line))
        if self._match["place"] == SEPARATE:
            await _replace(interaction, result)
        else:
            await self._show_history(interaction, reply, reply_id=neighbour_id)
            await respond_privately(interaction, result)

    async def _neighbour(self, interaction: Interaction, reply: Reply) -> str | None:
        """Return the page of /history to show after this one; None for the newest."""
        if self._match["place"] == SEPARATE:
            return None
        page = await interaction.client.service.store.gallery_page(
            reply.address.guild_id,
            interaction.user.id,
            chosen=GalleryFilter(model_id=self._model_id(reply)),
            reply_id=reply.id,
        )
        return None if page is None else page.older_id or page.newer_id

    async def _show_history(self, interaction: Interaction, reply: Reply, *, reply_id: str | None) -> None:
        account_of(interaction)
        page = HistoryPage(interaction.client.service, interaction.client.messages, interaction)
        await page.show(GalleryFilter(model_id=self._model_id(reply)), reply_id=reply_id)

    def _model_id(self, reply: Reply) -> str | None:
        return reply.jobs[0].request.model_id if self._match["place"] == HISTORY_OF_MODEL else None


def _why_not(reply: Reply) -> str | None:
    """Return why an order cannot be deleted; None if it can."""
    if reply.deleted_at is not None:
        return job_card.DELETE_ALREADY()
    if not reply.is_final:
        return job_card.DELETE_NOT_YET()
    if (until := reply.followed_until) is not None:
        return job_card.DELETE_STILL_LOOKING(when=formatting.moment(until))
    return None if reply.is_over else job_card.DELETE_POSTING()


async def _notes(interaction: Interaction, reply: Reply, deleted: DeletedOrder, *, card_is_gone: bool) -> list[str]:
    """Say which copies the bot cannot reach: those in a log channel that it has no id of, and some cards."""
    lines: list[str] = []
    if not any(message.kind is MessageKind.LOG for message in deleted.messages):
        policy = await interaction.client.service.store.policy(reply.address.guild_id)
        if policy.log_channel_id is not None:
            lines.append(job_card.DELETE_LOG_UNKNOWN(channel=f"<#{policy.log_channel_id}>"))
    is_own = interaction.user.id == reply.user_id
    if card_is_gone:
        return lines
    if reply.address.private and is_own and (interaction.guild_id is not None or reply.address.is_direct):
        lines.append(job_card.DELETE_PRIVATE_CARD())
    elif not reply.address.private and reply.address.is_token_only:
        lines.append(job_card.DELETE_CARD_WITHOUT_ACCESS())
    return lines


def _trouble(message: OrderMessage, outcome: Outcome) -> str:
    """Return what to know about a message that is still there; '' if it is gone."""
    channel = f"<#{message.channel_id}>"
    match outcome:
        case Outcome.GONE:
            return ""
        case Outcome.FAILED:
            return job_card.DELETE_LATER(channel=channel)
        case Outcome.REFUSED if message.kind is MessageKind.LOG:
            return job_card.DELETE_LOG_REFUSED(channel=channel)
        case Outcome.REFUSED:
            return job_card.DELETE_CARD_REFUSED(channel=channel)


async def _replace(interaction: Interaction, layout: Layout) -> None:
    """Replace the question."""
    await interaction.edit_original_response(view=View(layout), attachments=[], allowed_mentions=NO_MENTIONS)
