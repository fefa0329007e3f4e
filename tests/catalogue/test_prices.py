"""Prices: an order costs what the price list says for exactly its options, and without a price nothing is ordered."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalogue.models import IMAGE_COUNT, PRESENT, Model, PriceCondition
from bot.domain.constraints import AtMostImages, Constraint, OneOf
from bot.domain.errors import BadOption, ModelUnavailable
from bot.domain.jobs import JobKind, JobRequest
from tests.support.catalogue_samples import (
    ALL_PRICED,
    CATALOGUE,
    EVERY_MODEL,
    FLUX,
    KREA_LARGE,
    MOODBOARD,
    NANO_BANANA_2,
    NANO_BANANA_PRO,
    PIXAZO_LARGE,
    RAW,
    REFERENCE,
    an_image,
    any_request,
    broken_rules,
    listed_price,
    options_of,
    order,
    plainest,
    refusal,
    requests_for,
)


@pytest.mark.parametrize(
    ("model_id", "changes", "usd_micros"),
    [
        (FLUX, {}, 7_000),
        (FLUX, {"images": REFERENCE}, 7_000),
        (NANO_BANANA_2, {}, 80_000),
        (NANO_BANANA_2, {"options": {"resolution": "1K"}}, 80_000),
        (NANO_BANANA_2, {"options": {"resolution": "2K"}}, 120_000),
        (NANO_BANANA_2, {"options": {"resolution": "4K"}}, 160_000),
        (NANO_BANANA_PRO, {}, 150_000),
        (NANO_BANANA_PRO, {"options": {"resolution": "2K"}}, 150_000),
        (NANO_BANANA_PRO, {"options": {"resolution": "4K"}}, 300_000),
        (NANO_BANANA_PRO, {"kind": JobKind.EDIT, "images": (an_image(),) * 4}, 150_000),
        (KREA_LARGE, {}, 60_000),
        (KREA_LARGE, {"options": {"style": "style-ink"}}, 60_000),
        (KREA_LARGE, {"images": REFERENCE}, 65_000),
        (KREA_LARGE, {"options": {"moodboard": MOODBOARD}}, 70_000),
        (KREA_LARGE, {"options": {"moodboard": MOODBOARD}, "images": REFERENCE}, 70_000),
        (KREA_LARGE, {"kind": JobKind.EDIT, "images": (an_image(),)}, 60_000),
        (PIXAZO_LARGE, {}, 60_000),
        (PIXAZO_LARGE, {"images": REFERENCE}, 65_000),
        ("krea/krea/krea-2/medium-turbo", {"images": REFERENCE}, 17_500),
        ("krea/google/nano-banana", {}, 42_900),
        ("krea/xai/grok-imagine-2", {}, 42_000),
        ("krea/xai/grok-imagine-2", {"images": REFERENCE * 2}, 63_000),
        ("krea/luma/uni-1", {"images": REFERENCE * 3}, 49_400),
        ("krea/ideogram/ideogram-3", {"images": REFERENCE}, 63_000),
    ],
)
def test_an_order_costs_its_listed_price(model_id: str, changes: dict[str, Any], usd_micros: int):
    assert order(model_id, **changes).amount_usd_micros == usd_micros


@pytest.mark.parametrize(
    ("model_id", "changes"),
    [
        ("krea/openai/gpt-image-2", {}),
        ("krea/bytedance/seedream-5-pro", {}),
    ],
)
def test_f15_what_has_no_published_price_is_refused(model_id: str, changes: dict[str, Any]):
    with pytest.raises(ModelUnavailable) as caught:
        order(model_id, **changes)
    assert (caught.value.model_id, caught.value.reason) == (model_id, "no_price")


@pytest.mark.parametrize(
    ("model_id", "changes", "option", "constraint"),
    [
        ("krea/xai/grok-imagine-2", {"images": REFERENCE * 3}, "reference3", AtMostImages(count=2)),
        ("krea/xai/grok-imagine-2", {"options": {"resolution": "2K"}}, "resolution", OneOf(values=("1K",))),
        ("krea/xai/grok-imagine-2", {"options": {"quality": "medium"}}, "quality", OneOf(values=("low",))),
        ("krea/luma/uni-1", {"images": REFERENCE * 4}, "reference4", AtMostImages(count=3)),
        ("krea/luma/uni-1", {"options": {"mode": "max"}}, "mode", OneOf(values=("standard",))),
    ],
)
def test_f15_a_value_for_which_no_order_has_a_price_is_refused_with_those_that_have_one(
    model_id: str, changes: dict[str, Any], option: str, constraint: Constraint
):
    refused = refusal(model_id, **changes)
    assert (refused.option, refused.constraint) == (option, constraint)


@pytest.mark.parametrize("images", [(), REFERENCE])
def test_a_price_that_is_assumed_is_charged_like_any_other(images: Any):
    """Pixazo publishes no price with a moodboard: the dearer published one is taken."""
    assert order(PIXAZO_LARGE, options={"moodboard": MOODBOARD}, images=images).amount_usd_micros == 65_000
    assert [point.usd_micros for point in CATALOGUE.get(PIXAZO_LARGE).assumed_prices] == [65_000]


@given(request=any_request())
def test_f14_every_combination_of_options_is_reserved_at_exactly_its_listed_price(request: JobRequest):
    try:
        quote = CATALOGUE.quote(request)
    except (BadOption, ModelUnavailable):
        return
    assert listed_price(RAW[request.model_id], quote.body, len(request.images)) == {quote.amount_usd_micros}


@given(data=st.data())
def test_every_order_keeps_the_rules_of_its_model(data: st.DataObject):
    model = data.draw(st.sampled_from(ALL_PRICED.models))
    request = data.draw(st.composite(requests_for)(model))
    try:
        quote = ALL_PRICED.quote(request)
    except (BadOption, ModelUnavailable):
        return
    assert broken_rules(RAW[model.id], quote.body) == []
    assert json.loads(json.dumps(quote.body)) == quote.body
    places = [int(n) for n in re.findall(r'\{"\$picture": (\d+)\}', json.dumps(quote.body))]
    assert sorted(places) == list(range(len(request.images)))


def chosen_body(model: Model, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return enough of a body to find its price: chosen values by the name of their field, else the defaults."""
    fields = RAW[model.id]["fields"]
    sent = {name: field["use"] for name, field in fields.items() if "use" in field}
    places = {place: name for name, field in fields.items() for place in field.get("for", [name])}
    return sent | {places[option]: value for option, value in chosen.items()}


@pytest.mark.f14
@pytest.mark.parametrize("model", [param for param in EVERY_MODEL if cast("Model", param.values[0]).orderable])
def test_every_choice_of_every_option_is_sent_as_chosen_at_one_price(model: Model):
    choices = {name: values for name, values in options_of(model).items() if name != "aspect_ratio"}
    for values in itertools.product(*choices.values()):
        chosen = {name: value for name, value in zip(choices, values, strict=True) if value is not None}
        request = plainest(model, options=chosen)
        if not model.price_complete and not listed_price(
            RAW[model.id], chosen_body(model, chosen), len(request.images)
        ):
            with pytest.raises(ModelUnavailable):
                CATALOGUE.quote(request)
            continue
        quote = CATALOGUE.quote(request)
        assert {quote.body[name] for name in chosen if name in quote.body} <= set(chosen.values())
        assert listed_price(RAW[model.id], quote.body, len(request.images)) == {quote.amount_usd_micros}


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_the_plainest_order_can_be_made_and_costs_the_starting_price(model: Model):
    quote = ALL_PRICED.quote(plainest(model))
    assert broken_rules(RAW[model.id], quote.body) == []
    assert quote.amount_usd_micros == ALL_PRICED.get(model.id).starting_usd_micros
    if model.orderable and model.price_range:
        assert model.price_range[0] <= quote.amount_usd_micros <= model.price_range[1]


def test_the_price_table_has_the_conditions_of_each_price():
    def condition(option: str, value: Any = PRESENT) -> PriceCondition:
        return PriceCondition(option=option, value=value)

    assert CATALOGUE.get(FLUX).price_table() == [((), 7_000)]
    assert CATALOGUE.get(NANO_BANANA_2).price_table() == [
        ((condition("resolution", "1K"),), 80_000),
        ((condition("resolution", "2K"),), 120_000),
        ((condition("resolution", "4K"),), 160_000),
    ]
    assert CATALOGUE.get(KREA_LARGE).price_table() == [
        ((), 60_000),
        ((condition("reference"),), 65_000),
        ((condition("moodboard"),), 70_000),
    ]
    cheapest = (condition("quality", "low"), condition("resolution", "1K"), condition(IMAGE_COUNT, 1))
    assert (cheapest, 52_500) in CATALOGUE.get("krea/xai/grok-imagine-2-edit").price_table()


def test_a_price_that_no_order_can_have_is_not_shown():
    assert CATALOGUE.get("krea/bytedance/seedream-5-pro").price_table() == []
    assert CATALOGUE.get("krea/xai/grok-imagine-2-edit").price_range == (52_500, 63_000)
