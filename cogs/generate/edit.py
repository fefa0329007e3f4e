"""/edit and the message menu `Edit this image`: change images that a member attached or a message shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import discord
from discord import app_commands, ui
from discord.ext import commands

from bot.domain.jobs import ImageRole, JobKind, JobRequest
from bot.service.job_service import JobService
from cogs.generate.ordering import autocomplete
from cogs.generate.ordering.autocomplete import completion
from cogs.generate.ordering.order import DEFAULT_MODEL, Additions, Order
from cogs.generate.ordering.order_flow import OrderFlow
from cogs.generate.ordering.order_form import ModelChoice, OrderForm, model_choices
from cogs.generate.ordering.permissions import permissions_of
from cogs.generate.refused.buttons import buttons, refusal
from cogs.generate.refused.near_orders import NearOrder
from cogs.text import formatting, job_card, refusals
from cogs.text.locale import MAX_CHOICE_CHARACTERS
from cogs.ui import card
from cogs.ui.attachments import PostedFile, images_of
from cogs.ui.checks import account_of
from cogs.ui.client import BotClient, Interaction
from cogs.ui.initial_response import respond_privately
from cogs.ui.typed_command import typed_command

MENU_NAME = "Edit this image"
MAX_CHOICES = 25
MAX_IMAGES = 4


class Edit(commands.Cog):
    """Image to image."""

    def __init__(self, *, order_flow: OrderFlow, service: JobService) -> None:
        self._order_flow = order_flow
        self._service = service
        self._menu = app_commands.ContextMenu(name=MENU_NAME, callback=self.edit_this_image)
        self._menu.guild_only = True

    def add_menu(self, tree: app_commands.CommandTree[BotClient]) -> None:
        """Add the message menu to the command tree: discord.py allows none in a cog."""
        tree.add_command(self._menu)

    @app_commands.command(description="Change one to four attached images as you describe")
    @app_commands.describe(
        image="The image to change",
        prompt="What to change",
        model="Which image model does it",
        image2="Another image to use",
        image3="Another image to use",
        image4="Another image to use",
        aspect_ratio="Shape of the result",
        resolution="How large it is made",
        count="How many images, each at the full price",
        seed="The same seed and inputs give the same image again",
        preset="A preset to begin with",
        more="Everything else the model takes, such as steps=28, strength=0.7",
        private="Only you see the answer",
    )
    @app_commands.autocomplete(
        model=completion(autocomplete.models, JobKind.EDIT),
        preset=autocomplete.presets,
        aspect_ratio=completion(autocomplete.values, "aspect_ratio", JobKind.EDIT),
        resolution=completion(autocomplete.values, "resolution", JobKind.EDIT),
        more=completion(autocomplete.more, JobKind.EDIT),
    )
    @app_commands.guild_only()
    async def edit(
        self,
        interaction: Interaction,
        image: discord.Attachment,
        prompt: str,
        model: str | None = None,
        image2: discord.Attachment | None = None,
        image3: discord.Attachment | None = None,
        image4: discord.Attachment | None = None,
        aspect_ratio: str | None = None,
        resolution: str | None = None,
        count: app_commands.Range[int, 1, MAX_IMAGES] = 1,
        seed: int | None = None,
        preset: str | None = None,
        more: str = "",
        private: bool | None = None,
    ) -> None:
        """Order one to four edited images."""
        options = {"aspect_ratio": aspect_ratio, "resolution": resolution, "seed": seed}
        chosen = {name: value for name, value in options.items() if value is not None}
        # A model that only enlarges has the same door, so that everything it takes can be set.
        kind = autocomplete.kind_with(self._service.catalogue.find(model or DEFAULT_MODEL), JobKind.EDIT)
        request = replace(_request(interaction, prompt, model, chosen), kind=kind)
        images = [attachment for attachment in (image, image2, image3, image4) if attachment is not None]
        await self._order_flow.submit(
            interaction,
            request,
            attachments=[(attachment, ImageRole.SOURCE) for attachment in images],
            additions=Additions(more=more, preset_name=preset, uses_own_settings=True),
            count=min(max(count, 1), MAX_IMAGES),
            private=private,
        )

    async def edit_this_image(self, interaction: Interaction, message: discord.Message) -> None:
        """Open the form for the images of a message."""
        account_of(interaction)
        images = images_of(message)
        if not images:
            await respond_privately(interaction, card.refused(job_card.NO_PICTURE_IN_MESSAGE()))
            return
        names = [formatting.one_line(file.alt_text) or file.filename for file in images]
        labelled = {f"{number}. {name}": file for number, (name, file) in enumerate(zip(names, images, strict=True), 1)}
        await open_edit_form(interaction, labelled)


class EditModal(OrderForm):
    """The form of an edit: prompt, a select of several images, further ones to upload, model with price, options."""

    def __init__(
        self,
        images: Mapping[str, PostedFile],
        *,
        choices: Sequence[ModelChoice],
        private: bool | None = None,
        chosen_id: int | None = None,
    ) -> None:
        """`images` come by their labels; the one of `chosen_id`, else the first, is chosen at the beginning."""
        super().__init__(
            title=job_card.EDIT_MODAL_TITLE(), prompt_label=job_card.EDIT_MODAL_PROMPT(), prompt="", choices=choices
        )
        labelled = list(images.items())[:MAX_CHOICES]
        self._images = {str(image.id): image for _, image in labelled}
        self._private = private
        self._first = str(chosen_id) if str(chosen_id) in self._images else next(iter(self._images))
        self._select: ui.Select[EditModal] | None = None
        if len(self._images) > 1:
            self._select = ui.Select(
                custom_id="pictures",
                max_values=min(MAX_IMAGES, len(self._images)),
                options=[
                    discord.SelectOption(
                        label=formatting.shorten(label, MAX_CHOICE_CHARACTERS),
                        value=str(image.id),
                        default=str(image.id) == self._first,
                    )
                    for label, image in labelled
                ],
            )
            self.add_item(ui.Label(text=job_card.EDIT_MODAL_CHOICE(), component=self._select))
        self._uploads: ui.FileUpload[EditModal] = ui.FileUpload(
            custom_id="uploads", required=False, min_values=0, max_values=MAX_IMAGES - 1
        )
        self.add_item(ui.Label(text=job_card.EDIT_MODAL_UPLOAD(), component=self._uploads))
        self.add_model_select()
        self.add_more("")

    async def on_submit(self, interaction: discord.Interaction[Any], /) -> None:
        """Order the edit of the chosen images, then the uploaded ones."""
        chosen = self._select.values if self._select is not None else [self._first]
        files = [*(self._images[key] for key in chosen if key in self._images), *self._uploads.values]
        request = _request(interaction, self._prompt.value, self.chosen.request.model_id, {})
        sources = tuple((file, ImageRole.SOURCE) for file in files[:MAX_IMAGES])
        additions = Additions(more=self._more.value)
        order = Order(request=request, attachments=sources, additions=additions, private=self._private)
        if len(files) > MAX_IMAGES:
            await self._refuse(interaction, order, len(files))
        else:
            await self.order(interaction, order)

    async def _refuse(self, interaction: Interaction, order: Order, images: int) -> None:
        """Say that these are too many images, and offer the edit of the first ones."""
        typed = typed_command(interaction)
        near = NearOrder(
            order=replace(order, agreed_usd_micros=self.chosen.amount_usd_micros),
            change=refusals.ORDER_WITH_INPUTS(MAX_IMAGES),
            amount_usd_micros=self.chosen.amount_usd_micros,
        )
        kept = interaction.client.order_flow.kept_orders
        key = kept.keep(user_id=interaction.user.id, typed=typed, orders=(near.order,))
        layout = refusal(job_card.EDIT_TOO_MANY(images, most=MAX_IMAGES), typed, buttons(key, typed, [near]))
        await respond_privately(interaction, layout, files=typed.files() if typed else None)


async def open_edit_form(
    interaction: Interaction,
    images: Mapping[str, PostedFile],
    *,
    model_id: str = DEFAULT_MODEL,
    private: bool | None = None,
    chosen_id: int | None = None,
) -> None:
    """Open the form for these images, by their labels, or say privately that no model may be used for it."""
    client = interaction.client
    permissions = await permissions_of(client.service, interaction)
    source = (next(iter(images.values())), ImageRole.SOURCE)
    order = Order(request=_request(interaction, "", model_id, {}), attachments=(source,))
    choices = model_choices(client.service, permissions, order)
    if not choices:
        await respond_privately(interaction, card.refused(job_card.NO_MODEL_HERE()))
        return
    form = EditModal(images, choices=choices, private=private, chosen_id=chosen_id)
    await interaction.response.send_modal(form)


def _request(
    interaction: Interaction, prompt: str, model_id: str | None, options: Mapping[str, str | int]
) -> JobRequest:
    return JobRequest(
        kind=JobKind.EDIT,
        guild_id=account_of(interaction),
        user_id=interaction.user.id,
        model_id=model_id or DEFAULT_MODEL,
        prompt=prompt,
        options=options,
    )
