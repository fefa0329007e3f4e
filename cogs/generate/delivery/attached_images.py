"""Attached images: the results of a reply as files of its message, made to fit Discord's limit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import discord

from bot.domain.errors import MediaError
from bot.domain.jobs import Job, JobStatus
from bot.service.job_service import JobService
from bot.service.views import JobView, ReplyView
from cogs.ui import card
from cogs.ui.attachments import upload

_log = logging.getLogger(__name__)

MAX_ATTACHMENTS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachedImage:
    """An image with its name and alt text in the message; without data where the message only has a link to it."""

    shown: card.ShownImage
    sha256: str
    data: bytes


async def load_images(
    service: JobService, view: ReplyView, *, limit_bytes: int, hide_prompt: bool
) -> list[AttachedImage]:
    """Load the images of a reply, each in at most `limit_bytes`. Raises StoreError, and a MediaError that may pass.

    With `hide_prompt`, no name or alt text has a word of the prompt.
    """
    images: list[AttachedImage] = []
    for job in view.jobs:
        if job.job.status is JobStatus.SUCCEEDED:
            label = card.label_in_comparison(view, job)
            images.extend(await _images_of(service, job, label, limit_bytes=limit_bytes, hide_prompt=hide_prompt))
    return images[:MAX_ATTACHMENTS]


async def _images_of(
    service: JobService, view: JobView, model_label: str | None, *, limit_bytes: int, hide_prompt: bool
) -> list[AttachedImage]:
    images: list[AttachedImage] = []
    requester = view.job.request.requester
    for index, image in enumerate(view.job.images):
        try:
            fitted = await service.image_for_upload(image, limit_bytes, requester=requester)
            if fitted is None and await service.recover_image(view.job, image):
                fitted = await service.image_for_upload(image, limit_bytes, requester=requester)
        except MediaError as error:
            if error.transient:
                raise
            if error.reason == "too_many_pixels" and image.source_url:
                alt_text = card.alt_text(view.job, model_label=model_label, hide_prompt=hide_prompt)
                linked = card.ShownImage(filename="", alt_text=alt_text, original_url=image.source_url)
                images.append(AttachedImage(shown=linked, sha256=image.sha256, data=b""))
                continue
            _log.exception("image %d of job %s cannot be shown", index + 1, view.job.id)
            continue
        if fitted is None:
            _log.error("image %d of job %s is missing from the blob store", index + 1, view.job.id)
            notice = f"Image {index + 1} of job {view.job.id} is lost: it is neither kept here nor at its provider."
            service.presenter.operator_notice("lost image", notice)
            continue
        shown = card.ShownImage(
            filename=card.filename(view.job, index, fitted.extension, hide_prompt=hide_prompt),
            alt_text=card.alt_text(view.job, model_label=model_label, hide_prompt=hide_prompt),
            # An image that was only rotated is as large as the original.
            original_url=image.source_url if fitted.changed and image.size_bytes > limit_bytes else None,
        )
        images.append(AttachedImage(shown=shown, sha256=image.sha256, data=fitted.data))
    return images


def wholly_lost(view: ReplyView, images: Sequence[AttachedImage]) -> list[Job]:
    """Return the jobs of a reply of whose images `load_images` has found none any more."""
    found = {image.sha256 for image in images}
    made = [job.job for job in view.jobs if job.job.status is JobStatus.SUCCEEDED]
    if len(images) == MAX_ATTACHMENTS:
        return []  # the others were left out
    return [job for job in made if not any(image.sha256 in found for image in job.images)]


def count_lost(view: ReplyView, images: Sequence[AttachedImage]) -> int:
    """Count the images of a reply that `load_images` has not found any more."""
    made = sum(len(job.job.images) for job in view.jobs if job.job.status is JobStatus.SUCCEEDED)
    return max(0, min(made, MAX_ATTACHMENTS) - len(images))


def files_of(images: Sequence[AttachedImage]) -> list[discord.File]:
    """Return new file objects for one attempt; all attempts share the bytes."""
    return [upload(image.data, image.shown.filename, image.shown.alt_text) for image in images if image.data]
