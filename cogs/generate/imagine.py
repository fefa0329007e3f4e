"""/imagine: a picture from text."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.domain.jobs import ImageRole, JobKind, JobRequest
from cogs.generate import autocomplete as suggestions
from cogs.generate.order_flow import DEFAULT_MODEL, OrderFlow
from cogs.ui.checks import require_server

MAX_IMAGES = 4


class Imagine(commands.Cog):
    """Text to image."""

    def __init__(self, order_flow: OrderFlow) -> None:
        self._order_flow = order_flow

    @app_commands.command(description="Make a picture from text")
    @app_commands.describe(
        prompt="What should be in the picture",
        model="Which image model makes it",
        aspect_ratio="Shape of the picture",
        resolution="How large it is made",
        reference="A picture to take the style or subject from",
        count="How many pictures, each at the full price",
        seed="The same seed and prompt give the same picture again",
        creativity="How freely the model may interpret the prompt",
        style="A style to apply",
        moodboard="Id of a Krea moodboard",
        private="Only you see the answer",
    )
    @app_commands.guild_only()
    async def imagine(
        self,
        interaction: discord.Interaction[Any],
        prompt: str,
        model: str | None = None,
        aspect_ratio: str | None = None,
        resolution: str | None = None,
        reference: discord.Attachment | None = None,
        count: app_commands.Range[int, 1, MAX_IMAGES] = 1,
        seed: int | None = None,
        creativity: str | None = None,
        style: str | None = None,
        moodboard: str | None = None,
        private: bool = False,
    ) -> None:
        """Order one to four pictures."""
        options = {
            "aspect_ratio": aspect_ratio,
            "resolution": resolution,
            "seed": seed,
            "creativity": creativity,
            "style": style and self._order_flow.service.styles.id_of(style),
            "moodboard": moodboard,
        }
        request = JobRequest(
            kind=JobKind.IMAGINE,
            guild_id=require_server(interaction),
            user_id=interaction.user.id,
            model_id=model or DEFAULT_MODEL,
            prompt=prompt,
            options={name: value for name, value in options.items() if value is not None},
        )
        await self._order_flow.order(
            interaction,
            request,
            attachments=[(reference, ImageRole.REFERENCE)] if reference else [],
            count=min(max(count, 1), MAX_IMAGES),
            private=private,
        )

    @imagine.autocomplete("model")
    async def _models(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        return await suggestions.models(self._order_flow.service, interaction, text, kind=JobKind.IMAGINE)

    @imagine.autocomplete("aspect_ratio")
    async def _aspect_ratios(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        return await self._values(interaction, "aspect_ratio", text)

    @imagine.autocomplete("resolution")
    async def _resolutions(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        return await self._values(interaction, "resolution", text)

    @imagine.autocomplete("creativity")
    async def _creativities(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        return await self._values(interaction, "creativity", text)

    @imagine.autocomplete("style")
    async def _styles(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        return await suggestions.styles(self._order_flow, interaction, text)

    async def _values(self, interaction: discord.Interaction[Any], option: str, text: str) -> suggestions.Choices:
        return await suggestions.values(self._order_flow, interaction, option, text, kind=JobKind.IMAGINE)
