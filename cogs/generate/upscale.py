"""Upscale: order a finished image again, larger, from the least expensive permitted model.

The button of a card says the price at the time. If the price has risen or the card has several images, a click asks
first, with a button for each image and its price.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import discord
from discord import ui

from bot.catalogue.models import Model
from bot.catalogue.quotes import Quote
from bot.domain.jobs import ImageInput, ImageRole, Job, JobKind, JobRequest, JobStatus, Reply, ResultImage
from bot.domain.money.quota import format_usd
from bot.service.job_service import JobService
from cogs.generate.job_buttons import FETCH_TIMEOUT_SECONDS, clicked_reply
from cogs.generate.ordering.permissions import channel_context, permissions_of
from cogs.text import formatting, job_card, member_pages
from cogs.ui import card, card_buttons, components
from cogs.ui.attachments import PostedFile, files_of
from cogs.ui.checks import require_account_of
from cogs.ui.client import Interaction
from cogs.ui.components import Component, Layout
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import respond_privately

MAX_SIDE_PIXELS = 4096
"""No upscaler makes a side longer than this, so a larger image would gain little or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """An image that can be made larger, its number on the card (from 1), and the quote for it."""

    number: int
    job: Job
    image: ResultImage
    quote: Quote


def offers(service: JobService, reply: Reply, permits: Callable[[Model], bool]) -> list[Offer]:
    """List the images of a reply that a permitted model with a known price can make larger."""
    made = [(job, image) for job in reply.jobs if job.status is JobStatus.SUCCEEDED for image in job.images]
    found: list[Offer] = []
    for number, (job, image) in enumerate(made, start=1):
        quote = service.cheapest(_request(job, image), permits=permits)
        if quote is not None and max(image.width, image.height) <= MAX_SIDE_PIXELS:
            found.append(Offer(number=number, job=job, image=image, quote=quote))
    return found


def least_usd_micros(found: list[Offer]) -> int | None:
    """Return the lowest price, for one button that stands for all images; None if there are none."""
    return min((offer.quote.amount_usd_micros for offer in found), default=None)


class UpscalePrices:
    """Prices of the upscale buttons on finished cards."""

    def __init__(self, *, client: discord.Client, service: JobService) -> None:
        self._client = client
        self._service = service

    async def price(self, reply: Reply) -> int | None:
        """Return the lowest price of an upscale for the requester in the card's channel; None if none is possible."""
        address = reply.address
        policy = await self._service.store.policy(address.guild_id)
        channel = channel_context(self._client.get_guild(address.guild_id), address.channel_id)

        # Whether the channel permits images is not checked again: it permitted this one.
        def permits(model: Model) -> bool:
            allowed = policy.model_verdict(model.id, reply.role_ids).allowed
            is_restricted = model.age_restricted or policy.is_age_restricted(model.id)
            return allowed and (channel.age_restricted or not is_restricted)

        return least_usd_micros(offers(self._service, reply, permits))


class UpscaleButton(DynamicComponent[ui.Button[Any]], template=card_buttons.UPSCALE_ID):
    """The upscale button: one on a card, and one for each image in the question which image to upscale."""

    async def handle(self, interaction: Interaction) -> None:
        """Order the upscale, ask which image, or say why it is not possible."""
        reply = await clicked_reply(interaction, self._match["job_id"], action="upscale")
        if reply is None:
            return
        if reply.deleted_at is not None:
            await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
            return
        require_account_of(interaction, reply)
        if interaction.client.click_debouncer.is_double(interaction):
            await interaction.response.defer()
            return
        permissions = await permissions_of(interaction.client.service, interaction)
        found = offers(interaction.client.service, reply, permissions.permits)
        number = int(self._match["number"])
        wanted = [offer for offer in found if number in (card_buttons.ANY_IMAGE, offer.number)]
        if not wanted:
            await respond_privately(interaction, card.refused(job_card.UPSCALE_NOT_POSSIBLE()))
        elif len(wanted) > 1:
            await respond_privately(
                interaction, _question(interaction.client.service, job_card.UPSCALE_WHICH(), reply, wanted)
            )
        elif wanted[0].quote.amount_usd_micros > int(self._match["amount"]):
            await respond_privately(
                interaction, _question(interaction.client.service, job_card.DEARER(), reply, wanted)
            )
        else:
            await self._order(interaction, reply, wanted[0])

    async def _order(self, interaction: Interaction, reply: Reply, offer: Offer) -> None:
        """Order at the cost of the member who clicked."""
        image, private = offer.image, reply.address.private
        as_made = replace(_request(offer.job, image), user_id=interaction.user.id, model_id=offer.quote.model.id)
        if await interaction.client.service.blob_store.get(image.sha256) is not None:
            await interaction.client.order_flow.submit(interaction, as_made, private=private)
        elif (file := await posted_file(interaction, reply, image)) is not None:
            source = (file, ImageRole.SOURCE)
            await interaction.client.order_flow.submit(interaction, as_made, attachments=[source], private=private)
        else:
            await respond_privately(interaction, card.refused(member_pages.HISTORY_PICTURE_GONE()))


async def posted_file(interaction: Interaction, reply: Reply, image: ResultImage) -> PostedFile | None:
    """Find the image among the files of the clicked message, else of the reply's message."""
    files = {file.id: file for file in files_of(interaction.message)} if interaction.message else {}
    if image.attachment_id not in files:
        posted = await interaction.client.messages.files_of_reply(reply, timeout_seconds=FETCH_TIMEOUT_SECONDS)
        files |= {file.id: file for file in posted or ()}
    return files.get(image.attachment_id or 0)


def _question(service: JobService, text: str, reply: Reply, wanted: list[Offer]) -> Layout:
    """Lay out the question with a button for each image at its current price."""
    buttons: list[Component] = []
    for offer in wanted:
        price = offer.quote.amount_usd_micros
        amount = format_usd(price)
        several = job_card.PICTURE_PRICE(number=offer.number, amount=amount)
        if reply.is_comparison:
            made_by = service.model_label(offer.job.request.model_id)
            several = formatting.shorten(f"{several} · {made_by}", card_buttons.LABEL_CHARACTERS)
        label = several if len(wanted) > 1 else job_card.UPSCALE_PRICE(amount=amount)
        buttons.append(components.button(label, card_buttons.upscale_id(reply.jobs[0].id, offer.number, price)))
    return card.question(text, *buttons)


def _request(job: Job, image: ResultImage) -> JobRequest:
    """Return the request for an upscale of the stored image, without a model yet."""
    source = ImageInput(
        sha256=image.sha256,
        role=ImageRole.SOURCE,
        content_type=image.content_type,
        width=image.width,
        height=image.height,
    )
    return replace(job.request, kind=JobKind.UPSCALE, model_id="", options={}, images=(source,))
