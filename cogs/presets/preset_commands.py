"""/preset: named beginnings of orders, of a server (for moderators) or a member's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.domain.errors import BadOption
from bot.domain.jobs import ImageInput, ImageRole, JobKind, JobRequest, new_id
from bot.domain.money.quota import format_usd
from bot.domain.presets import MAX_NAME_CHARACTERS, MAX_WORDS_CHARACTERS, Preset
from bot.domain.texts import is_visible
from bot.service.job_service import JobService
from cogs.generate.ordering import autocomplete
from cogs.generate.ordering.autocomplete import MAX_CHOICES, Choices, completion
from cogs.generate.ordering.order import stand_in, template_of
from cogs.generate.ordering.order_flow import OrderFlow
from cogs.generate.ordering.permissions import default_model, permissions_of
from cogs.presets import presets_page
from cogs.text import formatting, presets
from cogs.text.locale import get_locale, grouped, option_name
from cogs.ui import card
from cogs.ui.checks import is_moderator, member_of, require_server
from cogs.ui.client import Interaction
from cogs.ui.initial_response import refuse_privately, respond_privately

MAX_MORE_CHARACTERS = 1_000
SERVER, OWN = "server", "own"
SCOPES = [
    app_commands.Choice(name="Everybody in this server", value=SERVER),
    app_commands.Choice(name="Just me", value=OWN),
]
Words = app_commands.Range[str, 1, MAX_WORDS_CHARACTERS]
Scope = app_commands.Choice[str]


async def _removable(interaction: Interaction, text: str) -> Choices:
    """List the presets that the member may remove."""
    found = await presets_of(interaction.client.service, interaction)
    return choices([preset for preset in found if preset.is_own or is_moderator(interaction)], text)


class PresetCommands(commands.Cog):
    """The commands /preset add, remove and list."""

    group = app_commands.Group(name="preset", description="Save an order's options under a name", guild_only=True)

    def __init__(self, *, order_flow: OrderFlow, service: JobService) -> None:
        self._order_flow = order_flow
        self._service = service

    @group.command(name="add", description="Save options under a name, or replace those of that name")
    @app_commands.rename(scope="for")
    @app_commands.describe(
        name="What it is called",
        model="Which image model it uses",
        options="Options as in `more`: aspect_ratio=16:9, steps=28",
        before="Words before the prompt",
        after="Words after the prompt",
        style="A style to apply",
        reference="An image to take the style or subject from",
        scope="Who can use it (default: everybody, if you moderate this server)",
    )
    @app_commands.choices(scope=SCOPES)
    @app_commands.autocomplete(
        model=autocomplete.any_models, style=completion(autocomplete.styles, uses_own_settings=False)
    )
    async def add(
        self,
        interaction: discord.Interaction[Any],
        name: app_commands.Range[str, 1, MAX_NAME_CHARACTERS],
        model: str | None = None,
        options: app_commands.Range[str, 1, MAX_MORE_CHARACTERS] | None = None,
        before: Words | None = None,
        after: Words | None = None,
        style: str | None = None,
        reference: discord.Attachment | None = None,
        scope: Scope | None = None,
    ) -> None:
        """Check the preset as an order would be, then store it."""
        guild_id = require_server(interaction)
        is_own = _is_own(interaction, scope)
        if refusal := _refusal(interaction, name, is_own=is_own):
            await refuse_privately(interaction, refusal)
            return
        if options:
            options = self._service.catalogue.translated_names(get_locale(), option_name).more(options)
        written = ", ".join(filter(None, (options, style and f"style={self._service.styles.id_of(style)}")))
        # A style is added to the options, and a modified client sends more than Discord's own.
        for text, limit in (
            (written, MAX_MORE_CHARACTERS),
            *((words, MAX_WORDS_CHARACTERS) for words in (before, after)),
        ):
            if len(text or "") > limit:
                await refuse_privately(interaction, presets.PRESET_TOO_LONG(limit=grouped(limit)))
                return
        preset = Preset(
            id=new_id(),
            guild_id=None if is_own else guild_id,
            user_id=interaction.user.id if is_own else None,
            # As lists and cards show it, so that what a member reads there can be typed.
            name=formatting.one_line(name),
            model_id=self._service.catalogue.get(model).id if model else None,
            more=written,
            words_before=(before or "").strip(),
            words_after=(after or "").strip(),
            # Before it is read, to find out what an order with it costs.
            reference=stand_in(reference, ImageRole.REFERENCE) if reference else None,
        )
        if not (preset.model_id or preset.more or preset.words_before or preset.words_after or preset.reference):
            await refuse_privately(interaction, presets.PRESET_EMPTY())
            return
        amount = await self._price(interaction, preset)
        if reference is None:
            await self._store(interaction, preset, amount)
            return
        await interaction.response.defer(ephemeral=True, thinking=True)
        held: list[str] = []
        try:
            preset = replace(preset, reference=await self._read(interaction, reference, held))
            await self._store(interaction, preset, amount)
        except BaseException:
            await asyncio.shield(self._service.input_images.discard(held))
            raise
        self._service.input_images.keep(held)

    async def _read(self, interaction: Interaction, reference: discord.Attachment, held: list[str]) -> ImageInput:
        """Read the attached image like that of an order. Raises RequestRefused."""
        member = member_of(interaction)
        is_blocked = await self._service.store.is_blocked(member.guild_id, member.user_id)
        self._service.check_member(member, is_blocked=is_blocked, orders=1)
        (image,) = await self._order_flow.read_attachments([(reference, ImageRole.REFERENCE)], member, held)
        return image

    async def _store(self, interaction: Interaction, preset: Preset, amount: int) -> None:
        """Store the preset and say what an image with it costs."""
        replaced = await self._service.store.set_preset(preset, actor_id=interaction.user.id, now=datetime.now(UTC))
        said = presets.PRESET_REPLACED if replaced else presets.PRESET_ADDED
        who = presets.SCOPE_OWN if preset.is_own else presets.SCOPE_SERVER
        text = said(name=f"`{formatting.inline(preset.name)}`", scope=who())
        price = presets.PRESET_PRICE(amount=format_usd(amount))
        await respond_privately(interaction, card.note(text, presets_page.line(self._service, preset), price))

    async def _price(self, interaction: Interaction, preset: Preset) -> int:
        """Return what an image with the preset costs. Raises RequestRefused if it could not be ordered here."""
        permissions = await permissions_of(self._service, interaction)
        fallback = default_model(self._service, permissions.policy, JobKind.IMAGINE)
        guild_id, user_id = require_server(interaction), interaction.user.id
        request = stand_in_order(preset.model_id or fallback, guild_id=guild_id, user_id=user_id)
        request = replace(request, images=() if preset.reference is None else (preset.reference,))
        try:
            template = template_of(self._service, preset, request)
        except BadOption as error:
            raise replace(error, option="options") if error.option == "more" else error from error
        expanded = self._service.expand(request, template=template)
        permissions.check(self._service, expanded)
        return self._service.quote(expanded).amount_usd_micros

    @group.command(name="remove", description="Remove a preset")
    @app_commands.rename(scope="for")
    @app_commands.describe(name="Which one", scope="Whose preset (default: your own, else the server's)")
    @app_commands.choices(scope=SCOPES)
    @app_commands.autocomplete(name=_removable)
    async def remove(self, interaction: discord.Interaction[Any], name: str, scope: Scope | None = None) -> None:
        """Remove a member's own preset of that name, else the server's if they moderate it."""
        guild_id = require_server(interaction)
        own = [True, False] if scope is None else [scope.value == OWN]
        if scope is not None and scope.value == SERVER and not is_moderator(interaction):
            await refuse_privately(interaction, presets.MODERATORS_FOR_SERVER())
            return
        for is_own in own:
            if (is_own or is_moderator(interaction)) and await self._service.store.remove_preset(
                name,
                guild_id=None if is_own else guild_id,
                user_id=interaction.user.id if is_own else None,
                actor_id=interaction.user.id,
                now=datetime.now(UTC),
            ):
                removed = presets.PRESET_REMOVED(name=f"`{formatting.inline(name)}`")
                await respond_privately(interaction, card.note(removed))
                return
        refusal = presets.PRESET_NONE_TO_REMOVE(name=formatting.inline(name))
        await refuse_privately(interaction, refusal)

    @group.command(name="list", description="See the presets that you can use here")
    async def show(self, interaction: discord.Interaction[Any]) -> None:
        """List the server's presets and the member's own."""
        found = await presets_of(self._service, interaction)
        await respond_privately(interaction, presets_page.page(self._service, found))


async def presets_of(service: JobService, interaction: discord.Interaction[Any]) -> list[Preset]:
    """Return the presets that the member can use in the server."""
    guild_id = require_server(interaction)
    return await service.store.presets_of(guild_id=guild_id, user_id=interaction.user.id)


def stand_in_order(model_id: str, *, guild_id: int, user_id: int) -> JobRequest:
    """Return an order that finds out whether a model can be ordered, and its price."""
    return JobRequest(
        kind=JobKind.IMAGINE, guild_id=guild_id, user_id=user_id, model_id=model_id, prompt="an image of something"
    )


def choices(found: Iterable[Preset], text: str) -> Choices:
    """List the names that contain what was typed, each once."""
    return autocomplete.plain(autocomplete.names_of_presets(found, text)[:MAX_CHOICES])


def _is_own(interaction: Interaction, scope: Scope | None) -> bool:
    return not is_moderator(interaction) if scope is None else scope.value == OWN


def _refusal(interaction: Interaction, name: str, *, is_own: bool) -> str | None:
    """Return why this member may not store a preset of this name; None if they may."""
    if not is_own and not is_moderator(interaction):
        return presets.MODERATORS_FOR_SERVER()
    is_name = is_visible(name) and len(name) <= MAX_NAME_CHARACTERS
    return None if is_name else presets.PRESET_NAME_EMPTY()
