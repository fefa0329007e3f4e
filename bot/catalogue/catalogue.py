"""The catalogue: every model that can be ordered and its prices, read once from `catalogue.json`.

Everything about single models is in the data; the code knows fields, options and prices, but no model.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

from bot.catalogue import quotes
from bot.catalogue.models import ABSENT, IMAGE_COUNT, PRESENT, Field, Model, PricePoint
from bot.catalogue.quotes import Quote
from bot.domain.errors import BadOption, ModelUnavailable, SettingsError, UnknownModel
from bot.domain.jobs import JobKind, JobRequest
from bot.domain.quota import parse_usd

OVERRIDE_FILE = "catalogue.override.json"
"""The operator's prices and hidden models, in the folder of the database."""

_MAX_SUGGESTIONS = 3
_MIN_SIMILARITY = 0.75

MAX_SEARCH_CHARACTERS = 100
MAX_SEARCH_WORDS = 8
"""What is looked at of a typed text; longer ones find no more, and every word is compared with all models."""

DATA_FILE = Path(__file__).with_name("catalogue.json")
"""The catalogue that ships with the program."""


def data_text() -> str:
    """Return the content of the data file."""
    return DATA_FILE.read_text(encoding="utf-8")


class Catalogue:
    """All models, in the order of the data."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._by_id = {model.id: model for model in models}
        self._by_label = {_squash(model.label): model for model in self._by_id.values()}
        self._tokens = {model.id: _Tokens(model) for model in self._by_id.values()}

    @classmethod
    def load(cls, overrides: Path | None = None) -> Self:
        """Read the shipped catalogue and apply the operator's override file, if it exists.

        Raises SettingsError when the override file is not valid.
        """
        data = json.loads(data_text())
        models = {entry["id"]: Model.from_data(entry) for entry in data["models"]}
        if overrides is not None and overrides.is_file():
            models = _with_overrides(models, overrides)
        return cls(models.values())

    @property
    def models(self) -> tuple[Model, ...]:
        """The listed models, with or without a price."""
        return tuple(model for model in self._by_id.values() if not (model.hidden or model.retired))

    def find(self, model_id: str) -> Model | None:
        """Return the model of that id or exactly that label, listed or not; None when there is none."""
        found = self._by_id.get(model_id) or self._by_id.get(model_id.strip().casefold())
        return found or self._by_label.get(_squash(model_id))

    def get(self, model_id: str) -> Model:
        """Return the model like `find`. Raises UnknownModel with similar ids when there is none."""
        found = self.find(model_id)
        if found is None:
            raise UnknownModel(model_id=model_id, suggestions=self._similar_ids(model_id))
        return found

    def search(self, text: str, *, kind: JobKind, providers: frozenset[str]) -> list[Model]:
        """Return the models that the command can order now, best match first; all of them for an empty text."""
        models = [m for m in self._by_id.values() if m.orderable and m.provider in providers and m.supports(kind)]
        parts = _parts(text[:MAX_SEARCH_CHARACTERS])[:MAX_SEARCH_WORDS]
        if not parts:
            return models
        ranked = [(rank, model) for model in models if (rank := self._tokens[model.id].rank(parts)) is not None]
        if not ranked:
            ranked = [(0, model) for model in models if self._tokens[model.id].resembles(parts)]
        # sorted() is stable: equals keep the order of the catalogue.
        return [model for _, model in sorted(ranked, key=lambda pair: pair[0])]

    def quote(self, request: JobRequest, *, seed_source: Callable[[], int] = quotes.random_seed) -> Quote:
        """Return a checked order for `request` and its price. Raises UnknownModel, ModelUnavailable or BadOption."""
        return quotes.quote(self.get(request.model_id), request, seed_source=seed_source)

    def cheapest(self, request: JobRequest, *, permits: Callable[[Model], bool]) -> Quote | None:
        """Return the cheapest order for `request` by any permitted model, not only the one it names, or None."""
        models = [model for model in self.models if model.prices and model.supports(request.kind)]
        found = [quote for model in models if permits(model) and (quote := _try_quote(model, request)) is not None]
        # min() returns the first of equals, in the order of the catalogue.
        return min(found, key=lambda quote: quote.amount_usd_micros, default=None)

    def _similar_ids(self, text: str) -> tuple[str, ...]:
        names = {_squash(model.label): model.id for model in self.models}
        names |= {_squash(model.id): model.id for model in self.models}
        names |= {_squash(model.id.rpartition("/")[2]): model.id for model in self.models}
        near = difflib.get_close_matches(_squash(text)[:100], names, n=_MAX_SUGGESTIONS * 2, cutoff=0.5)
        return tuple(dict.fromkeys(names[name] for name in near))[:_MAX_SUGGESTIONS]


def _try_quote(model: Model, request: JobRequest) -> Quote | None:
    try:
        return quotes.quote(model, replace(request, model_id=model.id))
    except (ModelUnavailable, BadOption):
        return None


# -- search --------------------------------------------------------------------------------------------


class _Tokens:
    """The words of a model's label and id, prepared for searching."""

    def __init__(self, model: Model) -> None:
        # Without the provider: every id begins with one.
        name = model.id.partition("/")[2]
        self._words = _parts(f"{model.label} {name}")
        self._label = _squash(model.label)
        self._squashed = f"{self._label} {_squash(name)}"
        self._id = _squash(model.id)

    def rank(self, parts: list[str]) -> int | None:
        """Return 0 for the whole label, 1 for the start, 2 for word starts, 3 for other parts; None for no match."""
        whole = "".join(parts)
        if not all(part in self._squashed for part in parts) and whole not in self._id:
            return None
        if self._label == whole:
            return 0
        if self._label.startswith(whole):
            return 1
        return 2 if all(any(word.startswith(part) for word in self._words) for part in parts) else 3

    def resembles(self, parts: list[str]) -> bool:
        """Return whether every part is a misspelt word of the model."""
        return all(difflib.get_close_matches(part[:50], self._words, n=1, cutoff=_MIN_SIMILARITY) for part in parts)


def _parts(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _squash(text: str) -> str:
    return "".join(_parts(text))


# -- the operator's overrides ------------------------------------------------------------------------


class _InvalidOverride(Exception):
    """The override file is invalid. `str()` tells the operator why."""


def _with_overrides(models: Mapping[str, Model], path: Path) -> dict[str, Model]:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path.name}: not readable as JSON ({error})") from error
    try:
        return _apply(models, data)
    except _InvalidOverride as error:
        raise SettingsError(f"{path.name}: {error}") from error


def _apply(models: Mapping[str, Model], data: Any) -> dict[str, Model]:
    entries = _object(data, "the file")
    if unknown := entries.keys() - {"prices", "hidden"}:
        raise _InvalidOverride(f"unknown key {min(unknown)!r}; known are 'prices' and 'hidden'")
    result = dict(models)
    for model_id, price in _object(entries.get("prices", {}), "'prices'").items():
        model = _known(result, model_id)
        result[model_id] = model.priced(_points(model, price))
    hidden = entries.get("hidden", [])
    if not isinstance(hidden, list):
        raise _InvalidOverride("'hidden' is a list of model ids")
    for model_id in cast("list[Any]", hidden):
        result[model_id] = replace(_known(result, model_id), hidden=True)
    return result


def _known(models: Mapping[str, Model], model_id: object) -> Model:
    if not isinstance(model_id, str) or model_id not in models:
        raise _InvalidOverride(f"no model {model_id!r} in the catalogue")
    return models[model_id]


def _points(model: Model, price: Any) -> tuple[PricePoint, ...]:
    if isinstance(price, str):
        return (PricePoint(when={}, usd_micros=_amount(model, price)),)
    if not isinstance(price, list) or not price:
        raise _InvalidOverride(
            f'the price of {model.id} is an amount such as "0.05" or a list of {{"when", "amount_usd"}}'
        )
    points: list[PricePoint] = []
    for entry in cast("list[Any]", price):
        point = _object(entry, f"a price of {model.id}")
        if point.keys() - {"when", "amount_usd"} or "amount_usd" not in point:
            raise _InvalidOverride(f"a price of {model.id} has 'amount_usd' and may have 'when', nothing else")
        when = _object(point.get("when", {}), f"'when' in a price of {model.id}")
        checked = {name: _condition(model, name, wanted) for name, wanted in when.items()}
        points.append(PricePoint(when=checked, usd_micros=_amount(model, point["amount_usd"])))
    return tuple(points)


def _condition(model: Model, name: str, wanted: Any) -> Any:
    if name == IMAGE_COUNT:
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
            raise _InvalidOverride(f"'pictures' in a price of {model.id} is a whole number")
        return wanted
    field = model.fields.get(name)
    if field is None or not field.purposes:
        raise _InvalidOverride(f"{model.id} has no field {name!r} that a price could depend on")
    if wanted in (PRESENT, ABSENT):
        return wanted
    if field.type == "array" or field.is_for_images:
        raise _InvalidOverride(f"a price of {model.id} depends on {name} being 'present' or 'absent'")
    try:
        return field.check(wanted)
    except ValueError:
        raise _InvalidOverride(f"{name} in a price of {model.id} accepts {_describe_values(field)}") from None


def _describe_values(field: Field) -> str:
    """Describe the values of a field for the operator."""
    bounds = [(field.minimum, "at least"), (field.maximum, "at most")]
    said = [f"{word} {bound:,}" for bound, word in bounds if bound is not None]
    return ", ".join(field.enum or (f"values of type {field.type}", *said))


def _amount(model: Model, text: Any) -> int:
    try:
        amount = parse_usd(text) if isinstance(text, str) else 0
    except ValueError:
        amount = 0
    if amount <= 0:
        raise _InvalidOverride(f'the price of {model.id} is an amount in dollars in quotes such as "0.05", more than 0')
    return amount


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _InvalidOverride(f"{what} is an object with names and values")
    return cast("dict[str, Any]", value)
