"""Recipe: the commands that order the images of a card again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import discord

from bot.catalogue.order_text import Options, more_text
from bot.domain.jobs import Job, JobKind, JobStatus
from bot.service.job_service import JobService
from cogs.text import formatting, job_card
from cogs.text.locale import option_name
from cogs.ui import components
from cogs.ui.attachments import upload
from cogs.ui.components import Component

RECIPE_CHARACTERS = 3_500
FILENAME = "recipe.txt"

OWN_OPTIONS = {
    JobKind.IMAGINE: ("aspect_ratio", "resolution", "creativity", "style", "moodboard"),
    JobKind.EDIT: ("aspect_ratio", "resolution"),
    JobKind.UPSCALE: (),
}
"""What each command has an option of its own for; everything else is set with `more`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A job, the label of its model, and everything that was sent with its prompt."""

    job: Job
    model_label: str
    sent: Options


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The commands that make the images of a card again: as they are `shown`, to copy, and the `whole` of them."""

    title: str
    shown: Sequence[str]
    whole: Sequence[str]

    @property
    def _is_attached(self) -> bool:
        """Whether a code block shortens or changes a command, which is then attached as a file as well."""
        return any(line not in shown for line, shown in zip(self.whole, self.shown, strict=True))

    def parts(self) -> list[Component]:
        """Lay out the title and the commands."""
        parts = [components.text_display(text) for text in (f"### {self.title}", *self.shown)]
        return [*parts, components.file(FILENAME)] if self._is_attached else parts

    def files(self) -> list[discord.File]:
        """Return new file objects for one attempt to send what `parts` refers to."""
        return [upload("\n\n".join(self.whole).encode(), FILENAME)] if self._is_attached else []


def recipe_of_jobs(service: JobService, jobs: Sequence[Job]) -> Recipe:
    """Return the recipe of the images of these jobs."""
    labels = [service.model_label(job.request.model_id) for job in jobs]
    made = zip(jobs, labels, strict=True)
    return recipe_of([Made(job=job, model_label=label, sent=service.sent_options(job)) for job, label in made])


def recipe_of(made: Sequence[Made]) -> Recipe:
    """Return the recipe with a line for each different command."""
    listed = [one for one in made if one.job.status is JobStatus.SUCCEEDED] or made
    limit = RECIPE_CHARACTERS // len(listed)
    different = {recipe_line(one.job, one.sent, one.model_label): one for one in listed}
    models = ", ".join(dict.fromkeys(one.model_label for one in listed))
    return Recipe(
        title=job_card.RECIPE_OF(model=models),
        shown=[
            formatting.block(recipe_line(one.job, one.sent, one.model_label, limit), limit)
            for one in different.values()
        ],
        whole=list(different),
    )


def comparison_line(jobs: Sequence[Job], model_labels: Sequence[str], limit: int) -> str:
    """Return the command that compares the same models again, in at most `limit` characters, like `recipe_line`."""
    request = jobs[0].request
    options: dict[str, object] = {f"model{number}": label for number, label in enumerate(model_labels, start=1)}
    if "aspect_ratio" in request.options:
        options["aspect_ratio"] = request.options["aspect_ratio"]
    return _command_line("/compare", request.prompt, options, limit)


def recipe_line(job: Job, sent: Options, model_label: str, limit: int | None = None) -> str:
    """Return the command that orders the same again. Only the prompt is shortened to keep within `limit` characters."""
    own_options = OWN_OPTIONS[job.request.kind]
    options: dict[str, object] = {"model": model_label}
    options |= {name: value for name, value in sent.items() if name in own_options}
    if job.seed is not None:
        options["seed"] = job.seed
    if more := more_text({name: value for name, value in sent.items() if name not in own_options}):
        options["more"] = more
    # /edit also takes the models that only enlarge.
    command = "/imagine" if job.request.kind is JobKind.IMAGINE else "/edit"
    return _command_line(command, job.request.prompt, options, limit)


def _command_line(command: str, prompt: str, options: Mapping[str, object], limit: int | None) -> str:
    named = "".join(f" {option_name(name)}: {value}" for name, value in options.items())
    start = f"{command} {option_name('prompt')}: "
    if limit is not None:
        prompt = formatting.shorten(prompt, max(1, limit - len(start) - len(named)))
    return start + prompt + named
