"""The catalogue: what is listed, how it is found, and what the operator can change about it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalogue.catalogue import Catalogue
from bot.catalogue.models import Model
from bot.domain.errors import ModelUnavailable, SettingsError, UnknownModel
from bot.domain.jobs import JobKind
from tests.support.catalogue_samples import (
    BOTH,
    CATALOGUE,
    EVERY_MODEL,
    FLUX,
    KREA_LARGE,
    NANO_BANANA_2,
    NANO_BANANA_PRO,
    PIXAZO_LARGE,
    RAW,
    REFERENCE,
    TOPAZ,
    a_request,
    an_image,
    capacities,
    order,
    overridden,
    priced_at,
)

# -- the data ---------------------------------------------------------------------------------------------


def test_every_label_and_every_path_is_unique():
    assert len({model.label for model in CATALOGUE.models}) == len(CATALOGUE.models) == len(RAW)
    assert len({model.path for model in CATALOGUE.models}) == len(CATALOGUE.models)


def test_labels_fit_into_a_menu():
    assert all(1 <= len(model.label) <= 40 for model in CATALOGUE.models)


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_only_snake_case_names_are_ever_sent(model: Model):
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in model.fields)


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_prices_are_whole_micro_dollars_above_zero(model: Model):
    assert all(type(point.usd_micros) is int and point.usd_micros > 0 for point in model.prices)


def test_the_models_without_a_published_price_are_listed_but_not_orderable():
    unpriced = [model.id for model in CATALOGUE.models if not model.prices]
    assert "krea/openai/gpt-image-2" in unpriced
    for model_id in unpriced:
        assert not CATALOGUE.get(model_id).orderable
        assert CATALOGUE.get(model_id).starting_usd_micros is None


# -- finding models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("nano banana 2", NANO_BANANA_2),
        ("NANO-BANANA 2", NANO_BANANA_2),
        ("nanobanana2", NANO_BANANA_2),
        ("banana pro", NANO_BANANA_PRO),
        ("pro nano", NANO_BANANA_PRO),
        ("  flux   dev ", FLUX),
        ("krea/bfl/flux-1-dev", FLUX),
        ("pixazo", PIXAZO_LARGE),
        ("large krea", KREA_LARGE),
        ("google lite", "krea/google/nano-banana-flash-lite"),
        ("nano bannana pro", NANO_BANANA_PRO),
        ("muze", "krea/meta/muse-image"),
    ],
)
def test_a_model_is_found_however_it_is_typed(text: str, first: str):
    found = CATALOGUE.search(text, kind=JobKind.IMAGINE, providers=BOTH)
    assert found[0].id == first


@given(text=st.text(max_size=30), kind=st.sampled_from(JobKind), providers=st.frozensets(st.sampled_from(list(BOTH))))
def test_only_what_can_be_ordered_by_that_command_there_is_found(text: str, kind: JobKind, providers: frozenset[str]):
    for model in CATALOGUE.search(text, kind=kind, providers=providers):
        assert (model.orderable, model.supports(kind), model.provider in providers) == (True, True, True)


def test_an_empty_search_lists_everything_in_order():
    found = CATALOGUE.search("", kind=JobKind.IMAGINE, providers=BOTH)
    assert [m.id for m in found] == [m.id for m in CATALOGUE.models if m.orderable and m.supports(JobKind.IMAGINE)]
    assert CATALOGUE.search("zzzzqq", kind=JobKind.IMAGINE, providers=BOTH) == []


def test_an_unknown_model_is_refused_with_similar_ids():
    with pytest.raises(UnknownModel) as caught:
        order("krea/google/nano-bananna-2")
    assert NANO_BANANA_2 in caught.value.suggestions
    with pytest.raises(UnknownModel) as caught:
        CATALOGUE.get("qqqqqqqq")
    assert caught.value.suggestions == ()
    assert CATALOGUE.find("qqqqqqqq") is None


def test_the_start_of_a_name_is_taken_for_the_name_rather_than_another_name_of_its_length():
    with pytest.raises(UnknownModel) as caught:
        CATALOGUE.get("krea/nano")
    assert caught.value.suggestions[0] == "krea/google/nano-banana"
    assert all("nano-banana" in suggestion for suggestion in caught.value.suggestions)


def test_a_model_can_be_named_by_its_label():
    assert CATALOGUE.get("nano banana 2").id == NANO_BANANA_2
    assert order("Nano Banana 2").model.id == NANO_BANANA_2


def test_supported_options_are_in_the_order_of_the_commands():
    assert CATALOGUE.get(KREA_LARGE).supported_options == (
        "aspect_ratio",
        "resolution",
        "creativity",
        "seed",
        "style",
        "moodboard",
        "reference",
    )
    assert CATALOGUE.get(NANO_BANANA_2).choices("resolution") == ("1K", "2K", "4K")
    assert CATALOGUE.get(NANO_BANANA_2).choices("creativity") == ()
    assert capacities(CATALOGUE.get(FLUX)) == (1, None)
    assert capacities(CATALOGUE.get(PIXAZO_LARGE)) == (0, 10)


# -- the operator's own prices -------------------------------------------------------------------------------------


def test_a_price_set_by_the_operator_makes_a_model_orderable(tmp_path: Path):
    catalogue = priced_at("0.05", TOPAZ, "krea/openai/gpt-image-2", tmp_path=tmp_path)
    assert order("krea/openai/gpt-image-2", catalogue).amount_usd_micros == 50_000
    assert [m.id for m in catalogue.search("", kind=JobKind.UPSCALE, providers=BOTH)] == [TOPAZ]


def test_prices_by_option_count_from_the_special_to_the_general(tmp_path: Path):
    prices = [
        {"amount_usd": "0.05"},
        {"when": {"quality": "high"}, "amount_usd": "0.20"},
        {"when": {"quality": "high", "pictures": 1}, "amount_usd": "0.25"},
    ]
    catalogue = overridden({"prices": {"krea/openai/gpt-image-2": prices}}, tmp_path=tmp_path)
    cheap = order("krea/openai/gpt-image-2", catalogue, options={"quality": "low"})
    assert cheap.amount_usd_micros == 50_000
    plain = order("krea/openai/gpt-image-2", catalogue)
    assert (plain.body["quality"], plain.amount_usd_micros) == ("high", 200_000)
    assert order("krea/openai/gpt-image-2", catalogue, images=REFERENCE).amount_usd_micros == 250_000


def test_a_hidden_model_is_neither_listed_nor_ordered_but_keeps_its_name(tmp_path: Path):
    catalogue = overridden({"hidden": [FLUX]}, tmp_path=tmp_path)
    assert FLUX not in [model.id for model in catalogue.models]
    assert catalogue.get(FLUX).label == "Flux 1 Dev"
    with pytest.raises(ModelUnavailable) as caught:
        order(FLUX, catalogue)
    assert caught.value.reason == "retired"


BLOOM, ENHANCE = "krea/enhance/topaz/bloom-enhance", "krea/enhance/krea/enhance"
AN_UPSCALE = a_request("", kind=JobKind.UPSCALE, images=(an_image(),))


def everything(model: Model) -> bool:
    return True


def test_without_prices_no_model_can_upscale():
    assert CATALOGUE.cheapest(AN_UPSCALE, permits=everything) is None


def test_the_cheapest_model_that_is_permitted_does_it(tmp_path: Path):
    prices = {TOPAZ: "0.10", BLOOM: "0.04", ENHANCE: "0.07", FLUX: "0.001"}
    catalogue = overridden({"prices": prices}, tmp_path=tmp_path)
    best = catalogue.cheapest(AN_UPSCALE, permits=everything)
    assert best is not None
    assert (best.model.id, best.amount_usd_micros) == (BLOOM, 40_000)
    image = AN_UPSCALE.images[0]
    assert (best.body["width"], best.body["height"]) == (image.width * 2, image.height * 2)
    second = catalogue.cheapest(AN_UPSCALE, permits=lambda model: model.id != BLOOM)
    assert second is not None
    assert second.model.id == ENHANCE
    assert catalogue.cheapest(AN_UPSCALE, permits=lambda model: False) is None


def test_hidden_and_unpriced_models_are_not_the_cheapest(tmp_path: Path):
    small_only = [{"when": {"width": 512, "height": 512}, "amount_usd": "0.01"}]
    content = {"prices": {BLOOM: "0.04", TOPAZ: small_only, ENHANCE: "0.07"}, "hidden": [BLOOM]}
    catalogue = overridden(content, tmp_path=tmp_path)
    best = catalogue.cheapest(AN_UPSCALE, permits=everything)
    assert best is not None
    assert best.model.id == ENHANCE
    small = replace(AN_UPSCALE, images=(replace(AN_UPSCALE.images[0], width=256, height=256),))
    best = catalogue.cheapest(small, permits=everything)
    assert best is not None
    assert best.model.id == TOPAZ


def test_the_prices_in_the_operators_page_are_prices_an_operator_can_set(tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs" / "operators.md").read_text(encoding="utf-8")
    examples = [block for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if '"prices"' in block]
    assert examples
    for example in examples:
        catalogue = overridden(example, tmp_path=tmp_path)
        assert catalogue.cheapest(AN_UPSCALE, permits=everything) is not None


def test_the_operator_can_keep_a_model_to_age_restricted_channels(tmp_path: Path):
    file = tmp_path / "catalogue.override.json"
    file.write_text('{"models": {"krea/bfl/flux-1-dev": {"age_restricted": true}}}')
    restricted = [model.id for model in Catalogue.load(file).models if model.age_restricted]
    assert restricted == ["krea/bfl/flux-1-dev"]


KREA_2 = "krea/krea/krea-2/medium"


def field_of(model_id: str, **fields: object) -> object:
    return {"models": {model_id: {"fields": fields}}}


def test_no_override_file_changes_nothing(tmp_path: Path):
    assert Catalogue.load(tmp_path / "catalogue.override.json").models == CATALOGUE.models


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not readable as JSON"),
        ([], "the file is an object"),
        ({"price": {}}, "unknown key 'price'"),
        ({"prices": []}, "'prices' is an object"),
        ({"prices": {"krea/nothing": "0.05"}}, "no model 'krea/nothing'"),
        ({"prices": {FLUX: 0.05}}, f"the price of {FLUX} is an amount"),
        ({"prices": {FLUX: []}}, f"the price of {FLUX} is an amount"),
        ({"prices": {FLUX: "0"}}, "more than 0"),
        ({"prices": {FLUX: "-1"}}, "more than 0"),
        ({"prices": {FLUX: "0.0000001"}}, "more than 0"),
        ({"prices": {FLUX: ["0.05"]}}, f"a price of {FLUX} is an object"),
        ({"prices": {FLUX: [{"when": {}}]}}, "'amount_usd'"),
        ({"prices": {FLUX: [{"amount_usd": 1}]}}, "more than 0"),
        ({"prices": {FLUX: [{"amount_usd": "1", "if": {}}]}}, "nothing else"),
        ({"prices": {FLUX: [{"amount_usd": "1", "when": {"resolution": "1K"}}]}}, "no field 'resolution'"),
        ({"prices": {FLUX: [{"amount_usd": "1", "when": {"pictures": "2"}}]}}, "whole number"),
        ({"prices": {FLUX: [{"amount_usd": "1", "when": {"image_url": "x"}}]}}, "'present' or 'absent'"),
        ({"prices": {NANO_BANANA_2: [{"amount_usd": "1", "when": {"resolution": "9K"}}]}}, "1K, 2K, 4K"),
        ({"hidden": FLUX}, "'hidden' is a list"),
        ({"hidden": ["krea/nothing"]}, "no model 'krea/nothing'"),
        ({"hidden": [{}]}, "no model {}"),
        ({"hidden": ["Krea/bfl/flux-dev"]}, f"no model 'Krea/bfl/flux-dev' in the catalogue; did you mean {FLUX!r}?"),
        (f'{{"prices": {{"{FLUX}": "0.1", "{FLUX}": "0.9"}}}}', f"{FLUX!r} is there twice"),
        ('{"prices": {}, "hidden": [], "prices": {}}', "'prices' is there twice"),
        (field_of(KREA_2, resolution={"use": "99K"}), f"{KREA_2}: resolution has 'use' '99K'; it accepts 1K"),
        (field_of(KREA_2, creativity={"default": 5}), "creativity has 'default' 5; it accepts raw, low, medium, high"),
        (field_of(KREA_2, intensity={"use": 5000}), "'use' 5000; it accepts values of type integer, at least -100, at"),
        (field_of(KREA_2, intensity={"min": 100, "max": -100}), "intensity is at least 100 and at most -100: no value"),
        (field_of(KREA_2, prompt=None), f"model {KREA_2}: makes images and needs a field 'prompt'"),
        (field_of(KREA_2, seed={"bogus": 1}), "fields.seed.bogus: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_override_file_stops_the_start_with_one_line(content: object, says: str, tmp_path: Path):
    with pytest.raises(SettingsError) as caught:
        overridden(content, tmp_path=tmp_path)
    assert str(caught.value).startswith("catalogue.override.json: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_shipped_model_may_be_named_in_the_override_file(tmp_path: Path):
    named = {"models": {model.id: {} for model in CATALOGUE.models}}
    assert overridden(named, tmp_path=tmp_path).models == CATALOGUE.models


def test_an_override_file_may_begin_with_a_byte_order_mark(tmp_path: Path):
    file = tmp_path / "catalogue.override.json"
    file.write_text('{"hidden": ["krea/bfl/flux-1-dev"]}', encoding="utf-8-sig")
    assert "krea/bfl/flux-1-dev" not in {model.id for model in Catalogue.load(file).models}


def test_a_folder_in_the_place_of_the_override_file_stops_the_start(tmp_path: Path):
    """Docker makes one where it is to mount a file that does not exist."""
    (tmp_path / "catalogue.override.json").mkdir()
    with pytest.raises(SettingsError, match=r"^catalogue\.override\.json: not readable as JSON .*directory"):
        Catalogue.load(tmp_path / "catalogue.override.json")


def test_a_price_may_depend_on_a_field_being_there(tmp_path: Path):
    prices = [
        {"when": {"image_style_references": "absent"}, "amount_usd": "0.01"},
        {"when": {"image_style_references": "present"}, "amount_usd": "$0.02"},
    ]
    catalogue = overridden({"prices": {FLUX: prices}}, tmp_path=tmp_path)
    assert order(FLUX, catalogue).amount_usd_micros == 10_000
    assert order(FLUX, catalogue, images=REFERENCE).amount_usd_micros == 20_000
