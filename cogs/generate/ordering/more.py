"""More: what autocomplete offers for the option `more`, from the parameters of the chosen model.

Discord puts the label of a choice into the input and sends its value. Each label therefore starts with its value, and
what follows is a note that the reader of `more` drops, so that a member can go on typing behind it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from bot.catalogue import order_text, parameters
from bot.catalogue.models import Model
from bot.catalogue.order_text import NOTE
from bot.catalogue.parameters import Parameter
from bot.catalogue.styles import Styles
from bot.domain.constraints import AttachedImages, Identifiers, Number, OneOf, TrueOrFalse
from bot.domain.errors import BadOption
from bot.domain.jobs import JobKind
from bot.domain.money.quota import format_usd
from cogs.text import facts, formatting
from cogs.text.locale import option_name

MAX_CHARACTERS = 100
"""Discord's limit of the name and of the value of a choice."""

_UNFINISHED = re.compile(r"[,;\uff0c\uff1b\u3001]\s*([^\W\d_][\w-]*)?$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """A whole text for `more`, and what is said about its last part."""

    text: str
    note: str

    @property
    def label(self) -> str:
        """The text, and as much of the note as fits."""
        return formatting.shorten(f"{self.text}{NOTE}{self.note}", MAX_CHARACTERS)


def suggestions(
    model: Model, kind: JobKind, text: str, *, attached: Collection[str], styles: Styles
) -> Iterator[Suggestion]:
    """Yield texts that go on from what was typed: names with a value that fits, then values of the last name."""
    given = _Given.read(model, text)
    if given is None:
        return
    head = f"{order_text.more_text(given.before)}, " if given.before else ""
    known = list(_known(model, kind, attached))
    if given.value is None:
        found = [
            each
            for each in known
            if (given.name in each.name or given.name in option_name(each.name)) and each.name not in given.before
        ]
        # Names that begin with what was typed come first; sorted() is stable.
        for each in sorted(found, key=lambda each: not each.name.startswith(given.name)):
            yield from _fitting(f"{head}{each.name}=", [_example(each, attached)], _note(model, each, None))
        return
    named = next((each for each in known if each.name == model.option_name(given.name)), None)
    if named is None:
        return
    for value in _values(named, given.value, attached=attached, model=model, styles=styles):
        yield from _fitting(f"{head}{named.name}=", [value], _note(model, named, value))


def _fitting(start: str, values: list[str], note: str) -> Iterator[Suggestion]:
    for value in values:
        if len(start + value) <= MAX_CHARACTERS:
            yield Suggestion(text=start + value, note=note)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Given:
    """What was typed so far: complete parts, then the name that is being typed, or the value (None: none yet)."""

    before: dict[str, str]
    name: str
    value: str | None

    @classmethod
    def read(cls, model: Model, text: str) -> _Given | None:
        unfinished = _UNFINISHED.search(text)
        start = unfinished.start() if unfinished else 0
        fragment = (unfinished[1] or "") if unfinished else text.strip()
        try:
            if unfinished or not order_text.has_names(text):
                before = order_text.parse_more(model, text[:start])
                return cls(before=before, name=fragment.casefold().replace("-", "_"), value=None)
            before = order_text.parse_more(model, text)
        except BadOption:
            return None
        name, value = before.popitem()
        return cls(before=before, name=name, value=value)


def _known(model: Model, kind: JobKind, attached: Collection[str]) -> Iterator[Parameter]:
    """Yield the parameters of the model, with those of each attached image."""
    for each in parameters.parameters_of(model, kind):
        yield each
        part = parameters.attachment_part(each.name)
        for name in attached if part else ():
            found = parameters.parameter(model, kind, f"{name}_{part[1]}") if part and name != part[0] else None
            if found is not None:
                yield found


def _example(each: Parameter, attached: Collection[str]) -> str:
    """Return a value to begin with: the default, else one that fits; empty where only the member knows one."""
    if each.default not in (None, ""):
        return _typed(each.default)
    match each.constraint:
        case OneOf(values=values):
            return values[0]
        case TrueOrFalse():
            return "true"
        case Number(minimum=minimum, maximum=maximum):
            bound = maximum if minimum is None else minimum
            return "" if bound is None else _typed(bound)
        case AttachedImages(names=names):
            return next((name for name in names if name in attached and name not in ("image", "reference")), names[0])
        case _:
            return ""


def _values(each: Parameter, typed: str, *, attached: Collection[str], model: Model, styles: Styles) -> Iterator[str]:
    """Yield values that fit what was typed."""
    wanted = typed.strip().casefold()
    match each.constraint:
        case OneOf(values=values):
            yield from (value for value in values if wanted in value.casefold())
        case TrueOrFalse():
            yield from (value for value in ("true", "false") if value.startswith(wanted))
        case Number(minimum=minimum, maximum=maximum):
            yield from dict.fromkeys(_numbers(each, wanted, minimum, maximum))
        case AttachedImages(names=names):
            yield from (name for name in names if wanted in name and (not attached or name in attached))
        case Identifiers() if each.name == "style":
            yield from style_lists(typed, model, styles)
        case _:
            yield typed


def _numbers(each: Parameter, wanted: str, minimum: float | None, maximum: float | None) -> Iterator[str]:
    """Yield the typed number if the field takes it, else (or also for nothing typed) its default and its bounds."""
    value = each.field.parse(wanted)
    try:
        yield _typed(each.field.check(value))
    except ValueError:
        yield from (_typed(bound) for bound in (each.default, minimum, maximum) if bound is not None)


def style_lists(typed: str, model: Model, styles: Styles) -> Iterator[str]:
    """Yield lists that end with a style whose title contains what was typed last, after a colon with a strength."""
    if typed.strip():
        yield typed
    before, plus, last = typed.rpartition("+")
    if last.endswith(":"):
        part = parameters.parameter(model, JobKind.IMAGINE, "style_strength")
        if part is not None and isinstance(part.constraint, Number):
            numbers = _numbers(part, "", part.constraint.minimum, part.constraint.maximum)
            yield from (f"{typed}{number}" for number in dict.fromkeys(numbers))
    ((key, strength),) = order_text.weighted(last)
    own_strength = "" if strength is None else f":{last.rpartition(':')[2]}"
    for style in styles.search(key, families=model.style_families):
        yield f"{before}{plus}{styles.name_of(style.id)}{own_strength}"


def _note(model: Model, each: Parameter, value: str | None) -> str:
    """Say the price that the value decides, what the parameter takes, and its default."""
    notes: list[str] = []
    if value is not None and (price := price_of(model, each.name, value)) is not None:
        notes.append(format_usd(price))
    if value is None or not isinstance(each.constraint, OneOf):
        notes.append(facts.accepted(each.constraint))
    if each.default not in (None, "", value):
        notes.append(facts.DEFAULT_IS(value=_typed(each.default)))
    return ", ".join(notes) or facts.accepted(each.constraint)


def price_of(model: Model, option: str, value: str) -> int | None:
    """Return the price if this value of an option alone decides it."""
    field = model.field_for(option)
    name = field.name if field is not None else option
    prices = {point.usd_micros for point in model.prices if name in point.when and str(point.when[name]) == value}
    return prices.pop() if len(prices) == 1 else None


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
