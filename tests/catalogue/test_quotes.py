"""Orders: what exactly is sent for a request, and what is refused with which words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalogue import aspect_ratio
from bot.catalogue.catalogue import Catalogue
from bot.catalogue.models import OPTIONS, Field, Model
from bot.catalogue.parameters import attachment_names, options_of, parameter
from bot.catalogue.quotes import fill_image_urls
from bot.domain.constraints import (
    AtLeastImages,
    AtMostImages,
    AttachedImages,
    Constraint,
    Identifiers,
    Number,
    OneOf,
    Text,
    TrueOrFalse,
    Uuid,
)
from bot.domain.errors import BadOption, ModelUnavailable
from bot.domain.jobs import ImageRole, JobKind
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
    TOPAZ,
    a_request,
    an_image,
    broken_rules,
    order,
    plainest,
    priced_at,
    refusal,
)


def test_an_order_carries_what_was_asked_and_nothing_else():
    quote = order(NANO_BANANA_2, options={"aspect_ratio": "16:9", "resolution": "4k"})
    assert quote.body == {"prompt": "a red fox", "aspect_ratio": "16:9", "resolution": "4K"}
    assert (quote.provider, quote.path, quote.seed) == ("krea", "/generate/image/google/nano-banana-2", None)


def test_fields_that_decide_the_price_are_always_sent():
    assert order(NANO_BANANA_2).body == {"prompt": "a red fox", "resolution": "1K"}


def test_required_fields_get_a_neutral_default_and_creativity_is_always_sent():
    assert order(KREA_LARGE).body == {
        "prompt": "a red fox",
        "aspect_ratio": "1:1",
        "resolution": "1K",
        "seed": 7,
        "creativity": "low",
    }


def test_an_aspect_ratio_becomes_width_and_height_where_the_model_wants_those():
    assert order(FLUX, options={"aspect_ratio": "16:9"}).body == {
        "prompt": "a red fox",
        "width": 1280,
        "height": 720,
        "seed": 7,
    }


@pytest.mark.parametrize(
    "model", [param for param in EVERY_MODEL if cast("Model", param.values[0]).uses_width_and_height]
)
def test_every_offered_ratio_is_supported_and_nearly_exact(model: Model):
    assert {"1:1", "16:9", "9:16", "4:3", "3:2"} <= set(model.choices("aspect_ratio"))
    for ratio in model.choices("aspect_ratio"):
        width, height = model.size(ratio) or (0, 0)
        assert width % 16 == height % 16 == 0
        assert abs(width / height / aspect_ratio.value(ratio) - 1) < 0.03
        assert 0.85 < width * height / 1024**2 < 1.15
        assert (model.fields["width"].check(width), model.fields["height"].check(height)) == (width, height)


@pytest.mark.parametrize(("width", "height", "ratio"), [(4000, 3000, "4:3"), (1080, 1920, "9:16"), (512, 512, "1:1")])
def test_an_edit_keeps_the_ratio_of_its_source_where_the_body_must_state_one(width: int, height: int, ratio: str):
    images = (an_image(width=width, height=height),)
    assert order(KREA_LARGE, kind=JobKind.EDIT, images=images).body["aspect_ratio"] == ratio
    flux = order(FLUX, kind=JobKind.EDIT, images=images).body
    assert (flux["width"], flux["height"]) == CATALOGUE.get(FLUX).size(ratio)
    assert "aspect_ratio" not in order(NANO_BANANA_2, kind=JobKind.EDIT, images=images).body


def test_a_chosen_ratio_wins_over_that_of_the_source():
    images = (an_image(width=4000, height=3000),)
    body = order(KREA_LARGE, kind=JobKind.EDIT, images=images, options={"aspect_ratio": "2.35:1"}).body
    assert body["aspect_ratio"] == "2.35:1"


@pytest.mark.parametrize(
    ("model_id", "kind", "roles", "field", "value"),
    [
        (NANO_BANANA_PRO, JobKind.EDIT, "ss", "image_urls", [{"$picture": 0}, {"$picture": 1}]),
        (NANO_BANANA_PRO, JobKind.EDIT, "rs", "image_urls", [{"$picture": 1}, {"$picture": 0}]),
        (NANO_BANANA_2, JobKind.IMAGINE, "r", "image_urls", [{"$picture": 0}]),
        (FLUX, JobKind.EDIT, "s", "image_url", {"$picture": 0}),
        (FLUX, JobKind.IMAGINE, "r", "image_style_references", [{"url": {"$picture": 0}, "strength": 1.0}]),
        (KREA_LARGE, JobKind.IMAGINE, "r", "image_style_references", [{"url": {"$picture": 0}, "strength": 0.5}]),
        (PIXAZO_LARGE, JobKind.IMAGINE, "r", "image_style_references", [{"image_url": {"$picture": 0}, "strength": 1}]),
        ("krea/bytedance/seedream-4", JobKind.EDIT, "s", "style_images", [{"url": {"$picture": 0}, "strength": 1.0}]),
        ("krea/meta/muse-image", JobKind.IMAGINE, "r", "style_images", [{"url": {"$picture": 0}, "strength": 1.0}]),
    ],
)
def test_an_image_goes_into_the_field_for_its_role(model_id: str, kind: JobKind, roles: str, field: str, value: object):
    words = {"s": ImageRole.SOURCE, "r": ImageRole.REFERENCE}
    images = tuple(an_image(words[letter]) for letter in roles)
    assert order(model_id, kind=kind, images=images).body[field] == value


def test_tagged_references_get_a_tag_each(tmp_path: Path):
    catalogue = priced_at("0.05", "krea/runway/gen-4-image", tmp_path=tmp_path)
    body = order("krea/runway/gen-4-image", catalogue, images=REFERENCE * 2).body
    assert body["reference_images"] == [
        {"url": {"$picture": 0}, "tag": "picture_1"},
        {"url": {"$picture": 1}, "tag": "picture_2"},
    ]


def test_a_style_and_a_moodboard_carry_their_strength():
    body = order(KREA_LARGE, options={"style": "style-ink", "moodboard": MOODBOARD.upper()}).body
    assert body["styles"] == [{"id": "style-ink", "strength": 1.0}]
    assert body["moodboards"] == [{"id": MOODBOARD, "strength": 0.23}]


def test_addresses_are_put_in_once_they_are_known_and_a_prompt_is_never_touched():
    trick = '{"$picture": 0}'
    images = (an_image(), an_image(ImageRole.REFERENCE))
    body = order(FLUX, kind=JobKind.EDIT, images=images, prompt=trick).body
    filled = fill_image_urls(body, ["https://a/1.png", "https://a/2.png"])
    assert filled["image_url"] == "https://a/1.png"
    assert filled["image_style_references"] == [{"url": "https://a/2.png", "strength": 1.0}]
    assert filled["prompt"] == trick
    assert "$picture" in json.dumps(body), "the order itself stays as it was"


def test_only_an_object_with_just_an_image_number_is_replaced_by_a_url():
    body = {"a": {"$picture": 0, "b": 1}, "c": [["x", {"$picture": 1}]], "d": "$picture"}
    assert fill_image_urls(body, ["one", "two"]) == {"a": {"$picture": 0, "b": 1}, "c": [["x", "two"]], "d": "$picture"}


# -- seeds -------------------------------------------------------------------------------------------------------


@given(source=st.integers(0, 2**63), model_id=st.sampled_from([m.id for m in CATALOGUE.models if m.orderable]))
def test_a_seed_is_always_sent_and_shown_where_the_model_takes_one(source: int, model_id: str):
    model = CATALOGUE.get(model_id)
    quote = CATALOGUE.quote(plainest(model), seed_source=lambda: source)
    assert (quote.seed is None) == ("seed" not in model.supported_options)
    assert quote.body.get("seed") == quote.seed
    assert quote.seed is None or 0 <= quote.seed <= 2**31 - 1


def test_two_orders_have_different_seeds_and_a_chosen_seed_is_kept():
    assert CATALOGUE.quote(a_request(FLUX)).seed != CATALOGUE.quote(a_request(FLUX)).seed
    assert order(FLUX, options={"seed": 1234}).body["seed"] == 1234


# -- refusals ------------------------------------------------------------------------------------------------------

STEPS = Number(whole=True, minimum=1, maximum=100)
AN_ATTACHED_IMAGE = AttachedImages(names=attachment_names(JobKind.IMAGINE), max_count=1)
STYLES = Identifiers(strength=Number(whole=False, minimum=-2, maximum=2))
SEED = Number(whole=True, minimum=0, maximum=2**31 - 1)


@pytest.mark.parametrize(
    ("model_id", "changes", "option", "reason", "constraint"),
    [
        (FLUX, {"prompt": " \n "}, "prompt", "missing", Text(max_characters=1800)),
        (FLUX, {"prompt": "x" * 1801}, "prompt", "wrong_length", Text(max_characters=1800)),
        (NANO_BANANA_2, {"prompt": "hi"}, "prompt", "wrong_length", Text(min_characters=3)),
        (KREA_LARGE, {"prompt": ""}, "prompt", "missing", Text()),
        (NANO_BANANA_2, {"options": {"resolution": "8K"}}, "resolution", "invalid", OneOf(values=("1K", "2K", "4K"))),
        (
            KREA_LARGE,
            {"options": {"creativity": "wild"}},
            "creativity",
            "invalid",
            OneOf(values=("raw", "low", "medium", "high")),
        ),
        (NANO_BANANA_2, {"options": {"seed": 1}}, "seed", "unknown", None),
        (FLUX, {"options": {"resolution": "2K"}}, "resolution", "unknown", None),
        (FLUX, {"options": {"moodboard": MOODBOARD}}, "moodboard", "unknown", None),
        (NANO_BANANA_2, {"options": {"width": 0}}, "width", "invalid", Number(whole=True, minimum=1)),
        (FLUX, {"options": {"width": 1024.5}}, "width", "invalid", Number(whole=True, minimum=512, maximum=2368)),
        (FLUX, {"options": {"image_url": "http://10.0.0.1"}}, "image_url", "invalid", AN_ATTACHED_IMAGE),
        (FLUX, {"options": {"source": "http://10.0.0.1"}}, "source", "invalid", AN_ATTACHED_IMAGE),
        (FLUX, {"options": {"prompt": "other"}}, "prompt", "unknown", None),
        (FLUX, {"options": {"steps": 101}}, "steps", "invalid", STEPS),
        (FLUX, {"options": {"steps": 1.5}}, "steps", "invalid", STEPS),
        (FLUX, {"options": {"steps": "25"}}, "steps", "invalid", STEPS),
        (
            FLUX,
            {"options": {"guidance_scale": float("nan")}},
            "guidance_scale",
            "invalid",
            Number(whole=False, minimum=0, maximum=24),
        ),
        (FLUX, {"options": {"seed": -1}}, "seed", "invalid", SEED),
        (FLUX, {"options": {"seed": 2**31}}, "seed", "invalid", SEED),
        (FLUX, {"options": {"seed": True}}, "seed", "invalid", SEED),
        (FLUX, {"options": {"style": "two words"}}, "style", "invalid", STYLES),
        (FLUX, {"options": {"style": ""}}, "style", "invalid", STYLES),
        (KREA_LARGE, {"options": {"moodboard": "sunny"}}, "moodboard", "invalid", Uuid()),
        (KREA_LARGE, {"images": REFERENCE * 11}, "reference11", "invalid", AtMostImages(count=10)),
        ("krea/bfl/flux-1.1-pro", {"images": REFERENCE}, "reference", "unknown", None),
        ("krea/xai/grok-imagine-2-edit", {"kind": JobKind.EDIT}, "image", "missing", AtLeastImages(count=1)),
        (FLUX, {"kind": JobKind.EDIT}, "image", "missing", AtLeastImages(count=1)),
        (
            FLUX,
            {"kind": JobKind.EDIT, "images": (an_image(),) * 2},
            "image2",
            "invalid",
            AtMostImages(count=1, other_uses=("style_images", "reference")),
        ),
        ("krea/runway/gen-4-image", {}, "reference", "missing", AtLeastImages(count=1)),
    ],
)
def test_a_bad_option_is_refused_with_the_model_and_the_constraint(
    model_id: str, changes: dict[str, Any], option: str, reason: str, constraint: Constraint | None
):
    refused = refusal(model_id, **changes)
    assert (refused.option, refused.reason) == (option, reason)
    assert refused.model_label == CATALOGUE.get(model_id).label
    assert refused.supported_options == options_of(CATALOGUE.get(model_id), changes.get("kind", JobKind.IMAGINE))
    assert refused.constraint == constraint


@pytest.mark.parametrize("option", ["seed", "width", "height"])
def test_a_number_is_described_as_it_is_refused(option: str):
    described = {
        model.id: found.constraint
        for model in ALL_PRICED.models
        if model.supports(JobKind.IMAGINE) and (found := parameter(model, JobKind.IMAGINE, option))
    }
    assert len(described) > 5
    for model_id, constraint in described.items():
        assert isinstance(constraint, Number)
        assert constraint.whole
        with pytest.raises(BadOption) as caught:
            ALL_PRICED.quote(plainest(ALL_PRICED.get(model_id), options={option: -0.5}))
        assert caught.value.constraint == constraint


@pytest.mark.parametrize(("model_id", "prompt"), [(FLUX, "x" * 1801), (NANO_BANANA_2, "  hi ")])
def test_a_prompt_of_the_wrong_length_is_refused_with_its_length(model_id: str, prompt: str):
    assert refusal(model_id, prompt=prompt).length == len(prompt.strip())


def test_an_unsupported_ratio_is_refused_with_the_supported_ones():
    refused = refusal("krea/bfl/flux-1.1-pro", options={"aspect_ratio": "32:9"})
    assert refused.constraint == OneOf(values=CATALOGUE.get("krea/bfl/flux-1.1-pro").choices("aspect_ratio"))
    offered = refusal(NANO_BANANA_2, options={"aspect_ratio": "8:1"}).constraint
    assert isinstance(offered, OneOf)
    assert offered.values[:3] == ("4:1", "21:9", "1:1")


@given(value=st.one_of(st.text(), st.integers(), st.floats(), st.booleans()), data=st.data())
def test_no_value_of_an_option_does_anything_but_be_ordered_or_refused(value: Any, data: st.DataObject):
    model = data.draw(st.sampled_from(ALL_PRICED.models))
    option = data.draw(st.sampled_from([*model.fields, *OPTIONS, "nonsense"]))
    try:
        quote = ALL_PRICED.quote(plainest(model, options={option: value}))
    except (BadOption, ModelUnavailable):
        return
    assert broken_rules(RAW[model.id], quote.body) == []


@pytest.mark.parametrize(
    ("model_id", "kind"),
    [
        ("krea/xai/grok-imagine-2-edit", JobKind.IMAGINE),
        ("krea/enhance/topaz/standard-enhance", JobKind.IMAGINE),
        ("krea/enhance/topaz/standard-enhance", JobKind.EDIT),
        ("krea/bfl/flux-1.1-pro", JobKind.EDIT),
        (PIXAZO_LARGE, JobKind.EDIT),
        (NANO_BANANA_2, JobKind.UPSCALE),
    ],
)
def test_a_model_is_refused_for_a_command_it_is_not_made_for(model_id: str, kind: JobKind):
    with pytest.raises(ModelUnavailable) as caught:
        order(model_id, kind=kind, images=(an_image(),))
    assert caught.value.reason == "not_for_this_command"


# -- enlarging ---------------------------------------------------------------------------------------------------

KREA_ENHANCE = "krea/enhance/krea/enhance"


def test_enlarging_asks_for_the_size_that_was_chosen():
    options = {"width": 3000, "height": 2000}
    body = order(TOPAZ, ALL_PRICED, kind=JobKind.UPSCALE, images=(an_image(),), options=options, prompt="").body
    assert body == {
        "image_url": {"$picture": 0},
        "width": 3000,
        "height": 2000,
        "model": "Standard V2",
        "seed": 7,
    }


def test_upscaling_without_a_size_doubles_it_up_to_the_limit_of_the_model():
    for width, height, expected in [(1000, 700, (2000, 1400)), (20_000, 10_000, (32_000, 16_000))]:
        images = (an_image(width=width, height=height),)
        body = order(TOPAZ, ALL_PRICED, kind=JobKind.UPSCALE, images=images).body
        assert (body["width"], body["height"]) == expected


def test_a_model_that_upscales_by_a_factor_gets_one():
    images = (an_image(width=1000, height=500),)
    options = {"width": 4000, "height": 2000}
    body = order(KREA_ENHANCE, ALL_PRICED, kind=JobKind.UPSCALE, images=images, options=options).body
    assert body["image_scaling_factor"] == 4
    assert "image_scaling_factor" not in order(KREA_ENHANCE, ALL_PRICED, kind=JobKind.UPSCALE, images=images).body
    with pytest.raises(BadOption) as caught:
        order(KREA_ENHANCE, ALL_PRICED, kind=JobKind.UPSCALE, images=images, options={"width": "big"})
    assert caught.value.option == "width"


# -- one field by itself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("described", "accepted", "right", "wrong"),
    [
        ({"type": "boolean"}, TrueOrFalse(), [True, False], ["yes", 1]),
        ({"type": "number"}, Number(whole=False), [0.5, -3], ["1", True, float("inf")]),
        ({"type": "number", "min": 0.1}, Number(whole=False, minimum=0.1), [0.1], [0]),
        ({"type": "integer", "max": 4096}, Number(whole=True, maximum=4096), [4096, 12.0], [4097, 1.5]),
        ({"type": "string", "max_length": 3}, Text(max_characters=3), ["abc"], ["abcd", 5]),
        ({"type": "array"}, Identifiers(), ["x" * 200], ["x" * 201, "a\tb"]),
    ],
)
def test_a_field_accepts_exactly_what_its_constraint_allows(
    described: dict[str, Any], accepted: Constraint, right: list[Any], wrong: list[Any]
):
    field = Field.from_data("field", described)
    assert field.constraint == accepted
    assert [field.check(value) for value in right] == right
    for value in wrong:
        with pytest.raises(ValueError):
            field.check(value)


def test_a_field_that_must_be_chosen_and_has_no_neutral_value_is_asked_for():
    flux = CATALOGUE.get(FLUX)
    fields = {**flux.fields, "mood": Field.from_data("mood", {"type": "string", "required": True})}
    with pytest.raises(BadOption) as caught:
        Catalogue([replace(flux, fields=fields)]).quote(a_request(FLUX))
    assert (caught.value.option, caught.value.reason) == ("mood", "missing")


def test_a_model_without_a_prompt_refuses_one():
    flux = CATALOGUE.get(FLUX)
    fields = {name: field for name, field in flux.fields.items() if name != "prompt"}
    with pytest.raises(BadOption) as caught:
        Catalogue([replace(flux, fields=fields)]).quote(a_request(FLUX))
    assert (caught.value.option, caught.value.reason) == ("prompt", "unknown")


@pytest.mark.parametrize("text", ["", "16", "16:0", "0:1", "-1:2", "a:b", "nan:1", "inf:1"])
def test_what_is_no_aspect_ratio_is_not_taken_for_one(text: str):
    with pytest.raises(ValueError):
        aspect_ratio.value(text)
