"""The catalogue: every model that can be ordered and its prices.

Everything about single models is data, in three layers: the shipped `catalogue.json`, the changes of the provider's
description that were taken over (in the database), and the operator's own file. The code knows no model.
"""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from bot.catalogue import order_text, quotes
from bot.catalogue.models import Model
from bot.catalogue.order_text import TranslatedNames
from bot.catalogue.provider_description.changes import PRICE, ChangeState, Layered, RecordedChange, layered
from bot.catalogue.provider_description.model_notices import ModelNotice
from bot.catalogue.provider_description.overrides import with_overrides
from bot.catalogue.quotes import Quote
from bot.domain.errors import BadOption, ModelUnavailable, UnknownModel
from bot.domain.jobs import JobKind, JobRequest
from bot.domain.texts import squashed, words_of

OVERRIDE_FILE = "catalogue.override.json"
"""The operator's own prices, hidden models and changes, in the folder of the database."""

_MAX_SUGGESTIONS = 3
_MIN_PART_CHARACTERS = 3
"""A shorter part of a name is in too many names to say which one was meant."""

_MIN_SIMILARITY = 0.75

MAX_SEARCH_CHARACTERS = 100
MAX_SEARCH_WORDS = 8
"""What is looked at of a typed text; longer ones find no more, and every word is compared with all models."""

DATA_FILE = Path(__file__).with_name("catalogue.json")
"""The catalogue that ships with the program."""


def data_text() -> str:
    """Return the content of the data file."""
    return DATA_FILE.read_text(encoding="utf-8")


def shipped_data() -> dict[str, Any]:
    """Return the content of the data file as data."""
    return json.loads(data_text())


class Catalogue:
    """All models, in the order of the data."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._by_id: dict[str, Model] = {}
        self._changed_at: dict[str, datetime] = {}
        self.replace(models)

    def replace(self, models: Iterable[Model], *, now: datetime | None = None) -> None:
        """Take these models instead of the present ones. Orders at a provider keep the quote that they were given.

        With `now`, remember when each of them changed.
        """
        before, self._by_id = self._by_id, {model.id: model for model in models}
        if now is not None:
            changed = [key for key in before.keys() | self._by_id.keys() if before.get(key) != self._by_id.get(key)]
            self._changed_at |= dict.fromkeys(changed, now)
        self.models = tuple(model for model in self._by_id.values() if not (model.hidden or model.retired))
        """The listed models, with or without a price."""
        self.flag_names = order_text.flag_names(self.models)
        """The names that count as flags in a prompt."""
        self._translated_names: dict[str, TranslatedNames] = {}
        self._by_label = {squashed(model.label): model for model in self._by_id.values()}
        self._tokens = {model.id: _Tokens(model) for model in self._by_id.values()}

    def translated_names(self, language: str, translate: Callable[[str], str]) -> TranslatedNames:
        """Return the names of options in a language, into which `translate` translates one."""
        if language not in self._translated_names:  # 0.2 ms, which each command would take
            self._translated_names[language] = TranslatedNames.of(self.models, translate)
        return self._translated_names[language]

    @classmethod
    def load(
        cls,
        overrides: Path | None = None,
        *,
        changes: Iterable[RecordedChange] = (),
        notices: Iterable[ModelNotice] = (),
    ) -> Self:
        """Read the shipped catalogue, lay the recorded changes over it, and then the operator's file, if it exists.

        Raises SettingsError when the operator's file is not valid.
        """
        return cls(assembled(overrides, changes=list(changes), notices=notices))

    @property
    def all_models(self) -> tuple[Model, ...]:
        """Every model, also those that are kept only for the names of old jobs."""
        return tuple(self._by_id.values())

    def find(self, model_id: str) -> Model | None:
        """Return the model of that id or exactly that label, listed or not; None when there is none."""
        found = self._by_id.get(model_id) or self._by_id.get(_normal_spelling(model_id))
        return found or self._by_label.get(squashed(model_id))

    def changed_since(self, model_id: str, moment: datetime) -> bool:
        """Return whether the model was changed in this process after that moment, by any of the layers."""
        changed_at = self._changed_at.get(model_id)
        return changed_at is not None and changed_at >= moment

    def get(
        self, model_id: str, *, kind: JobKind | None = None, providers: frozenset[str] | None = None
    ) -> Model:  # fmt: skip
        """Return the model like `find`.

        Raises UnknownModel with ids of similar models that can be ordered, by that command and from these providers.
        """
        found = self.find(model_id)
        if found is None:
            suggested = [
                model
                for model in self.models
                if model.orderable
                and (kind is None or model.supports(kind))
                and (providers is None or model.provider in providers)
            ]
            raise UnknownModel(model_id=model_id, suggestions=_similar_ids(model_id, suggested))
        return found

    def next_best(self, model_id: str, *, kind: JobKind, providers: frozenset[str]) -> Model | None:
        """Return the model to order instead of one that cannot be ordered: its heir, else one of about its price."""
        missing = self.find(model_id)
        # One that will be withdrawn still takes orders, and is no successor of itself.
        candidates = [model for model in self.search("", kind=kind, providers=providers) if model is not missing]
        if missing is None:
            return min(candidates, key=lambda model: model.starting_usd_micros or 0, default=None)
        heir = next((model for model in candidates if model.id == missing.heir), None)
        if heir is not None:
            return heir
        price = missing.starting_usd_micros or 0
        affordable = [model for model in candidates if not price or (model.starting_usd_micros or 0) <= price]
        # Nothing dearer than what was chosen, unless nothing else is left.
        return max(affordable, key=lambda model: model.starting_usd_micros or 0, default=None) or min(
            candidates, key=lambda model: model.starting_usd_micros or 0, default=None
        )

    def search(self, text: str, *, kind: JobKind, providers: frozenset[str]) -> list[Model]:
        """Return the models that the command can order now, best match first; all of them for an empty text."""
        models = [m for m in self._by_id.values() if m.orderable and m.provider in providers and m.supports(kind)]
        parts = words_of(text[:MAX_SEARCH_CHARACTERS])[:MAX_SEARCH_WORDS]
        if not parts:
            return models
        ranked = [(rank, model) for model in models if (rank := self._tokens[model.id].rank(parts)) is not None]
        if not ranked:
            ranked = [(0, model) for model in models if self._tokens[model.id].resembles(parts)]
        # sorted() is stable: equals keep the order of the catalogue.
        return [model for _, model in sorted(ranked, key=lambda pair: pair[0])]

    def quote(
        self,
        request: JobRequest,
        *,
        seed_source: Callable[[], int] = quotes.random_seed,
        providers: frozenset[str] | None = None,
    ) -> Quote:
        """Return a checked order for `request` and its price. Raises UnknownModel, ModelUnavailable or BadOption."""
        model = self.get(request.model_id, kind=request.kind, providers=providers)
        if reason := model.stopped or ("retired" if model.retired and model.heir else ""):
            heir = self.find(model.heir)
            is_useful = heir is not None and heir.orderable and heir.supports(request.kind)
            label = heir.label if heir and is_useful else ""
            raise ModelUnavailable(model_id=model.id, model_label=model.label, reason=reason, heir=label)
        if model.unfillable:
            raise ModelUnavailable(model_id=model.id, model_label=model.label, reason="no_price")
        return quotes.quote(model, request, seed_source=seed_source)

    def cheapest(self, request: JobRequest, *, permits: Callable[[Model], bool]) -> Quote | None:
        """Return the cheapest order for `request` by any permitted model, not only the one it names, or None."""
        models = [model for model in self.models if model.prices and not model.stopped and model.supports(request.kind)]
        found = [quote for model in models if permits(model) and (quote := _try_quote(model, request)) is not None]
        # min() returns the first of equals, in the order of the catalogue.
        return min(found, key=lambda quote: quote.amount_usd_micros, default=None)


def assembled(
    overrides: Path | None, *, changes: list[RecordedChange], notices: Iterable[ModelNotice] = ()
) -> list[Model]:  # fmt: skip
    """Return the models of all layers, each with why it takes no orders now. Raises SettingsError."""
    data = layered_data(changes).data
    if overrides is not None and overrides.exists():
        models = with_overrides(data, overrides)
    else:
        models = {entry["id"]: Model.from_data(entry) for entry in data["models"]}
    shipped = {entry["id"]: entry["price"] for entry in data["models"]}
    for change in changes:
        model = models.get(change.model_id)
        if change.state is not ChangeState.HELD or not change.stops or model is None:
            continue
        if change.part == PRICE and model.prices != Model.from_data({**_BARE, "price": shipped[model.id]}).prices:
            continue  # the operator's own price holds whatever the provider publishes
        models[model.id] = replace(model, stopped="held")
    for notice in notices:
        if (model := models.get(notice.model_id)) is not None:
            models[model.id] = notice.applied_to(model, _id_named(notice.heir, model, models))
    return list(models.values())


_BARE: dict[str, Any] = {"id": "", "label": "", "provider": "", "path": "", "kind": "", "modes": [], "fields": {}}


def layered_data(changes: Iterable[RecordedChange], *, by_people_only: bool = False) -> Layered:
    """Return the shipped data with the recorded changes over it."""
    return layered(shipped_data(), changes, by_people_only=by_people_only)


def _id_named(name: str, model: Model, models: Mapping[str, Model]) -> str:
    """Return the id of the model of the same provider that the provider calls `name`; '' if there is none."""
    wanted = name.strip().removeprefix("/").removeprefix("generate/").removeprefix("image/").casefold()
    if not wanted:
        return ""
    candidates = (name.strip(), f"{model.provider}/{wanted}")
    return next((candidate for candidate in candidates if candidate in models and candidate != model.id), "")


def _similar_ids(text: str, models: Iterable[Model]) -> tuple[str, ...]:
    names: dict[str, str] = {}
    for model in models:
        for known in (model.label, model.id, model.id.rpartition("/")[2]):
            names[squashed(known)] = model.id
    name = squashed(text.rpartition("/")[2])
    longer = [other for other in names if name in other] if len(name) >= _MIN_PART_CHARACTERS else []
    longer.sort(key=lambda other: (not other.startswith(name), len(other)))  # a name that was cut short comes first
    near = difflib.get_close_matches(squashed(text)[:100], names, n=_MAX_SUGGESTIONS * 2, cutoff=0.5)
    return tuple(dict.fromkeys(names[known] for known in (*longer, *near)))[:_MAX_SUGGESTIONS]


def _try_quote(model: Model, request: JobRequest) -> Quote | None:
    try:
        return quotes.quote(model, order_text.for_model(model, request))
    except (ModelUnavailable, BadOption):
        return None


# -- search --------------------------------------------------------------------------------------------


class _Tokens:
    """The words of a model's label and id, prepared for searching."""

    def __init__(self, model: Model) -> None:
        # Without the provider: every id begins with one.
        name = model.id.partition("/")[2]
        self._words = words_of(f"{model.label} {name}")
        self._label = squashed(model.label)
        self._squashed = f"{self._label} {squashed(name)}"
        self._id = squashed(model.id)

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


def _normal_spelling(text: str) -> str:
    """Return an id as the catalogue spells it: lower case, without blanks, no full-width letters."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
