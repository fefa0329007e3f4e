"""The pages of /preset list and /defaults show. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from bot.domain.presets import MemberDefaults, Preset
from bot.service.job_service import JobService
from cogs.text import formatting, presets
from cogs.text.locale import option_name
from cogs.ui import card
from cogs.ui.components import Layout

PAGE_CHARACTERS = 3_400
WORDS_CHARACTERS = 80


def page(service: JobService, found: Sequence[Preset]) -> Layout:
    """Lay out the presets that a member can use: their own and the server's."""
    if not found:
        return card.note(presets.PRESETS_TITLE(), presets.PRESETS_NONE())
    parts = [presets.PRESETS_TITLE()]
    left = PAGE_CHARACTERS
    for title, own in ((presets.PRESETS_OF_SERVER(), False), (presets.PRESETS_OWN(), True)):
        lines = [line(service, preset) for preset in found if preset.is_own is own]
        shown: list[str] = []
        for text in lines:
            if len(text) + 1 > left:
                break
            left -= len(text) + 1
            shown.append(text)
        if len(shown) < len(lines):
            shown.append(presets.PRESETS_MORE(count=len(lines) - len(shown)))
        if shown:
            parts.append("\n".join([title, *shown]))
    return card.note(*parts)


def line(service: JobService, preset: Preset) -> str:
    """Return one line that says what a preset does."""
    facts: list[str] = []
    if preset.model_id:
        facts.append(service.model_label(preset.model_id))
    if preset.more:
        facts.append(f"`{formatting.inline(preset.more, WORDS_CHARACTERS)}`")
    if preset.reference is not None:
        facts.append(presets.WITH_REFERENCE())
    if preset.words_before or preset.words_after:
        before = formatting.inline(preset.words_before, WORDS_CHARACTERS).strip()
        after = formatting.inline(preset.words_after, WORDS_CHARACTERS).strip()
        facts.append("`" + " ".join(filter(None, (before, f"[{presets.PROMPT_HERE()}]", after))) + "`")
    return f"`{formatting.inline(preset.name)}` · {' · '.join(facts)}"


def defaults(service: JobService, own: MemberDefaults, left_out: Sequence[str] = ()) -> Layout:
    """Lay out what a member's orders in a server begin with; `left_out` says what orders do without, and why."""
    if own == MemberDefaults():
        return card.note(presets.DEFAULTS_TITLE(), presets.DEFAULTS_NONE())
    values = {
        "model": own.model_id and service.model_label(own.model_id),
        "aspect_ratio": own.aspect_ratio,
        "resolution": own.resolution,
        "private": None if own.private is None else (presets.YES() if own.private else presets.NO()),
        "preset": own.preset_name,
    }
    lines = [f"`{option_name(name)}`: {formatting.quoted(value)}" for name, value in values.items() if value]
    troubles = [f"⚠️ {why}" for why in left_out]
    return card.note(presets.DEFAULTS_TITLE(), "\n".join(lines), *troubles, presets.DEFAULTS_HINT())
