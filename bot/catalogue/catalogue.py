"""The catalogue: everything that can be asked for and the most it may cost, read once from `catalogue.json`.

What is known about models is in the data; the code knows fields, options and prices, but no model.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

from bot.catalogue import quotes as orders
from bot.catalogue.models import ABSENT, PICTURES, PRESENT, Field, Model, PricePoint
from bot.catalogue.quotes import Quote
from bot.domain.errors import BadOption, ModelUnavailable, SettingsError, UnknownModel
from bot.domain.jobs import JobKind, JobRequest
from bot.domain.quota import parse_usd

OVERRIDE_FILE = "catalogue.override.json"
"""The operator's prices and hidden models; lies beside the database."""

_SUGGESTIONS = 3
_ALIKE = 0.75

DATA_FILE = Path(__file__).with_name("catalogue.json")
"""The catalogue as it was shipped."""


def data_text() -> str:
    """The content of the data file."""
    return DATA_FILE.read_text(encoding="utf-8")


class Catalogue:
    """All models, in the order of the data."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._by_id = {model.id: model for model in models}
        self._by_label = {_squash(model.label): model for model in self._by_id.values()}
        self._words = {model.id: _Tokens(model) for model in self._by_id.values()}

    @classmethod
    def load(cls, overrides: Path | None = None) -> Self:
        """The shipped catalogue at the operator's prices; a file that is not there changes nothing.

        Raises SettingsError when the override file is not what it should be.
        """
        data = json.loads(data_text())
        models = {entry["id"]: Model.from_data(entry) for entry in data["models"]}
        if overrides is not None and overrides.is_file():
            models = _overridden(models, overrides)
        return cls(models.values())

    @property
    def models(self) -> tuple[Model, ...]:
        """What is listed, whether or not it has a price."""
        return tuple(model for model in self._by_id.values() if not (model.hidden or model.retired))

    def find(self, model_id: str) -> Model | None:
        """The model of that id (or exactly that label), listed or not; None when there is none."""
        found = self._by_id.get(model_id) or self._by_id.get(model_id.strip().casefold())
        return found or self._by_label.get(_squash(model_id))

    def get(self, model_id: str) -> Model:
        """The same, but raises UnknownModel with ids that look alike."""
        found = self.find(model_id)
        if found is None:
            raise UnknownModel(model_id=model_id, suggestions=self._alike(model_id))
        return found

    def search(self, text: str, *, kind: JobKind, providers: frozenset[str]) -> list[Model]:
        """Models that command can order now, best match first; all of them, in order, for an empty text."""
        fitting = [m for m in self._by_id.values() if m.orderable and m.provider in providers and m.fits(kind)]
        parts = _parts(text)
        if not parts:
            return fitting
        ranked = [(rank, model) for model in fitting if (rank := self._words[model.id].rank(parts)) is not None]
        if not ranked:
            ranked = [(0, model) for model in fitting if self._words[model.id].resembles(parts)]
        # sorted() is stable: equals stay in the order of the catalogue
        return [model for _, model in sorted(ranked, key=lambda pair: pair[0])]

    def quote(self, request: JobRequest, *, seed_source: Callable[[], int] = orders.random_seed) -> Quote:
        """A checked order for `request` and its price. Raises UnknownModel, ModelUnavailable, BadOption."""
        return orders.quote(self.get(request.model_id), request, seed_source=seed_source)

    def cheapest(self, request: JobRequest, *, permits: Callable[[Model], bool]) -> Quote | None:
        """The least expensive order for `request` by any model that is permitted, whichever it names; None for none."""
        fitting = [model for model in self.models if model.prices and model.fits(request.kind)]
        quotes = [quote for model in fitting if permits(model) and (quote := _quoted(model, request)) is not None]
        # of equals the first in the order of the catalogue
        return min(quotes, key=lambda quote: quote.amount_usd_micros, default=None)

    def _alike(self, text: str) -> tuple[str, ...]:
        names = {_squash(model.label): model.id for model in self.models}
        names |= {_squash(model.id): model.id for model in self.models}
        names |= {_squash(model.id.rpartition("/")[2]): model.id for model in self.models}
        near = difflib.get_close_matches(_squash(text)[:100], names, n=_SUGGESTIONS * 2, cutoff=0.5)
        return tuple(dict.fromkeys(names[name] for name in near))[:_SUGGESTIONS]


def _quoted(model: Model, request: JobRequest) -> Quote | None:
    try:
        return orders.quote(model, replace(request, model_id=model.id))
    except (ModelUnavailable, BadOption):
        return None


# -- finding by words ---------------------------------------------------------------------------------


class _Tokens:
    """The words of a model's label and id, ready to be searched."""

    def __init__(self, model: Model) -> None:
        # without the provider, which says nothing: every id begins with one
        name = model.id.partition("/")[2]
        self._words = _parts(f"{model.label} {name}")
        self._label = _squash(model.label)
        self._squashed = f"{self._label} {_squash(name)}"
        self._id = _squash(model.id)

    def rank(self, parts: list[str]) -> int | None:
        """0 for the whole name, then its beginning, then beginnings of words, then anywhere; None for no match."""
        whole = "".join(parts)
        if not all(part in self._squashed for part in parts) and whole not in self._id:
            return None
        if self._label == whole:
            return 0
        if self._label.startswith(whole):
            return 1
        return 2 if all(any(word.startswith(part) for word in self._words) for part in parts) else 3

    def resembles(self, parts: list[str]) -> bool:
        """True when every part is a word with a slip of the finger."""
        return all(difflib.get_close_matches(part[:50], self._words, n=1, cutoff=_ALIKE) for part in parts)


def _parts(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _squash(text: str) -> str:
    return "".join(_parts(text))


# -- the operator's own prices ------------------------------------------------------------------------


class _Wrong(Exception):
    """What is wrong with the override file, in words for the operator."""


def _overridden(models: Mapping[str, Model], path: Path) -> dict[str, Model]:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path.name}: not readable as JSON ({error})") from error
    try:
        return _apply(models, data)
    except _Wrong as error:
        raise SettingsError(f"{path.name}: {error}") from error


def _apply(models: Mapping[str, Model], data: Any) -> dict[str, Model]:
    entries = _object(data, "the file")
    if unknown := entries.keys() - {"prices", "hidden"}:
        raise _Wrong(f"unknown key {min(unknown)!r}; known are 'prices' and 'hidden'")
    result = dict(models)
    for model_id, price in _object(entries.get("prices", {}), "'prices'").items():
        model = _known(result, model_id)
        result[model_id] = model.priced(_points(model, price))
    hidden = entries.get("hidden", [])
    if not isinstance(hidden, list):
        raise _Wrong("'hidden' is a list of model ids")
    for model_id in cast("list[Any]", hidden):
        result[model_id] = replace(_known(result, model_id), hidden=True)
    return result


def _known(models: Mapping[str, Model], model_id: object) -> Model:
    if not isinstance(model_id, str) or model_id not in models:
        raise _Wrong(f"no model {model_id!r} in the catalogue")
    return models[model_id]


def _points(model: Model, price: Any) -> tuple[PricePoint, ...]:
    if isinstance(price, str):
        return (PricePoint(when={}, usd_micros=_amount(model, price)),)
    if not isinstance(price, list) or not price:
        raise _Wrong(f'the price of {model.id} is an amount such as "0.05" or a list of {{"when", "amount_usd"}}')
    points: list[PricePoint] = []
    for entry in cast("list[Any]", price):
        point = _object(entry, f"a price of {model.id}")
        if point.keys() - {"when", "amount_usd"} or "amount_usd" not in point:
            raise _Wrong(f"a price of {model.id} has 'amount_usd' and may have 'when', nothing else")
        when = _object(point.get("when", {}), f"'when' in a price of {model.id}")
        checked = {name: _condition(model, name, wanted) for name, wanted in when.items()}
        points.append(PricePoint(when=checked, usd_micros=_amount(model, point["amount_usd"])))
    return tuple(points)


def _condition(model: Model, name: str, wanted: Any) -> Any:
    if name == PICTURES:
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
            raise _Wrong(f"'pictures' in a price of {model.id} is a whole number")
        return wanted
    field = model.fields.get(name)
    if field is None or not field.purposes:
        raise _Wrong(f"{model.id} has no field {name!r} that a price could depend on")
    if wanted in (PRESENT, ABSENT):
        return wanted
    if field.type == "array" or field.is_for_images:
        raise _Wrong(f"a price of {model.id} depends on {name} being 'present' or 'absent'")
    try:
        return field.check(wanted)
    except ValueError:
        raise _Wrong(f"{name} in a price of {model.id} accepts {_taken_by(field)}") from None


def _taken_by(field: Field) -> str:
    """What it takes, for the operator."""
    bounds = [(field.minimum, "at least"), (field.maximum, "at most")]
    said = [f"{word} {bound:,}" for bound, word in bounds if bound is not None]
    return ", ".join(field.enum or (f"values of type {field.type}", *said))


def _amount(model: Model, text: Any) -> int:
    try:
        amount = parse_usd(text) if isinstance(text, str) else 0
    except ValueError:
        amount = 0
    if amount <= 0:
        raise _Wrong(f'the price of {model.id} is an amount in dollars in quotes such as "0.05", more than 0')
    return amount


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"{what} is an object with names and values")
    return cast("dict[str, Any]", value)
