"""Share: posts a finished image in the server's showcase channel, once and with credit to its author.

The database says who posts an image. A process that was killed meanwhile may have posted it, so the next click looks
for it in the channel first.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import discord
from discord import ui

from bot.domain.errors import MediaError
from bot.domain.jobs import Job, Reply
from bot.domain.policy import Policy
from bot.domain.visibility import ShareClaim, SharedImage
from cogs.alerts.log_channel import missing_permissions
from cogs.generate.delivery.attached_images import AttachedImage, files_of, load_images
from cogs.generate.job_buttons import clicked_reply
from cogs.generate.ordering.permissions import channel_context
from cogs.generate.upscale import posted_file
from cogs.text import formatting, job_card, member_pages
from cogs.text.locale import language_of_server, use_locale
from cogs.ui import card, card_buttons, components
from cogs.ui.checks import is_moderator
from cogs.ui.client import BotClient, Interaction
from cogs.ui.components import Layout
from cogs.ui.discord_api.discord_errors import is_final, is_malformed
from cogs.ui.discord_api.message_api import PostedMessage
from cogs.ui.discord_api.message_deletions import Outcome
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import respond_privately

_log = logging.getLogger(__name__)

POST_TIMEOUT_SECONDS = 60.0
"""Shorter than a claim, so that no two attempts overlap."""

CLOCK_SKEW = timedelta(minutes=5)


class ShareButton(DynamicComponent[ui.Button[Any]], template=card_buttons.SHARE_ID):
    """Posts the image of one job in the showcase channel. A private one only its author may share."""

    async def handle(self, interaction: Interaction) -> None:
        """Check who clicks and where the image would go, then post it unless that was done."""
        job_id = self._match["job_id"]
        reply = await clicked_reply(interaction, job_id, action=card_buttons.SHARE)
        if reply is None:
            return
        job = next((job for job in card_buttons.images_made(reply.jobs) if job.id == job_id), None)
        if job is None or reply.deleted_at is not None:
            await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
            return
        if reply.address.is_direct:
            await respond_privately(interaction, card.refused(job_card.SHARE_DIRECT()))
            return
        client = interaction.client
        policy = await client.service.store.policy(reply.address.guild_id)
        shared = await client.service.store.shared_image(job.id)
        if (refusal := _why_not(client, policy, reply, job, shared)) is not None:
            await respond_privately(interaction, card.refused(refusal))
            return
        if (refusal := await _why_not_enough(interaction, policy, reply, job)) is not None:
            await respond_privately(interaction, card.note(refusal))
            return
        await interaction.response.defer(ephemeral=True, thinking=True)
        await respond_privately(interaction, await _share(interaction, policy, reply, job))


class UnshareButton(DynamicComponent[ui.Button[Any]], template=card_buttons.UNSHARE_ID):
    """Remove under a shared image: its author or a moderator takes it back."""

    async def handle(self, interaction: Interaction) -> None:
        """Check who clicks, then remove the message."""
        client, message = interaction.client, interaction.message
        reply = await client.service.store.reply_of_job(self._match["job_id"])
        is_author = reply is not None and not reply.is_forgotten and reply.user_id == interaction.user.id
        if message is None or not (is_author or is_moderator(interaction)):
            await respond_privately(interaction, card.refused(job_card.NOT_YOURS()))
            return
        await interaction.response.defer(ephemeral=True, thinking=True)
        place = message.channel.id, message.id
        await client.service.store.remove_share(
            self._match["job_id"], channel_id=place[0], message_id=place[1], at=client.service.now()
        )
        outcomes = await client.message_deletions.delete_now([place], gone_message_id=None)
        said = job_card.UNSHARE_DONE if outcomes[place] is Outcome.GONE else job_card.UNSHARE_LATER
        await respond_privately(interaction, card.note(said()))


def _why_not(client: BotClient, policy: Policy, reply: Reply, job: Job, shared: SharedImage | None) -> str | None:
    """Return why an image is not posted now; None if it can be tried."""
    guild_id, channel_id = reply.address.guild_id, policy.showcase_channel_id
    if shared is not None and shared.is_removed:
        return job_card.SHARE_REMOVED()
    if shared is not None and shared.message_id is not None:
        link = formatting.link_to_message(guild_id, shared.channel_id, shared.message_id)
        return job_card.SHARE_ALREADY(channel=formatting.channel(shared.channel_id), link=link)
    if channel_id is None:
        return job_card.SHARE_NO_CHANNEL()
    guild, mention = client.get_guild(guild_id), formatting.channel(channel_id)
    if reply.address.private and _is_reviewed(policy, guild, reply, job):
        return job_card.SHARE_NOT_REVIEWED()
    missing = missing_permissions(guild, channel_id)
    if missing is None and _is_known(guild, channel_id):
        return job_card.SHARE_NO_ACCESS(channel=mention)
    if missing:
        return job_card.SHARE_PERMISSIONS(channel=mention, permissions=", ".join(missing))
    model = client.service.catalogue.find(job.request.model_id)
    is_restricted = (
        channel_context(guild, reply.address.channel_id).age_restricted
        or policy.is_age_restricted(job.request.model_id)
        or (model is not None and model.age_restricted)
    )
    if is_restricted and not channel_context(guild, channel_id).age_restricted:
        return job_card.SHARE_AGE_RESTRICTED(channel=mention)
    return None


async def _why_not_enough(interaction: Interaction, policy: Policy, reply: Reply, job: Job) -> str | None:
    """Count who clicks, and return how many members are missing; None if the image can be shared now."""
    needed = policy.showcase_stars
    if needed <= 1 or is_moderator(interaction):
        return None
    if reply.address.private:
        return job_card.SHARE_STARS_PRIVATE(needed=needed)
    stars = await interaction.client.service.store.star(job.id, user_id=interaction.user.id)
    return None if stars >= needed else job_card.SHARE_STARS(stars=stars, needed=needed)


def _is_reviewed(policy: Policy, guild: discord.Guild | None, reply: Reply, job: Job) -> bool:
    """Whether moderators would have seen the image first if it had not been ordered privately."""
    channel = channel_context(guild, reply.address.channel_id)
    seen = policy.visibility(channel=channel, role_ids=reply.role_ids, model_ids=[job.request.model_id], private=False)
    return seen.review_channel_id is not None


async def _share(interaction: Interaction, policy: Policy, reply: Reply, job: Job) -> Layout:
    """Post the image unless another click does, and return what to say."""
    client, channel_id = interaction.client, policy.showcase_channel_id
    assert channel_id is not None, "it was checked"
    store = client.service.store
    try:
        async with client.service.reading_turns.turn(reply.requester):
            images = await _images(interaction, reply, job)
    except MediaError as error:
        _log.info("the image of job %s cannot be shared: %s", job.id, error)
        images = []
    if not images:
        return card.refused(member_pages.HISTORY_PICTURE_GONE())
    guild = client.get_guild(reply.address.guild_id)
    try:
        async with asyncio.timeout(POST_TIMEOUT_SECONDS):
            claim = await _claim(client, job, channel_id)
            if claim is None:
                return card.note(job_card.SHARE_UNDER_WAY())
            with use_locale(language_of_server(policy, None if guild is None else guild.preferred_locale)):
                spoiler = reply.visibility.spoiler or _has_spoilers(policy, guild, claim.channel_id)
                layout = _layout(client, reply, job, images, spoiler=spoiler)
            posted = await _post_once(client, job, claim, layout, images)
    except (TimeoutError, discord.HTTPException, discord.RateLimited, aiohttp.ClientError, OSError) as error:
        _log.warning("the image of job %s was not shared in channel %d: %s", job.id, channel_id, error)
        said = job_card.SHARE_REFUSED if _is_refused(error) else job_card.SHARE_UNKNOWN
        if is_final(error) and not _is_known(guild, channel_id):
            said = job_card.SHARE_NO_ACCESS
        return card.refused(said(channel=formatting.channel(channel_id)))
    await store.record_share(
        job.id, channel_id=posted.channel_id, message_id=posted.message_id, now=client.service.now()
    )
    link = formatting.link_to_message(reply.address.guild_id, posted.channel_id, posted.message_id)
    lines = [job_card.SHARE_DONE(channel=formatting.channel(posted.channel_id), link=link)]
    if interaction.user.id == reply.user_id or is_moderator(interaction):
        lines.append(job_card.SHARE_UNDO())
    return card.note(" ".join(lines))


async def _claim(client: BotClient, job: Job, channel_id: int) -> ShareClaim | None:
    """Claim the posting of an image in the channel that moderators chose; None if another click does.

    An earlier attempt, of which nothing is known, may have been in a channel that they chose before. Only an image that
    it did post stays there.
    """
    store, now = client.service.store, client.service.now()
    claim = await store.claim_share(job.id, channel_id=channel_id, now=now)
    if claim is None or claim.channel_id == channel_id:
        return claim
    try:
        found = await _posted(client, job, claim.channel_id, claim.first_claimed_at)
    except discord.HTTPException as error:
        if not is_final(error):
            raise
        found = None
    if found is not None:
        return claim
    await store.release_share(job.id)
    return await store.claim_share(job.id, channel_id=channel_id, now=now)


async def _post_once(
    client: BotClient, job: Job, claim: ShareClaim, layout: Layout, images: list[AttachedImage]
) -> PostedMessage:
    """Post an image, or find what an earlier attempt posted. A claim that Discord refuses for sure is given up."""
    if not claim.is_first and (found := await _posted(client, job, claim.channel_id, claim.first_claimed_at)):
        return found
    try:
        return await client.messages.post(claim.channel_id, layout, files=files_of(images), nonce=f"s{job.id}")
    except discord.HTTPException as error:
        if _is_refused(error):
            await client.service.store.release_share(job.id)
        raise


async def _posted(client: BotClient, job: Job, channel_id: int, since: datetime) -> PostedMessage | None:
    after = discord.utils.time_snowflake(since - CLOCK_SKEW)
    return await client.messages.posted(channel_id, job_id=f"unshare:{job.id}", after=after)


def _is_known(guild: discord.Guild | None, channel_id: int) -> bool:
    """Whether Discord told of the channel; it does not tell of an archived thread, which a message opens again."""
    return guild is not None and guild.get_channel_or_thread(channel_id) is not None


def _is_refused(error: Exception) -> bool:
    """Whether Discord surely did not take a message: it refused the place or the contents."""
    return is_final(error) or is_malformed(error)


async def _images(interaction: Interaction, reply: Reply, job: Job) -> list[AttachedImage]:
    """Load the images of a job from our store, or from the message that shows them. Raises MediaError."""
    client, service = interaction.client, interaction.client.service
    # Only its author chose to show a private image; the prompt stays private.
    hide_prompt = reply.address.private
    if all([await service.blob_store.get(image.sha256) is not None for image in job.images]):
        view = await service.view(reply.id)
        if view is None:
            return []
        view = replace(view, jobs=tuple(shown for shown in view.jobs if shown.job.id == job.id))
        loaded = await load_images(service, view, limit_bytes=reply.address.file_limit_bytes, hide_prompt=hide_prompt)
        return [image for image in loaded if image.data]
    images: list[AttachedImage] = []
    for index, image in enumerate(job.images):
        file = await posted_file(interaction, reply, image)
        if file is not None:
            data = await client.order_flow.download(file.url, job.request.requester)
            extension = file.filename.rpartition(".")[2]
            name = card.filename(job, index, extension, hide_prompt=hide_prompt)
            shown = card.ShownImage(filename=name, alt_text=card.alt_text(job, hide_prompt=hide_prompt))
            images.append(AttachedImage(shown=shown, sha256=image.sha256, data=data))
    return images


def _has_spoilers(policy: Policy, guild: discord.Guild | None, channel_id: int) -> bool:
    """Whether images in a channel are covered until they are clicked."""
    channel = channel_context(guild, channel_id)
    return policy.visibility(channel=channel, role_ids=(), model_ids=(), private=False).spoiler


def _layout(client: BotClient, reply: Reply, job: Job, images: list[AttachedImage], *, spoiler: bool) -> Layout:
    model = client.service.model_label(job.request.model_id)
    credit = [job_card.SHARED_BY(member=card.person(reply.user_id), model=model)]
    address = reply.address
    if not address.private and address.message_id is not None:
        credit.append(formatting.link_to_message(address.guild_id, address.channel_id, address.message_id))
    gallery = components.media_gallery(
        *[
            components.media_item(components.attached(image.shown.filename), image.shown.alt_text, spoiler=spoiler)
            for image in images
        ]
    )
    remove = components.action_row(card_buttons.unshare_button(job.id))
    parts = [gallery, components.text_display(" · ".join(credit)), remove]
    return components.container(parts, accent=card.NOTE_ACCENT)
