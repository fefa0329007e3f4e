"""Upscale: a finished picture ordered once more, larger, by the least expensive model that may do it.

The button on a card says the price of that moment. Where it is more by now, or the card has several pictures, a press
asks first: a button for each picture, with its price.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import discord
from discord import ui

from bot.catalogue.models import Model
from bot.catalogue.quotes import Quote
from bot.domain.jobs import ImageInput, ImageRole, Job, JobKind, JobRequest, JobStatus, Reply, ResultImage
from bot.domain.quota import format_usd
from bot.service.job_service import JobService
from cogs.generate.job_buttons import FETCH_SECONDS, pressed_reply
from cogs.generate.order_flow import OrderFlow
from cogs.generate.permissions import permissions_of, place_in
from cogs.text import words
from cogs.ui import card, components
from cogs.ui.attachments import PostedFile, files_of
from cogs.ui.checks import require_server
from cogs.ui.client import Interaction
from cogs.ui.components import Component, Layout
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import respond_privately

LARGEST_SIDE_PIXELS = 4096
"""An input picture is made no larger than this, so one that is larger would gain little or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A picture that can be made larger, counted from 1 on its card, and the order that does it."""

    number: int
    job: Job
    image: ResultImage
    quote: Quote


def offers(service: JobService, reply: Reply, permits: Callable[[Model], bool]) -> list[Offer]:
    """The pictures of a reply that a permitted model with a known price can make larger."""
    made = [(job, image) for job in reply.jobs if job.status is JobStatus.SUCCEEDED for image in job.images]
    found: list[Offer] = []
    for number, (job, image) in enumerate(made, start=1):
        quote = service.cheapest(_request(job, image), permits=permits)
        if quote is not None and max(image.width, image.height) <= LARGEST_SIDE_PIXELS:
            found.append(Offer(number=number, job=job, image=image, quote=quote))
    return found


def least_usd_micros(found: list[Offer]) -> int | None:
    """The price on a button that stands for all of them."""
    return min((offer.quote.amount_usd_micros for offer in found), default=None)


class Upscales:
    """What cards offer."""

    def __init__(self, *, client: discord.Client, service: JobService) -> None:
        self._client = client
        self._service = service

    async def price(self, reply: Reply) -> int | None:
        """The least that an upscale costs whoever ordered, in the card's own place; None where none can be had."""
        address = reply.address
        policy = await self._service.store.policy(address.guild_id)
        place = place_in(self._client.get_guild(address.guild_id), address.channel_id)

        # That pictures are made in this channel is not asked again: this one was.
        def permits(model: Model) -> bool:
            allowed = policy.model_verdict(model.id, reply.role_ids).allowed
            return allowed and (place.age_restricted or not policy.is_age_restricted(model.id))

        return least_usd_micros(offers(self._service, reply, permits))


class UpscaleButton(DynamicComponent, ui.DynamicItem[ui.Button[Any]], template=card.UPSCALE_ID):
    """Under a card for whichever picture it has, and in the question for each of several."""

    order_flow: OrderFlow

    def __init__(self, job_id: str, number: int, amount_usd_micros: int) -> None:
        super().__init__(ui.Button(custom_id=card.upscale_id(job_id, number, amount_usd_micros)))
        self._job_id = job_id
        self._number = number
        self._amount_usd_micros = amount_usd_micros

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["job_id"], int(match["number"]), int(match["amount"]))

    async def handle(self, interaction: Interaction) -> None:
        """Order it, ask which one, or say why not."""
        reply = await pressed_reply(self.order_flow, interaction, self._job_id)
        if reply is None:
            return
        require_server(interaction)
        if self.order_flow.presses.is_double(interaction):
            await interaction.response.defer()
            return
        permissions = await permissions_of(self.order_flow.service, interaction)
        found = offers(self.order_flow.service, reply, permissions.permits)
        wanted = [offer for offer in found if self._number in (card.ANY_PICTURE, offer.number)]
        if not wanted:
            await respond_privately(interaction, card.refused(words.UPSCALE_NOT_POSSIBLE()))
        elif len(wanted) > 1:
            await respond_privately(interaction, _question(words.UPSCALE_WHICH(), reply, wanted))
        elif wanted[0].quote.amount_usd_micros > self._amount_usd_micros:
            await respond_privately(interaction, _question(words.DEARER(), reply, wanted))
        else:
            await self._order(interaction, reply, wanted[0])

    async def _order(self, interaction: discord.Interaction[Any], reply: Reply, offer: Offer) -> None:
        """At the cost of whoever pressed."""
        image, private = offer.image, reply.address.private
        as_made = replace(_request(offer.job, image), user_id=interaction.user.id, model_id=offer.quote.model.id)
        if await self.order_flow.service.blob_store.get(image.sha256) is not None:
            await self.order_flow.order(interaction, as_made, private=private)
        elif (file := await self._posted(interaction, reply, image)) is not None:
            order, source = replace(as_made, images=()), (file, ImageRole.SOURCE)
            await self.order_flow.order(interaction, order, attachments=[source], private=private)
        else:
            await respond_privately(interaction, card.refused(words.HISTORY_PICTURE_GONE()))

    async def _posted(
        self, interaction: discord.Interaction[Any], reply: Reply, image: ResultImage
    ) -> PostedFile | None:
        """The picture as Discord has it: in this very message, else in that of the reply."""
        here = files_of(interaction.message) if interaction.message else []
        found = {file.id: file for file in here}
        if image.attachment_id not in found:
            there = await self.order_flow.files_of(reply, within_seconds=FETCH_SECONDS)
            found |= {file.id: file for file in there or ()}
        return found.get(image.attachment_id or 0)


def _question(text: str, reply: Reply, wanted: list[Offer]) -> Layout:
    """Each picture at its price of now."""
    buttons: list[Component] = []
    for offer in wanted:
        price = offer.quote.amount_usd_micros
        amount = format_usd(price)
        several = words.PICTURE_PRICE(number=offer.number, amount=amount)
        label = several if len(wanted) > 1 else words.UPSCALE_PRICE(amount=amount)
        buttons.append(components.button(label, card.upscale_id(reply.jobs[0].id, offer.number, price)))
    return card.question(text, *buttons)


def _request(job: Job, image: ResultImage) -> JobRequest:
    """The order for a picture as it was made, at a model still to be chosen."""
    source = ImageInput(
        sha256=image.sha256,
        role=ImageRole.SOURCE,
        content_type=image.content_type,
        width=image.width,
        height=image.height,
    )
    return replace(job.request, kind=JobKind.UPSCALE, model_id="", options={}, images=(source,))


def install(client: discord.Client, order_flow: OrderFlow) -> None:
    """Answer these buttons from now on, whatever message they sit under."""
    UpscaleButton.order_flow = order_flow
    client.add_dynamic_items(UpscaleButton)
