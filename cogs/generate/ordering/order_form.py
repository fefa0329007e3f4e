"""Order form: what edit and Remix forms share: a prompt, and a model chosen by its price before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import discord
from discord import ui

from bot.catalogue.order_text import MAX_MORE_CHARACTERS
from bot.domain.constraints import Text
from bot.domain.errors import BadOption, RequestRefused
from bot.domain.jobs import JobRequest
from bot.domain.money.quota import format_usd
from bot.service.job_service import JobService
from cogs.generate.ordering.order import Order
from cogs.generate.ordering.permissions import Permissions, default_model
from cogs.text import formatting, job_card, refusals
from cogs.text.locale import MAX_CHOICE_CHARACTERS
from cogs.ui.client import Interaction
from cogs.ui.error_handler import Form
from cogs.ui.typed_command import PROMPT, typed_command

MAX_MODELS = 25
"""Options of a select."""

PROMPT_CHARACTERS = 4_000
"""Discord's limit of a text input in a modal."""

FORM_TIMEOUT_SECONDS = 15 * 60.0
_ANY_PROMPT = "an image of something"
"""Stands in for a prompt that is yet to be typed: no price depends on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelChoice:
    """A model that the form offers, and what the order costs with it."""

    request: JobRequest
    """The order for this model, without the options that it does not take."""
    label: str
    amount_usd_micros: int

    @property
    def text(self) -> str:
        """The words in the select: `Nano Banana 2 · $0.08`."""
        price = f" · {format_usd(self.amount_usd_micros)}"
        return formatting.shorten(self.label, MAX_CHOICE_CHARACTERS - len(price)) + price


def model_choices(service: JobService, permissions: Permissions, order: Order) -> list[ModelChoice]:
    """List the models that the member may use for an order, the one it names first, else the default one."""
    request = replace(order.requests()[0], prompt=order.request.prompt.strip() or _ANY_PROMPT)
    found: dict[str, ModelChoice] = {}
    for model in service.offered():
        if model.supports(request.kind) and permissions.permits(model):
            fitted = fitting(service, replace(request, model_id=model.id))
            if fitted is not None:
                amount = service.quote(fitted).amount_usd_micros
                found[model.id] = ModelChoice(request=fitted, label=model.label, amount_usd_micros=amount)
    wanted = (order.request.model_id, default_model(service, permissions.policy, order.request.kind))
    first = next((model_id for model_id in wanted if model_id in found), None)
    ordered = sorted(found, key=lambda model_id: model_id != first)  # stable: the others keep the catalogue's order
    return [found[model_id] for model_id in ordered[:MAX_MODELS]]


def too_long(form: str, *, prompt: str, more: str) -> str:
    """Return why a form of that name cannot be filled in with a prompt and options; '' if it can.

    Cut texts would be ordered as they are.
    """
    for option, text, limit in (("prompt", prompt, PROMPT_CHARACTERS), ("more", more, MAX_MORE_CHARACTERS)):
        if len(text) > limit:
            fits = Text(max_characters=limit)
            return refusals.refusal(
                BadOption(option=option, model_label=form, reason="wrong_length", constraint=fits, length=len(text))
            )
    return ""


def fitting(service: JobService, request: JobRequest) -> JobRequest | None:
    """Return the order without the options that its model does not take; None if it is not possible even so."""
    for _ in range(len(request.options) + 1):
        try:
            service.quote(request)
        except BadOption as error:
            if error.option not in request.options:
                return None
            options = {name: value for name, value in request.options.items() if name != error.option}
            request = replace(request, options=options)
        except RequestRefused:
            return None
        else:
            return request
    return None


class OrderForm(Form):
    """A form with a prompt and a select of models with prices. Subclasses add what else they ask for."""

    def __init__(self, *, title: str, prompt_label: str, prompt: str, choices: Sequence[ModelChoice]) -> None:
        super().__init__(title=title, timeout=FORM_TIMEOUT_SECONDS)
        self._choices = {choice.request.model_id: choice for choice in choices}
        self._prompt: ui.TextInput[OrderForm] = ui.TextInput(
            style=discord.TextStyle.paragraph,
            max_length=PROMPT_CHARACTERS,
            custom_id=PROMPT,
            default=prompt or None,
        )
        self.add_item(ui.Label(text=prompt_label, component=self._prompt))
        self._model: ui.Select[OrderForm] = ui.Select(
            custom_id="model",
            required=False,  # without a choice it is the first one, which is chosen at the beginning
            options=[
                discord.SelectOption(label=choice.text, value=model_id, default=number == 0)
                for number, (model_id, choice) in enumerate(self._choices.items())
            ],
        )

        self._more: ui.TextInput[OrderForm] = ui.TextInput(
            custom_id="more",
            required=False,
            style=discord.TextStyle.paragraph,  # a single line would lose the line breaks of a value
            max_length=MAX_MORE_CHARACTERS,
        )

    def add_model_select(self) -> None:
        """Add the select of models at this place of the form."""
        label = ui.Label(text=job_card.FORM_MODEL(), description=job_card.FORM_MODEL_HINT(), component=self._model)
        self.add_item(label)

    def add_more(self, written: str) -> None:
        """Add the input of options, filled in with those that are `written`."""
        self._more.default = written or None
        self.add_item(ui.Label(text=job_card.FORM_MORE(), description=job_card.FORM_MORE_HINT(), component=self._more))

    @property
    def chosen(self) -> ModelChoice:
        """The chosen model; the first one if Discord sent none that was offered."""
        model_id = next(iter(self._model.values), "")
        return self._choices.get(model_id) or next(iter(self._choices.values()))

    async def order(self, interaction: discord.Interaction[Any], order: Order) -> None:
        """Order for the chosen model, at most at the price that the form showed."""
        agreed = replace(order, agreed_usd_micros=self.chosen.amount_usd_micros)
        client: Interaction = interaction
        await client.client.order_flow.submit_order(client, agreed, typed=typed_command(interaction))
