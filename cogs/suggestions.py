"""Autocomplete: what fits while somebody is typing. Answers come from memory; values are checked again later.

Discord: at most 25 choices, names and values of 1 to 100 characters. Autocomplete runs without command checks, so
nothing in here reveals more than the catalogue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import discord
from discord import app_commands

from bot.errors import UnknownModel
from bot.jobs import JobKind
from bot.models import Model
from bot.quota import format_usd
from bot.service import JobService
from cogs import usage_words, words
from cogs.allowance import allowance_of
from cogs.desk import Desk

MOST_CHOICES = 25
LONGEST_NAME = 100

Choices = list[app_commands.Choice[str]]


async def models(service: JobService, interaction: discord.Interaction[Any], text: str, *, kind: JobKind) -> Choices:
    """Models for a command that may be used here, cheapest facts in the label: `Nano Banana 2 · $0.08`."""
    allowance = await allowance_of(service, interaction)
    found = service.catalogue.search(text, kind=kind, providers=service.providers)
    found = [model for model in found if allowance.permits(model)]
    return [app_commands.Choice(name=label(model), value=model.id) for model in found[:MOST_CHOICES]]


def any_models(service: JobService, text: str) -> Choices:
    """Everything in the catalogue, for looking things up."""
    kinds = (JobKind.IMAGINE, JobKind.EDIT, JobKind.UPSCALE)
    found = {
        model.id: model
        for kind in kinds
        for model in service.catalogue.search(text, kind=kind, providers=service.providers)
    }
    return [app_commands.Choice(name=label(model), value=model.id) for model in list(found.values())[:MOST_CHOICES]]


def models_and_patterns(service: JobService, text: str) -> Choices:
    """For rules: everything of a provider or vendor (`krea/openai/*`), then single models."""
    wanted = text.strip().casefold()
    sizes = Counter(f"{folder}/*" for model in service.catalogue.models for folder in _folders(model.id))
    patterns = [
        app_commands.Choice(name=f"{pattern} · {usage_words.MODELS(count)}", value=pattern)
        for pattern, count in sorted(sizes.items())
        if wanted in pattern
    ]
    return [*patterns, *any_models(service, text)][:MOST_CHOICES]


def _folders(model_id: str) -> list[str]:
    parts = model_id.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def plain(texts: Iterable[str]) -> Choices:
    """Texts that stand for themselves."""
    return [app_commands.Choice(name=text, value=text) for text in texts][:MOST_CHOICES]


def label(model: Model) -> str:
    """Name and price of the plainest order."""
    price = model.starting_usd_micros
    name = model.label if price is None else f"{model.label} · {format_usd(price)}"
    return words.shorten(name, LONGEST_NAME)


async def values(
    desk: Desk, interaction: discord.Interaction[Any], option: str, text: str, *, kind: JobKind
) -> Choices:
    """What the model chosen so far takes for `option`, narrowed by what was typed."""
    service = desk.service
    model_id = getattr(interaction.namespace, "model", None) or await desk.default_model_for(interaction, kind)
    try:
        model = service.catalogue.get(model_id)
    except UnknownModel:
        return []
    wanted = text.strip().casefold()
    fitting = [value for value in model.choices(option) if wanted in value.casefold()]
    return [
        app_commands.Choice(name=_value_label(model, option, value), value=value) for value in fitting[:MOST_CHOICES]
    ]


def _value_label(model: Model, option: str, value: str) -> str:
    """The value, with its price where it alone decides the price: `4K · $0.16`."""
    prices = {point.usd_micros for point in model.prices if option in point.when and str(point.when[option]) == value}
    return f"{value} · {format_usd(prices.pop())}" if len(prices) == 1 else value
