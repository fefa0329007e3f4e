"""Order: what a command, form or button asks the order flow for, before it is checked or priced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import discord

from bot.catalogue.order_text import Options, OptionValue, Template
from bot.domain.jobs import ImageInput, ImageRole, JobRequest
from cogs.ui.attachments import PostedFile

DEFAULT_MODEL = ""
"""Model id of a request whose member named no model."""

TYPICAL_SIDE = 1024
"""Assumed for an attached image whose size Discord does not say."""

Attachments = Sequence[tuple[discord.Attachment | PostedFile, ImageRole]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Additions:
    """What a command or form adds to the options of an order: typed text, a preset, and the member's defaults."""

    more: str = ""
    template: Template | None = None
    defaults: Options = field(default_factory=dict[str, OptionValue])
    preset_name: str | None = None
    """The preset that was typed."""
    uses_own_settings: bool = False
    """Whether the member's defaults complete the order: those of commands, where nothing else was chosen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """`count` images of one request, from attached files that are read only once the order is permitted.

    With `additions` the request is not complete yet, and flags in its prompt count; a repeated order has none.
    """

    request: JobRequest
    additions: Additions | None = None
    attachments: Attachments = ()
    count: int = 1
    private: bool | None = False
    """None: as the member's defaults say; outside the servers that have the bot, private."""
    agreed_usd_micros: int | None = None
    """The price that a button or form said; the order is refused if it costs more."""

    model_ids: tuple[str, ...] = ()
    """In a comparison, the models in place of the request's own: one image of each."""
    variants: tuple[JobRequest, ...] = ()
    """The complete requests of a comparison."""
    preset_name: str | None = None
    """The preset that completed it, for the card."""
    preset_image: ImageInput | None = None
    """The image that this preset adds to the attached ones."""

    @property
    def size(self) -> int:
        """The number of images."""
        return len(self.model_ids or self.variants) or self.count

    def requests(self, images: tuple[ImageInput, ...] | None = None) -> list[JobRequest]:
        """Return the request for each image, with these input images or stand-ins for those that are not read yet."""
        if self.variants:
            return list(self.variants)
        if images is None:
            images = self.request.images or tuple(stand_in(file, role) for file, role in self.attachments)
        if self.preset_image is not None:
            images = (*images, self.preset_image)
        return [_numbered_request(self.request, images, number) for number in range(self.count)]

    def with_model(self, model_id: str) -> Order:
        """Return the same order for another model."""
        return replace(self, request=replace(self.request, model_id=model_id))


def stand_in(attachment: discord.Attachment | PostedFile, role: ImageRole) -> ImageInput:
    """Return what takes the place of an attached image in the request until it is read."""
    size = (attachment.width, attachment.height) if isinstance(attachment, discord.Attachment) else (None, None)
    return ImageInput(
        sha256="", role=role, content_type="image/png", width=size[0] or TYPICAL_SIDE, height=size[1] or TYPICAL_SIDE
    )


def _numbered_request(request: JobRequest, images: tuple[ImageInput, ...], number: int) -> JobRequest:
    """Return the request for image `number` of a command. A given seed counts up, or all images would be equal."""
    options = dict(request.options)
    if number and isinstance(seed := options.get("seed"), int):
        options["seed"] = seed + number
    return replace(request, options=options, images=images)
