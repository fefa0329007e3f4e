"""/privacy: a member exports or erases their own data."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import aclosing
from typing import Any

import discord
from discord import app_commands, ui
from discord.ext import commands

from bot.domain.errors import StillUnderWay
from bot.domain.money.quota import Wallet
from bot.service.job_service import JobService
from cogs.members import usage_page
from cogs.members.export_file import ExportFile
from cogs.text import formatting, member_pages
from cogs.text.refusals import refusal
from cogs.ui import card, components
from cogs.ui.checks import requester_of
from cogs.ui.client import Interaction
from cogs.ui.components import Layout, View
from cogs.ui.discord_api.message_api import NO_MENTIONS
from cogs.ui.error_handler import DynamicComponent

_log = logging.getLogger(__name__)

CONFIRM_SECONDS = 600
"""Expiry of the question, because the amounts of data in it become outdated."""

CUSTOM_ID = re.compile(r"privacy:(?P<choice>erase|keep):(?P<user_id>\d{1,20}):(?P<asked_at>\d{1,12})")
"""`privacy:<erase or keep>:<who was asked>:<when, in seconds since 1970>`."""


class Privacy(commands.Cog):
    """The commands /privacy, in servers and in direct messages, because data belong to a person, not to a server."""

    group = app_commands.Group(name="privacy", description="Your own data: get a copy, or erase it")

    def __init__(self, service: JobService) -> None:
        self._service = service

    @group.command(name="export", description="Get everything kept about you as a file")
    async def export(self, interaction: discord.Interaction[Any]) -> None:
        """Send the member's data as a JSON file that only they see."""
        heavy_work = self._service.heavy_work
        with heavy_work.export(requester_of(interaction)):
            await interaction.response.defer(ephemeral=True, thinking=True)
            async with heavy_work.export_slot(requester_of(interaction)):
                await self._export(interaction)

    async def _export(self, interaction: discord.Interaction[Any]) -> None:
        with ExportFile(
            about=member_pages.EXPORT_ABOUT(),
            user_id=interaction.user.id,
            exported_at=self._service.now(),
            limit_bytes=interaction.filesize_limit,
        ) as file:
            async with aclosing(self._service.store.kept_about(interaction.user.id)) as parts:
                async for name, items in parts:
                    # A thread writes, so that neither packing nor a slow disk stops the event loop.
                    await asyncio.to_thread(file.add, name, items)
                    if file.is_too_large:
                        break
            finished = await asyncio.to_thread(file.finish)
            if finished is None:
                await _edit(interaction, card.refused(member_pages.EXPORT_TOO_LARGE()))
            else:
                filename, content = finished
                await _edit(interaction, export_page(filename), discord.File(content, filename))

    @group.command(name="delete", description="Erase what is kept about you; asks first")
    async def delete(self, interaction: discord.Interaction[Any]) -> None:
        """Show what is erased and what is kept, with buttons to confirm or to keep the data."""
        with self._service.heavy_work.erasure(requester_of(interaction)):
            await interaction.response.defer(ephemeral=True, thinking=True)
            footprint = await self._service.store.footprint(interaction.user.id)
            if footprint.under_way is not None:
                await _edit(interaction, card.refused(refusal(footprint.under_way)))
                return
            wallet = await self._service.store.wallet_of(interaction.user.id)
            question = ask_to_erase(
                commands=footprint.commands,
                images=footprint.images,
                servers=footprint.servers,
                wallet=wallet,
                user_id=interaction.user.id,
                asked_at=int(time.time()),
            )
            await _edit(interaction, question)


class EraseButton(DynamicComponent[ui.Button[Any]], template=CUSTOM_ID):
    """'Erase' and 'Keep' below the question. The custom id says who was asked and when."""

    async def handle(self, interaction: Interaction) -> None:
        """Replace the question by the result."""
        with interaction.client.service.heavy_work.page(requester_of(interaction)):
            await interaction.response.defer()
            await _edit(interaction, await self._answer(interaction))

    async def _answer(self, interaction: Interaction) -> Layout:
        user_id, asked_at = int(self._match["user_id"]), int(self._match["asked_at"])
        if interaction.user.id != user_id or not 0 <= time.time() - asked_at <= CONFIRM_SECONDS:
            return card.refused(member_pages.ERASE_STALE())
        if self._match["choice"] != "erase":
            return card.note(member_pages.ERASE_KEPT())
        service = interaction.client.service
        try:
            unneeded = await service.store.forget_member(user_id, now=service.now())
        except StillUnderWay as error:
            return card.refused(refusal(error))
        interaction.client.order_flow.kept_orders.forget(user_id)
        await interaction.client.service.remove_images(unneeded)
        _log.info("a member was forgotten on request")
        return card.note(member_pages.ERASE_DONE())


async def _edit(interaction: discord.Interaction[Any], layout: Layout, *files: discord.File) -> None:
    await interaction.edit_original_response(view=View(layout), attachments=files, allowed_mentions=NO_MENTIONS)


def export_page(filename: str) -> Layout:
    """Lay out the message with the export file."""
    parts = [components.text_display(member_pages.EXPORT_READY()), components.file(filename)]
    return components.container(parts, accent=card.NOTE_ACCENT)


def ask_to_erase(*, commands: int, images: int, servers: int, wallet: Wallet, user_id: int, asked_at: int) -> Layout:
    """Lay out the question: what is erased, what is kept, and two buttons."""
    text = member_pages.ERASE_ASK(
        commands=formatting.COMMANDS(commands),
        images=formatting.PICTURES(images),
        servers=formatting.SERVERS(servers) if servers or not commands else member_pages.OUTSIDE_SERVERS_ONLY(),
    )
    if wallet.total_usd_micros:
        # The last line says how to get a copy first; the list of what stays is above it.
        listed, hint = text.rsplit("\n", 1)
        text = f"{listed}\n- {usage_page.wallet_line(wallet)}\n{hint}"
    erase = components.button(member_pages.ERASE(), custom_id("erase", user_id, asked_at), style=components.RED)
    keep = components.button(member_pages.ERASE_NOT(), custom_id("keep", user_id, asked_at))
    parts = [components.text_display(text), components.action_row(erase, keep)]
    return components.container(parts, accent=card.REFUSAL_ACCENT)


def custom_id(choice: str, user_id: int, asked_at: int) -> str:
    """`privacy:<erase or keep>:<who was asked>:<when, in seconds since 1970>`."""
    return f"privacy:{choice}:{user_id}:{asked_at}"
