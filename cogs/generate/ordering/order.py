"""Order: what a command, form or button asks the order flow for, before it is checked or priced.

`with_own_settings` completes it with a preset and the member's defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import discord

from bot.catalogue.order_text import Options, OptionValue, Template
from bot.domain.errors import UnknownPreset
from bot.domain.jobs import ImageInput, ImageRole, JobKind, JobRequest
from bot.domain.presets import MemberDefaults, Preset, name_key
from bot.service.job_service import JobService
from cogs.generate.ordering.permissions import Permissions, default_model
from cogs.text.locale import get_locale, option_name
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


def in_canonical_names(service: JobService, order: Order) -> Order:
    """Return the order with what was typed about its options in the names that models know.

    Members see the options in their language and may type those names.
    """
    if order.additions is None:
        return order
    names = service.catalogue.translated_names(get_locale(), option_name)
    return replace(
        order,
        request=replace(order.request, prompt=names.prompt(order.request.prompt)),
        additions=replace(order.additions, more=names.more(order.additions.more)),
    )


async def with_own_settings(
    service: JobService, order: Order, own: MemberDefaults, *, permissions: Permissions
) -> Order:
    """Return the order with a model, with what its preset adds and with the member's defaults. Raises UnknownPreset.

    The command's own model wins over the preset's, that one over the member's default, that one over the server's. A
    default that has become impossible is left out: nobody typed it.
    """
    request, additions = order.request, order.additions
    if additions is None or not additions.uses_own_settings:
        if request.model_id != DEFAULT_MODEL:
            return order
        return order.with_model(default_model(service, permissions.policy, request.kind))
    preset = await _preset(service, request, additions.preset_name, own)
    model_id = request.model_id or (preset and preset.model_id) or own_model(service, own, request.kind, permissions)
    request = replace(request, model_id=model_id or default_model(service, permissions.policy, request.kind))
    template = None if preset is None else template_of(service, preset, request)
    additions = replace(additions, template=template, defaults=own.options)
    return replace(
        order,
        request=request,
        additions=additions,
        preset_name=preset and preset.name,
        preset_image=None if preset is None else _image_of(preset, request.kind),
    )


def _image_of(preset: Preset, kind: JobKind) -> ImageInput | None:
    """Return the image that a preset adds to an order of this kind."""
    if preset.reference is None or kind is JobKind.UPSCALE:
        return None
    return preset.reference if kind is JobKind.IMAGINE else replace(preset.reference, role=ImageRole.SOURCE)


def template_of(service: JobService, preset: Preset, request: JobRequest) -> Template:
    """Return what a preset adds to an order, its options read for the order's model. Raises UnknownModel, BadOption."""
    blank = replace(request, prompt="", options={}, images=())
    options = service.expand(blank, more=preset.more).options
    return Template(options=options, before=preset.words_before, after=preset.words_after)


async def _preset(service: JobService, request: JobRequest, typed: str | None, own: MemberDefaults) -> Preset | None:
    """Find the preset that was typed, else the member's default one."""
    name = typed or own.preset_name
    if not name:
        return None
    found = await service.store.presets_of(guild_id=request.guild_id, user_id=request.user_id)
    preset = next((preset for preset in found if name_key(preset.name) == name_key(name)), None)
    if preset is None and typed:
        raise UnknownPreset(typed)
    return preset


def own_model(service: JobService, own: MemberDefaults, kind: JobKind, permissions: Permissions) -> str | None:
    """Return the member's default model where it can be ordered with this command in this channel."""
    model = service.catalogue.find(own.model_id or "")
    if model is None or not model.orderable or model.provider not in service.providers:
        return None
    return model.id if model.supports(kind) and permissions.permits(model) else None
