"""/defaults: what a member's own orders in a server begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.domain.errors import RequestRefused, UnknownPreset
from bot.domain.jobs import JobKind
from bot.domain.presets import MemberDefaults, name_key
from bot.service.job_service import JobService
from cogs.generate.ordering import autocomplete
from cogs.generate.ordering.autocomplete import completion
from cogs.generate.ordering.permissions import permissions_of
from cogs.presets import presets_page
from cogs.presets.preset_commands import presets_of, stand_in_order
from cogs.text import formatting, presets, refusals
from cogs.text.locale import option_name
from cogs.ui import card
from cogs.ui.checks import require_server
from cogs.ui.initial_response import refuse_privately, respond_privately


class DefaultsCommands(commands.Cog):
    """The commands /defaults show, set and clear."""

    group = app_commands.Group(name="defaults", description="Your own default options in this server", guild_only=True)

    def __init__(self, service: JobService) -> None:
        self._service = service

    @group.command(name="show", description="See your defaults in this server")
    async def show(self, interaction: discord.Interaction[Any]) -> None:
        """Show the member's defaults, and which of them are left out of orders here."""
        own = await self._own(interaction)
        left_out = [error async for error in self._left_out(interaction, own)]
        await respond_privately(interaction, presets_page.defaults(self._service, own, left_out))

    async def _left_out(self, interaction: discord.Interaction[Any], own: MemberDefaults) -> AsyncIterator[str]:
        """Say which model and preset orders do without, and why."""
        if own.model_id is not None:
            permissions = await permissions_of(self._service, interaction)
            try:
                model = self._service.catalogue.get(own.model_id)
                permissions.check_model(model)
                if model not in self._service.offered():
                    guild_id, user_id = require_server(interaction), interaction.user.id
                    self._service.quote(stand_in_order(model.id, guild_id=guild_id, user_id=user_id))
            except RequestRefused as error:
                yield refusals.refusal(error)
        if own.preset_name is not None:
            try:
                await self._preset_name(interaction, own.preset_name)
            except UnknownPreset as error:
                yield refusals.refusal(error)

    @group.command(name="set", description="Set your defaults in this server; what you leave out stays")
    @app_commands.describe(
        model="Which image model makes your images",
        aspect_ratio="Shape of your images",
        resolution="How large they are made",
        private="Only you see the answers",
        preset="A preset to begin with",
    )
    @app_commands.autocomplete(
        model=completion(autocomplete.models, JobKind.IMAGINE),
        aspect_ratio=completion(autocomplete.values, "aspect_ratio", JobKind.IMAGINE),
        resolution=completion(autocomplete.values, "resolution", JobKind.IMAGINE),
        preset=autocomplete.presets,
    )
    async def set_(
        self,
        interaction: discord.Interaction[Any],
        model: str | None = None,
        aspect_ratio: str | None = None,
        resolution: str | None = None,
        private: bool | None = None,
        preset: str | None = None,
    ) -> None:
        """Change what was given and keep the rest."""
        given: dict[str, Any] = {
            "model_id": self._service.catalogue.get(model).id if model else None,
            "aspect_ratio": aspect_ratio,
            "resolution": resolution,
            "private": private,
            "preset_name": await self._preset_name(interaction, preset) if preset else None,
        }
        given = {name: value for name, value in given.items() if value is not None}
        for option, value in (("aspect_ratio", aspect_ratio), ("resolution", resolution)):
            if value is not None and not self._is_taken(option, value):
                shown = formatting.inline(value)
                refusal = presets.DEFAULTS_BAD_VALUE(option=option_name(option), value=shown)
                await refuse_privately(interaction, refusal)
                return
        if not given:
            await refuse_privately(interaction, presets.DEFAULTS_NOTHING_GIVEN())
            return
        own = replace(await self._own(interaction), **given)
        await self._write(interaction, own)
        await respond_privately(interaction, presets_page.defaults(self._service, own))

    @group.command(name="clear", description="Clear your defaults in this server")
    async def clear(self, interaction: discord.Interaction[Any]) -> None:
        """Clear all of them."""
        await self._write(interaction, MemberDefaults())
        await respond_privately(interaction, card.note(presets.DEFAULTS_CLEARED()))

    async def _own(self, interaction: discord.Interaction[Any]) -> MemberDefaults:
        guild_id = require_server(interaction)
        return await self._service.store.member_defaults(guild_id=guild_id, user_id=interaction.user.id)

    async def _write(self, interaction: discord.Interaction[Any], own: MemberDefaults) -> None:
        guild_id = require_server(interaction)
        await self._service.store.set_member_defaults(own, guild_id=guild_id, user_id=interaction.user.id)

    async def _preset_name(self, interaction: discord.Interaction[Any], typed: str) -> str:
        for preset in await presets_of(self._service, interaction):
            if name_key(preset.name) == name_key(typed):
                return preset.name
        raise UnknownPreset(typed)

    def _is_taken(self, option: str, value: str) -> bool:
        """Whether any model that can be ordered takes this value."""
        return any(value in model.choices(option) for model in self._service.offered())
