"""/compare: the same prompt with two to four models, on one card, where members vote for the best image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from discord import app_commands, ui
from discord.ext import commands

from bot.domain.jobs import JobKind, JobRequest
from cogs.generate import upscale
from cogs.generate.delivery.posted_card import posted_card
from cogs.generate.ordering import autocomplete
from cogs.generate.ordering.autocomplete import Choices
from cogs.generate.ordering.order import Additions, Order
from cogs.generate.ordering.order_flow import OrderFlow
from cogs.generate.ordering.permissions import permissions_of
from cogs.text import job_card
from cogs.ui import card, comparison
from cogs.ui.checks import account_of, server_or_direct
from cogs.ui.client import Interaction
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import edit_in_place, respond_privately
from cogs.ui.typed_command import typed_command


async def _models(interaction: Interaction, text: str) -> Choices:
    """List the models that are not chosen yet."""
    found = await autocomplete.models(interaction, text, JobKind.IMAGINE)
    chosen = {*_chosen(interaction)} - {text}
    return [choice for choice in found if choice.value not in chosen]


async def _aspect_ratios(interaction: Interaction, text: str) -> Choices:
    """List the shapes that all chosen models have."""
    catalogue = interaction.client.service.catalogue
    models = [model for model_id in _chosen(interaction) if (model := catalogue.find(model_id))]
    if not models:
        return []
    shared = [
        ratio
        for ratio in models[0].choices("aspect_ratio")
        if all(ratio in model.choices("aspect_ratio") for model in models)
    ]
    return autocomplete.plain(ratio for ratio in shared if text.strip() in ratio)


def _chosen(interaction: Interaction) -> list[str]:
    named = (getattr(interaction.namespace, f"model{number}", None) for number in (1, 2, 3, 4))
    return [model_id for model_id in named if model_id]


class Compare(commands.Cog):
    """The command /compare."""

    def __init__(self, order_flow: OrderFlow) -> None:
        self._order_flow = order_flow

    @app_commands.command(description="Make the same image with two to four models, and vote")
    @app_commands.describe(
        prompt="What should be in the image",
        model1="The first model",
        model2="The second model",
        model3="A third model",
        model4="A fourth model",
        aspect_ratio="Shape of the images",
    )
    @app_commands.autocomplete(
        model1=_models, model2=_models, model3=_models, model4=_models, aspect_ratio=_aspect_ratios
    )
    @app_commands.guild_only()
    async def compare(
        self,
        interaction: Interaction,
        prompt: str,
        model1: str,
        model2: str,
        model3: str | None = None,
        model4: str | None = None,
        aspect_ratio: str | None = None,
    ) -> None:
        """Order one image of each model, all or none."""
        request = JobRequest(
            kind=JobKind.IMAGINE,
            guild_id=account_of(interaction),
            user_id=interaction.user.id,
            model_id=model1,
            prompt=prompt,
            options={} if aspect_ratio is None else {"aspect_ratio": aspect_ratio},
        )
        models = tuple(model for model in (model1, model2, model3, model4) if model is not None)
        order = Order(request=request, model_ids=models, additions=Additions(), private=None)
        await self._order_flow.submit_order(interaction, order, typed=typed_command(interaction))


class VoteButton(DynamicComponent[ui.Button[Any]], template=comparison.VOTE_ID):
    """The button below each image of a comparison. A second click on the same one takes the vote back."""

    async def handle(self, interaction: Interaction) -> None:
        """Count the vote and show the card with the new numbers."""
        guild_id = server_or_direct(interaction)
        client = interaction.client
        job_id = self._match["job_id"]
        reply = await client.service.store.reply_of_job(job_id)
        if (
            reply is None
            or reply.deleted_at is not None
            or reply.address.guild_id != guild_id
            or reply.address.message_id != (interaction.message and interaction.message.id)
            or not reply.is_comparison
            or reply.is_held_back
        ):
            await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
            return
        if client.click_debouncer.is_double(interaction):
            await interaction.response.defer()
            return
        await client.service.store.vote(job_id, user_id=interaction.user.id)
        view = await client.service.view(reply.id)
        if view is None:
            await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
            return
        permissions = await permissions_of(client.service, interaction)
        offers = upscale.offers(client.service, reply, permissions.permits)
        view = replace(view, upscale_usd_micros=upscale.least_usd_micros(offers))
        posted = posted_card(interaction.message, view)
        layout = card.card(view, images=posted.images, lost_images=posted.lost_images, hide_prompt=posted.hide_prompt)
        await edit_in_place(interaction, layout)
