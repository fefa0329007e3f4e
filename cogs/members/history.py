"""/history: a member's own images in this server, one command on each page, with newly fetched links.

Discord's links to files expire after a day, so none is stored: the files of the posted message are fetched each time.
If that fails (deleted, no permission, a private reply), the blob store may still have the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import discord
from discord import app_commands, ui
from discord.ext import commands

from bot.domain.errors import MediaError
from bot.domain.jobs import GalleryFilter, Job, Reply, ResultImage
from bot.service.job_service import JobService
from cogs.generate import upscale
from cogs.generate.ordering import autocomplete
from cogs.generate.ordering.permissions import permissions_of
from cogs.members import history_page
from cogs.text import formatting, job_card, member_pages
from cogs.ui import card
from cogs.ui.attachments import upload
from cogs.ui.checks import account_of, requester_of
from cogs.ui.client import Interaction
from cogs.ui.components import Layout, View
from cogs.ui.discord_api.message_api import NO_MENTIONS, MessageApi
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import respond_privately

FETCH_SECONDS = 5.0


class History(commands.Cog):
    """The command /history, which shows a member's own images without cost."""

    def __init__(self, *, service: JobService, messages: MessageApi) -> None:
        self._service = service
        self._messages = messages

    @app_commands.command(description="See the images you have made here")
    @app_commands.describe(
        words="Only images with these words in their prompt",
        model="Only images made with this model",
        favourites="Only your favourites",
    )
    @app_commands.autocomplete(model=autocomplete.any_models)
    @app_commands.guild_only()
    async def history(
        self,
        interaction: discord.Interaction[Any],
        words: app_commands.Range[str, 1, history_page.WORDS_CHARACTERS] | None = None,
        model: str | None = None,
        favourites: bool = False,
    ) -> None:
        """Show the newest page, privately."""
        account_of(interaction)
        with self._service.heavy_work.page(requester_of(interaction)):
            await interaction.response.defer(ephemeral=True, thinking=True)
            known = None if model is None else self._service.catalogue.find(model)
            chosen = GalleryFilter(
                model_id=model if known is None else known.id,
                words=" ".join((words or "").split()),
                favourites=favourites,
            )
            await HistoryPage(self._service, self._messages, interaction).show(chosen)


class HistoryButton(DynamicComponent[ui.Button[Any]], template=history_page.CUSTOM_ID):
    """'Newer', 'Older' and 'Favourite': the custom id has the page to show, its member, and what was chosen."""

    async def handle(self, interaction: Interaction) -> None:
        """Show the page that the custom id names, after marking it where that is asked."""
        account_of(interaction)
        target, client = history_page.target_of(self._match), interaction.client
        if interaction.user.id != target.user_id:
            await respond_privately(interaction, card.refused(member_pages.HISTORY_NOT_YOURS()))
            return
        with client.service.heavy_work.page(requester_of(interaction)):
            await interaction.response.defer()
            if target.marks is not None:
                await client.service.store.set_favourite(
                    target.reply_id, user_id=target.user_id, is_favourite=target.marks
                )
            model_id = None
            if target.one_model and (reply := await client.service.store.reply(target.reply_id)) is not None:
                model_id = reply.jobs[0].request.model_id
            chosen = GalleryFilter(model_id=model_id, words=target.words, favourites=target.favourites)
            is_gone = target.favourites and target.marks is False
            page = HistoryPage(client.service, client.messages, interaction)
            await page.show(chosen, reply_id=None if is_gone else target.reply_id)


class HistoryPage:
    """One page, which replaces the deferred response."""

    def __init__(self, service: JobService, messages: MessageApi, interaction: discord.Interaction[Any]) -> None:
        self._service = service
        self._messages = messages
        self._interaction = interaction
        self._files: list[discord.File] = []

    async def show(self, chosen: GalleryFilter, *, reply_id: str | None = None) -> None:
        page = await self._service.store.gallery_page(
            account_of(self._interaction), self._interaction.user.id, chosen=chosen, reply_id=reply_id
        )
        if page is None:
            await self._edit(card.note(self._nothing(chosen, reply_id)))
            return
        labels = [self._service.model_label(job.request.model_id) for job in page.reply.jobs]
        images = await self._pictures(page.reply, labels)
        permissions = await permissions_of(self._service, self._interaction)
        found = upscale.offers(self._service, page.reply, permissions.permits)
        await self._edit(
            history_page.page_of(
                page,
                labels,
                [self._service.sent_options(job) for job in page.reply.jobs],
                images,
                chosen=chosen,
                upscale_usd_micros=upscale.least_usd_micros(found),
            )
        )

    async def _pictures(self, reply: Reply, model_labels: Sequence[str]) -> list[history_page.GalleryImage]:
        """Return each image, from Discord or from our own copy."""
        files = await self._messages.files_of_reply(reply, timeout_seconds=FETCH_SECONDS)
        links = {file.id: file.url for file in files or ()}
        found: list[history_page.GalleryImage] = []
        for job, label in zip(reply.jobs, model_labels, strict=True):
            alt_text = card.alt_text(job, model_label=label if reply.is_comparison else None)
            for index, image in enumerate(job.images):
                why = member_pages.HISTORY_UNREACHABLE if files is None else member_pages.HISTORY_PICTURE_GONE
                missing = why()
                url = links.get(image.attachment_id or 0)
                try:
                    url = url or await self._attach(job, index, image, alt_text)
                except MediaError as error:
                    if error.reason != "too_many_pixels" or not image.source_url:
                        raise
                    missing = job_card.TOO_LARGE_TO_SHOW(link=card.original_link(image.source_url))
                found.append(history_page.GalleryImage(url=url, alt_text=alt_text, missing="" if url else missing))
        return found

    async def _attach(self, job: Job, index: int, image: ResultImage, alt_text: str) -> str | None:
        """Attach our own copy and return its URL in the message, or None if there is no copy."""
        fitted = await self._service.image_for_upload(
            image, self._interaction.filesize_limit, requester=job.request.requester
        )
        if fitted is None:
            return None
        name = card.filename(job, index, fitted.extension)
        self._files.append(upload(fitted.data, name, alt_text))
        return f"attachment://{name}"

    async def _edit(self, layout: Layout) -> None:
        await self._interaction.edit_original_response(
            view=View(layout), attachments=self._files, allowed_mentions=NO_MENTIONS
        )

    def _nothing(self, chosen: GalleryFilter, reply_id: str | None) -> str:
        if reply_id is not None:
            return member_pages.HISTORY_PAGE_GONE()
        if chosen.words:
            return member_pages.HISTORY_NONE_WITH_WORDS(words=formatting.inline(chosen.words))
        if chosen.model_id is not None:
            model = formatting.inline(self._service.model_label(chosen.model_id))
            return member_pages.HISTORY_NONE_OF_MODEL(model=model)
        return member_pages.HISTORY_NO_FAVOURITES() if chosen.favourites else member_pages.HISTORY_EMPTY()
