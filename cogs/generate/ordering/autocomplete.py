"""Autocomplete: the choices that fit what a member types. The command checks every value again.

Discord: at most 25 choices, names and values of 1 to 100 characters. Autocomplete runs without command checks, so
choices reveal nothing but the catalogue and what the member who types has left.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import islice
from typing import Any, Concatenate, ParamSpec

from discord import app_commands

from bot.catalogue.models import Model
from bot.catalogue.parameters import attachment_names
from bot.domain.errors import StoreError
from bot.domain.jobs import JobKind
from bot.domain.money.quota import format_usd
from bot.domain.presets import MemberDefaults, Preset, name_key
from bot.service.job_service import JobService
from cogs.generate.ordering.more import price_of, style_lists, suggestions
from cogs.generate.ordering.order import own_model
from cogs.generate.ordering.permissions import Permissions, default_model, permissions_of
from cogs.text import formatting, spending
from cogs.text.locale import get_locale, option_name
from cogs.ui.checks import NotAllowed, member_of, server_of, server_or_direct
from cogs.ui.client import Interaction

MAX_CHOICES = 25
MAX_NAME_CHARACTERS = 100

BALANCE_TIMEOUT_SECONDS = 0.02
"""Reading a balance takes a fraction of a millisecond unless a report is being computed before it."""

Choices = list[app_commands.Choice[str]]
Completion = Callable[[Interaction, str], Coroutine[Any, Any, Choices]]
"""What completes one option of a command: an argument of `app_commands.autocomplete`."""

P = ParamSpec("P")


def completion(
    suggest: Callable[Concatenate[Interaction, str, P], Coroutine[Any, Any, Choices]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Completion:
    """Return a completion of one of the functions below, with what it needs beside the interaction and the text."""

    async def complete(interaction: Interaction, text: str) -> Choices:
        return await suggest(interaction, text, *args, **kwargs)

    return complete


async def models(interaction: Interaction, text: str, kind: JobKind, *, uses_own_settings: bool = True) -> Choices:
    """List models that the member may order here and can pay: `Nano Banana 2 · $0.08`, the default one marked.

    Models that cost more than what is left come last, say so, and are listed only if the member typed a text or
    nothing else is left.
    """
    service, permissions = interaction.client.service, await permissions_of(interaction.client.service, interaction)
    # /edit also takes the models that only enlarge.
    kinds = (kind, JobKind.UPSCALE) if kind is JobKind.EDIT else (kind,)
    found = [
        model for each in kinds for model in service.catalogue.search(text, kind=each, providers=service.providers)
    ]
    priced = [(model.starting_usd_micros or 0, model) for model in found if permissions.permits(model)]
    left = await _available(service, interaction)
    usual = await usual_model(interaction, permissions, kind, uses_own_settings=uses_own_settings)
    named = [
        (label(model, is_default=model.id == usual), model) for price, model in priced if left is None or price <= left
    ]
    if left is not None and (text.strip() or not named):
        over = sorted((pair for pair in priced if pair[0] > left), key=lambda pair: pair[0])
        named += [(_over_label(model, left), model) for _, model in over]
    return [app_commands.Choice(name=name, value=model.id) for name, model in named[:MAX_CHOICES]]


async def _available(service: JobService, interaction: Interaction) -> int | None:
    """Return what the member may still spend; None for no limit, or if the database does not answer at once."""
    try:
        async with asyncio.timeout(BALANCE_TIMEOUT_SECONDS):
            spendable = await service.store.spendable(member_of(interaction), limits=service.limits, now=service.now())
    except (NotAllowed, TimeoutError, StoreError):
        return None
    return spendable.left_usd_micros


async def any_models(interaction: Interaction, text: str) -> Choices:
    """List every model that can be ordered, whatever the server's policy says."""
    return _listed(_found(interaction.client.service, text))


async def permitted_models(interaction: Interaction, text: str) -> Choices:
    """List the models that /models lists."""
    service = interaction.client.service
    permitted = permitted_of(service, await permissions_of(service, interaction))
    return _listed(model for model in _found(service, text) if model in permitted)


def permitted_of(service: JobService, permissions: Permissions) -> Sequence[Model]:
    """Return the models that the member may order here; where that is none at all, those of other channels."""
    offered = service.offered()
    return [model for model in offered if permissions.permits(model)] or offered


def _found(service: JobService, text: str) -> Iterable[Model]:
    """Return the models that can be ordered by any command and that fit what was typed."""
    kinds = (JobKind.IMAGINE, JobKind.EDIT, JobKind.UPSCALE)
    return {
        model.id: model
        for kind in kinds
        for model in service.catalogue.search(text, kind=kind, providers=service.providers)
    }.values()


def _listed(models: Iterable[Model]) -> Choices:
    return [app_commands.Choice(name=label(model), value=model.id) for model in islice(models, MAX_CHOICES)]


async def models_and_patterns(interaction: Interaction, text: str) -> Choices:
    """List patterns for rules, such as all models of a vendor (`krea/openai/*`), then single models."""
    wanted = text.strip().casefold()
    listed = interaction.client.service.catalogue.models
    sizes = Counter(f"{prefix}/*" for model in listed for prefix in _prefixes(model.id))
    patterns = [
        app_commands.Choice(name=f"{pattern} · {spending.MODELS(count)}", value=pattern)
        for pattern, count in sorted(sizes.items())
        if wanted in pattern
    ]
    return [*patterns, *await any_models(interaction, text)][:MAX_CHOICES]


def _prefixes(model_id: str) -> list[str]:
    parts = model_id.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def plain(texts: Iterable[str]) -> Choices:
    """List texts that are both name and value of their choice."""
    return [app_commands.Choice(name=text, value=text) for text in texts][:MAX_CHOICES]


def label(model: Model, *, is_default: bool = False) -> str:
    """Name a model with the price of its least expensive order."""
    price = model.starting_usd_micros
    name = model.label if price is None else f"{model.label} · {format_usd(price)}"
    return formatting.shorten(f"{name} · {spending.DEFAULT()}" if is_default else name, MAX_NAME_CHARACTERS)


def _over_label(model: Model, left_usd_micros: int) -> str:
    """Name a model with its price and that it is more than what is left."""
    mark = spending.OVER_WHAT_IS_LEFT(amount=format_usd(left_usd_micros))
    return f"{formatting.shorten(label(model), MAX_NAME_CHARACTERS - len(mark) - 3)} · {mark}"


async def styles(interaction: Interaction, text: str, *, uses_own_settings: bool = True) -> Choices:
    """List public styles for the model chosen so far, by title; the value is the id.

    After a plus or a colon, list texts with a further style or a strength, as `more` does.
    """
    service = interaction.client.service
    model = await _chosen_model(interaction, JobKind.IMAGINE, uses_own_settings=uses_own_settings)
    if model is None or not model.supports_option("style"):
        return []
    if "+" in text or ":" in text:
        lists = (each for each in style_lists(text, model, service.styles) if len(each) <= MAX_NAME_CHARACTERS)
        return plain(islice((each for each in lists if not each.rstrip().endswith(("+", ":"))), MAX_CHOICES))
    found = service.styles.search(text, families=model.style_families)
    usable = [style for style in found if len(style.id) <= MAX_NAME_CHARACTERS]
    return [
        app_commands.Choice(name=formatting.shorten(style.title, MAX_NAME_CHARACTERS), value=style.id)
        for style in usable[:MAX_CHOICES]
    ]


async def presets(interaction: Interaction, text: str) -> Choices:
    """List the names of the presets that the member can use here and that contain what was typed: own ones first."""
    guild_id = server_or_direct(interaction)
    found = await interaction.client.service.store.presets_of(guild_id=guild_id, user_id=interaction.user.id)
    return plain(names_of_presets(found, text)[:MAX_CHOICES])


def names_of_presets(found: Iterable[Preset], text: str) -> list[str]:
    """Return the names that contain what was typed; of presets that share one, the name of the first."""
    wanted = name_key(text)
    names = {name_key(preset.name): preset.name for preset in reversed(list(found))}
    return [name for key, name in reversed(names.items()) if wanted in key]


async def values(interaction: Interaction, text: str, option: str, kind: JobKind) -> Choices:
    """List the values of `option` that the model chosen so far takes and that contain what was typed."""
    model = await _chosen_model(interaction, kind)
    if model is None:
        return []
    return [
        app_commands.Choice(name=_value_label(model, option, value), value=value)
        for value in _matching(model.choices(option), text)[:MAX_CHOICES]
    ]


async def more(interaction: Interaction, text: str, kind: JobKind) -> Choices:
    """List what `more` can go on with, for the model chosen so far: `steps=25 · a whole number from 1 to 100`."""
    model = await _chosen_model(interaction, kind)
    if model is None:
        return []
    service, kind = interaction.client.service, kind_with(model, kind)
    text = service.catalogue.translated_names(get_locale(), option_name).more(text)
    attached = [name for name in attachment_names(kind) if getattr(interaction.namespace, name, None) is not None]
    found = suggestions(model, kind, text, attached=attached, styles=service.styles)
    return [app_commands.Choice(name=each.label, value=each.text) for each in islice(found, MAX_CHOICES)]


def kind_with(model: Model | None, kind: JobKind) -> JobKind:
    """Return what a command orders with the chosen model: /edit enlarges with a model that does nothing else."""
    only_enlarges = model is not None and model.supports(JobKind.UPSCALE) and not model.supports(JobKind.EDIT)
    return JobKind.UPSCALE if only_enlarges and kind is JobKind.EDIT else kind


async def _chosen_model(interaction: Interaction, kind: JobKind, *, uses_own_settings: bool = True) -> Model | None:
    """Return the model typed so far, else the one that an order without it is for; None for an unknown one."""
    service = interaction.client.service
    model_id = getattr(interaction.namespace, "model", None) or await usual_model(
        interaction, await permissions_of(service, interaction), kind, uses_own_settings=uses_own_settings
    )
    return service.catalogue.find(model_id)


async def usual_model(
    interaction: Interaction, permissions: Permissions, kind: JobKind, *, uses_own_settings: bool = True
) -> str:
    """Return the id of the model of the preset, else of the member's own default, else of the server's."""
    service = interaction.client.service
    own = await _own_defaults(service, interaction) if uses_own_settings else MemberDefaults()
    return (
        await _model_of_preset(service, interaction, own)
        or own_model(service, own, kind, permissions)
        or default_model(service, permissions.policy, kind)
    )


async def _own_defaults(service: JobService, interaction: Interaction) -> MemberDefaults:
    """Return what the member's orders begin with; nothing if the database does not answer at once."""
    guild_id = server_of(interaction)
    if guild_id is None:
        return MemberDefaults()
    try:
        async with asyncio.timeout(BALANCE_TIMEOUT_SECONDS):
            return await service.store.member_defaults(guild_id=guild_id, user_id=interaction.user.id)
    except (TimeoutError, StoreError):
        return MemberDefaults()


async def _model_of_preset(service: JobService, interaction: Interaction, own: MemberDefaults) -> str | None:
    """Return the model of the preset that was typed, else of the member's default one.

    None without a preset, or if the database does not answer at once.
    """
    typed = getattr(interaction.namespace, "preset", None) or own.preset_name
    if not typed:
        return None
    try:
        async with asyncio.timeout(BALANCE_TIMEOUT_SECONDS):
            found = await service.store.presets_of(guild_id=server_or_direct(interaction), user_id=interaction.user.id)
    except (TimeoutError, StoreError):
        return None
    return next((preset.model_id for preset in found if name_key(preset.name) == name_key(str(typed))), None)


def _matching(choices: Iterable[str], text: str) -> list[str]:
    """Return the choices that contain the text; `16x9` and `16 9` find `16:9`."""
    wanted = text.strip().casefold()
    exact = [choice for choice in choices if wanted in choice.casefold()]
    return exact or [choice for choice in choices if _bare(wanted) and _bare(wanted) in _bare(choice.casefold())]


def _bare(text: str) -> str:
    return re.sub(r"[^a-wyz0-9.]", "", text)


def _value_label(model: Model, option: str, value: str) -> str:
    """Name a value, with the price if the value alone decides it: `4K · $0.16`."""
    price = price_of(model, option, value)
    return value if price is None else f"{value} · {format_usd(price)}"
