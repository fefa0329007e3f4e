"""Recipe: the commands that order the images of a card again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A job, the label of its model, and everything that was sent with its prompt."""

    job: Job
    model_label: str
    sent: Options


def recipe_of(made: Sequence[Made]) -> Layout:
    """Lay out the commands that make the images of a card again, to copy: a line for each different one."""
    shown = [one for one in made if one.job.status is JobStatus.SUCCEEDED] or made
    limit = RECIPE_CHARACTERS // len(shown)
    lines = dict.fromkeys(recipe_line(one.job, one.sent, one.model_label, limit) for one in shown)
    models = ", ".join(dict.fromkeys(one.model_label for one in shown))
    return card.note(f"### {job_card.RECIPE_OF(model=models)}", *(formatting.block(line, limit) for line in lines))


def comparison_line(jobs: Sequence[Job], model_labels: Sequence[str], limit: int) -> str:
    """Return the command that compares the same models again, in at most `limit` characters, like `recipe_line`."""
    request = jobs[0].request
    options: dict[str, object] = {f"model{number}": label for number, label in enumerate(model_labels, start=1)}
    if "aspect_ratio" in request.options:
        options["aspect_ratio"] = request.options["aspect_ratio"]
    return _command_line("/compare", request.prompt, options, limit)


def recipe_line(job: Job, sent: Options, model_label: str, limit: int) -> str:
    """Return the command that orders the same again. Only the prompt is shortened to keep within `limit` characters."""
    own_options = OWN_OPTIONS[job.request.kind]
    options: dict[str, object] = {"model": model_label}
    options |= {name: value for name, value in sent.items() if name in own_options}
    if job.seed is not None:
        options["seed"] = job.seed
    if more := more_text({name: value for name, value in sent.items() if name not in own_options}):
        options["more"] = more
    return _command_line(_command(job.request.kind), job.request.prompt, options, limit)


def _command_line(command: str, prompt: str, options: Mapping[str, object], limit: int) -> str:
    named = "".join(f" {option_name(name)}: {value}" for name, value in options.items())
    start = f"{command} {option_name('prompt')}: "
    return start + formatting.shorten(prompt, max(1, limit - len(start) - len(named))) + named


def _command(kind: JobKind) -> str:
    match kind:
        case JobKind.IMAGINE:
            return "/imagine"
        case JobKind.EDIT:
            return "/edit"
        case JobKind.UPSCALE:
            return job_card.RECIPE_OF_UPSCALE()
