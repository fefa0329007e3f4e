"""A description as the provider serves it, written by hand: its own words for prices, odd documents, any change.

Nothing here is made from our catalogue, so that a word that only we use is found.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.catalogue.catalogue import Catalogue, shipped_data
from bot.catalogue.models import Model
from bot.catalogue.provider_description.changes import PRICE, Reason, apply_edits
from bot.catalogue.provider_description.openapi import parse
from bot.catalogue.provider_description.refresh import Refresh, refresh
from bot.domain.errors import BadOption, ModelUnavailable
from bot.domain.jobs import ImageRole
from tests.support.catalogue_samples import (
    CATALOGUE,
    FLUX,
    KREA_LARGE,
    NANO_BANANA_2,
    PIXAZO_LARGE,
    an_image,
    order,
    plainest,
)
from tests.support.live_description import GROK, IDEOGRAM, body_schema, live, point, post


def taken_over(data: dict[str, Any], found: Refresh) -> dict[str, Any]:
    entries = {model["id"]: model for model in data["models"]}
    for change in found.changes:
        entries[change.model_id], _ = apply_edits(entries.get(change.model_id), change.edits)
    return {**data, "models": list(entries.values())}


def known() -> dict[str, Any]:
    """Our data for these five models and one of another provider, once it says what the description says."""
    shipped = shipped_data()
    ids = {NANO_BANANA_2, KREA_LARGE, FLUX, IDEOGRAM, GROK, PIXAZO_LARGE}
    data = {**shipped, "models": [model for model in shipped["models"] if model["id"] in ids]}
    return taken_over(data, refresh(data, live()))


KNOWN = known()


def changed(adjust: Callable[[dict[str, Any]], object], *, default_model: str = "") -> Refresh:
    document = live()
    adjust(document)
    return refresh(KNOWN, document, default_model=default_model)


def reasons(found: Refresh) -> dict[str, set[Reason]]:
    return {change.model_id: set(change.reasons) for change in found.changes}


def test_the_providers_own_words_change_no_price_that_we_ship():
    data = shipped_data()
    some = {
        **data,
        "models": [model for model in data["models"] if model["id"] in {NANO_BANANA_2, KREA_LARGE, IDEOGRAM}],
    }
    assert [change for change in refresh(some, live()).changes if change.part == PRICE] == []
    assert refresh(KNOWN, live()).changes == ()


def test_style_images_that_a_model_has_now_go_where_a_member_says_with_their_strength():
    assert "style_images" not in CATALOGUE.get(NANO_BANANA_2).fields
    now = Catalogue(Model.from_data(model) for model in KNOWN["models"])
    images = (an_image(ImageRole.REFERENCE), an_image(ImageRole.REFERENCE))
    options = {"style_images": "reference2", "reference2_strength": -0.5}
    body = order(NANO_BANANA_2, now, images=images, options=options).body
    assert body["image_urls"] == [{"$picture": 0}]
    assert body["style_images"] == [{"url": {"$picture": 1}, "strength": -0.5}]
    with pytest.raises(BadOption):
        order(NANO_BANANA_2, now, images=images, options={**options, "reference2_strength": 2.5})
    assert "style_images" not in order(NANO_BANANA_2, now, images=images).body


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"currency": "EUR"}, "its price has the currency EUR"),
        ({"currency": None}, "its price has no currency"),
        ({"unit": "megapixel"}, "its price has the unit megapixel"),
        ({"type": "auction"}, "its price has the type auction"),
    ],
)
def test_a_price_of_another_meaning_is_held_and_said_loudly(stated: dict[str, Any], said: str):
    found = changed(lambda d: post(d, FLUX)["x-krea-pricing"].update(stated))
    assert reasons(found) == {FLUX: {Reason.MEANING}}
    assert found.changes[0].stops
    assert f"! {FLUX}: cannot be ordered any more: {said}" in found.lines


def test_a_dimension_that_nobody_knows_makes_only_its_own_price_unusable():
    points = [point(0.08, resolution="1K"), point(0.12, resolution="2K"), point(0.2, resolution="4K", moonPhase="full")]
    found = changed(lambda d: post(d, NANO_BANANA_2)["x-krea-pricing"].update(price_points=points))
    assert found.lines[1] == (
        f"! {NANO_BANANA_2}: orders with resolution 4K cannot be placed any more: "
        "its price depends on moonPhase = full, which this version does not know"
    )
    model = next(model for model in taken_over(KNOWN, found)["models"] if model["id"] == NANO_BANANA_2)
    assert [entry["when"] for entry in model["price"]["points"]] == [{"resolution": "1K"}, {"resolution": "2K"}]


def test_a_dimension_that_nobody_knows_makes_every_price_unusable_that_the_same_order_could_have():
    points = [point(0.007), point(0.5, moonPhase="full")]
    found = changed(lambda d: post(d, FLUX)["x-krea-pricing"].update(price_points=points))
    assert reasons(found) == {FLUX: {Reason.NO_PRICE}}


@pytest.mark.parametrize(
    ("amount", "is_held"), [(0.014, False), (0.0141, True), (7.0, True), (0.0035, False), (0.0034, True)]
)
def test_a_price_beyond_twice_or_under_half_is_held(amount: float, is_held: bool):
    found = changed(lambda d: post(d, FLUX)["x-krea-pricing"].update(price_points=[point(amount)]))
    assert reasons(found) == {FLUX: {Reason.PRICE} if is_held else set()}


def test_a_price_that_creeps_up_is_compared_with_what_a_person_agreed_to():
    document = live()
    post(document, FLUX)["x-krea-pricing"].update(price_points=[point(0.013)])
    crept = taken_over(KNOWN, refresh(KNOWN, document))
    post(document, FLUX)["x-krea-pricing"].update(price_points=[point(0.02)])
    assert reasons(refresh(crept, document)) == {FLUX: set()}
    assert reasons(refresh(crept, document, agreed=KNOWN)) == {FLUX: {Reason.PRICE}}


# -- the same in other words, and words that are not understood ---------------------------------------------------


def flux_path(document: dict[str, Any]) -> str:
    return next(path for path in document["paths"] if path.endswith("flux-1-dev"))


def refer_to_the_path(document: dict[str, Any]) -> None:
    path = flux_path(document)
    document["components"]["pathItems"] = {"Flux": document["paths"][path]}
    document["paths"][path] = {"$ref": "#/components/pathItems/Flux"}


def refer_to_the_body(document: dict[str, Any]) -> None:
    content = post(document, FLUX)["requestBody"]["content"]["application/json"]
    document["components"]["schemas"]["a/b~c d"] = content["schema"]
    content["schema"] = {"$ref": "#/components/schemas/a~1b~0c%20d"}


def split_the_body(document: dict[str, Any]) -> None:
    schema = body_schema(document, FLUX)
    properties: dict[str, Any] = schema.pop("properties")
    schema["properties"] = {"prompt": properties.pop("prompt")}
    schema["allOf"] = [{"$ref": "#/components/schemas/Rest"}]
    document["components"]["schemas"]["Rest"] = {"type": "object", "properties": properties}


def name_the_character_set(document: dict[str, Any]) -> None:
    content = post(document, FLUX)["requestBody"]["content"]
    content["application/json; charset=utf-8"] = content.pop("application/json")


def name_each_value(document: dict[str, Any]) -> None:
    properties = body_schema(document, KREA_LARGE)["properties"]
    words = properties["creativity"]["enum"]
    properties["creativity"] = {"anyOf": [{"const": word} for word in words], "default": "low"}
    properties["resolution"] = {"const": "1K"}


def exclude_the_bounds(document: dict[str, Any]) -> None:
    steps = body_schema(document, FLUX)["properties"]["steps"]
    del steps["minimum"], steps["maximum"]
    steps |= {"exclusiveMinimum": 0, "exclusiveMaximum": 101}


def exclude_the_bounds_as_before(document: dict[str, Any]) -> None:
    body_schema(document, FLUX)["properties"]["steps"] |= {"minimum": 0, "exclusiveMinimum": True}


def name_it_oddly(document: dict[str, Any]) -> None:
    post(document, FLUX)["summary"] = "Flux \u202e@everyone"


@pytest.mark.parametrize(
    "reword",
    [
        refer_to_the_path,
        refer_to_the_body,
        split_the_body,
        name_the_character_set,
        name_each_value,
        exclude_the_bounds,
        exclude_the_bounds_as_before,
        name_it_oddly,
    ],
)
def test_the_same_in_other_words_changes_nothing(reword: Callable[[dict[str, Any]], None]):
    assert changed(reword).lines == ()


def require_beside_the_fields(document: dict[str, Any]) -> None:
    licence = {"properties": {"licence": {"type": "string"}}, "required": ["licence"]}
    body_schema(document, FLUX)["allOf"] = [licence]


def require_a_header(document: dict[str, Any]) -> None:
    header = {"in": "header", "name": "X-Consent", "required": True, "schema": {"type": "string"}}
    post(document, FLUX)["parameters"] = [header]


def take_prompts_as_objects(document: dict[str, Any]) -> None:
    body_schema(document, FLUX)["properties"]["prompt"] = {"type": "object"}


def take_prompts_as_lists(document: dict[str, Any]) -> None:
    body_schema(document, FLUX)["properties"]["prompt"] = {"type": "array", "items": {"type": "string"}}


def charge_at_least_a_dollar(document: dict[str, Any]) -> None:
    post(document, FLUX)["x-krea-pricing"]["minimum_charge"] = 1.0


def join_in_a_circle(document: dict[str, Any]) -> None:
    circle = {"allOf": [{"$ref": "#/components/schemas/Circle"}] * 20}
    document["components"]["schemas"]["Circle"] = circle
    post(document, FLUX)["requestBody"]["content"]["application/json"]["schema"] = circle


@pytest.mark.parametrize(
    ("adjust", "reason", "said"),
    [
        (require_beside_the_fields, Reason.REQUIRED, "an order has to contain a field that it did not have to contain"),
        (require_a_header, Reason.UNREADABLE, "it needs the header X-Consent"),
        (take_prompts_as_objects, Reason.NO_ORDER, "nobody can give a field that every order needs"),
        (take_prompts_as_lists, Reason.NO_ORDER, "nobody can give a field that every order needs"),
        (charge_at_least_a_dollar, Reason.MEANING, "its price has minimum_charge, which this version does not know"),
        (join_in_a_circle, Reason.UNREADABLE, "its references lead in a circle"),
    ],
)
def test_what_no_order_could_be_made_by_is_held_and_said_loudly(
    adjust: Callable[[dict[str, Any]], None], reason: Reason, said: str
):
    found = changed(adjust)
    assert reasons(found) == {FLUX: {reason}}
    assert found.changes[0].stops
    assert any(line.startswith("! ") and said in line for line in found.lines)


def test_a_default_model_without_a_usual_order_is_held_as_one_that_is_gone():
    def count_pixels(document: dict[str, Any]) -> None:
        resolution = {"type": "integer", "enum": [1024, 2048]}
        body_schema(document, NANO_BANANA_2)["properties"]["resolution"] = resolution

    found = changed(count_pixels, default_model=NANO_BANANA_2)
    assert reasons(found) == {NANO_BANANA_2: {Reason.NO_ORDER, Reason.DEFAULT}}
    assert found.changes[0].stops


def test_sides_that_the_sizes_of_a_ratio_are_not_are_not_sent():
    found = changed(lambda d: body_schema(d, FLUX)["properties"]["width"].update(multipleOf=64))
    flux = next(model for model in taken_over(KNOWN, found)["models"] if model["id"] == FLUX)
    assert not Model.from_data(flux).uses_width_and_height
    assert found.lines[0] == (
        f"~ {FLUX}: field width is not sent any more: the values that it takes are not understood"
    )
    assert changed(lambda d: body_schema(d, FLUX)["properties"]["width"].update(multipleOf=8)).lines == ()


def test_a_new_required_field_is_held():
    def require(document: dict[str, Any]) -> None:
        schema = body_schema(document, FLUX)
        schema["properties"]["licence"] = {"type": "string"}
        schema["required"].append("licence")

    found = changed(require)
    assert reasons(found) == {FLUX: {Reason.REQUIRED}}
    assert found.changes[0].stops


def test_a_default_model_that_is_gone_is_held_and_another_one_is_retired():
    def withdraw(document: dict[str, Any]) -> None:
        del document["paths"]["/generate/image/bfl/flux-1-dev"]

    assert reasons(changed(withdraw, default_model=FLUX)) == {FLUX: {Reason.DEFAULT}}
    assert reasons(changed(withdraw, default_model=NANO_BANANA_2)) == {FLUX: set()}


def test_a_change_of_more_than_a_fifth_of_the_models_is_held():
    def dearer(document: dict[str, Any]) -> None:
        for model_id in (NANO_BANANA_2, KREA_LARGE, FLUX, IDEOGRAM, GROK):
            for entry in post(document, model_id)["x-krea-pricing"]["price_points"]:
                entry["amount"] = str(Decimal(str(entry["amount"])) * Decimal("1.1"))

    assert all(found == {Reason.MANY} for found in reasons(changed(dearer)).values())


def test_a_longer_list_of_choices_is_harmless_and_a_shorter_one_stops_the_model_only_while_it_is_held():
    found = changed(lambda d: body_schema(d, NANO_BANANA_2)["properties"]["aspect_ratio"]["enum"].append("2:1"))
    assert [(change.reasons, change.stops) for change in found.changes] == [((), False)]
    found = changed(lambda d: body_schema(d, NANO_BANANA_2)["properties"]["aspect_ratio"]["enum"].remove("1:8"))
    assert [(change.reasons, change.stops) for change in found.changes] == [((), True)]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/components/schemas/Nowhere"},
        {"type": "number", "minimum": "three"},
        {"type": "number", "maximum": 1e999},
        {"type": 7},
        {"type": "string", "enum": "1K"},
        {"type": "string", "maxLength": -1},
        {"type": "string", "enum": ["x" * 1_000]},
        {"type": "string", "enum": ["x"] * 10_000},
    ],
)
def test_a_field_that_cannot_be_read_holds_its_model_with_one_sentence(schema: dict[str, Any]):
    found = changed(lambda d: body_schema(d, FLUX)["properties"].update(steps=schema))
    assert reasons(found) == {FLUX: {Reason.UNREADABLE}}
    (line,) = found.lines
    assert line.startswith(f"! {FLUX}: cannot be ordered any more: its description cannot be read: ")
    assert len(line) < 400


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "is nested too deeply"),
        ('{"a":' * 100_000, "is nested too deeply"),
        ('{"paths": NaN}', "NaN"),
        ('{"paths": -Infinity}', "-Infinity"),
        ('{"paths": {}, "paths": {}}', "repeated"),
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("\ufeff", "is not JSON"),
    ],
)
def test_an_odd_document_is_one_sentence(text: str, said: str):
    with pytest.raises(ValueError, match=said) as caught:
        parse(text.encode())
    assert len(str(caught.value)) < 100


def test_a_document_of_very_many_models_is_one_sentence():
    paths = {f"/generate/image/acme/model-{number}": {"post": {}} for number in range(600)}
    with pytest.raises(ValueError, match="600 models, more than 500"):
        refresh(KNOWN, {"paths": paths})


def test_a_new_model_that_cannot_be_read_is_only_named():
    found = changed(lambda d: d["paths"].update({"/generate/image/acme/odd": {"post": {"requestBody": []}}}))
    assert found.changes == ()
    assert found.notes == ("! krea/acme/odd: new, and cannot be read: it describes no fields",)


# -- any change of a document --------------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3000)
    | st.floats(allow_nan=False, width=16)
    | st.sampled_from(["", "1K", "USD", "EUR", "text-to-image", "string", "number", "prompt", "#/components/x", "\n"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "enum", "url", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where everything in a document is."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, inner in pairs for place in places(inner, (*path, key))]


PLACES = places({"paths": live()["paths"], "components": live()["components"]})


def mutate(document: dict[str, Any], place: tuple[Any, ...], how: str, value: Any) -> None:
    holder: Any = document
    for step in place[:-1]:
        try:
            holder = holder[step]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(holder, dict) and how == "add":
        holder["future"] = value
    elif isinstance(holder, list) and how == "add":
        holder.append(value)
    elif how == "remove" and isinstance(holder, dict):
        holder.pop(place[-1], None)
    elif how == "replace" and (
        isinstance(holder, dict) or (isinstance(holder, list) and place[-1] in range(len(holder)))
    ):
        holder[place[-1]] = value


def refused_by(schema: Mapping[str, Any], body: Mapping[str, Any]) -> list[str]:
    """Return what the provider would refuse in a body, by its own schema, without the code under test."""
    properties = schema["properties"]
    found = [name for name in schema.get("required", []) if name not in body]
    found += [name for name in body if name not in properties]
    for name, value in body.items():
        rule = properties.get(name, {})
        if rule.get("enum") and value not in rule["enum"]:
            found.append(f"{name} not in enum")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if rule.get("minimum") is not None and value < rule["minimum"]:
                found.append(f"{name} too low")
            if rule.get("maximum") is not None and value > rule["maximum"]:
                found.append(f"{name} too high")
    return found


def amounts_in(operation: dict[str, Any]) -> set[Decimal]:
    """Return the prices of a model, without those that are no numbers."""
    found: set[Decimal] = set()
    for entry in operation["x-krea-pricing"]["price_points"]:
        with suppress(ArithmeticError, TypeError, KeyError):
            found.add(Decimal(str(entry["amount"])))
    return found


CREATIVITY = next(place for place in PLACES if place[-2:] == ("creativity", "enum"))
RESOLUTION = next(
    place for place in PLACES if "/generate/image/xai/grok-imagine-2" in place and place[-2:] == ("resolution", "enum")
)
HEIGHT = next(place for place in PLACES if place[-2:] == ("height", "maximum"))


@settings(max_examples=150, deadline=None)
@example(edits=[(PLACES.index(CREATIVITY), "replace", [None])])
@example(edits=[(PLACES.index(RESOLUTION), "replace", [None])])
@example(edits=[(PLACES.index(HEIGHT), "replace", 0)])
@example(edits=[(PLACES.index(HEIGHT), "replace", 800)])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(PLACES) - 1), st.sampled_from(["add", "remove", "replace"]), _VALUES),
        min_size=1,
        max_size=3,
    )
)
def test_any_change_of_a_document_is_applied_held_or_refused_and_never_an_order_that_must_fail(
    edits: list[tuple[int, str, Any]],
):
    document = live()
    for place, how, value in edits:
        mutate(document, PLACES[place], how, copy.deepcopy(value))
    try:
        found = refresh(KNOWN, document)
    except ValueError:
        return  # refused with one sentence
    stopped = {change.model_id for change in found.changes if change.is_held and change.stops}
    applied = Refresh(changes=tuple(change for change in found.changes if not change.is_held))
    assert all(change.lines for change in found.changes)
    json.dumps([edit.to_data() for change in found.changes for edit in change.edits])
    catalogue = Catalogue(map(Model.from_data, taken_over(KNOWN, applied)["models"]))
    for model in catalogue.models:
        if model.id in stopped or not model.orderable or model.provider != "krea":
            continue
        try:
            quote = catalogue.quote(plainest(model))
        except (BadOption, ModelUnavailable):
            continue  # a sentence that a member can act on
        operation_now = document["paths"][model.path]["post"]
        assert refused_by(operation_now["requestBody"]["content"]["application/json"]["schema"], quote.body) == []
        assert Decimal(quote.amount_usd_micros) / 1_000_000 in amounts_in(operation_now)
