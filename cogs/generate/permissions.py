"""Allowance: what one member may order in one place, as the server's policy has it at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import discord

from bot.catalogue.models import Model
from bot.domain.jobs import JobKind, JobRequest
from bot.domain.policy import ChannelContext, Policy
from bot.service.job_service import JobService
from cogs.ui.checks import role_ids_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Permissions:
    """A policy seen from one channel with one member's roles."""

    policy: Policy
    place: ChannelContext
    role_ids: tuple[int, ...]

    def permits(self, model: Model) -> bool:
        """Whether the member can order this model here."""
        return self.policy.permits(model.id, place=self.place, role_ids=self.role_ids)

    def check(self, service: JobService, request: JobRequest) -> None:
        """Raises NotAllowedHere. A model that nobody knows is left to the quote, which says so better."""
        model = service.catalogue.find(request.model_id)
        self.policy.check(
            place=self.place,
            role_ids=self.role_ids,
            model_id=model.id if model else request.model_id,
            model_label=model.label if model else request.model_id,
            prompt=request.prompt,
        )

    def default_model(self, service: JobService, kind: JobKind, fallback: str) -> str:
        """The model for who names none."""
        return default_model(service, self.policy, kind=kind, fallback=fallback)


def default_model(service: JobService, policy: Policy, *, kind: JobKind, fallback: str) -> str:
    """The moderators' choice where it can be had and fits the command, else the bot's own."""
    chosen = service.catalogue.find(policy.default_model_id or "")
    if chosen is None or not chosen.orderable or chosen.provider not in service.providers or not chosen.fits(kind):
        return fallback
    return chosen.id


def place_of(interaction: discord.Interaction[Any]) -> ChannelContext:
    """The channel of this interaction and what lies around it."""
    return _place(interaction.channel_id, interaction.channel)


def place_in(guild: discord.Guild | None, channel_id: int) -> ChannelContext:
    """The same of any channel of the server."""
    return _place(channel_id, guild.get_channel_or_thread(channel_id) if guild is not None else None)


def _place(channel_id: int | None, channel: object) -> ChannelContext:
    around: list[int | None] = [channel_id]
    age_restricted = False
    if isinstance(channel, discord.Thread):
        around.append(channel.parent_id)
        channel = channel.parent
    if isinstance(channel, discord.abc.GuildChannel):
        around.append(channel.category_id)
        age_restricted = getattr(channel, "nsfw", False)
    return ChannelContext(
        channel_ids=tuple(found for found in around if found is not None), age_restricted=age_restricted
    )


async def permissions_of(
    service: JobService, interaction: discord.Interaction[Any], member: discord.abc.User | None = None
) -> Permissions:
    """What whoever acts, or another member, may order where this happens."""
    return Permissions(
        policy=await service.store.policy(interaction.guild_id or 0),
        place=place_of(interaction),
        role_ids=role_ids_of(member or interaction.user),
    )
