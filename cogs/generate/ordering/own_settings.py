"""Own settings: the preset and the member's defaults that complete an order before it is expanded."""

from __future__ import annotations

from dataclasses import replace

from bot.catalogue.order_text import Template
from bot.domain.errors import UnknownPreset
from bot.domain.jobs import ImageInput, ImageRole, JobKind, JobRequest
from bot.domain.presets import MemberDefaults, Preset, name_key
from bot.service.job_service import JobService
from cogs.generate.ordering.order import DEFAULT_MODEL, Order
from cogs.generate.ordering.permissions import Permissions


async def with_own_settings(
    service: JobService, order: Order, own: MemberDefaults, *, permissions: Permissions, default_model_id: str
) -> Order:
    """Return the order with a model, with what its preset adds and with the member's defaults. Raises UnknownPreset.

    The command's own model wins over the preset's, that one over the member's default, that one over the server's. A
    default that has become impossible is left out: nobody typed it.
    """
    request, additions = order.request, order.additions
    if additions is None or not additions.uses_own_settings:
        return order if request.model_id != DEFAULT_MODEL else order.with_model(default_model_id)
    preset = await _preset(service, request, additions.preset_name, own)
    model_id = request.model_id or (preset and preset.model_id) or _own_model(service, request, own, permissions)
    request = replace(request, model_id=model_id or default_model_id)
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


def _own_model(service: JobService, request: JobRequest, own: MemberDefaults, permissions: Permissions) -> str | None:
    """Return the member's default model where it can be ordered with this command in this channel."""
    model = service.catalogue.find(own.model_id or "")
    if model is None or not model.orderable or model.provider not in service.providers:
        return None
    return model.id if model.supports(request.kind) and permissions.permits(model) else None
