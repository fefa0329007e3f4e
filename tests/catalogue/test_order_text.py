"""Order text: `more` and flags set what options set, by the same rules, and nothing that was typed gets lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalogue.order_text import MAX_MORE_CHARACTERS, Template, expand, flag_names, more_text, parse_more
from bot.domain.constraints import Assignments, Text
from bot.domain.errors import BadOption
from bot.domain.jobs import JobRequest
from tests.support.catalogue_samples import ALL_PRICED, CATALOGUE, FLUX, KREA_LARGE, NANO_BANANA_2, a_request

FLAGS = flag_names(CATALOGUE.models)


def expanded(
    model_id: str, prompt: str = "a fox", *, options: dict[str, Any] | None = None, **typed: Any
) -> JobRequest:
    request = a_request(model_id, prompt=prompt, options=options or {})
    return expand(CATALOGUE.get(model_id), request, flag_names=FLAGS, **typed)


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ("steps=28, guidance_scale=5", {"steps": 28, "guidance_scale": 5}),
        (" Steps = 28 ;guidance-scale=5.5,", {"steps": 28, "guidance_scale": 5.5}),
        ("steps=28 guidance_scale=.5", {"steps": 28, "guidance_scale": 0.5}),
        ("style=a:0.8+b:-0.3, style_strength=1", {"style": "a:0.8+b:-0.3", "style_strength": 1}),
        ("reference_strength=0.6, reference2_strength=-0.3", {"reference_strength": 0.6, "reference2_strength": -0.3}),
        ("steps=28 · 1 to 100, default 25, seed=5", {"steps": 28, "seed": 5}),
        ("steps=many, nonsense=1", {"steps": "many", "nonsense": "1"}),
        ("steps=1, steps=2", {"steps": 2}),
        ("steps=1e9", {"steps": "1e9"}),
        ("", {}),
    ],
)
def test_more_is_read_into_options_with_the_types_of_their_fields(more: str, options: dict[str, Any]):
    assert expanded(FLUX, more=more).options == options


def test_more_is_read_in_full_width_characters():
    assert expanded(FLUX, more="steps＝２８，seed＝５、aspect_ratio=１：１").options == {
        "steps": 28,
        "seed": 5,
        "aspect_ratio": "1:1",
    }


def test_more_takes_switches_and_texts_with_commas():
    ultra = "krea/bfl/flux-1.1-pro-ultra"
    assert expanded(ultra, more="raw=off").options == {"raw": False}
    assert expanded(ultra, "a fox --raw").options == {"raw": True}
    qwen = "krea/qwen/2512"
    typed = 'negative_prompt=text, blurry, steps=4, style="a, b=c:0.5"'
    assert expanded(qwen, more=typed).options == {"negative_prompt": "text, blurry", "steps": 4, "style": "a, b=c:0.5"}


def test_a_field_can_be_set_by_its_own_name_as_well():
    assert expanded("krea/qwen/2512", more="num_inference_steps=4, cfg_scale=2").options == {
        "steps": 4,
        "guidance_scale": 2,
    }


@pytest.mark.parametrize("more", ["28", "steps: 28", "fast, steps=28", "=5", '"steps=28"'])
def test_more_that_is_not_made_of_names_and_values_is_refused_with_how_it_is_written(more: str):
    with pytest.raises(BadOption) as caught:
        expanded(FLUX, more=more)
    assert (caught.value.option, caught.value.reason, caught.value.constraint) == ("more", "invalid", Assignments())


def test_more_is_bounded():
    with pytest.raises(BadOption) as caught:
        expanded(FLUX, more="a=" + "x" * MAX_MORE_CHARACTERS)
    assert caught.value.constraint == Text(max_characters=MAX_MORE_CHARACTERS)


@pytest.mark.parametrize(
    ("prompt", "left", "options"),
    [
        ("a fox --ar 16:9 --seed 5 --steps 28", "a fox", {"aspect_ratio": "16:9", "seed": 5, "steps": 28}),
        ("a fox --res 2K --no text, logo", "a fox", {"resolution": "2K", "negative_prompt": "text, logo"}),
        ("a fox --style noir", "a fox", {"style": "noir"}),
        ("a fox —ar 1:1 --guidance-scale=4", "a fox", {"aspect_ratio": "1:1", "guidance_scale": 4}),
        ("a fox \u2013ar 1:1 \u2015seed 5", "a fox", {"aspect_ratio": "1:1", "seed": 5}),
        (
            "a fox \u2010\u2010ar 1:1 \u2013\u2013seed 5 \u2212\u2212steps 9",
            "a fox",
            {"aspect_ratio": "1:1", "seed": 5, "steps": 9},
        ),
        ("a fox -seed 5 \u2010steps 9 \u2212ar 1:1", "a fox -seed 5 \u2010steps 9 \u2212ar 1:1", {}),
        ("a sign \u201c--seed 5\u201d", "a sign \u201c--seed 5\u201d", {}),
        ("a fox --ar 16:9 --chaos 30 --seed 5", "a fox --chaos 30", {"aspect_ratio": "16:9", "seed": 5}),
        ("git commit --amend", "git commit --amend", {}),
        ("a fox -- red--seed 5", "a fox -- red--seed 5", {}),
        ("a  fox\n--seed 5\n", "a  fox", {"seed": 5}),
        ("--seed 5", "", {"seed": 5}),
        ("a fox --seed 5 in the snow", "a fox", {"seed": "5 in the snow"}),
        ("a fox --seed", "a fox", {"seed": ""}),
        ("a fox --ar＝１６：９ －－steps ９", "a fox", {"aspect_ratio": "16:9", "steps": 9}),
        ("a fox －－no＝文字、ロゴ", "a fox", {"negative_prompt": "文字、ロゴ"}),
    ],
)
def test_flags_at_the_end_of_a_prompt_are_options_and_unknown_ones_stay(
    prompt: str, left: str, options: dict[str, Any]
):
    found = expanded(FLUX, prompt)
    assert (found.prompt, found.options) == (left, options)


def test_an_option_wins_over_more_over_a_flag_over_a_preset_over_a_default():
    def seed_of(**changes: Any) -> object:
        typed: dict[str, Any] = {
            "options": {"seed": 1},
            "more": "seed=2",
            "prompt": "a fox --seed 3",
            "template": Template(options={"seed": 4}),
            "defaults": {"seed": 5},
        }
        return expanded(FLUX, **(typed | changes)).options["seed"]

    assert seed_of() == 1
    assert seed_of(options={}) == 2
    assert seed_of(options={}, more="") == 3
    assert seed_of(options={}, more="", prompt="a fox") == 4
    assert seed_of(options={}, more="", prompt="a fox", template=None) == 5


def test_a_shape_given_one_way_wins_over_one_given_another_way_below():
    found = expanded(FLUX, "a fox --width 600 --height 700", options={"aspect_ratio": "1:1"})
    assert found.options == {"aspect_ratio": "1:1"}
    assert expanded(FLUX, "a fox --ar 1:1", more="width=640").options == {"width": 640}


def test_defaults_are_left_out_where_the_model_does_not_take_them_and_presets_are_not():
    mine = {"aspect_ratio": "4:1", "resolution": "2K", "steps": 5}
    assert expanded(NANO_BANANA_2, defaults=mine).options == {"aspect_ratio": "4:1", "resolution": "2K"}
    assert expanded(FLUX, defaults=mine).options == {"steps": 5}
    assert expanded(FLUX, template=Template(options=mine)).options == mine


def test_a_preset_puts_its_words_around_the_prompt_without_its_flags():
    template = Template(before="Photo of", after="at dusk ", options={"style": "Noir"})
    found = expanded(KREA_LARGE, "a fox --seed 5", template=template, style_id={"Noir": "n1"}.get)
    assert (found.prompt, found.options) == ("Photo of a fox at dusk", {"seed": 5, "style": "n1"})


def test_styles_are_named_by_title_or_id_each_with_a_strength():
    ids = {"Film Noir": "n1", "Ink": "i1", "a+b": "ab"}
    found = expanded(KREA_LARGE, more="style=Film Noir:0.8+Ink:-0.3+x9", style_id=lambda title: ids.get(title, title))
    assert found.options == {"style": "n1:0.8+i1:-0.3+x9"}
    assert expanded(KREA_LARGE, more="style=a+b", style_id=ids.get).options == {"style": "ab"}


values = st.one_of(st.text(max_size=40).map(str.strip), st.integers(-999, 999), st.booleans())


@given(options=st.dictionaries(st.sampled_from(["negative_prompt", "steps", "raw", "mood"]), values))
def test_the_text_of_options_is_read_back_into_the_same_options(options: dict[str, Any]):
    read = parse_more(CATALOGUE.get(FLUX), more_text(options))
    assert read == {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()
    }


@given(
    prompt=st.text(alphabet=' -—－"=＝,、+:\\aseedt5.\n', max_size=60),
    more=st.text(alphabet='aseedt=＝5,，;" .+:-', max_size=60),
)
def test_no_text_does_anything_but_expand_or_be_refused(prompt: str, more: str):
    for model in ALL_PRICED.models[:12]:
        request = a_request(model.id, prompt=prompt)
        try:
            found = expand(model, request, more=more, flag_names=FLAGS)
        except BadOption:
            continue
        assert len(found.prompt) <= len(prompt)
