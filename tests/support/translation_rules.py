"""Rules of translations: what must be kept of the English text, and what Discord accepts.

Facts, code, links, commands, emoji and the structure of lines are kept; all other words are translated.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from cogs.text.locale import OPTION

FACTS = {
    "amount": "$1,234,567.654321",
    "number": "10",
    "zone": "America/Argentina/ComodRivadavia",
    "time": "23:59",
    "option": "aspect_ratio",
    "model": "Stable Diffusion 3.5 Large",
    "votes": "1,000,000",
}
"""The longest values of facts, for texts with a maximum length."""

CODE = re.compile(r"`[^`]*`")
OPTION_IN_CODE = re.compile(r"(?<=^`)\w+(?=`$)|\w+(?=:)")
"""`count`, and the `model` of `/models model:`."""

OPTION_NAME = re.compile(r"[-_'\w]{1,32}")
KEPT = re.compile(r"\]\([^)]*\)|(?<![\w/])/[a-z][-a-z]*|<[^<>]+>|\*\*|__")
"""Link targets, commands, text that Discord replaces, bold and underlined text."""

LINE_START = re.compile(r"^(?:#{1,3} |-# |\d+\. |[-*] |> )?", re.MULTILINE)
WORD = re.compile(r"[^\W\d_]+")
FEW_WORDS = 3
"""At most this many words may be the same in another language."""


Key = tuple[str | None, str | tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One text in English."""

    text: str
    plural: str | None = None
    context: str | None = None
    limit: int | None = None

    @property
    def key(self) -> Key:
        """Texts with the same key have the same translation."""
        return self.context, self.text if self.plural is None else (self.text, self.plural)


def complaints(entry: Entry, forms: Sequence[str], options: Mapping[str, str]) -> list[str]:
    """Return what is wrong with a translation of `entry`. `options` are the names of options in that language."""
    models = [entry.text] if entry.plural is None else [entry.text, entry.plural]
    found: list[str] = []
    for number, form in enumerate(forms):
        # The first form may be for exactly one, as in English; if it is for more numbers, it needs the count.
        alone = number == 0 and names(form) == names(models[0])
        found += _complaints(entry, form, models[0] if alone else models[-1], options)
    return found


def _complaints(entry: Entry, form: str, model: str, options: Mapping[str, str]) -> Iterator[str]:
    if not form.strip():
        yield "is empty"
        return
    if names(form) != names(model):
        yield f"has {_braces(form)} where the English has {_braces(model)}"
        return
    if entry.limit is not None and (length := len(filled(form))) > entry.limit:
        yield f"is {length} characters long; {entry.limit} fit"
    if entry.context == OPTION and not (OPTION_NAME.fullmatch(form) and form == form.lower()):
        yield "is no name for an option: lower-case letters, digits, - and _, no blanks"
    if unicodedata.normalize("NFC", form) != form:
        yield "has letters put together from parts; write each as one (Unicode NFC)"
    if form == model and len(WORD.findall(CODE.sub("", form))) > FEW_WORDS:
        yield "is still English"
    if LINE_START.findall(form) != LINE_START.findall(model):
        yield f"has lines that begin with {LINE_START.findall(form)}, not {LINE_START.findall(model)}"
    if _edges(form) != _edges(model):
        yield "begins or ends with a blank where the English does not, or the other way round"
    wanted, kept = _kept(model, options), _kept(form, {})
    for part in wanted - kept:
        yield f"lacks {part}"
    for part in kept - wanted:
        yield f"has {part}, which the English has not"


def names(text: str) -> set[str]:
    """Return the facts of a phrase, with how each is written."""
    try:
        parts = [(name, turned, how) for _, name, how, turned in Formatter().parse(text) if name is not None]
    except ValueError:
        return {"a brace that is not closed"}
    return {
        f"{name}{'!' if turned else ''}{turned or ''}{':' if how else ''}{how or ''}" for name, turned, how in parts
    }


def filled(text: str) -> str:
    """Return the phrase with the longest facts. Raises KeyError for a fact that is not in FACTS."""
    return text.format_map(FACTS) if names(text) else text


def _braces(text: str) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names(text))) or "no facts"


def _edges(text: str) -> tuple[bool, bool]:
    return text[:1].isspace(), text[-1:].isspace()


def _kept(text: str, options: Mapping[str, str]) -> Counter[str]:
    """Return what must be present in every language. Options have the names of the reader's language."""
    kept = Counter(OPTION_IN_CODE.sub(lambda name: options.get(name[0], name[0]), code) for code in CODE.findall(text))
    plain = CODE.sub("", text)
    kept.update(KEPT.findall(plain))
    kept.update(character for character in plain if unicodedata.category(character) == "So")
    return kept
