"""Documented fields: each one of each model can be set by its name, within the documented bounds and no further.

The routes of `sandbox/contracts.json` are what the providers document, read without the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from bot.catalogue.catalogue import Catalogue
from bot.catalogue.models import Model, PricePoint
from bot.catalogue.order_text import expand, flag_names
from bot.catalogue.quotes import Quote, fill_image_urls
from bot.domain.errors import BadOption
from bot.domain.jobs import ImageRole, JobKind, JobRequest
from sandbox.contracts import Contract, contracts
from tests.support.catalogue_samples import CATALOGUE, RAW, a_request, an_image
from tests.support.documented_orders import (
    EveryField,
    bad_values,
    every_field,
    good_values,
    is_image,
    parts_of,
    typed,
)

MODELS: Mapping[str, Model] = {model.path: model for model in CATALOGUE.models}
EVERY_CONTRACT = [pytest.param(contract, id=contract.path) for contract in contracts().values()]
ANY_PRICE = Catalogue(model.priced((PricePoint(when={}, usd_micros=50_000),)) for model in CATALOGUE.models)
"""Every model at one price, so that every choice of every field can be ordered."""
FLAGS = flag_names(ANY_PRICE.models)

SAME_NAMES = (
    "required",
    "enum",
    "default",
    "min",
    "max",
    "min_length",
    "max_length",
    "min_items",
    "max_items",
    "pattern",
)
NOTHING_GIVEN: tuple[Any, ...] = (None, False, "", [])


def kinds(model: Model) -> list[JobKind]:
    return [kind for kind in JobKind if model.supports(kind)]


def usual_field(model: Model, kind: JobKind) -> str:
    field = model.field_for(ImageRole.REFERENCE if kind is JobKind.IMAGINE else ImageRole.SOURCE)
    return field.name if field is not None else ""


def needed_images(model: Model, kind: JobKind) -> int:
    """Return how many images a plain order has to have."""
    field = model.fields.get(usual_field(model, kind))
    least = max(field.min_items or 0, int(field.required)) if field is not None else 0
    return max(least, int(kind is not JobKind.IMAGINE))


def ordered(model: Model, kind: JobKind, *, more: str = "", prompt: str = "a red fox", images: int = 0) -> Quote:
    role = ImageRole.REFERENCE if kind is JobKind.IMAGINE else ImageRole.SOURCE
    request = a_request(model.id, kind=kind, prompt=prompt, images=(an_image(role),) * images)
    return ANY_PRICE.quote(expanded(model, request, more), seed_source=lambda: 7)


def expanded(model: Model, request: JobRequest, more: str) -> JobRequest:
    return expand(ANY_PRICE.get(model.id), request, more=more, flag_names=FLAGS)


def test_every_documented_route_is_a_model_and_no_other_is_sold() -> None:
    assert MODELS.keys() == contracts().keys()


@pytest.mark.parametrize("contract", EVERY_CONTRACT)
def test_the_catalogue_describes_each_field_as_the_provider_does(contract: Contract) -> None:
    raw = RAW[MODELS[contract.path].id]["fields"]
    assert raw.keys() == contract.fields.keys()
    for name, rule in contract.fields.items():
        ours = raw[name]
        assert ours["type"] == rule["type"].partition("|")[0], name
        for key in SAME_NAMES:
            if is_image(rule) and key == "max_length":
                continue  # of an address; the provider does not enforce it
            documented = rule.get(key)
            if key == "enum" and documented is not None:
                documented = [choice for choice in documented if choice is not None]
            assert ours.get(key) == documented or {*map(str, (ours.get(key), documented))} <= {
                *map(str, NOTHING_GIVEN)
            }, (name, key)
        _same_parts(name, ours, rule)


def _same_parts(name: str, ours: Mapping[str, Any], rule: Mapping[str, Any]) -> None:
    for part, documented in parts_of(rule).items():
        assert ours["item"].keys() == rule["items"]["properties"].keys(), name
        for key in ("min", "max", "min_length", "max_length", "pattern"):
            if documented["type"] == "string" or key in documented:  # strengths without bounds get ours
                assert ours["parts"][part].get(key) == documented.get(key), (name, part, key)
        if "default" in documented:
            assert ours["item"][part] == documented["default"], (name, part)


@pytest.mark.parametrize("contract", EVERY_CONTRACT)
def test_each_documented_value_of_each_field_arrives_as_it_was_typed_and_no_other_is_taken(contract: Contract) -> None:
    model = MODELS[contract.path]
    kind = kinds(model)[0]
    images = needed_images(model, kind)
    for name, rule in contract.fields.items():
        if name == "prompt" or is_image(rule) or rule["type"] == "array":
            continue
        for value in good_values(name, rule):
            for body in _by_every_road(model, kind, name, value, images):
                assert (type(body[name]), body[name]) == (type(value), value), name
                _is_accepted(contract, body)
        for text in bad_values(name, rule):
            with pytest.raises(BadOption) as refused:
                ordered(model, kind, more=f'{name}="{text}"', images=images)
            assert refused.value.option in (name, model.option_name(name)), name
            assert refused.value.constraint is not None, name


def _by_every_road(model: Model, kind: JobKind, name: str, value: object, images: int) -> Iterator[Mapping[str, Any]]:
    quoted = f'"{typed(value)}"'
    yield ordered(model, kind, more=f"{name}={quoted}", images=images).body
    if kind is not JobKind.UPSCALE:  # a prompt of what only enlarges has no flags of its own
        yield ordered(model, kind, prompt=f"a red fox --{name} {quoted}", images=images).body


def _is_accepted(contract: Contract, body: Mapping[str, Any]) -> None:
    sent = fill_image_urls(body, [f"https://example.com/{number}" for number in range(10)])
    assert contract.problems(sent) == []


@pytest.mark.parametrize("contract", EVERY_CONTRACT)
def test_everything_together_reaches_the_body(contract: Contract) -> None:
    model = MODELS[contract.path]
    reached: set[str] = {"prompt"}
    for kind in kinds(model):
        for with_sides in (False, True):
            order = every_field(contract, kind, usual_field=usual_field(model, kind), with_sides=with_sides)
            body = _ordered_all(model, order)
            _is_accepted(contract, body)
            for name, value in order.wanted.items():
                has_values = parts_of(contract.fields[name]) or not is_image(contract.fields[name])
                assert _without_images(body[name]) == value or not has_values, name
            reached |= body.keys()
    assert reached >= contract.fields.keys()


def _ordered_all(model: Model, order: EveryField) -> Mapping[str, Any]:
    more = ", ".join(f"{name}={value}" for name, value in order.more.items())
    return ordered(model, order.kind, more=more, images=len(order.attached)).body


def _without_images(value: Any) -> Any:
    elements = cast("list[Any]", value) if isinstance(value, list) else []
    if not all(isinstance(element, dict) for element in elements) or not elements:
        return value
    return [{key: part for key, part in element.items() if "url" not in key} for element in elements]
