"""Autocomplete: what fits while somebody is typing. Answers come from memory; values are checked again later.

Discord: at most 25 choices, names and values of 1 to 100 characters. Autocomplete runs without command checks, so
nothing in here reveals more than the catalogue and what whoever types has left.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import discord
from discord import app_commands

from bot.catalogue.models import Model
from bot.domain.errors import StoreError, UnknownModel
from bot.domain.jobs import JobKind
from bot.domain.quota import Member, format_usd
from bot.service.job_service import JobService
from cogs.generate.order_flow import OrderFlow
from cogs.generate.permissions import permissions_of
from cogs.text import spending, words

MAX_CHOICES = 25
MAX_NAME_CHARACTERS = 100

BOOKS_SECONDS = 0.02
"""Reading what is left takes a fraction of a millisecond, unless somebody's report is just being added up before it."""

Choices = list[app_commands.Choice[str]]


async def models(service: JobService, interaction: discord.Interaction[Any], text: str, *, kind: JobKind) -> Choices:
    """Models for a command that may be used here and that the member can pay: `Nano Banana 2 · $0.08`.

    What costs more than is left comes last, and only when it was looked for or there is nothing else; it says so.
    """
    permissions = await permissions_of(service, interaction)
    found = service.catalogue.search(text, kind=kind, providers=service.providers)
    priced = [(model.starting_usd_micros or 0, model) for model in found if permissions.permits(model)]
    left = await _left(service, interaction, permissions.role_ids)
    named = [(label(model), model) for price, model in priced if left is None or price <= left]
    if left is not None and (text.strip() or not named):
        over = sorted((pair for pair in priced if pair[0] > left), key=lambda pair: pair[0])
        named += [(_over_label(model, left), model) for _, model in over]
    return [app_commands.Choice(name=name, value=model.id) for name, model in named[:MAX_CHOICES]]


async def _left(service: JobService, interaction: discord.Interaction[Any], role_ids: tuple[int, ...]) -> int | None:
    """What whoever types may still spend. None for no limit, and when the books do not say so at once."""
    member = Member(guild_id=interaction.guild_id or 0, user_id=interaction.user.id, role_ids=role_ids)
    default = service.limits.default_quota
    try:
        async with asyncio.timeout(BOOKS_SECONDS):
            balance = await service.store.balance(member, default=default, now=datetime.now(UTC))
    except (TimeoutError, StoreError):
        return None
    return balance.available_usd_micros


def any_models(service: JobService, text: str) -> Choices:
    """Everything in the catalogue, for looking things up."""
    kinds = (JobKind.IMAGINE, JobKind.EDIT, JobKind.UPSCALE)
    found = {
        model.id: model
        for kind in kinds
        for model in service.catalogue.search(text, kind=kind, providers=service.providers)
    }
    return [app_commands.Choice(name=label(model), value=model.id) for model in list(found.values())[:MAX_CHOICES]]


def models_and_patterns(service: JobService, text: str) -> Choices:
    """For rules: everything of a provider or vendor (`krea/openai/*`), then single models."""
    wanted = text.strip().casefold()
    sizes = Counter(f"{folder}/*" for model in service.catalogue.models for folder in _folders(model.id))
    patterns = [
        app_commands.Choice(name=f"{pattern} · {spending.MODELS(count)}", value=pattern)
        for pattern, count in sorted(sizes.items())
        if wanted in pattern
    ]
    return [*patterns, *any_models(service, text)][:MAX_CHOICES]


def _folders(model_id: str) -> list[str]:
    parts = model_id.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def plain(texts: Iterable[str]) -> Choices:
    """Texts that stand for themselves."""
    return [app_commands.Choice(name=text, value=text) for text in texts][:MAX_CHOICES]


def label(model: Model) -> str:
    """Name and price of the plainest order."""
    price = model.starting_usd_micros
    name = model.label if price is None else f"{model.label} · {format_usd(price)}"
    return words.shorten(name, MAX_NAME_CHARACTERS)


def _over_label(model: Model, left_usd_micros: int) -> str:
    """Name, price, and that it is more than what is left."""
    mark = words.OVER_WHAT_IS_LEFT(amount=format_usd(left_usd_micros))
    return f"{words.shorten(label(model), MAX_NAME_CHARACTERS - len(mark) - 3)} · {mark}"


async def styles(order_flow: OrderFlow, interaction: discord.Interaction[Any], text: str) -> Choices:
    """Public styles for the model chosen so far: the title is read, the id is sent."""
    model = await _chosen_model(order_flow, interaction, JobKind.IMAGINE)
    if model is None or not model.accepts("style"):
        return []
    found = order_flow.service.styles.search(text, families=model.style_families)
    usable = [style for style in found if len(style.id) <= MAX_NAME_CHARACTERS]
    return [
        app_commands.Choice(name=words.shorten(style.title, MAX_NAME_CHARACTERS), value=style.id)
        for style in usable[:MAX_CHOICES]
    ]


async def values(
    order_flow: OrderFlow, interaction: discord.Interaction[Any], option: str, text: str, *, kind: JobKind
) -> Choices:
    """What the model chosen so far takes for `option`, narrowed by what was typed."""
    model = await _chosen_model(order_flow, interaction, kind)
    if model is None:
        return []
    return [
        app_commands.Choice(name=_value_label(model, option, value), value=value)
        for value in _matching(model.choices(option), text)[:MAX_CHOICES]
    ]


async def _chosen_model(order_flow: OrderFlow, interaction: discord.Interaction[Any], kind: JobKind) -> Model | None:
    """The model of the command as it stands, or the one it gets when none is named; None for one nobody knows."""
    model_id = getattr(interaction.namespace, "model", None) or await order_flow.default_model_for(interaction, kind)
    try:
        return order_flow.service.catalogue.get(model_id)
    except UnknownModel:
        return None


def _matching(choices: Iterable[str], text: str) -> list[str]:
    """Those with what was typed in them; `16x9` and `16 9` find `16:9`."""
    wanted = text.strip().casefold()
    exact = [choice for choice in choices if wanted in choice.casefold()]
    return exact or [choice for choice in choices if _bare(wanted) and _bare(wanted) in _bare(choice.casefold())]


def _bare(text: str) -> str:
    return re.sub(r"[^a-wyz0-9.]", "", text)


def _value_label(model: Model, option: str, value: str) -> str:
    """The value, with its price where it alone decides the price: `4K · $0.16`."""
    prices = {point.usd_micros for point in model.prices if option in point.when and str(point.when[option]) == value}
    return f"{value} · {format_usd(prices.pop())}" if len(prices) == 1 else value
