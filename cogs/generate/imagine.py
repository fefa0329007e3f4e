"""/imagine: images from text."""

from __future__ import annotations

import discord
from discord import app_commands
from discord.ext import commands

from bot.domain.jobs import ImageRole, JobKind, JobRequest
from cogs.generate.ordering import autocomplete
from cogs.generate.ordering.autocomplete import completion
from cogs.generate.ordering.order import DEFAULT_MODEL, Additions
from cogs.generate.ordering.order_flow import OrderFlow
from cogs.ui.checks import account_of
from cogs.ui.client import Interaction

MAX_IMAGES = 4


class Imagine(commands.Cog):
    """Text to image."""

    def __init__(self, order_flow: OrderFlow) -> None:
        self._order_flow = order_flow

    @app_commands.command(description="Make an image from text")
    @app_commands.describe(
        prompt="What should be in the image",
        model="Which image model makes it",
        aspect_ratio="Shape of the image",
        resolution="How large it is made",
        reference="An image to take the style or subject from",
        reference2="Another image to take the style or subject from",
        reference3="Another image to take the style or subject from",
        reference4="Another image to take the style or subject from",
        count="How many images, each at the full price",
        seed="The same seed and prompt give the same image again",
        creativity="How freely the model may interpret the prompt",
        style="A style to apply",
        moodboard="Id of a Krea moodboard",
        preset="A preset to begin with",
        more="Everything else the model takes, such as steps=28, guidance_scale=5",
        private="Only you see the answer",
        reference5="Another image to take the style or subject from",
        reference6="Another image to take the style or subject from",
        reference7="Another image to take the style or subject from",
        reference8="Another image to take the style or subject from",
        reference9="Another image to take the style or subject from",
        reference10="Another image to take the style or subject from",
    )
    @app_commands.autocomplete(
        model=completion(autocomplete.models, JobKind.IMAGINE),
        preset=autocomplete.presets,
        aspect_ratio=completion(autocomplete.values, "aspect_ratio", JobKind.IMAGINE),
        resolution=completion(autocomplete.values, "resolution", JobKind.IMAGINE),
        creativity=completion(autocomplete.values, "creativity", JobKind.IMAGINE),
        style=completion(autocomplete.styles),
        more=completion(autocomplete.more, JobKind.IMAGINE),
    )
    @app_commands.guild_only()
    async def imagine(
        self,
        interaction: Interaction,
        prompt: str,
        model: str | None = None,
        aspect_ratio: str | None = None,
        resolution: str | None = None,
        reference: discord.Attachment | None = None,
        reference2: discord.Attachment | None = None,
        reference3: discord.Attachment | None = None,
        reference4: discord.Attachment | None = None,
        count: app_commands.Range[int, 1, MAX_IMAGES] = 1,
        seed: int | None = None,
        creativity: str | None = None,
        style: str | None = None,
        moodboard: str | None = None,
        preset: str | None = None,
        more: str = "",
        private: bool | None = None,
        reference5: discord.Attachment | None = None,
        reference6: discord.Attachment | None = None,
        reference7: discord.Attachment | None = None,
        reference8: discord.Attachment | None = None,
        reference9: discord.Attachment | None = None,
        reference10: discord.Attachment | None = None,
    ) -> None:
        """Order one to four images."""
        references = (
            *(reference, reference2, reference3, reference4, reference5),
            *(reference6, reference7, reference8, reference9, reference10),
        )
        options = {
            "aspect_ratio": aspect_ratio,
            "resolution": resolution,
            "seed": seed,
            "creativity": creativity,
            "style": style,
            "moodboard": moodboard,
        }
        request = JobRequest(
            kind=JobKind.IMAGINE,
            guild_id=account_of(interaction),
            user_id=interaction.user.id,
            model_id=model or DEFAULT_MODEL,
            prompt=prompt,
            options={name: value for name, value in options.items() if value is not None},
        )
        await self._order_flow.submit(
            interaction,
            request,
            attachments=[(attachment, ImageRole.REFERENCE) for attachment in references if attachment is not None],
            additions=Additions(more=more, preset_name=preset, uses_own_settings=True),
            count=min(max(count, 1), MAX_IMAGES),
            private=private,
        )
