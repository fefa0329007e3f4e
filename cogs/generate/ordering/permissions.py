"""Permissions: what one member may order in one channel, as the server's policy says now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import discord

from bot.catalogue.models import OPTIONS, Model
from bot.domain.errors import NotAllowedHere
from bot.domain.jobs import JobKind, JobRequest, Visibility
from bot.domain.policy import ChannelContext, Policy
from bot.service.job_service import JobService
from cogs.ui.checks import role_ids_of, server_of
from cogs.ui.client import Interaction


@dataclass(frozen=True, kw_only=True, slots=True)
class Permissions:
    """A policy applied to one channel and one member's roles."""

    policy: Policy
    channel: ChannelContext
    role_ids: tuple[int, ...]
    is_direct: bool = False
    """Whether no server's rules apply, because the person orders with an account of their own."""

    def permits(self, model: Model) -> bool:
        """Whether the member may order the model in the channel."""
        if model.age_restricted and not self.channel.age_restricted:
            return False
        return self.policy.permits(model.id, channel=self.channel, role_ids=self.role_ids)

    def check(self, service: JobService, request: JobRequest) -> None:
        """Raise NotAllowedHere if the policy forbids the request. An unknown model is left for the quote to refuse."""
        model = service.catalogue.find(request.model_id)
        prompt = "\n".join([request.prompt, *_further_texts(request)])
        if model is not None:
            self.check_model(model, prompt)
            return
        model_id = request.model_id
        self.policy.check(
            channel=self.channel, role_ids=self.role_ids, model_id=model_id, model_label=model_id, prompt=prompt
        )

    def check_model(self, model: Model, prompt: str = "") -> None:
        """Raise NotAllowedHere if the policy forbids orders of the model with these texts."""
        if model.age_restricted and not self.channel.age_restricted:
            raise NotAllowedHere("direct" if self.is_direct else "age_restricted_model", model_label=model.label)
        self.policy.check(
            channel=self.channel, role_ids=self.role_ids, model_id=model.id, model_label=model.label, prompt=prompt
        )

    def visibility(self, service: JobService, requests: Sequence[JobRequest], *, private: bool) -> Visibility:
        """Return how the images of these requests may be shown. Raises UnknownModel."""
        return self.policy.visibility(
            channel=self.channel,
            role_ids=self.role_ids,
            # Not as a member spelled it.
            model_ids=[service.catalogue.get(request.model_id).id for request in requests],
            private=private,
        )


def _further_texts(request: JobRequest) -> list[str]:
    """Return what else a member wrote in words, such as a negative prompt: cards show it as well."""
    return [value for name, value in request.options.items() if isinstance(value, str) and name not in OPTIONS]


async def permissions_of(service: JobService, interaction: Interaction) -> Permissions:
    """Read what the user of the interaction may order in its channel."""
    guild_id = server_of(interaction)
    if guild_id is None:
        nowhere = ChannelContext(channel_ids=(), age_restricted=False)
        return Permissions(policy=Policy(), channel=nowhere, role_ids=(), is_direct=True)
    return Permissions(
        policy=await service.store.policy(guild_id),
        channel=_context(interaction.channel_id, interaction.channel),
        role_ids=role_ids_of(interaction.user),
    )


def default_model(service: JobService, policy: Policy, kind: JobKind) -> str:
    """Return the id of the model that an order without one is for, of those that can be ordered and fit the command.

    It is the moderators' default, else the operator's, else what takes the place of that one.
    """
    for model_id in (policy.default_model_id, service.default_model):
        model = service.catalogue.find(model_id or "")
        if model is not None and model.orderable and model.provider in service.providers and model.supports(kind):
            return model.id
    instead = service.catalogue.next_best(service.default_model, kind=kind, providers=service.providers)
    return service.default_model if instead is None else instead.id


def channel_context(guild: discord.Guild | None, channel_id: int) -> ChannelContext:
    """Return a channel of the server with its parent channel and category."""
    return _context(channel_id, guild.get_channel_or_thread(channel_id) if guild is not None else None)


def _context(channel_id: int | None, channel: object) -> ChannelContext:
    channel_ids: list[int | None] = [channel_id]
    age_restricted = False
    if isinstance(channel, discord.Thread):
        channel_ids.append(channel.parent_id)
        channel = channel.parent
    if isinstance(channel, discord.abc.GuildChannel):
        channel_ids.append(channel.category_id)
        age_restricted = getattr(channel, "nsfw", False)
    return ChannelContext(
        channel_ids=tuple(found for found in channel_ids if found is not None), age_restricted=age_restricted
    )
