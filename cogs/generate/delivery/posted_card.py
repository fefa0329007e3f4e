"""Posted cards: what a card says that Discord took, for those that lay it out again with something changed.

Discord may have taken it only without the words of the prompt, with smaller copies, or after an image was lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import discord

from bot.domain.jobs import JobStatus
from bot.service.views import ReplyView
from cogs.generate.delivery.attached_images import MAX_ATTACHMENTS
from cogs.text import job_card
from cogs.text.locale import use_locale
from cogs.ui import card
from cogs.ui.attachments import images_of


@dataclass(frozen=True, kw_only=True, slots=True)
class PostedCard:
    """What `card.card` and `card.body` need to show the same again."""

    images: tuple[card.ShownImage, ...]
    """Under the names that they were attached with."""
    lost_images: int
    hide_prompt: bool


def posted_card(message: discord.Message | None, view: ReplyView) -> PostedCard:
    """Read a message that shows the images of a reply."""
    text = "\n".join(_texts_in(message.components)) if message else ""
    with use_locale(view.reply.address.language):
        hide_prompt = job_card.PROMPT_HIDDEN() in text
    posted = images_of(message) if message else []
    made = [
        (job, index, image)
        for job in view.jobs
        if job.job.status is JobStatus.SUCCEEDED
        for index, image in enumerate(job.job.images)
    ][:MAX_ATTACHMENTS]
    images: list[card.ShownImage] = []
    for job, index, image in made:
        ending = card.filename_ending(job.job, index)
        filename = next((file.filename for file in posted if PurePosixPath(file.filename).stem.endswith(ending)), "")
        original_url = image.source_url if image.source_url and image.source_url in text else None
        if filename or original_url:
            alt_text = card.alt_text(job.job, model_label=card.label_in_comparison(view, job), hide_prompt=hide_prompt)
            images.append(card.ShownImage(filename=filename, alt_text=alt_text, original_url=original_url))
    return PostedCard(images=tuple(images), lost_images=len(made) - len(images), hide_prompt=hide_prompt)


def _texts_in(parts: list[discord.components.MessageComponentType] | list[discord.Component]) -> Iterator[str]:
    for part in parts:
        match part:
            case discord.TextDisplay():
                yield part.content
            case discord.Container() | discord.SectionComponent():
                yield from _texts_in(list(part.children))
            case _:
                continue
