"""Recipe: the commands that order the images of a card again."""

from __future__ import annotations

from collections.abc import Sequence

from bot.domain.jobs import Job, JobKind, JobStatus
from cogs.text import formatting, job_card
from cogs.text.locale import option_name
from cogs.ui import card
from cogs.ui.components import Layout

RECIPE_CHARACTERS = 3_500


def recipe_of(jobs: Sequence[Job], model_label: str) -> Layout:
    """Lay out the commands that make the images of a card again, to copy: a line for each different one."""
    made = [job for job in jobs if job.status is JobStatus.SUCCEEDED] or jobs
    limit = RECIPE_CHARACTERS // len(made)
    lines = dict.fromkeys(recipe_line(job, limit) for job in made)
    return card.note(f"### {job_card.RECIPE_OF(model=model_label)}", *(formatting.block(line, limit) for line in lines))


def recipe_line(job: Job, limit: int) -> str:
    """Return the command that orders the same again. Only the prompt is shortened to keep within `limit` characters."""
    options: dict[str, object] = {"model": job.request.model_id, **dict(job.request.options)}
    if job.seed is not None:
        options["seed"] = job.seed
    named = "".join(f" {option_name(name)}: {value}" for name, value in options.items())
    start = f"{_command(job.request.kind)} {option_name('prompt')}: "
    return start + formatting.shorten(job.request.prompt, max(1, limit - len(start) - len(named))) + named


def _command(kind: JobKind) -> str:
    match kind:
        case JobKind.IMAGINE:
            return "/imagine"
        case JobKind.EDIT:
            return "/edit"
        case JobKind.UPSCALE:
            return job_card.RECIPE_OF_UPSCALE()
