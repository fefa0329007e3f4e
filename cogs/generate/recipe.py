"""Recipe: the commands that order the images of a card again."""

from __future__ import annotations

from collections.abc import Sequence

from bot.catalogue.order_text import Options, more_text
from bot.domain.jobs import Job, JobKind, JobStatus
from cogs.text import formatting, job_card
from cogs.text.locale import option_name
from cogs.ui import card
from cogs.ui.components import Layout

RECIPE_CHARACTERS = 3_500

OWN_OPTIONS = {
    JobKind.IMAGINE: ("aspect_ratio", "resolution", "creativity", "style", "moodboard"),
    JobKind.EDIT: ("aspect_ratio", "resolution"),
    JobKind.UPSCALE: (),
}
"""What each command has an option of its own for; everything else is set with `more`."""


def recipe_of(made: Sequence[tuple[Job, Options]], model_label: str) -> Layout:
    """Lay out the commands that make the images of a card again, to copy: a line for each different one.

    Each job comes with everything that was sent with its prompt.
    """
    shown = [(job, sent) for job, sent in made if job.status is JobStatus.SUCCEEDED] or made
    limit = RECIPE_CHARACTERS // len(shown)
    lines = dict.fromkeys(recipe_line(job, sent, model_label, limit) for job, sent in shown)
    return card.note(f"### {job_card.RECIPE_OF(model=model_label)}", *(formatting.block(line, limit) for line in lines))


def recipe_line(job: Job, sent: Options, model_label: str, limit: int) -> str:
    """Return the command that orders the same again. Only the prompt is shortened to keep within `limit` characters."""
    own_options = OWN_OPTIONS[job.request.kind]
    options: dict[str, object] = {"model": model_label}
    options |= {name: value for name, value in sent.items() if name in own_options}
    if job.seed is not None:
        options["seed"] = job.seed
    if more := more_text({name: value for name, value in sent.items() if name not in own_options}):
        options["more"] = more
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
